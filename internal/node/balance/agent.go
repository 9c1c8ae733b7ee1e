package balance

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/balancer"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/reconcile"
)

// Control is the control plane as it speaks of load balancers.
type Control interface {
	// LoadBalancers streams what this node is to run, as a whole.
	LoadBalancers(ctx context.Context) <-chan []nodeapi.LoadBalancer
	ReportLoadBalancers(ctx context.Context, list []nodeapi.LoadBalancerStatus) error
}

// Agent runs the load balancers of one node.
type Agent struct {
	Control Control
	Kernel  *balancer.Kernel
	Node    string
	Log     *slog.Logger

	loop *reconcile.Loop
	tell chan struct{}

	mu     sync.Mutex
	wanted map[string]*nodeapi.LoadBalancer
	synced bool
	runs   map[string]*running
}

// running is a load balancer as it is here. The first fields are the loop's, which does one
// thing at a time for an id; the others are guarded by the agent's mu.
type running struct {
	balancer *balancer.Balancer
	checks   map[string]*check // by member

	applied bool                  // this process has put its table in place
	members map[string]string     // what was known of them then
	good    map[string]bool       // members that got connections then
	lb      *nodeapi.LoadBalancer // as it was applied last
	busy    map[string]int        // connections by member, as they were counted last
	status  nodeapi.LoadBalancerStatus
	traffic map[string]nodeapi.LBTraffic
	hurry   context.CancelFunc // ends what is under way, since something else is wanted
}

// How often things are looked at, and how long a load balancer may take to be made.
const (
	busyEvery    = time.Second
	trafficEvery = 5 * time.Second
	patience     = 30 * time.Second
	tellAgain    = time.Second
)

// New makes an agent; Run starts it.
func New(control Control, kernel *balancer.Kernel, node string, log *slog.Logger) *Agent {
	a := &Agent{Control: control, Kernel: kernel, Node: node, Log: log, tell: make(chan struct{}, 1),
		wanted: map[string]*nodeapi.LoadBalancer{}, runs: map[string]*running{}}
	a.loop = reconcile.New("load balancer", log, a.reconcile)
	return a
}

// Run works until ctx ends. Load balancers go on then, without anybody who watches members.
func (a *Agent) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, part := range []func(context.Context){a.follow, a.loop.Run, a.look, a.report} {
		group.Go(func() { part(ctx) })
	}
	group.Wait()
	for _, r := range a.runs {
		r.stop()
		if r.balancer != nil {
			_ = r.balancer.Close() // a descriptor
		}
	}
}

// follow takes up what the control plane wants.
func (a *Agent) follow(ctx context.Context) {
	for list := range a.Control.LoadBalancers(ctx) {
		now := map[string]*nodeapi.LoadBalancer{}
		for i := range list {
			now[list[i].ID] = &list[i]
		}
		a.mu.Lock()
		ids := append(slices.Collect(maps.Keys(now)), slices.Collect(maps.Keys(a.wanted))...)
		for id, r := range a.runs {
			// Plugging in a port that is gone meanwhile would keep what is wanted now waiting.
			if old := a.wanted[id]; r.hurry != nil && (now[id] == nil || old == nil || now[id].Gen != old.Gen) {
				r.hurry()
			}
		}
		a.wanted, a.synced = now, true
		a.mu.Unlock()
		there, err := a.Kernel.List() // also of an earlier agent
		if err != nil {
			a.Log.Error("load balancers on this node cannot be listed", "err", err)
		}
		for _, id := range append(ids, there...) {
			a.loop.Add(id)
		}
	}
}

// reconcile brings one load balancer to what is wanted.
func (a *Agent) reconcile(ctx context.Context, id string) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a.mu.Lock()
	want, synced, r := a.wanted[id], a.synced, a.runs[id]
	if want != nil {
		if r == nil {
			r = &running{checks: map[string]*check{}}
			a.runs[id] = r
		}
		r.hurry = cancel
	}
	a.mu.Unlock()
	if want == nil {
		if !synced {
			return nil
		}
		return a.remove(id, r)
	}
	err := a.ensure(ctx, limited, r, want)
	a.mu.Lock()
	defer a.mu.Unlock()
	r.hurry = nil
	if err != nil && a.wanted[id] != want {
		return nil // this is not wanted any more, and id is on its way again
	}
	old := r.status
	r.status.ID, r.status.Node, r.status.Members, r.status.Fault = id, a.Node, r.members, ""
	if err != nil {
		r.status.Fault = err.Error()
	} else if r.applied {
		r.status.Gen = want.Gen
	}
	if !reflect.DeepEqual(old, r.status) {
		a.wake()
	}
	return err
}

func (a *Agent) remove(id string, r *running) error {
	if r != nil {
		r.stop()
		if r.balancer != nil {
			_ = r.balancer.Close() // a descriptor
		}
		a.mu.Lock()
		delete(a.runs, id)
		a.mu.Unlock()
	}
	return a.Kernel.Remove(id)
}

// ensure makes the load balancer look like want, within limited; members are watched until ctx ends.
func (a *Agent) ensure(ctx, limited context.Context, r *running, want *nodeapi.LoadBalancer) (err error) {
	if err := balancer.Check(want); err != nil {
		return err
	}
	if r.balancer == nil {
		if r.balancer, err = a.Kernel.Open(limited, want); err != nil {
			return err
		}
	} else if err := r.balancer.EnsurePort(limited, a.Kernel, want.Port); err != nil {
		return err
	}
	a.watch(ctx, r, want)
	if !r.applied && r.balancer.Adopted && r.unknown() {
		return nil // it comes back with what the checks find
	}
	a.mu.Lock()
	good, busy := r.good, r.busy
	a.mu.Unlock()
	// What is known is read once: who is told that a member is down is never sent to it.
	known := r.known()
	now := up(want, known)
	if err := r.balancer.Apply(limited, want, func(m string) bool { return now[m] }, func(m string) int { return busy[m] }); err != nil {
		return err
	}
	a.mu.Lock()
	old := r.lb
	r.applied, r.members, r.good, r.lb = true, known, now, want
	a.mu.Unlock()
	return r.balancer.Forget(gone(old, want, good, now)...)
}

// gone are the members that had connections before and shall have none any more.
func gone(old, now *nodeapi.LoadBalancer, before, after map[string]bool) []nodeapi.LBMember {
	if old == nil {
		return nil
	}
	var out []nodeapi.LBMember
	for _, p := range old.Pools {
		for _, m := range p.Members {
			if before[m.ID] && !after[m.ID] {
				out = append(out, m)
			}
		}
	}
	return out
}

// up are the members that may have connections: all but those that are known to be unwell.
// One that has not been looked at yet is believed to be well, as upstream's HAProxy has it:
// a monitor that comes to a pool in use interrupts nothing.
func up(lb *nodeapi.LoadBalancer, known map[string]string) map[string]bool {
	out := map[string]bool{}
	for _, p := range lb.Pools {
		for _, m := range p.Members {
			out[m.ID] = p.Monitor == nil || known[m.ID] != nodeapi.LBMemberDown
		}
	}
	return out
}

// unknown tells whether there is a member that has not been looked at.
func (r *running) unknown() bool {
	for _, c := range r.checks {
		if c.state() == "" {
			return true
		}
	}
	return false
}

// known is what the checks have found, by member.
func (r *running) known() map[string]string {
	out := map[string]string{}
	for id, c := range r.checks {
		if s := c.state(); s != "" {
			out[id] = s
		}
	}
	return out
}

func (r *running) stop() {
	for id, c := range r.checks {
		c.stop()
		delete(r.checks, id)
	}
}

// watch has exactly the members watched that want says.
func (a *Agent) watch(ctx context.Context, r *running, want *nodeapi.LoadBalancer) {
	keep := map[string]bool{}
	for _, p := range want.Pools {
		if p.Monitor == nil {
			continue
		}
		for _, m := range p.Members {
			keep[m.ID] = true
			t := target{monitor: *p.Monitor, addr: m.MonitorAddr, port: m.MonitorPort}
			old := r.checks[m.ID]
			if old != nil && old.target == t {
				continue
			}
			c := &check{target: t, ns: r.balancer.NS, changed: func() { a.loop.Add(want.ID) }}
			if old != nil {
				old.stop()
				c.begin(old.state()) // a monitor that is changed does not forget
			}
			r.checks[m.ID] = c
			c.start(ctx)
		}
	}
	for id, c := range r.checks {
		if !keep[id] {
			c.stop()
			delete(r.checks, id)
		}
	}
}

func (a *Agent) wake() {
	select {
	case a.tell <- struct{}{}:
	default:
	}
}

// report tells the control plane when something has changed. What could not be told is told again.
func (a *Agent) report(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.tell:
		}
		if err := a.Control.ReportLoadBalancers(ctx, a.statuses()); err != nil && ctx.Err() == nil {
			a.Log.Warn("the state of load balancers could not be reported", "err", err)
			time.AfterFunc(tellAgain, a.wake)
		}
	}
}

func (a *Agent) statuses() []nodeapi.LoadBalancerStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []nodeapi.LoadBalancerStatus
	for _, id := range slices.Sorted(maps.Keys(a.runs)) {
		// One that is found again is as it was until its members have been looked at.
		if r := a.runs[id]; r.applied || r.status.Fault != "" {
			s := r.status
			s.Listeners = maps.Clone(r.traffic)
			out = append(out, s)
		}
	}
	return out
}

// look counts connections, for pools that go by them and for statistics.
func (a *Agent) look(ctx context.Context) {
	busy, traffic := time.NewTicker(busyEvery), time.NewTicker(trafficEvery)
	defer busy.Stop()
	defer traffic.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-busy.C:
		case <-traffic.C:
			all = true
		}
		a.mu.Lock()
		ids := slices.Collect(maps.Keys(a.runs))
		a.mu.Unlock()
		for _, id := range ids {
			a.count(ctx, id, all)
		}
		if all && len(ids) > 0 {
			a.wake()
		}
	}
}

// count is look for one load balancer; all is with its counters.
func (a *Agent) count(ctx context.Context, id string, all bool) {
	a.mu.Lock()
	r := a.runs[id]
	var lb *nodeapi.LoadBalancer
	if r != nil {
		lb = r.lb
	}
	a.mu.Unlock()
	if lb == nil || !all && !byLoad(lb) {
		return
	}
	busy, err := r.balancer.Busy(lb)
	if err != nil {
		a.Log.Debug("connections cannot be counted", "loadbalancer", id, "err", err)
		return
	}
	if all {
		list, err := r.balancer.Traffic(ctx)
		if err != nil {
			a.Log.Debug("traffic cannot be counted", "loadbalancer", id, "err", err)
			return
		}
		for _, l := range lb.Listeners {
			t := list[l.ID]
			t.Active = int64(busy[l.ID])
			list[l.ID] = t
		}
		a.mu.Lock()
		r.traffic = list
		a.mu.Unlock()
	}
	a.mu.Lock()
	changed := byLoad(lb) && !maps.Equal(r.busy, busy)
	r.busy = busy
	a.mu.Unlock()
	if changed {
		a.loop.Add(id)
	}
}

func byLoad(lb *nodeapi.LoadBalancer) bool {
	return slices.ContainsFunc(lb.Pools, func(p nodeapi.LBPool) bool { return p.Algorithm == nodeapi.LBLeastConns && !p.Sticky })
}
