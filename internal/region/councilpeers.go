package region

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/registry"
	"github.com/strata-cloud/strata/internal/rest"
)

// clusterServer answers on the cluster's port: as the leader, or as a standby without
// a region, which lets no agents in.
func (c *council) clusterServer(r *Region) *nodelink.Server {
	join := http.NewServeMux()
	s := &nodelink.Server{TLS: c.creds.server(), Log: c.cfg.Log, Join: join, Council: c.councilRoutes()}
	if r == nil {
		join.HandleFunc("POST /join", c.joinElsewhere)
		return s
	}
	join.HandleFunc("POST /join", r.joinRoute)
	s.API, s.Admit, s.Connected = http.HandlerFunc(c.passed), r.Nodes.Admit, r.connected
	s.Workers = r.worker
	s.Control = func(node string) nodelink.Upstream { return upstream{control{r, node}} }
	return s
}

// joinElsewhere passes a machine that wants to join on to the leader.
func (c *council) joinElsewhere(w http.ResponseWriter, q *http.Request) {
	if err := c.peers.answer(w, below("/leader", q), c.leaderRoutes); err != nil {
		answer(w, nil, c.noLeader(q.Context(), err))
	}
}

// below puts a prefix before a request's path.
func below(prefix string, q *http.Request) *http.Request {
	q = q.Clone(q.Context())
	q.URL.Path, q.URL.RawPath = prefix+q.URL.Path, ""
	return q
}

// councilRoutes answer other members.
func (c *council) councilRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /self", func(w http.ResponseWriter, q *http.Request) { answer(w, c.self(), nil) })
	mux.HandleFunc("GET /images/{file}", func(w http.ResponseWriter, q *http.Request) { c.images.serve(w, q) })
	mux.HandleFunc("GET /registry/{file}", func(w http.ResponseWriter, q *http.Request) { c.blobs.serve(w, q) })
	copyRoutes(mux, c.agent.host.copies)
	mux.HandleFunc("/leader/", func(w http.ResponseWriter, q *http.Request) {
		r, done := c.leading(w)
		if r == nil {
			return
		}
		defer done()
		q.RemoteAddr = cmp.Or(q.Header.Get(fromHeader), q.RemoteAddr)
		c.leaderRoutes(r).ServeHTTP(w, q)
	})
	return mux
}

// leaderRoutes answer what only the leader can: machines that join, members, and
// the operator's commands.
func (c *council) leaderRoutes(r *Region) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /leader/join", r.joinRoute)
	mux.HandleFunc("POST /leader/promote/{id}", func(w http.ResponseWriter, q *http.Request) {
		id, err := strconv.ParseUint(q.PathValue("id"), 10, 64)
		if err == nil {
			err = c.member.Promote(q.Context(), id)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("GET /leader/images", func(w http.ResponseWriter, q *http.Request) { r.copyList(ofImages, w, q) })
	mux.HandleFunc("GET /leader/registry", func(w http.ResponseWriter, q *http.Request) { r.copyList(ofRegistry, w, q) })
	mux.HandleFunc("GET /leader/clusters", func(w http.ResponseWriter, q *http.Request) { answer(w, r.Cluster.Hosts(), nil) })
	mux.Handle("/leader/admin/", http.StripPrefix("/leader/admin", r.adminRoutes()))
	return mux
}

// ControlStatus is a member of the control plane, for the operator.
type ControlStatus struct {
	Name    string `json:"name"`
	Role    string `json:"role"` // leader, member or learner
	Address string `json:"address"`
	URL     string `json:"url,omitempty"` // of its APIs
	Answers bool   `json:"answers"`
	Why     string `json:"why,omitempty"` // it does not
	Version string `json:"version,omitempty"`
	// Images is how many images' data it has, Missing how many it has not yet.
	Images  int `json:"images"`
	Missing int `json:"missing_images"`
	// Blobs and MissingBlobs are the same for the registry.
	Blobs        int `json:"blobs"`
	MissingBlobs int `json:"missing_blobs"`
}

// The roles of control members.
const (
	roleLeader  = "leader"
	roleMember  = "member"
	roleLearner = "learner"
)

// self tells how this member is.
func (c *council) self() ControlStatus {
	s := ControlStatus{Name: c.cfg.Node, Role: roleMember, Address: c.cfg.Cluster, URL: c.cfg.url(), Answers: true, Version: c.cfg.Version}
	if me, ok := c.member.Self(); ok && me.Learner {
		s.Role = roleLearner
	}
	if c.leads() != nil {
		s.Role = roleLeader
	}
	s.Images, s.Missing = c.images.counts()
	s.Blobs, s.MissingBlobs = c.blobs.counts()
	return s
}

// askFor bounds a question to another member.
const askFor = time.Second

// members asks all members how they are.
func (c *council) members(ctx context.Context) []ControlStatus {
	peers := c.member.Peers()
	out := make([]ControlStatus, len(peers))
	done := make(chan struct{})
	for i, p := range peers {
		go func() {
			defer func() { done <- struct{}{} }()
			addr, _ := c.addrOf(p.ID)
			out[i] = ControlStatus{Name: p.String(), Role: roleMember, Address: addr}
			if p.Learner {
				out[i].Role = roleLearner
			}
			if len(p.URLs) > 1 {
				out[i].URL = p.URLs[1]
			}
			got, err := c.askSelf(ctx, addr)
			if err != nil {
				out[i].Why = err.Error()
				return
			}
			out[i] = got
		}()
	}
	for range peers {
		<-done
	}
	return out
}

func (c *council) askSelf(ctx context.Context, addr string) (s ControlStatus, err error) {
	switch addr {
	case c.cfg.Cluster:
		return c.self(), nil
	case "":
		return s, errs.New(errs.Unavailable, "it has not started yet")
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	body, err := c.ask(ctx, addr, http.MethodGet, "/self", nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	return s, json.NewDecoder(body).Decode(&s)
}

// leaderStatus asks the leader whether it answers.
func (c *council) leaderStatus(ctx context.Context) (s ControlStatus, err error) {
	lead, _ := c.state()
	addr, ok := c.addrOf(lead)
	if !ok {
		return s, errs.New(errs.Unavailable, "no member leads")
	}
	if s, err = c.askSelf(ctx, addr); err == nil && s.Role != roleLeader {
		err = errs.New(errs.Unavailable, "%s is about to lead", s.Name)
	}
	return s, err
}

// ask asks another member; what it refuses is an error.
func (c *council) ask(ctx context.Context, addr, method, path string, in io.Reader) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, in)
	if err != nil {
		return nil, err
	}
	a, err := c.peers.transport.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	if a.StatusCode == http.StatusOK {
		return a.Body, nil
	}
	defer a.Body.Close()
	var fault struct{ Message string }
	_ = json.NewDecoder(io.LimitReader(a.Body, maxJoin)).Decode(&fault) // the status says it too
	return nil, errs.New(errs.KindOfStatus(a.StatusCode), "%s: %s", a.Status, fault.Message)
}

// askLeader asks the leader, which may be this member, with JSON for an answer.
func (c *council) askLeader(ctx context.Context, method, path string, to any) error {
	lead, _ := c.state()
	addr, ok := c.addrOf(lead)
	if !ok {
		return errs.New(errs.Unavailable, "no member leads")
	}
	body, err := c.ask(ctx, addr, method, "/leader"+path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if to == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(to)
}

// noLeader explains why a request was not answered.
func (c *council) noLeader(ctx context.Context, err error) error {
	if err == errUnknown {
		return errs.New(errs.Unavailable, "The control plane changed its leader while this request was under way: it may or may not have been done. Look before you repeat it.")
	}
	var here, away []string
	for _, m := range c.members(context.WithoutCancel(ctx)) {
		if m.Role == roleLearner {
			continue
		}
		if m.Answers {
			here = append(here, m.Name)
		} else {
			away = append(away, m.Name)
		}
	}
	if all := len(here) + len(away); len(here) <= all/2 {
		return errs.New(errs.Unavailable, "The control plane has no majority: of its %d members, %s, and %s. It goes on when more of them are back: start them with strata up. If they are lost, strata cluster-reset makes one that is left the only member.",
			all, doNot(here, "answers", "answer"), doNot(away, "does not", "do not"))
	}
	return errs.New(errs.Unavailable, "The control plane has no leader at the moment: try again.")
}

// doNot is a list with its verb.
func doNot(names []string, one, many string) string {
	switch len(names) {
	case 0:
		return "none " + one
	case 1:
		return names[0] + " " + one
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " " + many
}

// healthz is what monitoring asks: whether requests to this member are answered.
func (c *council) healthz(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("X-Strata-Pid", strconv.Itoa(os.Getpid()))
	if err := c.health(q.Context()); err != nil {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, c.noLeader(q.Context(), err))
		return
	}
	fmt.Fprintln(w, "ok")
}

// refuse tells a client in its API's words that its request was not, or may not have been, done.
func (c *council) refuse(w http.ResponseWriter, q *http.Request, err error) {
	if err == nil || q.Context().Err() != nil {
		return
	}
	switch {
	case err == errNotSent || err == errUnknown:
		err = c.noLeader(q.Context(), err)
	default:
		err = errs.Invalidf("The request body cannot be read: %w", err)
	}
	familyOf(q.URL.Path).Refuse(w, q, err)
}

// fileName is a name without a way to other directories.
func fileName(name string) bool {
	return name != "" && name == filepath.Base(name) && !strings.HasPrefix(name, ".")
}

// familyOf is how the API at a path speaks of errors.
func familyOf(path string) rest.Family {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "image":
		return rest.ImageFaults()
	case "placement":
		return rest.PlacementFaults()
	case "network":
		return rest.NetworkFaults()
	case "compute":
		return rest.ComputeFaults()
	case "volume":
		return rest.VolumeFaults()
	case "v2", "mirror":
		return registry.Faults()
	}
	return rest.IdentityFaults()
}
