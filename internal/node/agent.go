package node

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/configdrive"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/keyed"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/reconcile"
)

// Control is the control plane as an agent sees it.
type Control interface {
	// Instances streams what this node should run: first all there is, then
	// Synced once, then changes.
	Instances(ctx context.Context) <-chan InstanceEvent
	// Networks streams the whole wanted state of the data plane, coalesced.
	Networks(ctx context.Context) <-chan nodeapi.NetState
	Report(ctx context.Context, s nodeapi.InstanceStatus) error
	ReportPorts(ctx context.Context, ports []nodeapi.PortStatus) error
	ReportNode(ctx context.Context, n nodeapi.NodeInfo) error
	// ReportPassword keeps the encrypted password that a guest posted. Conflict: it has one.
	ReportPassword(ctx context.Context, id, password string) error
	// Lease asks what this node may run of the servers that run under a lease.
	Lease(ctx context.Context) (nodeapi.Lease, error)
	// Image gives a local, read-only file with the image's data and its format.
	Image(ctx context.Context, id string) (path, format string, err error)
}

// InstanceEvent is one change of what is wanted. Instance nil and Synced false: ID is wanted no more.
type InstanceEvent struct {
	ID       string
	Instance *nodeapi.Instance
	Synced   bool
}

// Plane is the node's data plane.
type Plane interface {
	Apply(ctx context.Context, s nodeapi.NetState) error
	Tap(ctx context.Context, portID string) (*os.File, error)
	// TapAhead makes the tap of a port that is still at another node.
	TapAhead(ctx context.Context, portID string) (*os.File, error)
	Unplug(ctx context.Context, portID string) error
	// Counters counts a local port's traffic as the machine behind it sees it.
	Counters(ctx context.Context, portID string) (nodeapi.NICDiagnostics, error)
}

// Options configure an agent.
type Options struct {
	ID       string
	Control  Control
	Machines hypervisor.Driver
	Plane    Plane
	Volumes  Volumes            // nil: the node reaches none
	Leases   *hypervisor.Leases // nil: servers with high availability run as any other
	Log      *slog.Logger
	// CacheDir keeps base images in the form that guests use, one file per image.
	CacheDir string
	// TemplateDir keeps the frozen first boots that servers are cloned from; "": every server boots.
	TemplateDir string
	// Addr is where other nodes reach this one when servers move; "": none do.
	Addr string
	// Grace is how long a guest may take to shut down. Default 60 s.
	Grace time.Duration
}

// Agent runs one node.
type Agent struct {
	Options
	bootID  string
	loop    *reconcile.Loop
	ports   portReports
	leasing leasing

	mu        sync.Mutex
	wanted    map[string]*nodeapi.Instance
	synced    bool
	waits     map[string]func() // ends a wait for a guest, by instance
	starved   map[string]bool   // instances that may write to a full disk again
	cache     imageCache
	templates *templates
	reads     keyed.Mutex // of disks, by instance and name
	moves     keyed.Mutex // by instance
}

// New makes an agent; Run starts it.
func New(o Options) (*Agent, error) {
	if o.Grace == 0 {
		o.Grace = 60 * time.Second
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.CacheDir, 0o711); err != nil {
		return nil, err
	}
	a := &Agent{Options: o, bootID: string(boot), wanted: map[string]*nodeapi.Instance{}, waits: map[string]func(){}, starved: map[string]bool{}, ports: portReports{wake: make(chan struct{}, 1)}, leasing: newLeasing()}
	a.cache = imageCache{dir: o.CacheDir, control: o.Control}
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return nil, err
	}
	// What is cloned from is in memory while it is in use: a part of it is enough.
	if a.templates, err = newTemplates(o.TemplateDir, int(host.Totalram*uint64(host.Unit)>>20)/8); err != nil {
		return nil, err
	}
	a.loop = reconcile.New("instance", o.Log, a.reconcile)
	a.loop.Workers = 16 // they mostly wait for guests
	return a, nil
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, part := range []func(context.Context){a.followNetworks, a.followInstances, a.followMachines, a.makeTemplates, a.sendPorts, a.askLeases, a.cutLeases, a.loop.Run} {
		group.Go(func() { part(ctx) })
	}
	group.Wait()
}

func (a *Agent) followNetworks(ctx context.Context) {
	for s := range a.Control.Networks(ctx) {
		if err := a.Plane.Apply(ctx, s); err != nil && ctx.Err() == nil {
			a.Log.Warn("network state is applied in part", "err", err)
		}
	}
}

func (a *Agent) followInstances(ctx context.Context) {
	for e := range a.Control.Instances(ctx) {
		a.mu.Lock()
		switch {
		case e.Synced:
			a.synced = true
		case e.Instance == nil:
			delete(a.wanted, e.ID)
			delete(a.starved, e.ID)
		default:
			a.wanted[e.ID] = e.Instance
		}
		if stop := a.waits[e.ID]; stop != nil {
			stop()
		}
		a.mu.Unlock()
		if e.Synced {
			a.addAll()
			a.pruneTemplates(ctx)
		} else {
			a.loop.Add(e.ID)
		}
	}
}

// addAll queues everything that exists here, wanted or not.
func (a *Agent) addAll() {
	ids, err := a.Machines.List()
	if err != nil {
		a.Log.Error("instances on this node cannot be listed", "err", err)
		return
	}
	for _, id := range ids {
		a.loop.Add(id)
	}
	a.prune()
}

// prune drops base images that nothing here uses any more.
func (a *Agent) prune() {
	a.mu.Lock()
	used, synced := map[string]bool{}, a.synced
	for _, i := range a.wanted {
		for _, d := range i.Disks {
			used[d.ImageID] = true
		}
	}
	a.mu.Unlock()
	if !synced {
		return
	}
	if err := a.cache.prune(used); err != nil {
		a.Log.Warn("unused base images stay", "err", err)
	}
}

// followMachines reacts to guests that change state by themselves.
func (a *Agent) followMachines(ctx context.Context) {
	resync := time.NewTicker(30 * time.Second)
	defer resync.Stop()
	feed := time.NewTicker(feedInterval)
	defer feed.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-a.Machines.Events():
			if !ok {
				return
			}
			a.loop.Add(e.ID)
		case <-feed.C:
			a.feed()
		case <-resync.C:
			a.addAll()
			a.pruneTemplates(ctx)
		}
	}
}

func (a *Agent) want(id string) (inst *nodeapi.Instance, synced bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted[id], a.synced
}

// ConsoleLog implements nodes.Conn.
func (a *Agent) ConsoleLog(_ context.Context, id string, lines int) ([]byte, error) {
	return a.Machines.ConsoleLog(id, lines)
}

// Metadata answers a guest's metadata request from what this node knows; a
// password that the guest posts goes to the control plane.
func (a *Agent) Metadata(ctx context.Context, device string, w http.ResponseWriter, r *http.Request) {
	inst, _ := a.want(device)
	if inst == nil {
		http.NotFound(w, r)
		return
	}
	configdrive.Serve(w, r, inst, func(password string) error { return a.Control.ReportPassword(ctx, device, password) })
}

// PortChanged takes the data plane's word on a port; it never blocks.
func (a *Agent) PortChanged(s nodeapi.PortStatus) { a.ports.add(s) }

// portReports collects port states and sends them in batches.
type portReports struct {
	mu      sync.Mutex
	pending []nodeapi.PortStatus
	wake    chan struct{}
}

func (p *portReports) add(s nodeapi.PortStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = append(p.pending, s)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *portReports) take() []nodeapi.PortStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.pending
	p.pending = nil
	return list
}

func (a *Agent) sendPorts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.ports.wake:
		}
		if err := a.Control.ReportPorts(ctx, a.ports.take()); err != nil && ctx.Err() == nil {
			a.Log.Warn("port states could not be reported", "err", err)
		}
	}
}

// gone tells whether a machine does not exist here.
func gone(err error) bool { return errs.Is(err, errs.NotFound) }
