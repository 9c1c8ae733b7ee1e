package compute

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
)

// die takes a host off, as a power cut does; it comes back with return.
func (w *world) die(host string) {
	w.agents[host].Away(true)
	w.nodes.Connect(host, nil)
}

func (w *world) comeBack(host string) {
	w.nodes.Connect(host, w.agents[host])
	w.agents[host].Away(false)
}

func TestSagaEvacuate(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt, "node-1", "node-2")
		v := w.running(t.Context(), t)
		w.die(v.Host)
		args := evacuateArgs{Migration: "evacuation-of-" + v.ID}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				err := w.db.Txn(ctx, func(tx *store.Tx) error {
					if _, err := w.svc.servers.TxUpdate(tx, v.ID, func(v *Server) error { v.Evacuation = args.Migration; return nil }); err != nil {
						return err
					}
					return w.svc.moves.Begin(tx, migration.Migration{ID: args.Migration, Server: v.ID, Kind: migration.Evacuation, Status: migration.Accepted, Source: v.Host})
				})
				if err != nil {
					return "", err
				}
				return v.ID, w.begin(ctx, sagaEvacuate, "evacuate", v, Rebuilding, args)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.comeBack(v.Host)
				got := w.moved(t, v.ID)
				m, err := w.svc.moves.Get(args.Migration)
				if err != nil {
					t.Fatal(err)
				}
				if end.Phase == saga.Done && (got.VMState != Active || got.Host == v.Host || m.Status != migration.Done) || end.Phase == saga.Failed && (got.VMState != Errored || m.Status != migration.Broken) ||
					got.TaskState != "" || got.Evacuation != "" || got.AdminPass != "" || (got.Fault != nil) != (end.Phase == saga.Failed) {
					t.Errorf("%s: the server is %s/%s on %s with %+v, its evacuation %s", end.Phase, got.VMState, got.TaskState, got.Host, got.Fault, m.Status)
				}
			}}
	})
}

func TestEvacuate(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from := c.moved(t, id).Host
	to := map[string]string{"node-1": "node-2", "node-2": "node-1"}[from]
	c.act("admin@2.94", id, `{"evacuate":{}}`).want(400).is("Compute service of "+from+" is still in use.", "badRequest", "message")
	c.die(from)
	for _, x := range []struct {
		who, body string
		status    int
	}{
		{"member@2.94", `{}`, 403},
		{"admin@2.13", `{}`, 400},
		{"admin@2.14", `{"onSharedStorage":false}`, 400},
		{"admin@2.13", `{"onSharedStorage":true,"adminPass":"x"}`, 400},
		{"admin@2.13", `{"onSharedStorage":true}`, 400},
		{"admin@2.28", `{"host":"` + to + `","force":true}`, 400},
		{"admin@2.68", `{"host":"` + to + `","force":true}`, 400},
		{"admin@2.29", `{"force":true}`, 400},
		{"admin@2.94", `{"host":"mars"}`, 404},
		{"admin@2.94", `{"host":"` + from + `"}`, 400},
	} {
		c.act(x.who, id, `{"evacuate":`+x.body+`}`).want(x.status)
	}
	c.do("admin@2.80", "GET", "/os-migrations", "").want(200).count(0, "migrations")
	c.act("admin@2.13", id, `{"evacuate":{"onSharedStorage":false,"adminPass":"secret"}}`).want(200).is("secret", "adminPass")
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	if n := c.agents[to].Boots(id); n != 1 {
		t.Errorf("it was booted %d times on its new host", n)
	}
	c.do("admin@2.80", "GET", "/os-migrations?migration_type=evacuation", "").want(200).is("done", "migrations", 0, "status").is(to, "migrations", 0, "dest_compute")
	c.do("admin@2.62", "GET", "/servers/"+id+"/os-instance-actions", "").want(200).is("evacuate", "instanceActions", 0, "action")
	c.comeBack(from)
	c.moved(t, id)

	c.act("member", id, `{"os-stop":null}`).want(202)
	c.die(to)
	c.act("admin@2.94", id, `{"evacuate":{"host":"`+from+`","adminPass":"p"}}`).want(200)
	c.comeBack(to)
	if v := c.moved(t, id); v.Host != from || v.VMState != Stopped {
		t.Errorf("it is %s on %s", v.VMState, v.Host)
	}
}

// From 2.95 on an evacuated server stays off; a host that an operator says is down
// but that still answers stops its guest first.
func TestEvacuateStays(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from := c.moved(t, id).Host
	c.service("force-down", from, `,"forced_down":true`)
	c.act("admin@2.95", id, `{"evacuate":{}}`).want(200)
	if v := c.moved(t, id); v.Host == from || v.VMState != Stopped {
		t.Errorf("it is %s on %s", v.VMState, v.Host)
	}
	c.act("member", id, `{"os-start":null}`).want(202)
	c.moved(t, id)
}

func TestEvacuateNowhere(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from := c.moved(t, id).Host
	c.lose("node-1", "node-2")
	c.act("admin@2.96", id, `{"evacuate":{}}`).want(200)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ERROR", "server", "status")
	c.do("admin@2.80", "GET", "/os-migrations?status=error", "").want(200).count(1, "migrations")
	c.comeBack("node-1")
	c.comeBack("node-2")
	if v := c.moved(t, id); v.Host != from || v.Fault == nil {
		t.Errorf("it is on %s with %+v", v.Host, v.Fault)
	}
	c.act("member", id, `{"reboot":{"type":"HARD"}}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
}

// A live migration whose host dies before the guest has left is given up for an
// evacuation; one whose guest has left is completed.
func TestEvacuateOvertakesLiveMigrate(t *testing.T) {
	c := newClient(t, "node-1", "node-2", "node-3")
	id := c.server("a", "")
	from, _, _ := c.held(id, "2.96")
	c.die(from)
	c.do("admin@2.94", "POST", "/servers/"+id+"/action", `{"evacuate":{}}`).want(200)
	c.settled()
	c.comeBack(from)
	if v := c.moved(t, id); v.Host == from || v.VMState != Active {
		t.Errorf("it is %s on %s", v.VMState, v.Host)
	}
}

func TestSourceDiesAfterTheSwitch(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from, to, at := c.held(id, "2.96")
	if err := c.agents[from].ForceMove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.die(from)
	c.do("admin@2.65", "DELETE", at, "")
	c.settled()
	c.comeBack(from)
	v := c.moved(t, id)
	if i, _ := c.nodes.Instances.Get(id); v.Host != to || v.VMState != Active || i.Power != nodeapi.PowerRunning || c.agents[to].Boots(id) != 0 {
		t.Errorf("it is %s on %s", v.VMState, v.Host)
	}
}

// What a client's host-evacuate does: it lists the servers of the host that is
// down, and evacuates each (novaclient/v2/shell.py, do_host_evacuate).
func TestHostEvacuate(t *testing.T) {
	c := newClient(t, "node-1", "node-2", "node-3")
	for n := range 6 {
		c.server(fmt.Sprintf("s%d", n), "")
	}
	c.do("admin@2.53", "GET", "/os-services", "").want(200).count(3, "services").is("nova-compute", "services", 2, "binary").is("node-3", "services", 2, "host").is("up", "services", 2, "state")
	c.die("node-3")
	a := c.do("admin@2.53", "GET", "/os-services?host=node-3", "").want(200).count(1, "services").is("down", "services", 0, "state")
	service := fmt.Sprint(a.at("services", 0, "id"))
	c.do("admin@2.53", "GET", "/os-hypervisors/"+providerOf("node-3"), "").want(200).is("down", "hypervisor", "state").is(2, "hypervisor", "running_vms")
	c.do("admin@2.53", "DELETE", "/os-services/"+service, "").want(409)
	list := c.do("admin", "GET", "/os-hypervisors/node-3/servers", "").want(200).count(2, "hypervisors", 0, "servers")
	var ids []string
	for n := range 2 {
		id := fmt.Sprint(list.at("hypervisors", 0, "servers", n, "uuid"))
		ids = append(ids, id)
		c.do("admin@2.94", "POST", "/servers/"+id+"/action", `{"evacuate":{}}`).want(200)
	}
	c.settled()
	c.do("admin", "GET", "/servers?all_tenants=1&host=node-3", "").want(200).count(0, "servers")
	c.do("admin", "GET", "/servers?all_tenants=1&host=node-1", "").want(200).count(3, "servers")
	c.do("admin", "GET", "/servers?all_tenants=1&host=node-2", "").want(200).count(3, "servers")
	c.comeBack("node-3")
	for _, id := range ids {
		c.moved(t, id)
	}
	c.do("admin@2.53", "GET", "/os-hypervisors/"+providerOf("node-3"), "").want(200).is("up", "hypervisor", "state").is(0, "hypervisor", "running_vms")
	c.do("admin@2.53", "DELETE", "/os-services/"+service, "").want(204)
}
