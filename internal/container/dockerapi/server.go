package dockerapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"

	"github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// Server answers docker's clients.
type Server struct {
	engine  *container.Daemon
	log     *slog.Logger
	product string // version of Strata
	table   dockerwire.Table[handler]
}

type handler func(w http.ResponseWriter, r *request) error

type route struct {
	method, path string
	handle       handler
}

// request is one request, with readers of what only an engine is asked.
type request struct{ *dockerwire.Request }

// New makes a server over an engine.
func New(engine *container.Daemon, product string, log *slog.Logger) *Server {
	s := &Server{engine: engine, log: log, product: product}
	for _, r := range s.routes() {
		s.table.Add(r.method, r.path, r.handle)
	}
	return s
}

// Serve answers on the listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		server.Close()
	}()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-done
		return nil
	}
	return err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	begun := time.Now()
	r, err := dockerwire.Open(w, hr, s.product)
	if err == nil {
		err = s.serve(w, &request{r})
	}
	if err != nil {
		s.fail(w, r, err)
	}
	s.log.Debug("docker", "method", r.Method, "path", r.Path, "dur", time.Since(begun).Round(time.Microsecond), "err", err)
}

func (s *Server) serve(w http.ResponseWriter, r *request) error {
	handle, ok := s.table.Find(r.Request)
	if !ok {
		return errs.NotFoundf("page not found")
	}
	return handle(w, r)
}

// fail tells the client of an error.
func (s *Server) fail(w http.ResponseWriter, r *dockerwire.Request, err error) {
	switch {
	case errors.Is(err, container.ErrNotModified):
		w.WriteHeader(http.StatusNotModified)
		return
	case errs.KindOf(err) == errs.Internal && errdefs.IsNotFound(err): // containerd's
		err = errs.NotFoundf("%w", err)
	}
	dockerwire.Fail(w, r, s.log, err)
}

// number is a parameter that is a number; nil when it is not given.
func (r *request) number(key string) (*int, error) {
	v := r.Value(key)
	if v == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, errs.Invalidf("invalid %s: %q is not a number", key, v)
	}
	return &n, nil
}

// filters reads the parameter of that name and refuses keys that are not honoured.
func (r *request) filters(known ...string) (filters.Args, error) {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return f, errs.Invalidf("%s", err)
	}
	if known == nil {
		return f, nil
	}
	accepted := map[string]bool{}
	for _, k := range known {
		accepted[k] = true
	}
	if err := f.Validate(accepted); err != nil {
		return f, errs.Invalidf("%s", err)
	}
	return f, nil
}

// timestamp reads a parameter that is a time.
func (r *request) timestamp(key string) (time.Time, error) { return timestamp(key, r.Value(key)) }

// timestamp reads seconds since 1970 with a fraction, RFC 3339, or how long ago.
func timestamp(key, v string) (time.Time, error) {
	if v == "" || v == "0" {
		return time.Time{}, nil
	}
	if sec, frac, _ := strings.Cut(v, "."); sec != "" {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			ns, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
			if err == nil {
				return time.Unix(n, ns), nil
			}
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, errs.Invalidf("invalid value for %q: %q", key, v)
}

// pruning reads the filters of what is removed because nobody uses it, of which there may
// be more: spared tells what those that all have leave alone.
func (r *request) pruning(more ...string) (f filters.Args, spared func(created time.Time, labels map[string]string) bool, err error) {
	if f, err = r.filters(append(more, "label", "label!", "until")...); err != nil {
		return f, nil, err
	}
	tooNew, err := newer(f)
	return f, func(created time.Time, labels map[string]string) bool { return tooNew(created) || !labelled(f, labels) }, err
}

// labelled applies the filters label and label!.
func labelled(f filters.Args, labels map[string]string) bool {
	return f.MatchKVList("label", labels) && (!f.Contains("label!") || !f.MatchKVList("label!", labels))
}

// newer reads the filter until, and gives a test for what is newer than it.
func newer(f filters.Args) (func(time.Time) bool, error) {
	values := f.Get("until")
	if len(values) == 0 {
		return func(time.Time) bool { return false }, nil
	}
	at, err := timestamp("until", values[0])
	if err != nil {
		return nil, err
	}
	return func(t time.Time) bool { return t.After(at) }, nil
}
