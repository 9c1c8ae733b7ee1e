package compute

import (
	"context"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// deferring is a client of a cloud whose deletes can be taken back for an hour.
func deferring(t *testing.T) *client {
	c := newClient(t)
	c.svc.ReclaimAfter = time.Hour
	return c
}

func (c *client) power(id string) nodeapi.Power {
	c.t.Helper()
	st, err := c.nodes.Statuses.Get(id)
	if err != nil {
		c.t.Fatal(err)
	}
	return st.Power
}

func TestSoftDelete(t *testing.T) {
	c := deferring(t)
	id := c.server("web", "")
	at := "/servers/" + id
	c.do("member", "DELETE", at, "").want(204)
	c.settled()
	c.do("member", "GET", at, "").want(200).is("SOFT_DELETED", "server", "status").is("soft-delete", "server", "OS-EXT-STS:vm_state").
		is(4, "server", "OS-EXT-STS:power_state")
	if p := c.power(id); p != nodeapi.PowerStopped {
		t.Errorf("the machine is %s", p)
	}
	c.clean(t) // it keeps its host and ports
	c.do("member", "GET", "/servers", "").want(200).count(0, "servers")
	c.do("member", "GET", "/servers?status=SOFT_DELETED", "").want(200).count(0, "servers")
	c.do("admin", "GET", "/servers?deleted=true&all_tenants=1", "").want(200).count(1, "servers")
	c.do("admin", "GET", "/servers?soft_deleted=true&all_tenants=1", "").want(200).count(1, "servers")
	c.do("member", "GET", "/servers?changes-since=2020-01-01T00:00:00Z", "").want(200).count(1, "servers")
	c.do("member", "GET", "/limits", "").want(200).is(0, "limits", "absolute", "totalInstancesUsed")
	c.do("member", "DELETE", at, "").want(204) // again changes nothing
	c.settled()
	c.act("member", id, `{"os-start":null}`).want(409)
	c.act("other", id, `{"restore":null}`).want(404)
	c.act("reader", id, `{"restore":null}`).want(403)
	c.act("member", id, `{"restore":null}`).want(202)
	c.do("member", "GET", at, "").want(200).is("ACTIVE", "server", "status")
	if p := c.power(id); p != nodeapi.PowerRunning {
		t.Errorf("restored, the machine is %s", p)
	}
	c.act("member", id, `{"restore":null}`).want(409)
	c.do("member", "GET", "/limits", "").want(200).is(1, "limits", "absolute", "totalInstancesUsed")
	c.do("member@2.96", "GET", at+"/os-instance-actions", "").want(200).is("restore", "instanceActions", 0, "action").is("delete", "instanceActions", 1, "action")

	c.do("member", "DELETE", at, "").want(204)
	c.settled()
	c.act("member", id, `{"forceDelete":null}`).want(202)
	c.do("member", "GET", at, "").want(404)
	c.clean(t)
}

func TestSoftDeleteOfEveryState(t *testing.T) {
	for name, tc := range map[string]struct {
		before []string
		comes  string // the status after restore; "": it goes for good at once
	}{
		"stopped":   {[]string{`{"os-stop":null}`}, "ACTIVE"},
		"paused":    {[]string{`{"pause":null}`}, "ACTIVE"},
		"suspended": {[]string{`{"suspend":null}`}, "ACTIVE"},
		"resized":   {[]string{`{"resize":{"flavorRef":"84"}}`}, "VERIFY_RESIZE"},
		"rescued":   {[]string{`{"rescue":null}`}, "RESCUE"},
		"shelved":   {[]string{`{"shelve":null}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := deferring(t)
			id := c.server("web", "")
			for _, b := range tc.before {
				if a := c.act("member", id, b); a.status != 200 && a.status != 202 {
					t.Fatalf("%s: %d", b, a.status)
				}
			}
			c.do("member", "DELETE", "/servers/"+id, "").want(204)
			c.settled()
			if tc.comes == "" {
				c.do("member", "GET", "/servers/"+id, "").want(404)
				c.clean(t)
				return
			}
			c.do("member", "GET", "/servers/"+id, "").want(200).is("SOFT_DELETED", "server", "status")
			c.act("member", id, `{"restore":null}`).want(202)
			c.do("member", "GET", "/servers/"+id, "").want(200).is(tc.comes, "server", "status")
			c.clean(t)
		})
	}
}

// TestSoftDeleteMeetsOthers: what is under way ends first, a delete while a restore
// runs wins, and a delete for good cuts off both.
func TestSoftDeleteMeetsOthers(t *testing.T) {
	c := deferring(t)
	id := c.server("web", "")
	at, agent := "/servers/"+id, c.agents["node-1"]
	agent.Away(true)
	c.do("member", "POST", at+"/action", `{"pause":null}`).want(202)
	c.do("member", "DELETE", at, "").want(204)
	c.do("member", "DELETE", at, "").want(204)
	c.do("member", "POST", at+"/action", `{"os-stop":null}`).want(409)
	agent.Away(false)
	c.settled()
	c.do("member", "GET", at, "").want(200).is("SOFT_DELETED", "server", "status")

	agent.Away(true)
	c.do("member", "POST", at+"/action", `{"restore":null}`).want(202)
	c.do("member", "DELETE", at, "").want(204)
	agent.Away(false)
	c.settled()
	c.do("member", "GET", at, "").want(200).is("SOFT_DELETED", "server", "status")

	agent.Away(true)
	c.do("member", "POST", at+"/action", `{"restore":null}`).want(202)
	c.do("member", "DELETE", at, "").want(204)
	c.do("member", "POST", at+"/action", `{"forceDelete":null}`).want(202)
	agent.Away(false)
	c.settled()
	c.do("member", "GET", at, "").want(404)
	c.clean(t)
}

func TestRestoreKeepsTheQuota(t *testing.T) {
	c := deferring(t)
	id := c.server("web", "")
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.do("admin", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"instances":1}}`).want(200)
	c.server("other", "")
	c.act("member", id, `{"restore":null}`).want(403)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("SOFT_DELETED", "server", "status")
}

func TestReclaim(t *testing.T) {
	c := deferring(t)
	id := c.server("web", "")
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	if soon := c.svc.reclaimable(time.Now().Add(59 * time.Minute)); len(soon) != 0 {
		t.Errorf("reclaimed early: %v", soon)
	}
	due := c.svc.reclaimable(time.Now().Add(61 * time.Minute))
	if len(due) != 1 || due[0] != id {
		t.Fatalf("due: %v", due)
	}
	for range 2 {
		if err := c.svc.reclaim(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	c.settled()
	c.do("member", "GET", "/servers/"+id, "").want(404)
	c.clean(t)
	if err := c.svc.reclaim(t.Context(), "no such server"); err != nil {
		t.Error(err)
	}
}

func TestSagaSoftDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		if err := w.svc.update(t.Context(), v.ID, func(v *Server) error { v.SoftDelete = &SoftDelete{At: time.Now()}; return nil }); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaSoftDelete, "delete", v, SoftDeleting, nil)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				inst, err := w.nodes.Instances.Get(v.ID)
				if err != nil || got.VMState != SoftDeleted || got.TaskState != "" || got.SoftDelete == nil || got.SoftDelete.From != Active || inst.Power != nodeapi.PowerStopped {
					t.Errorf("%s: the server is %s/%s, %+v, its machine %+v (%v)", end.Phase, got.VMState, got.TaskState, got.SoftDelete, inst, err)
				}
			}}
	})
}

func TestSagaRestore(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		if err := w.svc.update(t.Context(), v.ID, func(v *Server) error { v.VMState = SoftDeleted; return nil }); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaRestore, "restore", v, Restoring, restoreArgs{Stopped})
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				state, power := Active, nodeapi.PowerRunning
				if end.Phase == saga.Failed {
					state, power = SoftDeleted, nodeapi.PowerStopped
				}
				inst, err := w.nodes.Instances.Get(v.ID)
				if err != nil || got.VMState != state || got.TaskState != "" || (got.SoftDelete != nil) != (state == SoftDeleted) || inst.Power != power {
					t.Errorf("%s: the server is %s/%s, its machine %+v (%v)", end.Phase, got.VMState, got.TaskState, inst, err)
				}
			}}
	})
}
