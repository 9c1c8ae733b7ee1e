package compute

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// bubble runs a test of a pool that grants leases, on a clock of its own.
func bubble(t *testing.T, hosts []string, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, saga.Options{}, hosts...)
		w.nodes.BeginLeases()
		w.start()
		fn(t, w)
	})
}

// watched runs on for that long, and demands at each moment that no server runs twice.
func (w *world) watched(d time.Duration, ids ...string) {
	w.t.Helper()
	for range d / (50 * time.Millisecond) {
		<-time.After(50 * time.Millisecond)
		for _, id := range ids {
			on := []string{}
			for name, a := range w.agents {
				if a.Guest(id) {
					on = append(on, name)
				}
			}
			if len(on) > 1 {
				w.t.Fatalf("server %s runs on %v at one time", id, on)
			}
		}
	}
}

// available makes a running server, with high availability or without.
func (w *world) available(ha bool) *Server {
	w.t.Helper()
	v := w.newServer()
	if ha {
		v.Metadata = map[string]string{haKey: "True"}
	}
	if err := w.svc.servers.Create(w.t.Context(), v); err != nil {
		w.t.Fatal(err)
	}
	j := &job{Server: v.ID}
	for _, step := range []func(context.Context, *job) error{w.svc.schedule, w.svc.plug, w.svc.spawn, w.svc.awaitRunning} {
		if err := step(w.t.Context(), j); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.server(v.ID)
}

func (w *world) server(id string) *Server {
	w.t.Helper()
	v, err := w.svc.servers.Get(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// A dead host's servers with high availability run elsewhere once its lease is over,
// and not a moment before; others wait for their host.
func TestRevive(t *testing.T) {
	bubble(t, []string{"node-1", "node-2"}, func(t *testing.T, w *world) {
		ha, plain := w.available(true), w.available(false)
		for plain.Host != ha.Host {
			plain = w.available(false)
		}
		w.watched(5*time.Second, ha.ID)
		w.die(ha.Host)
		w.watched(nodes.LeaseTTL, ha.ID)
		if v := w.server(ha.ID); v.Host != ha.Host {
			t.Fatal("evacuated while its lease may be good")
		}
		w.watched(nodes.LeaseMargin+5*time.Second, ha.ID)
		v := w.server(ha.ID)
		if v.Host == ha.Host || v.VMState != Active || v.TaskState != "" || v.Evacuation != "" || !w.agents[v.Host].Guest(ha.ID) {
			t.Fatalf("it is %s/%s on %s", v.VMState, v.TaskState, v.Host)
		}
		list := w.svc.moves.Of(ha.ID)
		if len(list) != 1 || !list[0].Automatic || list[0].Status != migration.Done || list[0].Source != ha.Host || list[0].Target != v.Host {
			t.Errorf("its migrations are %+v", list)
		}
		if log := w.engine.Of(ha.ID); len(log) == 0 || log[0].Action != "evacuate" || log[0].RequestID == "" {
			t.Errorf("its actions are %+v", log)
		}
		if p := w.server(plain.ID); p.Host != plain.Host || p.VMState != Active || len(w.svc.moves.Of(plain.ID)) != 0 {
			t.Errorf("without high availability it is %s on %s", p.VMState, p.Host)
		}
		w.comeBack(ha.Host)
		w.watched(10*time.Second, ha.ID)
		w.moved(t, ha.ID)
		if !w.agents[plain.Host].Guest(plain.ID) {
			t.Error("without high availability it was ended")
		}
	})
}

// A host that is back just when its servers are being taken away gets no lease for
// them, and one that is back sooner goes on with them.
func TestReviveMeetsReturn(t *testing.T) {
	for _, away := range []time.Duration{10 * time.Second, 16 * time.Second, 19 * time.Second, 20 * time.Second, 20500 * time.Millisecond, 21 * time.Second, 22 * time.Second} {
		bubble(t, []string{"node-1", "node-2"}, func(t *testing.T, w *world) {
			v := w.available(true)
			w.watched(2*time.Second, v.ID)
			w.die(v.Host)
			w.watched(away, v.ID)
			w.comeBack(v.Host)
			w.watched(30*time.Second, v.ID)
			now := w.moved(t, v.ID)
			if now.VMState != Active || !w.agents[now.Host].Guest(v.ID) {
				t.Errorf("after %s: %s on %s", away, now.VMState, now.Host)
			}
			if away < 19*time.Second && now.Host != v.Host {
				t.Errorf("evacuated after %s", away)
			}
		})
	}
}

// With no host that takes it a server waits in error, which says why, and is tried
// again until one does or its own is back.
func TestReviveWaits(t *testing.T) {
	for _, back := range []string{"its own", "another"} {
		bubble(t, []string{"node-1", "node-2"}, func(t *testing.T, w *world) {
			v := w.available(true)
			other := map[string]string{"node-1": "node-2", "node-2": "node-1"}[v.Host]
			w.watched(2*time.Second, v.ID)
			w.die(other)
			w.die(v.Host)
			w.watched(40*time.Second, v.ID)
			now := w.server(v.ID)
			if now.VMState != Errored || now.Fault == nil || w.svc.Waiting(v.Host)[v.ID] == "" {
				t.Fatalf("it is %s with %+v", now.VMState, now.Fault)
			}
			n := len(w.svc.moves.Of(v.ID))
			if n < 2 || n > 5 {
				t.Errorf("%d evacuations within 20 s", n)
			}
			if back == "another" {
				w.comeBack(other)
			} else {
				w.comeBack(v.Host)
			}
			w.watched(2*time.Minute, v.ID)
			now = w.server(v.ID)
			if (now.Host == v.Host) != (back == "its own") || now.VMState != Active || now.Fault != nil || !w.agents[now.Host].Guest(v.ID) {
				t.Errorf("%s host is back: it is %s on %s with %+v", back, now.VMState, now.Host, now.Fault)
			}
			w.comeBack(v.Host)
			w.comeBack(other)
			w.watched(5*time.Second, v.ID)
			w.moved(t, v.ID)
		})
	}
}

// A host that takes the server and cannot start it is left for another.
func TestReviveFailsThere(t *testing.T) {
	bubble(t, []string{"node-1", "node-2", "node-3"}, func(t *testing.T, w *world) {
		v := w.available(true)
		var first string
		var mu sync.Mutex
		for name, a := range w.agents {
			if name != v.Host {
				a.SetFault(func(i nodeapi.Instance) string {
					mu.Lock()
					defer mu.Unlock()
					if i.ID == v.ID && i.Power == nodeapi.PowerRunning && (first == "" || first == name) {
						first = name
						return "the disk is full"
					}
					return ""
				})
			}
		}
		w.watched(2*time.Second, v.ID)
		w.die(v.Host)
		w.watched(90*time.Second, v.ID)
		now := w.server(v.ID)
		mu.Lock()
		defer mu.Unlock()
		if first == "" || now.Host == first || now.Host == v.Host || now.VMState != Active {
			t.Errorf("it could not be started on %s and is %s on %s with %+v", first, now.VMState, now.Host, now.Fault)
		}
		w.comeBack(v.Host)
		w.watched(5*time.Second, v.ID)
		w.moved(t, v.ID)
	})
}

// Whether a server has high availability: its metadata's word counts more than its flavor's.
func TestHighAvailability(t *testing.T) {
	for _, c := range []struct {
		meta, spec string
		want       bool
	}{{"", "", false}, {"True", "", true}, {"true", "false", true}, {"False", "true", false}, {"", "true", true}, {"perhaps", "true", false}} {
		v := &Server{Metadata: map[string]string{}}
		if c.meta != "" {
			v.Metadata[haKey] = c.meta
		}
		if c.spec != "" {
			v.Flavor.ExtraSpecs = map[string]string{haSpec: c.spec}
		}
		if got := v.ha(); got != c.want {
			t.Errorf("metadata %q, flavor %q: %v", c.meta, c.spec, got)
		}
	}
}

// The saga revokes the lease, which every way back returns.
func TestSagaRevive(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt, "node-1", "node-2")
		w.nodes.BeginLeases()
		v := w.available(true)
		args := evacuateArgs{Migration: "revival-of-" + v.ID, Automatic: true}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.svc.beginEvacuate(ctx, "req-1", owner, v.ID, "p", args)
			},
			Check: func(t *testing.T, end *saga.Record) {
				got := w.moved(t, v.ID)
				i, err := w.nodes.Instances.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				if i.Revoked || i.Power != nodeapi.PowerRunning || !i.HA {
					t.Errorf("%s: the instance is %s on %s, revoked %v", end.Phase, i.Power, i.Node, i.Revoked)
				}
				w.until("the guest to run where it is", func() bool { return w.agents[got.Host].Guest(v.ID) })
				if end.Phase == saga.Done && (got.VMState != Active || got.Host == v.Host) || end.Phase == saga.Failed && (got.VMState != Errored || !w.svc.failedRevival(got)) {
					t.Errorf("%s: the server is %s on %s", end.Phase, got.VMState, got.Host)
				}
			}}
	})
}
