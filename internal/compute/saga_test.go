package compute

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
)

var owner = &policy.Credentials{UserID: "u1", ProjectID: project1, Roles: []string{"member", "reader"}}

// newServer is a record as a create request would write it: one port of ours and one of the user's.
func (w *world) newServer() *Server {
	f, err := w.svc.flavors.Get("42")
	if err != nil {
		w.t.Fatal(err)
	}
	img, _ := w.images.Image(w.t.Context(), owner, imageID)
	id := uuid.NewString()
	return &Server{ID: id, Name: "s-" + id[:4], Hostname: "s", ProjectID: project1, UserID: "u1", VMState: Building, TaskState: Scheduling, Flavor: *f, Image: *img,
		NICs:    []NIC{{PortID: uuid.NewString(), NetworkID: networkID, Ours: true}, {PortID: w.nets.addPort(project1), NetworkID: networkID}},
		Created: wire.Now(), Updated: wire.Now(), DiskConfig: "MANUAL"}
}

// begin writes the server (if it is new) and a saga for it in one transaction.
func (w *world) begin(ctx context.Context, kind, action string, v *Server, task TaskState, args any) error {
	return w.db.Txn(ctx, func(tx *store.Tx) error {
		if _, err := w.svc.servers.TxGet(tx, v.ID); err != nil {
			if err := w.svc.servers.TxCreate(tx, v); err != nil {
				return err
			}
		}
		if _, err := w.svc.servers.TxUpdate(tx, v.ID, func(v *Server) error { v.TaskState = task; return nil }); err != nil {
			return err
		}
		return w.svc.begin(tx, "req-1", owner, kind, action, v, args)
	})
}

func TestSagaCreate(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.newServer()
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaCreate, "create", v, Scheduling, nil)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				want := Active
				if end.Phase == saga.Failed {
					want = Errored
				}
				if got.VMState != want || got.TaskState != "" || (got.Fault != nil) != (want == Errored) || (got.Host != "") != (want == Active) {
					t.Errorf("%s: the server is %s/%s on %q with fault %v", end.Phase, got.VMState, got.TaskState, got.Host, got.Fault)
				}
				if want == Active && (got.AdminPass != "" || w.agents["node-1"].Boots(v.ID) != 1) {
					t.Errorf("booted %d times, password kept: %t", w.agents["node-1"].Boots(v.ID), got.AdminPass != "")
				}
			}}
	})
}

// running makes a server that has been created.
func (w *world) running(ctx context.Context, t *testing.T) *Server {
	t.Helper()
	v := w.newServer()
	j := &job{Server: v.ID}
	if err := w.svc.servers.Create(ctx, v); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context, *job) error{w.svc.schedule, w.svc.plug, w.svc.spawn, w.svc.awaitRunning} {
		if err := step(ctx, j); err != nil {
			t.Fatal(err)
		}
	}
	v, err := w.svc.servers.Get(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSagaDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaDelete, "delete", v, Deleting, nil)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				// The harness fails the saga's last step by hand: even then nothing may be left.
				if got.DeletedAt == nil || got.VMState != Deleted || len(w.svc.servers.By("project", project1)) != 0 {
					t.Errorf("%s: the server is %s/%s", end.Phase, got.VMState, got.TaskState)
				}
			}}
	})
}

func TestSagaPower(t *testing.T) {
	for _, kind := range []string{"os-stop", "pause", "suspend", "SOFT", "HARD"} {
		t.Run(kind, func(t *testing.T) {
			tr := transitions[kind]
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w := newWorld(t, opt)
				v := w.running(t.Context(), t)
				return &sagatest.World{Engine: w.engine,
					Begin: func(ctx context.Context) (string, error) {
						return v.ID, w.begin(ctx, sagaPower, tr.name, v, tr.task, powerArgs{kind, v.RebootSeq + 1})
					},
					Check: func(t *testing.T, end *saga.Record) {
						w.clean(t)
						got, err := w.svc.servers.Get(v.ID)
						if err != nil {
							t.Fatal(err)
						}
						inst, err := w.nodes.Instances.Get(v.ID)
						if err != nil {
							t.Fatal(err)
						}
						if got.TaskState != "" || observed[inst.Power] != got.VMState || end.Phase == saga.Done && got.VMState != tr.to {
							t.Errorf("%s: the server is %s/%s, its instance %s", end.Phase, got.VMState, got.TaskState, inst.Power)
						}
						want := 1
						if tr.name == "reboot" {
							want = 2
						}
						if n := w.agents["node-1"].Boots(v.ID); n != want {
							t.Errorf("booted %d times, want %d", n, want)
						}
					}}
			})
		})
	}
}

// A delete overtakes a create at any of its steps, and an agent that refuses.
func TestDeleteOvertakesCreate(t *testing.T) {
	for _, at := range []string{"schedule", "networks", "spawn", "running"} {
		t.Run(at, func(t *testing.T) {
			reached, goOn := make(chan struct{}, 8), make(chan struct{})
			w := newWorld(t, saga.Options{RetryMax: 50 * time.Millisecond, Intercept: func(p saga.Point) error {
				if p.At == "do" && p.Step == at {
					reached <- struct{}{}
					<-goOn
				}
				return nil
			}})
			w.start()
			v := w.newServer()
			if err := w.begin(t.Context(), sagaCreate, "create", v, Scheduling, nil); err != nil {
				t.Fatal(err)
			}
			<-reached
			if err := w.svc.remove(t.Context(), "req-2", owner, v.ID); err != nil {
				t.Fatal(err)
			}
			if got, _ := w.svc.servers.Get(v.ID); got.TaskState != Deleting {
				t.Errorf("task state %s", got.TaskState)
			}
			close(goOn)
			w.settled()
			w.clean(t)
			if got, _ := w.svc.servers.Get(v.ID); got.DeletedAt == nil {
				t.Errorf("the server is %s/%s", got.VMState, got.TaskState)
			}
		})
	}
}

func TestFaultOfANode(t *testing.T) {
	w := newWorld(t, saga.Options{})
	w.agents["node-1"].Fault = func(nodeapi.Instance) string { return "no bootable disk" }
	w.start()
	v := w.newServer()
	if err := w.begin(t.Context(), sagaCreate, "create", v, Scheduling, nil); err != nil {
		t.Fatal(err)
	}
	w.settled()
	w.clean(t)
	if got, _ := w.svc.servers.Get(v.ID); got.VMState != Errored || got.Fault == nil || got.Fault.Message != "no bootable disk" {
		t.Errorf("the server is %s: %+v", got.VMState, got.Fault)
	}
}

// A node that is away cannot hold up a delete; it cleans up when it is back.
func TestDeleteWhileNodeIsAway(t *testing.T) {
	w := newWorld(t, saga.Options{RetryMax: 50 * time.Millisecond})
	v := w.running(t.Context(), t)

	w.agents["node-1"].Away(true)
	w.nodes.Connect("node-1", nil)
	w.start()
	if err := w.svc.remove(t.Context(), "req-2", owner, v.ID); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if got, _ := w.svc.servers.Get(v.ID); got.DeletedAt == nil {
		t.Errorf("the server is %s/%s", got.VMState, got.TaskState)
	}
	if runs := w.agents["node-1"].Runs(); len(runs) != 1 {
		t.Errorf("the node that is away runs %v", runs)
	}
	w.nodes.Connect("node-1", w.agents["node-1"])
	w.agents["node-1"].Away(false)
	w.until("the node's clean-up", func() bool { return len(w.nodes.Instances.All())+len(w.nodes.Statuses.All()) == 0 })
	w.clean(t)
}

func TestGuestStopsItself(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	v := w.running(t.Context(), t)
	if err := w.agents["node-1"].Observe(t.Context(), w.nodes, v.ID, nodeapi.PowerStopped); err != nil {
		t.Fatal(err)
	}
	w.until("the record to follow", func() bool { v, _ = w.svc.servers.Get(v.ID); return v.VMState == Stopped })
	if i, _ := w.nodes.Instances.Get(v.ID); i.Power != nodeapi.PowerStopped {
		t.Errorf("the node is still to run it: %s", i.Power)
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	v := w.running(t.Context(), t)
	if err := w.svc.remove(t.Context(), "req-2", owner, v.ID); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if got := w.svc.expired(time.Now().Add(keepDeleted - time.Hour)); len(got) != 0 {
		t.Errorf("expired too early: %v", got)
	}
	if got := w.svc.expired(time.Now().Add(keepDeleted + time.Hour)); len(got) != 1 {
		t.Errorf("expired after a day: %v", got)
	}
	for range 2 {
		if err := w.svc.purge(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.svc.servers.All())+len(w.engine.Of(v.ID)) != 0 {
		t.Error("a purged server left something")
	}
}
