package node

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// leasedHands are hands whose agent runs servers by leases of 300 ms.
func leasedHands(t *testing.T) *hands {
	t.Helper()
	h := newHands(t)
	l, err := hypervisor.OpenLeases(filepath.Join(t.TempDir(), "leases"), h.dir, false)
	if err != nil {
		t.Fatal(err)
	}
	h.leases = l
	return h
}

// grant has leases granted to the servers; nil: to nobody, since nobody answers.
func (h *hands) grant(servers []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.granted = func() (nodeapi.Lease, error) {
		if servers == nil {
			return nodeapi.Lease{}, errors.New("nobody answers")
		}
		return nodeapi.Lease{TTL: 300 * time.Millisecond, Servers: servers}, nil
	}
}

func available(n int64, p nodeapi.Power) nodeapi.Instance {
	i := wanted(n, p, nodeapi.Reboot{})
	i.HA = true
	return i
}

func (h *hands) until(what string, ok func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func(context.Context) (bool, error) { return ok(), nil }); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hands) is(p nodeapi.Power) bool {
	now, _ := h.State(id)
	return now == p
}

func leasedNow(s nodeapi.InstanceStatus) bool { return s.Leased && s.Power == nodeapi.PowerRunning }

// A server with high availability is started under a lease only, ends with it and is
// started again under the next; nobody hears that it was stopped meanwhile.
func TestLeaseRunsOut(t *testing.T) {
	h := leasedHands(t)
	stop := h.run()
	h.want(available(1, nodeapi.PowerRunning))
	<-time.After(100 * time.Millisecond)
	if n := h.count("start"); n != 0 {
		t.Fatalf("started %d times without a lease", n)
	}
	h.grant([]string{id})
	h.await(id, leasedNow)
	<-time.After(600 * time.Millisecond)
	if h.count("start") != 1 || h.count("cut") != 0 {
		t.Fatalf("while the lease is renewed: %v", h.calls)
	}
	h.grant(nil)
	begin := time.Now()
	h.until("the end of the server", func() bool { return h.is(nodeapi.PowerStopped) })
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("it ended %s after the last grant", took)
	}
	if s := h.await(id, gen(1)); s.Power != nodeapi.PowerRunning {
		t.Errorf("reported %+v", s)
	}
	// A new agent keeps to it.
	stop()
	stop = h.run()
	h.want(available(1, nodeapi.PowerRunning))
	<-time.After(100 * time.Millisecond)
	if n := h.count("start"); n != 1 {
		t.Fatalf("started %d times, once without a lease", n)
	}
	h.grant([]string{id})
	h.until("the server's return", func() bool { return h.is(nodeapi.PowerRunning) })
	// Grants that leave it out end it too: it is on its way elsewhere.
	h.grant([]string{})
	h.until("the end of the server", func() bool { return h.is(nodeapi.PowerStopped) })
	h.want(available(2, nodeapi.PowerStopped))
	if s := h.await(id, gen(2)); s.Power != nodeapi.PowerStopped || s.Fault != "" {
		t.Errorf("reported %+v", s)
	}
	h.wanted <- InstanceEvent{ID: id}
	h.wanted <- InstanceEvent{Synced: true}
	h.until("the lease to go with the server", func() bool { return len(h.leases.List()) == 0 })
	stop()
}

// High availability that is switched on later ends nothing before the first lease, and
// one that is switched off ends nothing after the last.
func TestLeaseBeginsAndEnds(t *testing.T) {
	h := leasedHands(t)
	defer h.run()()
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	h.await(id, gen(1))
	h.want(available(2, nodeapi.PowerRunning))
	if s := h.await(id, gen(2)); s.Leased {
		t.Errorf("reported %+v before the first lease", s)
	}
	<-time.After(400 * time.Millisecond)
	if h.count("cut") != 0 {
		t.Fatal("ended before the first lease")
	}
	h.grant([]string{id})
	h.await(id, leasedNow)
	h.want(wanted(3, nodeapi.PowerRunning, nodeapi.Reboot{}))
	if s := h.await(id, gen(3)); s.Leased {
		t.Errorf("reported %+v without high availability", s)
	}
	h.grant(nil)
	<-time.After(500 * time.Millisecond)
	if h.count("cut") != 0 || h.count("start") != 1 {
		t.Errorf("without high availability: %v", h.calls)
	}
}

// A guest that shuts itself down stays off; a machine that is lost comes back.
func TestLeasedGuestEnds(t *testing.T) {
	h := leasedHands(t)
	h.grant([]string{id})
	defer h.run()()
	h.want(available(1, nodeapi.PowerRunning))
	h.await(id, leasedNow)
	h.mu.Lock()
	h.power[id], h.lost[id] = nodeapi.PowerStopped, true
	h.mu.Unlock()
	h.events <- hypervisor.Event{ID: id, Power: nodeapi.PowerCrashed}
	h.until("the server's return", func() bool { return h.is(nodeapi.PowerRunning) })
	h.mu.Lock()
	h.power[id] = nodeapi.PowerStopped
	h.mu.Unlock()
	h.events <- hypervisor.Event{ID: id, Power: nodeapi.PowerStopped}
	h.await(id, func(s nodeapi.InstanceStatus) bool { return s.Power == nodeapi.PowerStopped })
	if n := h.count("start"); n != 2 {
		t.Errorf("started %d times", n)
	}
}
