package compute

import (
	"context"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
)

// moved demands that a server is on one host in every book, and runs there alone.
func (w *world) moved(t testing.TB, id string) *Server {
	t.Helper()
	w.until("the nodes to forget the move", func() bool {
		n := 0
		for _, a := range w.agents {
			n += a.Moves()
		}
		have, err := w.nodes.Instances.Get(id)
		if err != nil {
			return false
		}
		st, err := w.nodes.Statuses.Get(id)
		return n == 0 && err == nil && st.Gen == have.Gen && !slices.ContainsFunc(w.elsewhere(have.Node), func(other string) bool { return other == id })
	})
	w.clean(t)
	v, err := w.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := w.nodes.Instances.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if inst.Node != v.Host || w.place.held[id].host != v.Host {
		t.Errorf("the server is on %s, its instance on %s, its claim on %s", v.Host, inst.Node, w.place.held[id].host)
	}
	for _, p := range w.nets.Ports(id) {
		if p.Bound != v.Host {
			t.Errorf("a port of the server on %s is bound to %s", v.Host, p.Bound)
		}
	}
	for host, a := range w.agents {
		if want := host == v.Host && inst.Power == nodeapi.PowerRunning; a.Guest(id) != want {
			t.Errorf("the server on %s is %s; its guest runs on %s: %t", v.Host, inst.Power, host, a.Guest(id))
		}
	}
	return v
}

// elsewhere lists what is on the nodes but for one.
func (w *world) elsewhere(but string) (out []string) {
	for host, a := range w.agents {
		if host != but {
			out = append(out, a.Runs()...)
		}
	}
	return out
}

// bigger makes what the request of a migrate or of a resize that its host has no room for would.
func (w *world) bigger(t *testing.T, v *Server, kind string) *Server {
	t.Helper()
	flavor := v.Flavor
	if kind == "resize" {
		f, err := w.svc.flavors.Get("84")
		if err != nil {
			t.Fatal(err)
		}
		flavor = *f
		w.place.mu.Lock()
		w.place.free[v.Host] = v.resources()
		w.place.mu.Unlock()
	}
	err := w.db.Txn(t.Context(), func(tx *store.Tx) error {
		out, err := w.svc.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			v.Resize = &Resize{ID: "resize-of-" + v.ID, Flavor: v.Flavor, DiskSet: v.DiskSet, From: v.Host, Away: kind == "migrate"}
			if v.Flavor = flavor; kind == "resize" {
				v.DiskSet++
			}
			return nil
		})
		if err != nil {
			return err
		}
		v = out
		return w.svc.moves.Begin(tx, migration.Migration{ID: v.Resize.ID, Server: v.ID, ProjectID: v.ProjectID, Kind: kind, Status: migration.PreMigrating, Source: v.Host})
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// away does by hand what the saga of a resize does.
func (w *world) away(t *testing.T, v *Server, kind string) {
	t.Helper()
	v = w.bigger(t, v, kind)
	j := &job{Server: v.ID, Args: []byte(`{"name":"` + kind + `"}`)}
	for _, step := range []func(context.Context, *job) error{w.svc.remakeClaim, w.svc.remakeStop, w.svc.remakeMove, w.svc.remakeMake, w.svc.remakeAwait, w.svc.remakeFinish} {
		if err := step(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.moved(t, v.ID); got.Host == v.Host || got.VMState != Resized {
		t.Fatalf("the server is %s on %s", got.VMState, got.Host)
	}
}

func TestSagaMoves(t *testing.T) {
	for _, kind := range []string{"migrate", "resize"} {
		t.Run(kind, func(t *testing.T) {
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w := newWorld(t, opt, "node-1", "node-2")
				v := w.running(t.Context(), t)
				from := v.Host
				v = w.bigger(t, v, kind)
				return &sagatest.World{Engine: w.engine,
					Begin: func(ctx context.Context) (string, error) {
						return v.ID, w.begin(ctx, sagaRemake, kind, v, Resizing, remakeArgs{Name: kind})
					},
					Check: func(t *testing.T, end *saga.Record) {
						got := w.moved(t, v.ID)
						state, status := Resized, migration.Finished
						if end.Phase == saga.Failed {
							state, status = Active, migration.Failed
						}
						m, err := w.svc.moves.Get("resize-of-" + v.ID)
						if err != nil {
							t.Fatal(err)
						}
						if got.TaskState != "" || end.Phase == saga.Done && (got.VMState != state || got.Host == from || m.Status != status) {
							t.Errorf("%s: the server is %s/%s on %s, its migration %s", end.Phase, got.VMState, got.TaskState, got.Host, m.Status)
						}
						if got.VMState != Resized && (got.VMState != state || got.Resize != nil || got.Flavor.ID != "42" || m.Status != migration.Failed) {
							t.Errorf("%s: the server is %s with %+v, its migration %s", end.Phase, got.VMState, got.Resize, m.Status)
						}
					}}
			})
		})
	}
}

func TestSagaMovesEnd(t *testing.T) {
	for _, kind := range []string{"migrate", "resize"} {
		for _, name := range []string{"confirmResize", "revertResize"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
					w := newWorld(t, opt, "node-1", "node-2")
					v := w.running(t.Context(), t)
					w.away(t, v, kind)
					if err := w.svc.update(t.Context(), v.ID, func(v *Server) error {
						if v.Resize.Ending = true; name == "revertResize" {
							v.swap()
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					return &sagatest.World{Engine: w.engine,
						Begin: func(ctx context.Context) (string, error) {
							return v.ID, w.begin(ctx, sagaRemake, name, v, remakes(name).task, remakeArgs{Name: name})
						},
						Check: func(t *testing.T, end *saga.Record) { w.checkEnded(t, w.moved(t, v.ID), v, name, end) }}
				})
			})
		}
	}
}

// checkEnded: was is the server before its resize.
func (w *world) checkEnded(t *testing.T, got, was *Server, name string, end *saga.Record) {
	t.Helper()
	home := got.Host == was.Host
	switch {
	case got.TaskState != "" || home != (got.Flavor.ID == was.Flavor.ID) && got.Flavor.ID != was.Flavor.ID:
		t.Errorf("%s: the server is %s/%s of flavor %s on %s", end.Phase, got.VMState, got.TaskState, got.Flavor.Name, got.Host)
	case end.Phase == saga.Done && (got.VMState != Active || got.Resize != nil || home != (name == "revertResize")):
		t.Errorf("the server is %s on %s, with %+v", got.VMState, got.Host, got.Resize)
	case got.Resize != nil && (got.VMState != Resized && got.VMState != Errored || home || got.Resize.Ending && name == "revertResize"):
		t.Errorf("%s: the server is %s on %s, with %+v", end.Phase, got.VMState, got.Host, got.Resize)
	}
}

func TestMigrate(t *testing.T) {
	c := newClient(t, "node-1", "node-2", "node-3")
	id := c.server("a", "")
	from := c.moved(t, id).Host
	c.act("admin@2.56", id, `{"migrate":{"host":"node-3"}}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("VERIFY_RESIZE", "server", "status")
	if v := c.moved(t, id); v.Host != "node-3" || c.agents["node-3"].Boots(id) != 0 && c.agents[from].Boots(id) != 1 {
		t.Errorf("the server is on %s", v.Host)
	}
	c.do("admin@2.59", "GET", "/os-migrations?migration_type=migration", "").want(200).count(1, "migrations").is("finished", "migrations", 0, "status").
		is(from, "migrations", 0, "source_compute").is("node-3", "migrations", 0, "dest_compute")
	c.do("admin@2.59", "GET", "/servers/"+id+"/os-instance-actions", "").want(200).is("migrate", "instanceActions", 0, "action")
	c.act("member", id, `{"revertResize":null}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	if v := c.moved(t, id); v.Host != from {
		t.Errorf("the server is on %s, not back on %s", v.Host, from)
	}
	c.act("member", id, `{"os-stop":null}`).want(202)
	c.act("admin", id, `{"migrate":null}`).want(202)
	c.act("member", id, `{"confirmResize":null}`).want(204)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("SHUTOFF", "server", "status")
	v := c.moved(t, id)
	if v.Host == from {
		t.Error("the server has not moved")
	}
	c.agents[v.Host].RefuseMoves("no room on the disk")
	c.act("admin", id, `{"migrate":null}`).want(202)
	c.do("admin", "GET", "/os-migrations?status=error", "").want(200).count(1, "migrations")
	c.do("member", "GET", "/servers/"+id, "").want(200).is("SHUTOFF", "server", "status")
	if now := c.moved(t, id); now.Host != v.Host {
		t.Errorf("the server is on %s", now.Host)
	}
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.clean(t)
}

// A resize goes to where there is room, and its revert back with the old disks.
func TestResizeElsewhere(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	v := c.moved(t, id)
	c.place.mu.Lock()
	c.place.free[v.Host] = v.resources()
	c.place.mu.Unlock()
	c.act("member", id, `{"resize":{"flavorRef":"84"}}`).want(202)
	now := c.moved(t, id)
	if i, _ := c.nodes.Instances.Get(id); now.Host == v.Host || now.VMState != Resized || !slices.Equal(i.Kept, []string{"disk0"}) || i.Disks[0].CopyFrom != "disk0" {
		t.Errorf("the server is %s on %s, the node has %+v", now.VMState, now.Host, i)
	}
	if c.place.held[now.Resize.ID].host != v.Host {
		t.Errorf("what it had is claimed on %q", c.place.held[now.Resize.ID].host)
	}
	c.act("member", id, `{"revertResize":null}`).want(202)
	now = c.moved(t, id)
	if i, _ := c.nodes.Instances.Get(id); now.Host != v.Host || now.VMState != Active || len(i.Kept) != 0 || i.Disks[0].Name != "disk0" {
		t.Errorf("the server is %s on %s, the node has %+v", now.VMState, now.Host, i)
	}
}
