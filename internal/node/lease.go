package node

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const (
	// leaseEvery is how often a lease is asked for, leaseAgain how soon after a
	// request that failed, and leaseAnswer how long an answer may take.
	leaseEvery  = 3 * time.Second
	leaseAgain  = time.Second
	leaseAnswer = 4 * time.Second
	// cutAgain is how often what has no lease is looked for again.
	cutAgain = time.Second
	// restartPause is what lies between two starts of a server that gets lost.
	restartPause = 10 * time.Second
)

// leasing is what the agent knows of its leases beside the files.
type leasing struct {
	granted map[string]time.Duration // by instance: until when; under Agent.mu
	started map[string]time.Time     // when what was lost was started again
	ask     chan struct{}            // has one element when leases are to be asked for at once
	cut     chan struct{}            // has one element when leases have changed

	every, again time.Duration
}

func newLeasing() leasing {
	return leasing{granted: map[string]time.Duration{}, started: map[string]time.Time{}, ask: make(chan struct{}, 1), cut: make(chan struct{}, 1),
		every: leaseEvery, again: leaseAgain}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// askLeases asks for leases until ctx ends.
func (a *Agent) askLeases(ctx context.Context) {
	if a.Leases == nil {
		return
	}
	failing := false
	for {
		pause, err := a.leasing.every, a.askLease(ctx)
		if err != nil && ctx.Err() == nil {
			if pause = a.leasing.again; !failing {
				a.Log.Warn("no lease is granted: servers with high availability end with the last one", "err", err)
			}
		}
		failing = err != nil
		select {
		case <-time.After(pause):
		case <-a.leasing.ask:
		case <-ctx.Done():
			return
		}
	}
}

// askLease asks once. What is granted counts from before the question.
func (a *Agent) askLease(ctx context.Context) error {
	from := hypervisor.LeaseClock()
	limited, cancel := context.WithTimeout(ctx, leaseAnswer)
	defer cancel()
	l, err := a.Control.Lease(limited)
	if err != nil {
		return err
	}
	until, granted := from+l.TTL, map[string]time.Duration{}
	for _, id := range l.Servers {
		granted[id] = until
		if _, known := a.Leases.Until(id); !known {
			continue // it is once converge has seen it
		}
		if err := a.Leases.Extend(id, until); err != nil {
			a.Log.Error("a lease cannot be written", "server", id, "err", err)
		}
	}
	a.mu.Lock()
	var fresh []string
	for id := range granted {
		if _, before := a.leasing.granted[id]; !before || a.leasing.granted[id] < from {
			fresh = append(fresh, id)
		}
	}
	a.leasing.granted = granted
	a.mu.Unlock()
	poke(a.leasing.cut)
	if len(a.Leases.List()) > 0 {
		err = a.Leases.Keep(ctx)
	}
	for _, id := range fresh {
		a.loop.Add(id)
	}
	return err
}

// cutLeases ends what has no lease any more, until ctx ends. The keeper does so too,
// but it may be the one that does not work.
func (a *Agent) cutLeases(ctx context.Context) {
	if a.Leases == nil {
		return
	}
	for {
		next := time.Hour
		for _, id := range a.Leases.List() {
			until, ok := a.Leases.Until(id)
			left := until - hypervisor.LeaseClock()
			if ok && left <= 0 {
				a.cut(ctx, id)
				left = cutAgain
			}
			next = min(next, left)
		}
		select {
		case <-time.After(next):
		case <-a.leasing.cut:
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) cut(ctx context.Context, id string) {
	if p, err := a.Machines.State(id); err == nil && (p == nodeapi.PowerRunning || p == nodeapi.PowerPaused) {
		a.Log.Warn("a server is ended: its lease has run out", "server", id)
	}
	if err := a.Machines.Cut(ctx, id); err != nil && ctx.Err() == nil {
		a.Log.Error("a server whose lease has run out", "server", id, "err", err)
	}
}

// leased tells whether the instance may be brought to where it is wanted now. One
// that is begun under a lease never runs without; one that has run without, since its
// high availability is new, goes on until the first.
func (a *Agent) leased(ctx context.Context, inst *nodeapi.Instance) (bool, error) {
	if a.Leases == nil {
		return true, nil
	}
	if !inst.HA {
		return true, a.Leases.Drop(inst.ID)
	}
	until, known := a.Leases.Until(inst.ID)
	a.mu.Lock()
	granted := a.leasing.granted[inst.ID]
	a.mu.Unlock()
	now := hypervisor.LeaseClock()
	if !known && granted > now {
		if err := a.Leases.Extend(inst.ID, granted); err != nil {
			return false, err
		}
		until, known = granted, true
		poke(a.leasing.cut)
	}
	if known && until > now {
		return true, a.Leases.Keep(ctx)
	}
	if known {
		a.cut(ctx, inst.ID)
		return inst.Power == nodeapi.PowerStopped, nil
	}
	poke(a.leasing.ask)
	live, err := a.live(inst.ID)
	return live || inst.Power == nodeapi.PowerStopped, err
}

// mayStart refuses to start what runs under a lease that is not there.
func (a *Agent) mayStart(inst *nodeapi.Instance) error {
	if a.Leases == nil || !inst.HA {
		return nil
	}
	if until, known := a.Leases.Until(inst.ID); !known || until <= hypervisor.LeaseClock() {
		return errs.New(errs.Unavailable, "node %s has no lease for server %s", a.ID, inst.ID)
	}
	return nil
}

// lost tells whether the machine of an instance that shall run was ended by others
// than its guest: it is started again.
func (a *Agent) lost(inst *nodeapi.Instance) (bool, error) {
	if a.Leases == nil || !inst.HA || inst.Power != nodeapi.PowerRunning && inst.Power != nodeapi.PowerPaused {
		return false, nil
	}
	lost, err := a.Machines.Lost(inst.ID)
	if err != nil || !lost {
		return false, ignoreGone(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if left := restartPause - time.Since(a.leasing.started[inst.ID]); left > 0 {
		return false, errs.New(errs.Unavailable, "server %s was started again just now: the next start is in %s", inst.ID, left.Round(time.Second))
	}
	a.leasing.started[inst.ID] = time.Now()
	a.Log.Warn("a server that was lost is started again", "server", inst.ID)
	return true, nil
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}
