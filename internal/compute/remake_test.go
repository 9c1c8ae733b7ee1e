package compute

import (
	"context"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
)

// remade writes into a running server what the request of a remake would.
func (w *world) remade(t *testing.T, v *Server, name string) {
	t.Helper()
	if err := w.svc.update(t.Context(), v.ID, func(v *Server) error {
		switch name {
		case "rebuild":
			v.DiskSet++
		case "rescue":
			v.Rescue = &Rescue{Disk: "rescue-1", Image: v.Image}
		case "unrescue":
			v.VMState = Rescued
		case "resize", "confirmResize", "revertResize":
			f, err := w.svc.flavors.Get("84")
			if err != nil {
				return err
			}
			v.Resize = &Resize{ID: "resize-of-" + v.ID, Flavor: v.Flavor, DiskSet: v.DiskSet}
			v.Flavor, v.DiskSet = *f, v.DiskSet+1
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if name != "confirmResize" && name != "revertResize" {
		return
	}
	j := &job{Server: v.ID, Args: []byte(`{"name":"resize"}`)}
	for _, step := range []func(context.Context, *job) error{w.svc.remakeClaim, w.svc.remakeStop, w.svc.remakeMove, w.svc.remakeMake, w.svc.remakeAwait, w.svc.remakeFinish} {
		if err := step(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.svc.update(t.Context(), v.ID, func(v *Server) error {
		if v.Resize.Ending = true; name == "revertResize" {
			v.swap()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSagaRemake(t *testing.T) {
	ends := map[string]VMState{"rebuild": Active, "rescue": Rescued, "unrescue": Active, "resize": Resized, "confirmResize": Active, "revertResize": Active}
	for name, state := range ends {
		t.Run(name, func(t *testing.T) {
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w := newWorld(t, opt)
				v := w.running(t.Context(), t)
				w.remade(t, v, name)
				return &sagatest.World{Engine: w.engine,
					Begin: func(ctx context.Context) (string, error) {
						return v.ID, w.begin(ctx, sagaRemake, name, v, remakes(name).task, remakeArgs{Name: name})
					},
					Check: func(t *testing.T, end *saga.Record) { w.checkRemade(t, v.ID, name, state, end) }}
			})
		})
	}
}

func (w *world) checkRemade(t *testing.T, id, name string, state VMState, end *saga.Record) {
	t.Helper()
	w.clean(t)
	got, err := w.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if end.Phase == saga.Failed {
		switch name {
		case "resize":
			state = Active
		case "revertResize":
			if state = Resized; got.Resize == nil {
				state = Active
			}
		default:
			state = Errored
		}
	}
	if got.VMState != state || got.TaskState != "" || (got.Fault != nil) != (end.Phase == saga.Failed) {
		t.Errorf("%s: the server is %s/%s with fault %v", end.Phase, got.VMState, got.TaskState, got.Fault)
	}
	if c := w.place.held[id]; c.need.MemoryMiB != got.Flavor.RAM {
		t.Errorf("%s: placement holds %d MiB of a server of %d", end.Phase, c.need.MemoryMiB, got.Flavor.RAM)
	}
	inst, err := w.nodes.Instances.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if end.Phase == saga.Done || name == "resize" {
		var names []string
		for _, d := range got.disks() {
			names = append(names, d.Name)
		}
		var has []string
		for _, d := range inst.Disks {
			has = append(has, d.Name)
		}
		if !slices.Equal(names, has) || len(inst.Kept) != len(got.keptDisks()) || inst.Power != nodeapi.PowerRunning {
			t.Errorf("%s: the node has %v and keeps %v, %s; the server has %v", end.Phase, has, inst.Kept, inst.Power, names)
		}
	}
}

func TestRebuild(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("reader", id, `{"rebuild":{"imageRef":"`+imageID+`"}}`).want(403)
	c.act("other", id, `{"rebuild":{"imageRef":"`+imageID+`"}}`).want(404)
	for _, bad := range []string{`{}`, `{"imageRef":"x"}`, `{"imageRef":"11111111-1111-4111-8111-11111111111f"}`, `{"imageRef":"` + imageID + `","key_name":"none"}`,
		`{"imageRef":"` + imageID + `","user_data":"%"}`, `{"imageRef":"` + imageID + `","preserve_ephemeral":true}`} {
		c.act("member@2.96", id, `{"rebuild":`+bad+`}`).want(400)
	}
	c.act("member@2.56", id, `{"rebuild":{"imageRef":"`+imageID+`","user_data":"YQ=="}}`).want(400)
	c.act("member@2.96", id, `{"rebuild":{"imageRef":"`+imageID+`","name":"b","metadata":{"k":"v"},"adminPass":"secret","user_data":"YQ==","hostname":"bb","description":"d"}}`).want(202).
		is("secret", "server", "adminPass").is("b", "server", "name").is("REBUILD", "server", "status").is("YQ==", "server", "user_data")
	c.do("member@2.96", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status").is("v", "server", "metadata", "k").is("bb", "server", "OS-EXT-SRV-ATTR:hostname").is("d", "server", "description")
	if i, _ := c.nodes.Instances.Get(id); i.Disks[0].Name != "disk0-1" || i.Guest.AdminPass != "secret" || i.Name != "b" {
		t.Errorf("the node is to run %+v", i)
	}
	c.act("member", id, `{"os-stop":null}`).want(202)
	c.act("member", id, `{"rebuild":{"imageRef":"`+imageID+`"}}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("SHUTOFF", "server", "status")
	c.clean(t)
}

func TestResize(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("member", id, `{"resize":{"flavorRef":"nope"}}`).want(400)
	c.act("member", id, `{"resize":{"flavorRef":"42"}}`).want(400).is("When resizing, instances must change flavor!", "badRequest", "message")
	c.act("member", id, `{"confirmResize":null}`).want(409).is("Cannot 'confirmResize' instance "+id+" while it is in vm_state active", "conflictingRequest", "message")
	c.act("member", id, `{"resize":{"flavorRef":"84"}}`).want(202)
	c.do("member@2.47", "GET", "/servers/"+id, "").want(200).is("VERIFY_RESIZE", "server", "status").is("m1.micro", "server", "flavor", "original_name").is("resized", "server", "OS-EXT-STS:vm_state")
	c.clean(t)
	c.act("member", id, `{"resize":{"flavorRef":"42"}}`).want(409)
	c.do("member", "GET", "/os-migrations", "").want(403)
	c.do("admin@2.80", "GET", "/os-migrations?instance_uuid="+id, "").want(200).count(1, "migrations").is("finished", "migrations", 0, "status").is("resize", "migrations", 0, "migration_type").is(project1, "migrations", 0, "project_id")
	c.act("member", id, `{"revertResize":null}`).want(202)
	c.do("member@2.47", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status").is("m1.nano", "server", "flavor", "original_name")
	c.clean(t)
	c.do("admin", "GET", "/os-migrations?status=reverted", "").want(200).count(1, "migrations")
	c.act("member", id, `{"os-stop":null}`).want(202)
	c.act("member", id, `{"resize":{"flavorRef":"84"}}`).want(202)
	c.do("admin@2.59", "GET", "/os-migrations?limit=1", "").want(200).count(1, "migrations").count(1, "migrations_links").is("finished", "migrations", 0, "status")
	c.do("admin@2.59", "GET", "/os-migrations?changes-before=2020-01-01T00:00:00Z", "").want(400)
	c.do("admin@2.66", "GET", "/os-migrations?changes-before=2020-01-01T00:00:00Z", "").want(200).count(0, "migrations")
	if i, _ := c.nodes.Instances.Get(id); i.Power != nodeapi.PowerStopped || !slices.Equal(i.Kept, []string{"disk0"}) || i.Disks[0].CopyFrom != "disk0" {
		t.Errorf("the node is to run %+v", i)
	}
	c.act("member", id, `{"confirmResize":null}`).want(204)
	c.do("member@2.47", "GET", "/servers/"+id, "").want(200).is("SHUTOFF", "server", "status").is("m1.micro", "server", "flavor", "original_name")
	if i, _ := c.nodes.Instances.Get(id); len(i.Kept) != 0 || i.Disks[0].CopyFrom != "" {
		t.Errorf("the node still keeps %+v", i)
	}
	c.clean(t)
	c.act("member", id, `{"resize":{"flavorRef":"42"}}`).want(202)
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.clean(t)
}

func TestResizeRefused(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("member", id, `{"resize":{"flavorRef":"2"}}`).want(202) // a larger disk
	c.act("member", id, `{"confirmResize":null}`).want(204)
	c.act("member", id, `{"resize":{"flavorRef":"42"}}`).want(400).is("Server disk was unable to be resized because: Unable to resize disk down.", "badRequest", "message")
	c.do("admin", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"cores":1}}`).want(200)
	c.act("member", id, `{"resize":{"flavorRef":"3"}}`).want(403)
	c.do("admin", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"cores":-1}}`).want(200)
	// A host without room leaves everything as it was.
	c.place.mu.Lock()
	c.place.free["node-1"] = Resources{VCPU: 2, MemoryMiB: 4096, DiskGiB: 50}
	c.place.mu.Unlock()
	c.act("member", id, `{"resize":{"flavorRef":"3"}}`).want(202)
	c.do("member@2.47", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status").is("m1.small", "server", "flavor", "original_name")
	c.clean(t)
}

func TestRescue(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("member", id, `{"unrescue":null}`).want(409)
	c.act("member", id, `{"rescue":{"rescue_image_ref":"11111111-1111-4111-8111-11111111111f"}}`).want(400)
	c.act("member", id, `{"rescue":{"adminPass":"p"}}`).want(200).is("p", "adminPass")
	c.do("member", "GET", "/servers/"+id, "").want(200).is("RESCUE", "server", "status").is("rescued", "server", "OS-EXT-STS:vm_state")
	if i, _ := c.nodes.Instances.Get(id); len(i.Disks) < 2 || i.Disks[0].Boot != 1 || i.Disks[1].Name != "disk0" || i.Disks[1].Boot != 2 {
		t.Errorf("the node is to run %+v", i.Disks)
	}
	c.act("member", id, `{"pause":null}`).want(409).is("Cannot 'pause' instance "+id+" while it is in vm_state rescued", "conflictingRequest", "message")
	c.act("member", id, `{"unrescue":null}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	c.clean(t)
	if err := c.db.Txn(t.Context(), func(tx *store.Tx) error {
		_, err := c.svc.servers.TxUpdate(tx, id, func(v *Server) error { v.Locked = "owner"; return nil })
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, act := range []string{`{"rescue":null}`, `{"rebuild":{"imageRef":"` + imageID + `"}}`, `{"resize":{"flavorRef":"84"}}`} {
		c.act("member", id, act).want(409).is("Instance "+id+" is locked", "conflictingRequest", "message")
	}
}
