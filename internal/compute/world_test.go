package compute

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

const (
	imageID   = "11111111-1111-4111-8111-111111111111"
	networkID = "22222222-2222-4222-8222-222222222222"
	project1  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"
	project2  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2"
)

// world is a compute service with everything around it played by ledgers.
type world struct {
	t      testing.TB
	db     *store.DB
	engine *saga.Engine
	nodes  *nodes.Registry
	svc    *Service
	nets   *fakeNetworks
	images *fakeImages
	vols   *fakeVolumes
	place  *fakePlacement
	agents map[string]*nodestest.Agent
}

func newWorld(t testing.TB, opt saga.Options, hosts ...string) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, engine: saga.New(db, opt), nodes: nodes.New(db), images: newImages(), vols: newVolumes(db), nets: newNetworks(), agents: map[string]*nodestest.Agent{}}
	w.place = &fakePlacement{free: map[string]Resources{}, held: map[string]claim{}}
	w.svc = New(Options{DB: db, Sagas: w.engine, Nodes: w.nodes, Images: w.images, Volumes: w.vols, Networks: w.nets, SecurityGroups: newGroups(), Placement: w.place, ProviderID: providerOf, Log: log,
		HasProject:  func(_ context.Context, id string) bool { return id != "nowhere" },
		BootTimeout: 10 * time.Second})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(hosts) == 0 {
		hosts = []string{"node-1"}
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); group.Wait() })
	for _, h := range hosts {
		a := &nodestest.Agent{Leases: true, Info: nodeapi.NodeInfo{ID: h, Host: h, Addr: "192.0.2.10", VCPUs: 8, MemoryMiB: 16384, DiskGiB: 100, Accelerator: "tcg", Hypervisor: "QEMU",
			Version: "7.2.15", CPUModel: "max", CPUArch: "x86_64", CPUFlags: []string{"sse"}}}
		w.agents[h] = a
		w.place.free[h] = Resources{VCPU: 64, MemoryMiB: 65536, DiskGiB: 1000}
		if err := a.Register(ctx, db, w.nodes); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			if err := a.Run(ctx, db, w.nodes); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// start runs the sagas and the service's own loops until the test ends.
func (w *world) start() *world {
	ctx, stop := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = w.engine.Run(ctx) })
	group.Go(func() { w.svc.Run(ctx) })
	w.t.Cleanup(func() { stop(); group.Wait() })
	return w
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func(context.Context) (bool, error) { return ok(), nil }); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until no saga is open.
func (w *world) settled() {
	w.t.Helper()
	w.until("the sagas' ends", func() bool { return w.engine.Open() == 0 })
}

// clean demands that ledgers hold what the live servers hold, and nothing else.
func (w *world) clean(t testing.TB) {
	t.Helper()
	var placed, ports, running []string
	for _, v := range w.svc.servers.All() {
		if v.Shelf != nil && v.DeletedAt == nil {
			for _, n := range v.NICs {
				ports = append(ports, n.PortID)
			}
		}
		if v.DeletedAt != nil || v.Host == "" {
			continue
		}
		placed = append(placed, v.ID)
		if v.Resize != nil {
			placed = append(placed, v.Resize.ID)
		}
		running = append(running, v.ID)
		for _, n := range v.NICs {
			if v.Shelf == nil {
				ports = append(ports, n.PortID)
			}
		}
	}
	slices.Sort(ports)
	slices.Sort(placed)
	equal := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: have %v, want %v", what, got, want)
		}
	}
	equal("allocations", w.place.consumers(), placed)
	equal("bound ports", w.nets.bound(), ports)
	var instances, statuses, onNodes []string
	for _, i := range w.nodes.Instances.All() {
		instances = append(instances, i.ID)
	}
	for _, s := range w.nodes.Statuses.All() {
		statuses = append(statuses, s.ID)
	}
	for _, a := range w.agents {
		onNodes = append(onNodes, a.Runs()...)
		equal("started twice", a.Twice(), nil)
	}
	slices.Sort(onNodes)
	slices.Sort(running)
	equal("instances", instances, running)
	equal("statuses", statuses, running)
	equal("on the nodes", onNodes, running)
}

// fakeImages knows one image, and those that servers make.
type fakeImages struct {
	mu   sync.Mutex
	made map[string]*madeImage
	next int
}

type madeImage struct {
	NewImage
	active bool
	order  int
}

func newImages() *fakeImages { return &fakeImages{made: map[string]*madeImage{}} }

func (f *fakeImages) Begin(_ context.Context, n NewImage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made[n.ID] == nil {
		f.next++
		f.made[n.ID] = &madeImage{NewImage: n, order: f.next}
	}
	return nil
}

func (f *fakeImages) Fill(_ context.Context, id string, data io.Reader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.made[id]
	if m == nil {
		return errs.NotFoundf("no image %s", id)
	}
	if raw, err := io.ReadAll(data); err != nil || !strings.HasPrefix(string(raw), "QFI") {
		return errs.Invalidf("no qcow2 image: %v", err)
	}
	m.active = true
	return nil
}

func (f *fakeImages) Discard(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.made, id)
	return nil
}

func (f *fakeImages) Backups(project, server, kind string) []string {
	var list []*madeImage
	for _, m := range f.list() {
		if p := m.Properties; m.active && m.ProjectID == project && p["image_type"] == "backup" && p["backup_type"] == kind && p["instance_uuid"] == server {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b *madeImage) int { return b.order - a.order })
	var out []string
	for _, m := range list {
		out = append(out, m.ID)
	}
	return out
}

func (f *fakeImages) list() []*madeImage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.made), func(a, b *madeImage) int { return a.order - b.order })
}

func (f *fakeImages) Image(_ context.Context, _ *policy.Credentials, id string) (*Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.made[id]; m != nil && m.active {
		return &Image{ID: id, Name: m.Name, Status: "active", Format: "qcow2", Size: 1 << 20, Virtual: 1 << 20, MinDisk: m.MinDisk, Properties: m.Properties}, nil
	}
	if id != imageID {
		return nil, errs.NotFoundf("no image %s", id)
	}
	return &Image{ID: id, Name: "tiny", Status: "active", Format: "qcow2", Size: 10 << 20, Virtual: 64 << 20}, nil
}

// fakeNetworks is a network service of one network per project and any number of ports.
type fakeNetworks struct {
	mu    sync.Mutex
	ports map[string]*Port
	users map[string]bool // made by a user: survives its server
	next  byte
	limit int
	// reached are the hosts that networks reach; nil: all.
	reached map[string]bool
	// byServer answers Ports from an index, as the real service does; for benchmarks.
	byServer map[string][]Port
}

func newNetworks() *fakeNetworks {
	return &fakeNetworks{ports: map[string]*Port{}, users: map[string]bool{}, limit: -1, byServer: map[string][]Port{}}
}

func (f *fakeNetworks) Usable(_ context.Context, _ *policy.Credentials, id string) error {
	if id != networkID {
		return errs.NotFoundf("no network %s", id)
	}
	return nil
}

func (f *fakeNetworks) Available(context.Context, *policy.Credentials) ([]string, error) {
	return []string{networkID}, nil
}

func (f *fakeNetworks) Port(_ context.Context, c *policy.Credentials, id string) (*Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.ports[id]
	if p == nil || p.ProjectID != c.ProjectID {
		return nil, errs.NotFoundf("no port %s", id)
	}
	q := *p
	return &q, nil
}

func (f *fakeNetworks) Groups(_ context.Context, _ string, wanted []string) (ids, names []string, err error) {
	for _, w := range wanted {
		if w != "default" && w != "web" {
			return nil, nil, errs.NotFoundf("Unable to find security_group with name or id '%s'", w)
		}
		ids, names = append(ids, "sg-"+w), append(names, w)
	}
	return ids, names, nil
}

// addPort makes a port as a user would.
func (f *fakeNetworks) addPort(project string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := uuid.NewString()
	f.users[id] = true
	f.ports[id] = f.newPort(id, project)
	return id
}

func (f *fakeNetworks) newPort(id, project string) *Port {
	f.next++
	return &Port{ID: id, NetworkID: networkID, NetworkName: "private", ProjectID: project, MAC: "fa:16:3e:00:00:01", MTU: 1450, Status: "DOWN",
		FixedIPs: []nodeapi.FixedIP{{SubnetID: "33333333-3333-4333-8333-333333333333", Addr: netip.AddrFrom4([4]byte{10, 0, 0, f.next})}}, Created: time.Now()}
}

func (f *fakeNetworks) EnsurePort(_ context.Context, p PortSpec) (*Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.ports[p.ID]
	if have == nil && p.Existing {
		return nil, errs.NotFoundf("Port %s could not be found.", p.ID)
	}
	if have == nil {
		have = f.newPort(p.ID, p.ProjectID)
		have.GroupIDs, have.GroupNames = p.Groups, []string{"default"}
		f.ports[p.ID] = have
	}
	if have.DeviceID != "" && have.DeviceID != p.Server {
		return nil, errs.Conflictf("Port %s is in use", p.ID)
	}
	have.DeviceID, have.Bound, have.Status = p.Server, p.Host, "ACTIVE"
	q := *have
	return &q, nil
}

func (f *fakeNetworks) ReleasePort(_ context.Context, id string, keep bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.ports[id]
	if p == nil {
		return nil
	}
	if !keep {
		delete(f.ports, id)
		return nil
	}
	p.DeviceID, p.Bound = "", ""
	return nil
}

func (f *fakeNetworks) Ports(server string) []Port {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.byServer[server])
	for _, id := range slices.Sorted(maps.Keys(f.ports)) {
		if p := f.ports[id]; p.DeviceID == server {
			out = append(out, *p)
		}
	}
	return out
}

func (f *fakeNetworks) SetGroups(_ context.Context, _ *policy.Credentials, server, group string, add bool) error {
	if group != "default" && group != "web" {
		return errs.NotFoundf("Security group %s not found.", group)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.ports {
		if p.DeviceID != server {
			continue
		}
		if p.GroupNames = slices.DeleteFunc(slices.Clone(p.GroupNames), func(g string) bool { return g == group }); add {
			p.GroupNames = append(p.GroupNames, group)
		}
	}
	return nil
}

func (f *fakeNetworks) AddressHolder(_ *policy.Credentials, network, address string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.ports {
		for _, ip := range p.FixedIPs {
			if p.NetworkID == network && ip.Addr.String() == address {
				return p.DeviceID, true
			}
		}
	}
	return "", false
}

// Readdressed implements Networks: addresses do not change by themselves here.
func (f *fakeNetworks) Readdressed(ctx context.Context) <-chan string {
	out := make(chan string)
	context.AfterFunc(ctx, func() { close(out) })
	return out
}

func (f *fakeNetworks) Reaches(_, host string) bool { return f.reached == nil || f.reached[host] }

func (f *fakeNetworks) FreePorts(string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit < 0 {
		return -1
	}
	return f.limit - len(f.ports)
}

// bound lists the ports that a server holds or that were made for one.
func (f *fakeNetworks) bound() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for id, p := range f.ports {
		if p.DeviceID != "" || !f.users[id] {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
