package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/cluster/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

const (
	project1 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"
	project2 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2"
)

// people are who the tokens of the tests belong to.
var people = map[string]*policy.Credentials{
	"owner":  {UserID: "u1", ProjectID: project1, Roles: []string{"member", "reader"}},
	"mate":   {UserID: "u4", ProjectID: project1, Roles: []string{"member", "reader"}},
	"reader": {UserID: "u3", ProjectID: project1, Roles: []string{"reader"}},
	"other":  {UserID: "u2", ProjectID: project2, Roles: []string{"member", "reader"}},
	"admin":  {UserID: "a", ProjectID: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9", Roles: []string{"admin", "member", "reader"}},
}

type tokens struct{}

func (tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := people[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "no such token")
}

// world is the service with a control member and nodes that are simulated.
type world struct {
	t       testing.TB
	db      *store.DB
	engine  *saga.Engine
	svc     *Service
	reg     *nodes.Registry
	pool    *fakePool
	claims  *fakePlacement
	nets    *fakeNetworks
	servers *fakeServers
	copies  *fakeCopies
	agents  map[string]*agent
	handler http.Handler
}

// nodeNames are the nodes; the first is the control member.
var nodeNames = []string{"node-1", "node-2", "node-3", "node-4"}

func newWorld(t testing.TB, opt saga.Options) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, engine: saga.New(db, opt), reg: nodes.New(db), pool: &fakePool{members: 1}, claims: &fakePlacement{held: map[string]string{}, room: 4}, agents: map[string]*agent{}}
	w.nets = &fakeNetworks{db: db, made: map[string][]netip.Prefix{}, ports: map[string]PortSpec{}}
	w.copies = &fakeCopies{}
	w.servers = &fakeServers{world: w, made: map[string]*fakeServer{}}
	w.svc = New(Options{DB: db, Sagas: w.engine, Nodes: w.reg, Resources: fakeResources{}, Placement: w.claims, Pool: w.pool, Networks: w.nets, Volumes: &noVolumes{}, Servers: w.servers, Identity: tokens{}, Registry: fakeRegistry{}, Copies: w.copies, Log: log})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); group.Wait(); w.servers.group.Wait() })
	w.servers.ctx = ctx
	for _, name := range nodeNames {
		conn := &nodestest.Agent{Info: nodeapi.NodeInfo{ID: name, Host: name, Addr: "192.0.2." + name[5:]}}
		if err := conn.Register(t.Context(), db, w.reg); err != nil {
			t.Fatal(err)
		}
		a := &agent{name: name, svc: w.svc, conn: conn, world: w, parts: map[string]nodeapi.KubePart{}, joined: map[string]map[string]bool{}}
		w.agents[name] = a
	}
	for _, a := range w.agents {
		group.Go(func() { a.run(ctx) })
	}
	rules, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Auth: tokens{}, Policy: rules, Log: log, Metrics: rest.NewMetrics()}
	if w.handler, err = kit.Handler(w.svc.API()); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs the sagas until the test ends.
func (w *world) start() *world {
	ctx, stop := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = w.engine.Run(ctx) })
	w.t.Cleanup(func() { stop(); group.Wait() })
	return w
}

// settled waits until no saga is open.
func (w *world) settled() {
	w.t.Helper()
	w.until("the sagas' ends", func() bool { return w.engine.Open() == 0 })
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func(context.Context) (bool, error) { return is(), nil }); err != nil {
		w.t.Fatal(err)
	}
}

// agent is a simulated node: what it has of clusters is what it is told to have.
type agent struct {
	name  string
	svc   *Service
	conn  *nodestest.Agent
	world *world

	mu    sync.Mutex
	parts map[string]nodeapi.KubePart
	fault string // of all that it is told to do
	mute  bool   // its control planes do not answer

	joined map[string]map[string]bool // the nodes that a control plane here knows, by cluster
}

// run follows the service. A control plane knows the workers of all agents that were
// told to be such, but those that are gone.
func (a *agent) run(ctx context.Context) {
	for list := range a.svc.Watch(ctx, a.name) {
		a.mu.Lock()
		a.parts = map[string]nodeapi.KubePart{}
		for _, p := range list {
			a.parts[p.ID] = p
		}
		a.mu.Unlock()
		for _, b := range a.world.agents {
			b.tell(ctx) // the control plane elsewhere sees what has changed here
		}
	}
}

func (a *agent) set(ctx context.Context, fault string, mute bool) {
	a.mu.Lock()
	a.fault, a.mute = fault, mute
	a.mu.Unlock()
	a.tell(ctx)
}

// has lists what the agent has, as "cluster control worker".
func (a *agent) has() map[string]nodeapi.KubePart {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.parts)
}

var telling sync.Mutex // so that reports are in order

func (a *agent) tell(ctx context.Context) {
	telling.Lock()
	defer telling.Unlock()
	if _, err := a.world.reg.Conn(a.name); err != nil {
		return // it is away
	}
	out := []nodeapi.KubeStatus{}
	a.mu.Lock()
	fault, mute, parts := a.fault, a.mute, maps.Clone(a.parts)
	a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(parts)) {
		p := parts[id]
		st := nodeapi.KubeStatus{ID: id, Rev: p.Rev, Fault: fault}
		if p.Control != nil && p.Control.Sealed {
			st.Sealed = a.world.copies.make(id)
		} else if p.Control != nil {
			st.API = &nodeapi.KubeAPI{Version: "v1.37.0"}
			if mute {
				st.API = &nodeapi.KubeAPI{Fault: "connection refused"}
			} else {
				st.API.Nodes = a.members(id, p.Control.Gone)
			}
		}
		out = append(out, st)
	}
	_ = a.svc.Report(ctx, a.name, out) // fails when the test ends
}

// members are the nodes of a cluster as its API has them: who has joined stays until it
// is removed.
func (a *agent) members(id string, gone []string) (out []nodeapi.KubeNode) {
	a.mu.Lock()
	if a.joined[id] == nil {
		a.joined[id] = map[string]bool{}
	}
	joined := a.joined[id]
	a.mu.Unlock()
	names, servers := slices.Clone(nodeNames), a.world.servers.working(id)
	for name := range servers {
		names = append(names, name)
	}
	for name := range joined {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		p, ok := nodeapi.KubePart{}, servers[name]
		if pool := a.world.agents[name]; pool != nil {
			p, ok = pool.has()[id]
		} else if ok {
			p.Worker = &nodeapi.KubeWorker{}
		}
		if works := ok && p.Worker != nil; works || joined[name] {
			joined[name] = true
		}
		if slices.Contains(gone, name) {
			delete(joined, name)
		}
		if joined[name] {
			out = append(out, nodeapi.KubeNode{Name: name, Ready: ok})
		}
	}
	return out
}

// fakePool has so many control members, the first nodes.
type fakePool struct{ members int }

func (p *fakePool) Members() []string { return nodeNames[:p.members] }
func (fakePool) Address(node string) netip.Addr {
	return netip.MustParseAddr("192.0.2." + node[5:])
}
func (fakePool) Takes(string) bool { return true }

// fakePlacement has room for a worker on so many nodes.
type fakePlacement struct {
	mu   sync.Mutex
	room int
	held map[string]string // node, by consumer
}

func (p *fakePlacement) Candidates(context.Context, int, int) (iter.Seq[string], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Values(slices.Clone(nodeNames[:p.room])), nil
}

func (p *fakePlacement) Claim(_ context.Context, consumer, node, _, _ string, vcpus, _ int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, n := range p.held {
		if n == node && c != consumer {
			return errs.New(errs.NoCapacity, "full")
		}
	}
	if vcpus < 1 {
		return fmt.Errorf("%d VCPUs are claimed", vcpus)
	}
	p.held[consumer] = node
	return nil
}

func (p *fakePlacement) Release(_ context.Context, consumer string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, consumer)
	return nil
}

type fakeResources struct{}

func (fakeResources) Flavor(_ context.Context, _ *policy.Credentials, ref string) (Size, error) {
	if ref != "m1.small" {
		return Size{}, errs.NotFoundf("no flavor")
	}
	return Size{1, 2048}, nil
}

func (fakeResources) Image(_ context.Context, _ *policy.Credentials, ref string) error {
	if ref != "tiny" {
		return errs.NotFoundf("no image")
	}
	return nil
}

func (fakeResources) HasProject(_ context.Context, id string) bool {
	return id == project1 || id == project2
}

// answer is what a request got.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// do makes a request at a microversion; who names a token.
func (w *world) do(who, version, method, path, body string) *answer {
	w.t.Helper()
	req := httptest.NewRequest(method, prefix+path, bytes.NewReader([]byte(body)))
	req.Header.Set("X-Auth-Token", who)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", "container-infra "+version)
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	a := &answer{t: w.t, what: method + " " + path + " " + body, status: rec.Code, header: rec.Header(), raw: rec.Body.Bytes()}
	if len(a.raw) > 0 {
		if err := json.Unmarshal(a.raw, &a.body); err != nil {
			w.t.Fatalf("%s: %v: %s", a.what, err, a.raw)
		}
	}
	return a
}

// want demands the status; an error comes in upstream's envelope.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.raw)
	}
	if status >= 400 && status != 401 {
		list, _ := a.body["errors"].([]any)
		if len(list) != 1 || list[0].(map[string]any)["status"] != float64(status) || list[0].(map[string]any)["detail"] == "" {
			a.t.Errorf("%s: the error is %s", a.what, a.raw)
		}
	}
	return a
}

func (a *answer) str(key string) string {
	a.t.Helper()
	s, ok := a.body[key].(string)
	if !ok {
		a.t.Fatalf("%s: %s is %v", a.what, key, a.body[key])
	}
	return s
}

// template makes one and gives its id.
func (w *world) template(fields string) string {
	w.t.Helper()
	return w.do("owner", "1.11", "POST", "/clustertemplates", `{"coe":"kubernetes","server_type":"bm"`+fields+`}`).want(201).str("uuid")
}

// made makes a cluster of a template and waits for it.
func (w *world) made(fields string) string {
	w.t.Helper()
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`"`+fields+`}`).want(202).str("uuid")
	w.settled()
	return id
}

func (w *world) cluster(id string) map[string]any {
	w.t.Helper()
	return w.do("owner", "1.11", "GET", "/clusters/"+id, "").want(200).body
}

// clean demands that nodes and placement have what the records say, and nothing else.
func (w *world) clean(t testing.TB) {
	t.Helper()
	want := map[string]string{}
	for _, x := range w.svc.workers.All() {
		if x.Leaving || !x.Claimed {
			t.Errorf("worker %s is left as %+v", x.Node, x)
		}
		if x.Server == "" {
			want[x.ID] = x.Node
		} else if !w.servers.has(x.Server) {
			t.Errorf("worker %s has no server", x.Node)
		}
	}
	for _, c := range w.svc.clusters.All() {
		for _, n := range w.svc.listedNodes(c) {
			if !slices.ContainsFunc(w.svc.workers.By("cluster", c.ID), func(x *Worker) bool { return x.Node == n }) {
				t.Errorf("node %s, which is no worker, is left in cluster %s", n, c.Name)
			}
		}
	}
	w.claims.mu.Lock()
	if !maps.Equal(want, w.claims.held) {
		t.Errorf("placement holds %v, the records say %v", w.claims.held, want)
	}
	w.claims.mu.Unlock()
	own, gates := 0, 0
	for _, c := range w.svc.clusters.All() {
		if c.Network != nil && c.Network.Own {
			own++
		}
		if c.Gate != "" {
			gates++
		}
		if (c.Gate != "") != (c.Address != "") {
			t.Errorf("cluster %s at %q has the gate %q", c.Name, c.Address, c.Gate)
		}
	}
	if networks, ports := w.nets.count(); networks != own || ports != w.svc.workers.Len()+gates {
		t.Errorf("there are %d networks and %d ports, of %d clusters, %d gates and %d workers", networks, ports, own, gates, w.svc.workers.Len())
	}
	servers := slices.DeleteFunc(slices.Clone(w.svc.workers.All()), func(x *Worker) bool { return x.Server == "" })
	if n := w.servers.count(); n != len(servers) {
		t.Errorf("there are %d servers for %d workers", n, len(servers))
	}
	for _, r := range w.svc.reports.All() {
		if !slices.Contains(nodeNames, r.Node) && !slices.ContainsFunc(servers, func(x *Worker) bool { return x.Node == r.Node }) {
			t.Errorf("a report of %s is left", r.Node)
		}
	}
	for _, name := range nodeNames {
		parts := w.svc.Parts(name)
		w.until("node "+name+" to have what is wanted", func() bool { return len(w.agents[name].has()) == len(parts) })
	}
}

// listedNodes are the nodes that a cluster's API has.
func (s *Service) listedNodes(c *Cluster) (out []string) {
	if st := s.reported(c.Member, c.ID); st != nil && st.API != nil {
		for _, n := range st.API.Nodes {
			out = append(out, n.Name)
		}
	}
	return out
}

// noVolumes is a volume service that is never asked for one.
type noVolumes struct{ volumes.Storage }

func (*noVolumes) Reach(context.Context, *volumes.Scope, string) (*nodeapi.ContainerVolume, error) {
	return nil, errs.NotFoundf("no volume")
}

func (*noVolumes) LetGo(context.Context, string, string, string) error { return nil }
