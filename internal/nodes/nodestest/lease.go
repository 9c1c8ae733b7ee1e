package nodestest

import (
	"context"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
)

// leaseTick is how often the simulated agent asks for a lease, and looks which are over.
const leaseTick = time.Second

// SetFault is Fault for an agent that runs.
func (a *Agent) SetFault(fault func(nodeapi.Instance) string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Fault = fault
}

// keepLeases asks for leases, also while the agent cannot be called, unless it is
// away; stop ends that.
func (a *Agent) keepLeases(ctx context.Context, r *nodes.Registry) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(leaseTick)
		defer tick.Stop()
		for {
			a.askLease(ctx, r)
			a.endUnleased()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); group.Wait() }
}

// askLease starts anew what it is granted and what ended without.
func (a *Agent) askLease(ctx context.Context, r *nodes.Registry) {
	asked := time.Now()
	if a.isAway() {
		return
	}
	l, err := r.Lease(ctx, a.Info.ID)
	if err != nil {
		return
	}
	for _, id := range l.Servers {
		if want, err := r.Instances.Get(id); err == nil && want.Node == a.Info.ID && want.Power == nodeapi.PowerRunning && !a.Guest(id) {
			a.lookForTwin(*want)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leases == nil {
		a.leases = map[string]time.Time{}
	}
	for _, id := range l.Servers {
		a.leases[id] = asked.Add(l.TTL)
		if want, err := r.Instances.Get(id); err == nil {
			if has, ok := a.runs[id]; ok && has.Gen == want.Gen && has.Power != want.Power {
				a.boots[id]++
				a.runs[id] = *want
			}
		}
	}
}

// endUnleased ends the guests whose lease is over.
func (a *Agent) endUnleased() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, i := range a.runs {
		if until, ok := a.leases[id]; ok && i.HA && i.Power == nodeapi.PowerRunning && !time.Now().Before(until) {
			i.Power = nodeapi.PowerStopped
			a.runs[id] = i
		}
	}
}
