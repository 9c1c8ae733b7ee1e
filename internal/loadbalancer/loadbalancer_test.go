package loadbalancer

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestLife takes a load balancer from its making through every child to its removal, with
// the statuses that upstream's clients wait for.
func TestLife(t *testing.T) {
	w := start(t)
	v := w.want(201, "alice", "POST", "/loadbalancers", `{"loadbalancer":{"name":"lb","vip_subnet_id":"%s","tags":["a"]}}`, w.subnet)["loadbalancer"].(view)
	lb := v["id"].(string)
	if v["provisioning_status"] != pendingCreate || v["operating_status"] != offline || v["vip_address"] == "" || v["vip_network_id"] != w.network {
		t.Fatalf("created: %v", v)
	}
	ports := w.ports()
	if len(ports) != 1 || ports[0].(view)["id"] != v["vip_port_id"] || ports[0].(view)["device_id"] != "lb-"+lb {
		t.Fatalf("the VIP's port: %v", ports)
	}
	w.want(409, "alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"%s","protocol":"TCP","protocol_port":80}}`, lb)
	w.want(409, "alice", "PUT", "/loadbalancers/"+lb, `{"loadbalancer":{"name":"x"}}`)
	w.want(409, "alice", "DELETE", "/loadbalancers/"+lb, "")
	w.settle()
	w.status("/loadbalancers/"+lb, active, online)

	listener := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"TCP","protocol_port":"80","allowed_cidrs":["10.0.0.0/8"]`, lb)
	pool := w.make("pool", "/pools", `"listener_id":"%s","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"`, listener)
	member := w.make("member", "/pools/"+pool+"/members", `"address":"10.0.0.40","protocol_port":8080,"weight":3`)
	at := "/pools/" + pool + "/members/" + member
	w.status(at, active, noMonitor)
	hm := w.want(201, "alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"%s","type":"TCP","delay":"5","timeout":3,"max_retries":2}}`, pool)["healthmonitor"].(view)["id"].(string)
	for path, op := range map[string]string{"/loadbalancers/" + lb: online, "/listeners/" + listener: online, "/pools/" + pool: online} {
		w.status(path, pendingUpdate, op)
	}
	w.status("/healthmonitors/"+hm, pendingCreate, offline)
	w.status(at, active, offline)
	w.settle(member, nodeapi.LBMemberUp)
	w.status(at, active, online)
	w.status("/healthmonitors/"+hm, active, online)
	w.settle(member, nodeapi.LBMemberDown)
	w.status(at, active, failed)
	w.status("/pools/"+pool, active, failed)
	w.status("/loadbalancers/"+lb, active, failed)
	w.status("/listeners/"+listener, active, online)

	tree := w.get("/loadbalancers/" + lb + "/status")["loadbalancer"].(view)
	p := tree["listeners"].([]any)[0].(view)["pools"].([]any)[0].(view)
	m := p["members"].([]any)[0].(view)
	if m["id"] != member || m["operating_status"] != failed || m["address"] != "10.0.0.40" || p["health_monitor"].(view)["type"] != "TCP" {
		t.Errorf("the status tree: %v", tree)
	}
	w.want(400, "alice", "DELETE", "/loadbalancers/"+lb, "")
	w.want(204, "alice", "DELETE", "/loadbalancers/"+lb+"?cascade=true", "")
	for _, path := range []string{"/loadbalancers/" + lb, "/loadbalancers/" + lb + "/status", "/listeners/" + listener, "/pools/" + pool, at, "/healthmonitors/" + hm} {
		w.want(404, "alice", "GET", path, "")
		w.want(404, "alice", "DELETE", strings.TrimSuffix(path, "/status"), "")
	}
	if len(w.ports()) != 0 || w.s.statuses.Len() != 0 || len(w.s.On("n1"))+len(w.s.On("n2")) != 0 {
		t.Errorf("left: ports %v, %d statuses", w.ports(), w.s.statuses.Len())
	}
}

// TestForNode holds what a node is told: what is switched off is not there.
func TestForNode(t *testing.T) {
	w := start(t)
	lb := w.balancer()
	l := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"UDP","protocol_port":53,"connection_limit":7`, lb)
	p := w.make("pool", "/pools", `"listener_id":"%s","protocol":"UDP","lb_algorithm":"SOURCE_IP","session_persistence":{"type":"SOURCE_IP"},"healthmonitor":null`, l)
	m := w.make("member", "/pools/"+p+"/members", `"address":"10.0.0.40","protocol_port":53,"monitor_port":54,"backup":true`)
	w.make("member", "/pools/"+p+"/members", `"address":"10.0.0.41","protocol_port":53,"admin_state_up":false`)
	w.make("healthmonitor", "/healthmonitors", `"pool_id":"%s","type":"UDP-CONNECT","delay":5,"timeout":3,"max_retries":2`, p)
	got := append(w.s.On("n1"), w.s.On("n2")...)
	if len(got) != 1 || len(got[0].Listeners) != 1 || len(got[0].Pools) != 1 || len(got[0].Pools[0].Members) != 1 {
		t.Fatalf("told: %+v", got)
	}
	x, pool := got[0], got[0].Pools[0]
	if len(x.Port.Addrs) != 1 || x.Port.Addrs[0].Bits() != 24 || len(x.Port.Gateways) != 1 || x.Port.MAC == "" {
		t.Errorf("the port: %+v", x.Port)
	}
	if l := x.Listeners[0]; l.Protocol != "udp" || l.Port != 53 || l.Limit != 7 || l.PoolID != p {
		t.Errorf("the listener: %+v", l)
	}
	if m0 := pool.Members[0]; m0.ID != m || !m0.Backup || m0.MonitorPort != 54 || m0.MonitorAddr != m0.Addr || m0.Weight != 1 {
		t.Errorf("the member: %+v", m0)
	}
	if !pool.Sticky || pool.Monitor == nil || pool.Monitor.Rise != 2 || pool.Monitor.Fall != 3 {
		t.Errorf("the pool: %+v", pool)
	}
	w.want(200, "alice", "PUT", "/pools/"+p, `{"pool":{"admin_state_up":false}}`)
	w.settle()
	w.status("/pools/"+p, active, offline)
	if got := append(w.s.On("n1"), w.s.On("n2")...); len(got[0].Pools) != 0 || got[0].Listeners[0].PoolID != "" {
		t.Errorf("with the pool off: %+v", got)
	}
	w.want(200, "alice", "PUT", "/loadbalancers/"+lb, `{"loadbalancer":{"admin_state_up":false}}`)
	w.settle()
	w.status("/loadbalancers/"+lb, active, offline)
	if got := append(w.s.On("n1"), w.s.On("n2")...); len(got[0].Listeners) != 0 {
		t.Errorf("switched off: %+v", got)
	}
}

// TestBatch replaces, adds and keeps members as upstream's PUT does.
func TestBatch(t *testing.T) {
	w := start(t)
	lb := w.balancer()
	p := w.make("pool", "/pools", `"loadbalancer_id":"%s","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"`, lb)
	at := "/pools/" + p + "/members"
	one := w.make("member", at, `"address":"10.0.0.1","protocol_port":1,"weight":5,"name":"one"`)
	w.make("member", at, `"address":"10.0.0.2","protocol_port":1`)
	w.want(202, "alice", "PUT", at, `{"members":[{"address":"10.0.0.1","protocol_port":1,"name":"again"},{"address":"10.0.0.3","protocol_port":1}]}`)
	w.settle()
	list := func() map[string]view {
		out := map[string]view{}
		for _, m := range w.want(200, "alice", "GET", at, "")["members"].([]any) {
			out[m.(view)["address"].(string)] = m.(view)
		}
		return out
	}
	got := list()
	if len(got) != 2 || got["10.0.0.1"]["id"] != one || got["10.0.0.1"]["name"] != "again" || got["10.0.0.1"]["weight"] != 1.0 || got["10.0.0.3"] == nil {
		t.Errorf("replaced: %v", got)
	}
	w.want(202, "alice", "PUT", at+"?additive_only=true", `{"members":[{"address":"10.0.0.4","protocol_port":1}]}`)
	w.settle()
	if got := list(); len(got) != 3 {
		t.Errorf("added: %v", got)
	}
	w.want(400, "alice", "PUT", at, `{"members":[{"address":"10.0.0.4","protocol_port":1},{"address":"10.0.0.4","protocol_port":1}]}`)
	w.want(202, "alice", "PUT", at, `{"members":[]}`)
	w.settle()
	if got := list(); len(got) != 0 {
		t.Errorf("emptied: %v", got)
	}
}

// TestTree makes a whole load balancer in one request.
func TestTree(t *testing.T) {
	w := start(t)
	const body = `{"loadbalancer":{"name":"all","vip_network_id":"%s","vip_address":"10.0.0.77","listeners":[
	  {"name":"a","protocol":"TCP","protocol_port":80,"default_pool":{"name":"web","protocol":"TCP","lb_algorithm":"LEAST_CONNECTIONS",
	   "healthmonitor":{"type":"HTTP","delay":3,"timeout":2,"max_retries":1},"members":[{"address":"10.0.0.5","protocol_port":8080}]}},
	  {"name":"b","protocol":"TCP","protocol_port":81,"default_pool":{"name":"web"}}]}}`
	v := w.want(201, "alice", "POST", "/loadbalancers", body, w.network)["loadbalancer"].(view)
	pools := v["pools"].([]any)
	if v["vip_address"] != "10.0.0.77" || len(pools) != 1 || len(v["listeners"].([]any)) != 2 {
		t.Fatalf("made: %v", v)
	}
	pool := pools[0].(view)
	hm := pool["healthmonitor"].(view)
	if hm["url_path"] != "/" || hm["expected_codes"] != "200" || hm["http_method"] != "GET" || pool["members"].([]any)[0].(view)["address"] != "10.0.0.5" || len(pool["listeners"].([]any)) != 2 {
		t.Errorf("the pool: %v", pool)
	}
	w.want(409, "alice", "POST", "/loadbalancers", body, w.network) // the address is taken
	before := w.s.DB.Revision()
	w.want(400, "alice", "POST", "/loadbalancers", `{"loadbalancer":{"vip_subnet_id":"%s","listeners":[{"protocol":"TCP","protocol_port":80,"default_pool":{"name":"none"}}]}}`, w.subnet)
	if w.s.DB.Revision() != before || len(w.ports()) != 1 {
		t.Error("a refused request has left something")
	}
}

// TestNodes moves a load balancer whose node is lost, after a while, and says ERROR of one
// whose node does not follow.
func TestNodes(t *testing.T) {
	w := start(t)
	lb := w.balancer()
	rec, err := w.s.lbs.Get(lb)
	if err != nil {
		t.Fatal(err)
	}
	was := rec.Node
	sweep := func() string {
		t.Helper()
		if err := w.s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		rec, err := w.s.lbs.Get(lb)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Node
	}
	for i := range w.hosts {
		w.hosts[i].Alive = w.hosts[i].ID != was
	}
	if got := sweep(); got != was {
		t.Fatalf("moved at once, to %s", got)
	}
	w.clock = w.clock.Add(time.Minute)
	now := sweep()
	if now == was {
		t.Fatal("stays on a node that is lost")
	}
	w.status("/loadbalancers/"+lb, pendingUpdate, online)
	if host := w.at("/network/v2.0", 200, "admin", "GET", "/ports?device_owner=Octavia", "")["ports"].([]any)[0].(view)["binding:host_id"]; host != now {
		t.Errorf("the port is bound to %v", host)
	}
	if err := w.s.Report(t.Context(), was, []Status{{ID: lb, Gen: 99}}); err != nil { // it has not heard of it
		t.Fatal(err)
	}
	w.status("/loadbalancers/"+lb, pendingUpdate, online)
	w.clock = w.clock.Add(3 * time.Minute)
	w.status("/loadbalancers/"+lb, failed, online)
	w.settle()
	w.status("/loadbalancers/"+lb, active, online)
	for i := range w.hosts {
		w.hosts[i].Alive = true
	}
	w.want(403, "alice", "PUT", "/loadbalancers/"+lb+"/failover", "")
	w.want(202, "admin", "PUT", "/loadbalancers/"+lb+"/failover", "")
	if got := sweep(); got != was {
		t.Errorf("after the failover it is on %s", got)
	}
	w.status("/loadbalancers/"+lb, pendingUpdate, online)
}

// TestUserPort takes a VIP that the user has made, and leaves it.
func TestUserPort(t *testing.T) {
	w := start(t)
	port := w.at("/network/v2.0", 201, "alice", "POST", "/ports", `{"port":{"network_id":"`+w.network+`"}}`)["port"].(view)
	lb := w.make("loadbalancer", "/loadbalancers", `"vip_port_id":"%s"`, port["id"])
	if v := w.get("/loadbalancers/" + lb); v["vip_address"] != port["fixed_ips"].([]any)[0].(view)["ip_address"] || v["vip_subnet_id"] != w.subnet {
		t.Errorf("made: %v", v)
	}
	w.want(400, "alice", "POST", "/loadbalancers", `{"loadbalancer":{"vip_port_id":"%s"}}`, port["id"])
	w.want(204, "alice", "DELETE", "/loadbalancers/"+lb, "")
	left := w.at("/network/v2.0", 200, "alice", "GET", "/ports/"+port["id"].(string), "")["port"].(view)
	if left["device_id"] != "" || left["device_owner"] != "" {
		t.Errorf("left: %v", left)
	}
}

// TestStats adds up what nodes count.
func TestStats(t *testing.T) {
	w := start(t)
	lb := w.balancer()
	l := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"TCP","protocol_port":80`, lb)
	rec, err := w.s.lbs.Get(lb)
	if err != nil {
		t.Fatal(err)
	}
	err = w.s.Report(t.Context(), rec.Node, []Status{{ID: lb, Gen: rec.Gen, Listeners: map[string]nodeapi.LBTraffic{l: {BytesIn: 5, BytesOut: 6, Active: 1, Total: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.Report(t.Context(), rec.Node, []Status{{ID: lb, Listeners: map[string]nodeapi.LBTraffic{l: {BytesIn: 5, BytesOut: 6, Active: 1, Total: 2}}}}); err != nil {
		t.Fatal(err)
	}
	w.status("/loadbalancers/"+lb, active, online) // though its agent has started again
	want := view{"bytes_in": 5.0, "bytes_out": 6.0, "active_connections": 1.0, "total_connections": 2.0, "request_errors": 0.0}
	for _, path := range []string{"/loadbalancers/" + lb, "/listeners/" + l} {
		if got := w.get(path + "/stats"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", path, got)
		}
	}
}
