package compute

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

func TestSagaLive(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt, "node-1", "node-2")
		v := w.running(t.Context(), t)
		var args liveArgs
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				args.Migration = "live-of-" + v.ID
				return v.ID, w.svc.beginLive(ctx, "req-1", owner, v.ID, args)
			},
			Check: func(t *testing.T, end *saga.Record) {
				got := w.moved(t, v.ID)
				m, err := w.svc.moves.Get(args.Migration)
				if err != nil {
					t.Fatal(err)
				}
				if got.VMState != Active || got.TaskState != "" || got.Fault != nil {
					t.Errorf("%s: the server is %s/%s with %+v", end.Phase, got.VMState, got.TaskState, got.Fault)
				}
				if (got.Host != v.Host) != (m.Status == migration.Completed) || end.Phase == saga.Done && m.Status != migration.Completed {
					t.Errorf("%s: it went from %s to %s, its migration is %s", end.Phase, v.Host, got.Host, m.Status)
				}
				if n := w.agents["node-1"].Boots(v.ID) + w.agents["node-2"].Boots(v.ID); n != 1 {
					t.Errorf("it was booted %d times", n)
				}
			}}
	})
}

// held begins a live migration that does not end by itself, and gives its number.
func (c *client) held(id, version string) (from, to, at string) {
	c.t.Helper()
	v, err := c.svc.servers.Get(id)
	if err != nil {
		c.t.Fatal(err)
	}
	c.agents[v.Host].HoldMoves(true)
	c.do("admin@"+version, "POST", "/servers/"+id+"/action", `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`).want(202)
	var n any
	c.until("the memory to be copied", func() bool {
		a := c.do("admin@2.80", "GET", "/servers/"+id+"/migrations", "").want(200)
		l, _ := a.at("migrations").([]any)
		if len(l) == 0 || a.at("migrations", 0, "status") != "running" {
			return false
		}
		n, to = a.at("migrations", 0, "id"), fmt.Sprint(a.at("migrations", 0, "dest_compute"))
		return a.at("migrations", 0, "memory_processed_bytes") != nil && fmt.Sprint(a.at("migrations", 0, "memory_total_bytes")) != "0"
	})
	number, _ := n.(float64)
	return v.Host, to, "/servers/" + id + "/migrations/" + wire.Text(number)
}

func TestLiveMigrate(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from := c.moved(t, id).Host
	c.act("admin", id, `{"os-migrateLive":{"host":null,"block_migration":true,"disk_over_commit":false}}`).want(202)
	c.do("admin@2.96", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	v := c.moved(t, id)
	if v.Host == from || c.agents[v.Host].Boots(id) != 0 || c.agents[from].Boots(id) != 1 {
		t.Errorf("it is on %s", v.Host)
	}
	c.do("admin@2.80", "GET", "/os-migrations", "").want(200).is("live-migration", "migrations", 0, "migration_type").is("completed", "migrations", 0, "status").
		is(from, "migrations", 0, "source_compute").is(v.Host, "migrations", 0, "dest_compute")
	c.do("admin@2.62", "GET", "/servers/"+id+"/os-instance-actions", "").want(200).is("live-migration", "instanceActions", 0, "action")

	c.act("member", id, `{"pause":null}`).want(202)
	c.act("admin@2.96", id, `{"os-migrateLive":{"host":"`+from+`","block_migration":"auto"}}`).want(202)
	if now := c.moved(t, id); now.Host != from || now.VMState != Paused {
		t.Errorf("it is %s on %s", now.VMState, now.Host)
	}
	c.act("member", id, `{"unpause":null}`).want(202)
	c.moved(t, id)
}

func TestLiveMigrateRefuses(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	v := c.moved(t, id)
	for _, x := range []struct {
		who, body string
		status    int
	}{
		{"member@2.96", `{"host":null,"block_migration":"auto"}`, 403},
		{"admin@2.96", `{"block_migration":"auto"}`, 400},
		{"admin@2.96", `{"host":null,"block_migration":"maybe"}`, 400},
		{"admin@2.96", `{"host":null,"block_migration":"auto","force":true}`, 400},
		{"admin@2.67", `{"host":null,"block_migration":"auto","force":true}`, 400},
		{"admin@2.29", `{"host":"node-2","block_migration":"auto","force":true}`, 400},
		{"admin@2.25", `{"host":null,"block_migration":"auto","disk_over_commit":false}`, 400},
		{"admin@2.24", `{"host":null,"block_migration":"auto","disk_over_commit":false}`, 400},
		{"admin@2.24", `{"host":null,"block_migration":false}`, 400},
		{"admin@2.96", `{"host":"mars","block_migration":"auto"}`, 400},
		{"admin@2.33", `{"host":"` + v.Host + `","block_migration":"auto"}`, 400},
		{"admin@2.33", `{"host":"mars","block_migration":"auto"}`, 400},
	} {
		c.act(x.who, id, `{"os-migrateLive":`+x.body+`}`).want(x.status)
	}
	if now, _ := c.svc.servers.Get(id); now.Gen != v.Gen || !now.Updated.Equal(v.Updated) {
		t.Error("the server was touched")
	}
	c.do("admin@2.80", "GET", "/os-migrations", "").want(200).count(0, "migrations")
	// Since 2.34 the checks come after the answer.
	c.act("admin@2.34", id, `{"os-migrateLive":{"host":"`+v.Host+`","block_migration":"auto"}}`).want(202)
	c.do("admin@2.80", "GET", "/os-migrations?status=error", "").want(200).count(1, "migrations")
	for _, h := range []string{"node-1", "node-2"} {
		if h != v.Host {
			c.do("admin", "PUT", "/os-services/disable", `{"host":"`+h+`","binary":"nova-compute"}`).want(200)
		}
	}
	c.act("admin@2.33", id, `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`).want(400)
	c.do("admin", "PUT", "/os-services/enable", `{"host":"node-1","binary":"nova-compute"}`).want(200)
	c.do("admin", "PUT", "/os-services/enable", `{"host":"node-2","binary":"nova-compute"}`).want(200)
	c.agents[v.Host].RefuseMoves("the guest's processor does not exist there")
	c.act("admin@2.96", id, `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`).want(202)
	c.do("admin@2.80", "GET", "/os-migrations?status=failed", "").want(200).count(1, "migrations")
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	if now := c.moved(t, id); now.Host != v.Host {
		t.Errorf("it is on %s", now.Host)
	}
	c.act("member", id, `{"suspend":null}`).want(202)
	c.act("admin@2.96", id, `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`).want(409)
}

func TestLiveMigrateAborted(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	c.do("admin@2.24", "DELETE", "/servers/"+id+"/migrations/1", "").want(409)
	from, _, at := c.held(id, "2.96")
	c.do("member", "GET", "/servers/"+id, "").want(200).is("MIGRATING", "server", "status").is("migrating", "server", "OS-EXT-STS:task_state")
	c.do("admin@2.80", "GET", at, "").want(200).is("running", "migration", "status").is(id, "migration", "server_uuid").is(from, "migration", "source_compute")
	if l := fmt.Sprint(c.do("admin@2.23", "GET", "/os-migrations", "").want(200).at("migrations", 0, "links", 0, "href")); !strings.HasSuffix(l, at) {
		t.Errorf("the link is %s", l)
	}
	c.do("admin@2.23", "DELETE", at, "").want(404)
	c.do("member@2.24", "DELETE", at, "").want(403)
	c.do("admin@2.24", "DELETE", "/servers/"+id+"/migrations/1", "").want(404)
	c.do("member", "POST", "/servers/"+id+"/action", `{"os-stop":null}`).want(409)
	c.do("admin@2.24", "DELETE", at, "").want(202)
	c.settled()
	c.do("admin@2.80", "GET", "/os-migrations?status=cancelled", "").want(200).count(1, "migrations")
	c.do("admin@2.80", "GET", at, "").want(404)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	if v := c.moved(t, id); v.Host != from || c.agents[from].Boots(id) != 1 {
		t.Errorf("it is on %s, booted %d times", v.Host, c.agents[from].Boots(id))
	}
}

func TestLiveMigrateForced(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	c.do("admin@2.22", "POST", "/servers/"+id+"/migrations/1/action", `{"force_complete":null}`).want(409)
	from, to, at := c.held(id, "2.67")
	c.do("admin@2.21", "POST", at+"/action", `{"force_complete":null}`).want(400)
	c.do("admin@2.22", "POST", at+"/action", `{"force_complete":{}}`).want(400)
	c.do("admin@2.22", "POST", "/servers/"+id+"/migrations/1/action", `{"force_complete":null}`).want(400)
	c.do("admin@2.22", "POST", at+"/action", `{"force_complete":null}`).want(202)
	c.settled()
	if v := c.moved(t, id); v.Host != to || v.Host == from || v.VMState != Active || c.agents[to].Boots(id) != 0 {
		t.Errorf("it is %s on %s", v.VMState, v.Host)
	}
}

// A delete overtakes a move, wherever it is.
func TestDeleteOvertakesLiveMigrate(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	c.held(id, "2.96")
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.until("the nodes to forget", func() bool { return c.agents["node-1"].Moves()+c.agents["node-2"].Moves() == 0 })
	c.clean(t)
}

// An abort that comes too late changes nothing: the guest is there already.
func TestLiveMigrateAbortedTooLate(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	from, to, at := c.held(id, "2.96")
	if err := c.agents[from].ForceMove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.do("admin@2.24", "DELETE", at, "")
	c.settled()
	v := c.moved(t, id)
	if i, _ := c.nodes.Instances.Get(id); v.Host != to || v.VMState != Active || v.TaskState != "" || i.Power != nodeapi.PowerRunning {
		t.Errorf("it is %s/%s on %s", v.VMState, v.TaskState, v.Host)
	}
	c.do("admin@2.80", "GET", "/os-migrations?status=completed", "").want(200).count(1, "migrations")
}

// Servers that pass each other between the same hosts.
func TestLiveMigrateBothWays(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	was := map[string]string{}
	for n := range 6 {
		id := c.server(fmt.Sprintf("s%d", n), "")
		was[id] = c.moved(t, id).Host
	}
	for id := range was {
		c.do("admin@2.96", "POST", "/servers/"+id+"/action", `{"os-migrateLive":{"host":null,"block_migration":"auto"}}`).want(202)
	}
	c.settled()
	for id, from := range was {
		if v := c.moved(t, id); v.Host == from || c.agents[from].Boots(id) != 1 || c.agents[v.Host].Boots(id) != 0 {
			t.Errorf("a server is on %s, from %s", v.Host, from)
		}
	}
}
