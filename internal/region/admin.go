package region

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/errs"
)

// AdminSocket is where in the data directory the operator's commands reach the
// running process. Whoever may open it (root) is trusted; there are no tokens.
const AdminSocket = "admin.sock"

// socketPath names the admin socket in a way that is short enough for a socket's
// address, which holds 107 bytes. The function returned ends its use.
func socketPath(dataDir string) (string, func() error, error) {
	dir, err := os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), AdminSocket), dir.Close, nil
}

// listenAdmin opens the admin socket. The store's lock is ours by then, so that a
// socket that is there belongs to a process that died.
func listenAdmin(dataDir string) (net.Listener, error) {
	path, done, err := socketPath(dataDir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, done())
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // its name ends with the descriptor of the directory
		err = os.Chmod(path, 0o600)
	}
	if err = errors.Join(err, done()); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, nil
}

// runAdmin serves the operator's commands until ctx ends.
func (r *Region) runAdmin(ctx context.Context) { serveAdmin(ctx, &r.cfg, r.adminRoutes()) }

func serveAdmin(ctx context.Context, cfg *Config, routes http.Handler) {
	l, err := listenAdmin(cfg.DataDir)
	if err != nil {
		cfg.Log.Error("strata status, doctor and backup will not work", "err", err)
		return
	}
	srv := &http.Server{Handler: routes, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		cfg.Log.Error("admin socket", "err", err)
	}
}

func (r *Region) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, q *http.Request) {
		s, err := r.Status(q.Context())
		answer(w, s, err)
	})
	if r.host != nil {
		mux.HandleFunc("GET /trace", traceRoute(r.host))
	}
	mux.HandleFunc("GET /profiles/{kind}", profileRoute)
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, q *http.Request) {
		var in TokenRequest
		err := decode(q, &in)
		var out Token
		if err == nil {
			out, err = r.newToken(q.Context(), in)
		}
		answer(w, out, err)
	})
	mux.HandleFunc("DELETE /nodes/{node}", func(w http.ResponseWriter, q *http.Request) {
		answer(w, struct{}{}, r.removeNode(q.Context(), q.PathValue("node")))
	})
	mux.HandleFunc("POST /clusters/{cluster}/move", r.moveRoute)
	mux.HandleFunc("GET /snapshot", func(w http.ResponseWriter, q *http.Request) {
		// A copy that breaks off must not look whole: the connection is cut.
		if err := r.DB.Snapshot(q.Context(), w); err != nil {
			r.cfg.Log.Error("snapshot for a backup", "err", err)
			panic(http.ErrAbortHandler)
		}
	})
	return mux
}

func answer(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(errs.KindOf(err).Status())
		body = map[string]string{"message": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(body)
}

// Admin speaks to the process that runs the region of a data directory.
type Admin struct{ http *http.Client }

// NewAdmin makes one. Nothing is opened before the first question.
func NewAdmin(dataDir string) *Admin {
	return &Admin{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(dataDir)
		if err != nil {
			return nil, err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		return conn, errors.Join(err, done())
	}}}}
}

// Status asks for the state of the region.
func (a *Admin) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, a.json(ctx, "/status", &s)
}

// Trace checks the way of a port hop by hop.
func (a *Admin) Trace(ctx context.Context, port string) ([]dataplane.Hop, error) {
	var hops []dataplane.Hop
	return hops, a.json(ctx, "/trace?port="+url.QueryEscape(port), &hops)
}

// Snapshot copies the whole store into w.
func (a *Admin) Snapshot(ctx context.Context, w io.Writer) error {
	body, err := a.get(ctx, "/snapshot")
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	return errors.Join(err, body.Close())
}

// NewToken asks for a token for machines that join as nodes or as control members,
// good for that long.
func (a *Admin) NewToken(ctx context.Context, role string, life time.Duration) (*Token, error) {
	raw, err := json.Marshal(TokenRequest{life, role})
	if err != nil {
		return nil, err
	}
	var t Token
	return &t, a.decode(ctx, http.MethodPost, "/tokens", bytes.NewReader(raw), &t)
}

// MoveCluster brings the control plane of a cluster to another control member, and waits
// until it works there.
func (a *Admin) MoveCluster(ctx context.Context, ref string, m cluster.Moving) (*cluster.Moved, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out cluster.Moved
	return &out, a.decode(ctx, http.MethodPost, "/clusters/"+url.PathEscape(ref)+"/move", bytes.NewReader(raw), &out)
}

// RemoveNode takes a machine out of the pool.
func (a *Admin) RemoveNode(ctx context.Context, node string) error {
	return a.decode(ctx, http.MethodDelete, "/nodes/"+url.PathEscape(node), nil, &struct{}{})
}

func (a *Admin) json(ctx context.Context, path string, to any) error {
	return a.decode(ctx, http.MethodGet, path, nil, to)
}

func (a *Admin) decode(ctx context.Context, method, path string, in io.Reader, to any) error {
	body, err := a.ask(ctx, method, path, in)
	if err != nil {
		return err
	}
	return errors.Join(json.NewDecoder(body).Decode(to), body.Close())
}

func (a *Admin) get(ctx context.Context, path string) (io.ReadCloser, error) {
	return a.ask(ctx, http.MethodGet, path, nil)
}

func (a *Admin) ask(ctx context.Context, method, path string, in io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://strata"+path, in)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the running cloud: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var fault struct{ Message string }
		err := json.NewDecoder(resp.Body).Decode(&fault)
		return nil, errors.Join(fmt.Errorf("the running cloud answered %s: %s", resp.Status, fault.Message), err, resp.Body.Close())
	}
	return resp.Body, nil
}
