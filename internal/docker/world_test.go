package docker

import (
	"context"
	"encoding/json"
	"io"

	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// fakeNode is a node whose engine keeps what it is told.
type fakeNode struct {
	nodes.Conn
	socket string

	mu    sync.Mutex
	made  map[string]nodeapi.Container
	execs map[string]string // container by exec
	fails error
}

func newFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{socket: filepath.Join(t.TempDir(), "s"), made: map[string]nodeapi.Container{}, execs: map[string]string{}}
	l, err := net.Listen("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: n}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // until Close
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return n
}

func (n *fakeNode) EnsureContainer(_ context.Context, c nodeapi.Container) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if have := n.made[c.ID]; c.Replug && n.fails == nil {
		have.Ports = c.Ports
		c = have
	}
	if n.fails == nil {
		n.made[c.ID] = c
	}
	return nil, n.fails
}

func (n *fakeNode) DockerAPI(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", n.socket)
}

func (n *fakeNode) has() (ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.made {
		ids = append(ids, id)
	}
	return ids
}

// ServeHTTP is the engine.
func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	n.mu.Lock()
	defer n.mu.Unlock()
	f := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if strings.HasPrefix(f[0], "v1.") {
		f = f[1:]
	}
	switch {
	case f[0] == "containers" && f[1] == "json":
		out := []map[string]any{}
		for id, c := range n.made {
			out = append(out, map[string]any{"Id": id, "Names": []string{"/" + c.Name}, "State": "running", "Labels": map[string]string{LabelNode: "a lie"}})
		}
		_ = dockerwire.Answer(w, 200, out)
	case f[0] == "exec":
		c, ok := n.execs[f[1]]
		if !ok {
			_ = dockerwire.Answer(w, 404, map[string]string{"message": "No such exec instance"})
			return
		}
		_ = dockerwire.Answer(w, 200, map[string]any{"ID": f[1], "ContainerID": c})
	case n.made[f[1]].ID == "":
		_ = dockerwire.Answer(w, 404, map[string]string{"message": "No such container: " + f[1]})
	case r.Method == http.MethodDelete:
		delete(n.made, f[1])
		w.WriteHeader(http.StatusNoContent)
	case f[len(f)-1] == "exec":
		id := newID()
		n.execs[id] = f[1]
		_ = dockerwire.Answer(w, http.StatusCreated, map[string]string{"Id": id})
	case f[len(f)-1] == "json":
		_ = dockerwire.Answer(w, 200, map[string]any{"Id": f[1], "Name": "/" + n.made[f[1]].Name, "HostsPath": "/node/hosts", "Config": map[string]any{}, "HostConfig": map[string]any{}, "NetworkSettings": map[string]any{}})
	default:
		_ = dockerwire.Answer(w, 200, map[string]string{"asked": r.URL.Path, "secret": r.Header.Get("Authorization") + r.Header.Get("X-Auth-Token")})
	}
}

// around is what the gateway needs, as far as it goes for tests.
type around struct {
	mu     sync.Mutex
	claims map[string]string
	ports  map[string]PortSpec
	limit  int
	nets   []Network
	noRoom bool

	deleted string // project
	db      *store.DB
}

func (*around) SignIn(_ context.Context, id, secret string) (string, error) {
	if secret != "right" {
		return "", errs.New(errs.Unauthenticated, "wrong")
	}
	return id, nil
}

// Authenticate reads a token PROJECT or PROJECT:ROLE.
func (*around) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	project, role, ok := strings.Cut(token, ".")
	switch {
	case token == "gone":
		return nil, errs.New(errs.Unauthenticated, "gone")
	case !ok:
		return &policy.Credentials{ProjectID: project, Roles: []string{"member", "reader"}}, nil
	}
	return &policy.Credentials{ProjectID: project, Roles: []string{role}}, nil
}

func (a *around) HasProject(_ context.Context, id string) bool { return id != a.deleted }

func (a *around) LimitOf(_, resource string) (int, bool) {
	return a.limit, resource == "containers" && a.limit > 0
}

func (*around) Resolve(_ context.Context, c *policy.Credentials, _ []string, ref string) (*Image, error) {
	if ref != "web" {
		return nil, errs.NotFoundf("No such image: %s", ref)
	}
	return &Image{Repo: c.ProjectID + "/web", Tag: "latest", Digest: "sha256:" + strings.Repeat("a", 64)}, nil
}
func (*around) Tagged(context.Context, *policy.Credentials) ([]*Image, error) { return nil, nil }
func (*around) Info(*Image) (*ImageInfo, error)                               { return &ImageInfo{}, nil }

func (a *around) Visible(_ context.Context, c *policy.Credentials) []Network {
	return slices.DeleteFunc(slices.Clone(a.nets), func(n Network) bool { return n.ProjectID != "" && n.ProjectID != c.ProjectID })
}

func (*around) Usable(context.Context, *policy.Credentials, string) error {
	return nil
}
func (*around) Groups(context.Context, string, []string) ([]string, error) { return nil, nil }
func (*around) Reaches(string, string) bool                                { return true }
func (*around) Ports(string) []PortView                                    { return nil }

func (a *around) EnsurePort(_ context.Context, p PortSpec) (*PortView, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports[p.ID] = p
	sub := nodeapi.Subnet{ID: "s", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), ServiceAddr: netip.MustParseAddr("10.0.0.2")}
	return &PortView{ID: p.ID, MAC: "fa:16:3e:00:00:01", FixedIPs: []nodeapi.FixedIP{{SubnetID: "s", Addr: netip.MustParseAddr("10.0.0.7")}}, Subnets: []nodeapi.Subnet{sub}}, nil
}

func (a *around) Make(_ context.Context, c *policy.Credentials, n NewNetwork, also func(tx *store.Tx, id, router string) error) error {
	id := uuid.NewString()
	if err := a.db.Txn(context.Background(), func(tx *store.Tx) error { return also(tx, id, "router") }); err != nil {
		return err
	}
	a.nets = append(a.nets, Network{ID: id, Name: n.Name, ProjectID: c.ProjectID, Subnets: []nodeapi.Subnet{{ID: "s"}}})
	return nil
}

func (a *around) Drop(_ context.Context, id, _ string, also func(tx *store.Tx) error) error {
	a.nets = slices.DeleteFunc(a.nets, func(n Network) bool { return n.ID == id })
	return a.db.Txn(context.Background(), also)
}

func (a *around) ReleasePort(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ports, id)
	return nil
}

func (a *around) Candidates(context.Context, int, int) (iter.Seq[string], error) {
	return slices.Values([]string{"alpha", "beta"}), nil
}

func (a *around) Claim(_ context.Context, consumer, node, _, _ string, _, _ int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.noRoom {
		return errs.New(errs.NoCapacity, "full")
	}
	a.claims[consumer] = node
	return nil
}

func (a *around) Release(_ context.Context, consumer string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.claims, consumer)
	return nil
}

// empty tells whether nothing is held.
func (a *around) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.claims)+len(a.ports) == 0
}

type world struct {
	*testing.T
	*around
	s       *Service
	volumes *fakeVolumes
	node    *fakeNode // beta: alpha has no engine
}

func newWorld(t *testing.T) *world {
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{T: t, around: &around{claims: map[string]string{}, ports: map[string]PortSpec{}}, volumes: &fakeVolumes{volumes: map[string]Volume{}, attached: map[string]Attachment{}}, node: newFakeNode(t)}
	w.db = db
	reg := nodes.New(db)
	engine, err := policy.New(filepath.Join(t.TempDir(), "none"), Policies(), elsewhere())
	if err != nil {
		t.Fatal(err)
	}
	w.s = New(Options{DB: db, Log: log, Nodes: reg, Identity: w.around, Images: w.around, Networks: w.around, Volumes: w.volumes, Placement: w.around, Takes: func(string) bool { return true },
		Policy: engine, Version: "test", Registry: []string{"cloud:5000"}})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for node, has := range map[string]bool{"alpha": false, "beta": true} {
		if err := reg.Infos.Create(t.Context(), &nodeapi.NodeInfo{ID: node, Containers: has}); err != nil {
			t.Fatal(err)
		}
	}
	reg.Connect("alpha", newFakeNode(t))
	reg.Connect("beta", w.node)
	w.s.Start(t.Context())
	return w
}

func (w *world) do(token, method, path, body string) (int, string) {
	w.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func (w *world) create(token, name, more string) string {
	w.Helper()
	code, body := w.do(token, "POST", "/v1.47/containers/create?name="+name, `{"Image":"web","HostConfig":{`+more+`}}`)
	if code != http.StatusCreated {
		w.Fatalf("create: %d %s", code, body)
	}
	var v struct{ Id string }
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		w.Fatal(err)
	}
	return v.Id
}
