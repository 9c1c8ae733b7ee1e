package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// cluster is three nodes, of which some are lost.
type cluster struct {
	mu   sync.Mutex
	lost map[string]bool
	now  time.Time
	dead string // the one that is given up

	wires map[string][]string // physical networks by node
}

func (c *cluster) Hosts() []Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Host
	for i := range 3 {
		id := fmt.Sprintf("n%d", i+1)
		out = append(out, Host{ID: id, Name: id, Alive: !c.lost[id], Dead: c.dead == id, Tunnel: tunnelOf(id), Physicals: c.wires[id]})
	}
	return out
}

func tunnelOf(id string) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, 2, id[1] - '0'})
}

func (c *cluster) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cluster) lose(id string, lost bool, later time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[id], c.now = lost, c.now.Add(later)
}

// wire gives a node a device on a physical network.
func (c *cluster) wire(id, physical string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wires = map[string][]string{id: {physical}}
}

// wide is a world of three nodes with an external network, and a router of
// alice's between two networks, with a server on n1 and one on n2.
func wide(t *testing.T) (*world, *cluster, string) {
	nodes := &cluster{lost: map[string]bool{}, now: time.Unix(1e9, 0)}
	w := startWith(t, Options{Nodes: nodes, Now: nodes.clock})
	ctx := context.Background()
	if err := w.s.Bootstrap(ctx, BootstrapOptions{AdminProject: "adm", PublicCIDR: netip.MustParsePrefix("203.0.113.0/24")}); err != nil {
		t.Fatal(err)
	}
	public := w.s.networks.By("external", "yes")[0].ID
	router := w.make("alice", "router", "/routers", `"name":"r","external_gateway_info":{"network_id":"%s"}`, public)["id"].(string)
	for i, host := range []string{"n1", "n2"} {
		net := w.net("alice", `"name":"n"`)
		sub := w.sub("alice", net, fmt.Sprintf("10.0.%d.0/24", i), "")
		w.want(200, "alice", "PUT", "/routers/"+router+"/add_router_interface", `{"subnet_id":"`+sub+`"}`)
		id := strings.Replace(absent, "4000", "400"+host[1:], 1)
		if _, err := w.s.EnsurePort(ctx, PortSpec{ID: id, NetworkID: net, ProjectID: "p1", Server: "s" + host, Host: host}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Span(ctx); err != nil {
		t.Fatal(err)
	}
	return w, nodes, router
}

// gatewayAt finds the one node that has the router's gateway.
func (w *world) gatewayAt(router string) string {
	w.Helper()
	at := ""
	for _, id := range []string{"n1", "n2", "n3"} {
		for _, r := range w.s.NetState(id).Routers {
			if r.ID == router && r.GatewayHere {
				if at != "" {
					w.Fatalf("both %s and %s have the gateway", at, id)
				}
				at = id
			}
		}
	}
	return at
}

func TestStatesOfSeveralNodes(t *testing.T) {
	w, _, router := wide(t)
	at := w.gatewayAt(router)
	if at == "" {
		t.Fatal("no node has the gateway")
	}
	vnis, ends := map[int]bool{}, map[netip.Addr]bool{}
	for _, id := range []string{"n1", "n2", "n3"} {
		st := w.s.NetState(id)
		if id == "n3" && at != "n3" {
			if len(st.Routers) != 0 || len(st.Ports) != 0 || len(st.Networks) != 1 {
				t.Errorf("a node without servers has %d routers, %d ports, %d networks", len(st.Routers), len(st.Ports), len(st.Networks))
			}
			continue
		}
		if len(st.Networks) != 3 || len(st.Routers) != 1 || len(st.Ports) != 2 {
			t.Fatalf("%s has %d networks, %d routers, %d ports", id, len(st.Networks), len(st.Routers), len(st.Ports))
		}
		r := st.Routers[0]
		if r.TransitVNI == 0 || !r.GatewayHere && r.GatewayNode != tunnelOf(at) {
			t.Errorf("%s: %+v", id, r)
		}
		vnis[r.TransitVNI] = true
		for _, p := range st.Ports {
			host := "n" + p.ID[17:18]
			if p.Local != (host == id) || !p.Local && p.Tunnel != tunnelOf(host) || p.Local && p.Tunnel.IsValid() {
				t.Errorf("%s: port of %s: %+v", id, host, p)
			}
		}
		for _, n := range st.Networks {
			vnis[n.VNI] = true
			if !n.External {
				continue
			}
			if n.HostEnd == nil || n.MTU != 1450 {
				t.Fatalf("%s outside: %+v", id, n)
			}
			ends[n.HostEnd.Addrs[0].Addr()] = true
			elsewhere := 2
			if at != id {
				elsewhere++
			}
			if len(n.Endpoints) != elsewhere {
				t.Errorf("%s is told of %d endpoints: %+v", id, len(n.Endpoints), n.Endpoints)
			}
		}
	}
	if len(vnis) != 4 || vnis[0] || len(ends) < 2 {
		t.Errorf("VXLAN ids %v, ends %v", vnis, ends)
	}
	before := w.s.DB.Revision()
	if err := w.s.Span(context.Background()); err != nil || w.s.DB.Revision() != before {
		t.Errorf("spanning what is spanned writes: %v", err)
	}
	transit := w.s.routers.All()[0].Transit
	got := w.want(409, "admin", "POST", "/networks", fmt.Sprintf(`{"network":{"provider:network_type":"vxlan","provider:segmentation_id":%d}}`, transit))
	if refusal(got) != "TunnelIdInUse" {
		t.Errorf("a router's VXLAN id for a network: %v", got)
	}
}

func TestGatewayLeavesLostNode(t *testing.T) {
	w, nodes, router := wide(t)
	at := w.gatewayAt(router)
	nodes.lose(at, true, 0)
	if now := w.gatewayAt(router); now != at {
		t.Errorf("the gateway left %s for %s at once", at, now)
	}
	nodes.dead = at
	if now := w.gatewayAt(router); now == at || now == "" {
		t.Errorf("the gateway of %s, which is given up, is on %q", at, now)
	}
	nodes.dead = ""
	if now := w.gatewayAt(router); now != at {
		t.Errorf("the gateway of %s, which is not given up any more, is on %q", at, now)
	}
	nodes.lose(at, true, time.Minute)
	moved := w.gatewayAt(router)
	if moved == at || moved == "" {
		t.Fatalf("the gateway of the lost %s is on %q", at, moved)
	}
	for _, id := range []string{"n1", "n2", "n3"} {
		nodes.lose(id, true, 0)
	}
	w.gatewayAt(router)
	nodes.lose("n1", true, time.Hour)
	if now := w.gatewayAt(router); now != at {
		t.Errorf("with all nodes lost the gateway is on %q, not where it belongs", now)
	}
}

// TestFewGatewaysMove loses one of three nodes: routers of the others stay.
func TestFewGatewaysMove(t *testing.T) {
	nodes := &cluster{lost: map[string]bool{}, now: time.Unix(1e9, 0)}
	s := startWith(t, Options{Nodes: nodes, Now: nodes.clock, Grace: time.Second}).s
	before, count := map[string]string{}, map[string]int{}
	for i := range 3000 {
		id := fmt.Sprint("router-", i)
		before[id] = s.nodes().gateway(id, nil).ID
		count[before[id]]++
	}
	for id, n := range count {
		if n < 800 {
			t.Errorf("%s has %d of 3000 gateways", id, n)
		}
	}
	nodes.lose("n2", true, 0)
	s.nodes()
	nodes.lose("n2", true, time.Minute)
	for id, at := range before {
		if now := s.nodes().gateway(id, nil).ID; at != "n2" && now != at || now == "n2" {
			t.Fatalf("%s went from %s to %s", id, at, now)
		}
	}
}

// TestNodesAreFollowed has a watcher learn that a gateway came to its node.
func TestNodesAreFollowed(t *testing.T) {
	w, nodes, router := wide(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { w.s.Run(ctx) })
	at := w.gatewayAt(router)
	other := "n1"
	if at == other {
		other = "n2"
	}
	states := w.s.Watch(ctx, other)
	<-states
	for _, id := range []string{"n1", "n2", "n3"} {
		nodes.lose(id, id != other, 0)
	}
	w.s.nodes()
	nodes.lose(at, true, time.Minute)
	for st := range states {
		if slices.ContainsFunc(st.Routers, func(r nodeapi.Router) bool { return r.ID == router && r.GatewayHere }) {
			return
		}
	}
	t.Fatal("the gateway did not come")
}

// TestSpannedNetworkGoes deletes what spanning made along with the network.
func TestSpannedNetworkGoes(t *testing.T) {
	w, _, router := wide(t)
	for _, p := range (&call{Service: w.s}).interfaces(router) {
		w.want(200, "alice", "PUT", "/routers/"+router+"/remove_router_interface", `{"port_id":"`+p.ID+`"}`)
	}
	w.want(204, "alice", "DELETE", "/routers/"+router, nil)
	public := w.s.networks.By("external", "yes")[0].ID
	if n := len(w.s.ports.By("owner", ownerHost)); n != 3 {
		t.Fatalf("%d nodes have an address outside", n)
	}
	w.want(204, "admin", "DELETE", "/networks/"+public, nil)
	if n := len(w.s.ports.By("owner", ownerHost)); n != 0 {
		t.Errorf("%d addresses of nodes are left", n)
	}
	if err := w.s.Span(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestVLANNetworks holds VLANs of provider's networks to upstream's rules.
func TestVLANNetworks(t *testing.T) {
	w := startWith(t, Options{Nodes: &cluster{wires: map[string][]string{"n2": {"office"}}}})
	vlan := func(more string) string {
		return `{"network":{"provider:network_type":"vlan"` + more + `}}`
	}
	office := `,"provider:physical_network":"office"`
	for _, tc := range []struct {
		user, more string
		status     int
		code       string
	}{
		{"alice", office + `,"provider:segmentation_id":7`, 403, "PolicyNotAuthorized"},
		{"admin", `,"provider:physical_network":"moon","provider:segmentation_id":7`, 400, "InvalidInput"},
		{"admin", `,"provider:physical_network":"public","provider:segmentation_id":7`, 400, "InvalidInput"},
		{"admin", `,"provider:segmentation_id":7`, 400, "InvalidInput"},
		{"admin", office + `,"provider:segmentation_id":0`, 400, "InvalidInput"},
		{"admin", office + `,"provider:segmentation_id":4095`, 400, "InvalidInput"},
		{"admin", office, 503, "NoNetworkAvailable"},
		{"admin", "", 503, "NoNetworkAvailable"},
	} {
		if status, out := w.call(tc.user, "POST", "/networks", vlan(tc.more)); status != tc.status || refusal(out) != tc.code {
			t.Errorf("%s %q: %d %v", tc.user, tc.more, status, out)
		}
	}
	n := w.want(201, "admin", "POST", "/networks", vlan(office+`,"provider:segmentation_id":7`))["network"].(map[string]any)
	if n["provider:network_type"] != "vlan" || n["provider:physical_network"] != "office" || n["provider:segmentation_id"] != 7.0 || n["mtu"] != 1500.0 {
		t.Errorf("%v", n)
	}
	w.want(200, "admin", "PUT", "/networks/"+n["id"].(string), `{"network":{"provider:segmentation_id":7,"name":"x"}}`)
	if got := w.want(409, "admin", "POST", "/networks", vlan(office+`,"provider:segmentation_id":7`)); refusal(got) != "VlanIdInUse" {
		t.Errorf("%v", got)
	}
	w.want(201, "admin", "POST", "/networks", vlan(office+`,"provider:segmentation_id":8`))
	w.net("admin", `"provider:network_type":"flat"`+office)
	if got := w.want(409, "admin", "POST", "/networks", `{"network":{"provider:network_type":"flat"`+office+`}}`); refusal(got) != "FlatNetworkInUse" {
		t.Errorf("%v", got)
	}
}

// TestRouterOfProviderNetworkIsOnOneNode gives alice's router a leg in a VLAN.
func TestRouterOfProviderNetworkIsOnOneNode(t *testing.T) {
	w, nodes, router := wide(t)
	nodes.wire("n2", "office")
	net := w.net("admin", `"shared":true,"provider:network_type":"vlan","provider:physical_network":"office","provider:segmentation_id":7`)
	sub := w.sub("admin", net, "10.9.0.0/24", "")
	w.want(200, "admin", "PUT", "/routers/"+router+"/add_router_interface", `{"subnet_id":"`+sub+`"}`)
	at := w.gatewayAt(router)
	if at != "n2" {
		t.Errorf("the router is on %s, which has no device on its network", at)
	}
	for _, id := range []string{"n1", "n2", "n3"} {
		st := w.s.NetState(id)
		if id == at {
			if len(st.Routers) != 1 || !st.Routers[0].Central || len(st.Networks) != 4 {
				t.Errorf("%s has %+v", id, st.Routers)
			}
			continue
		}
		if len(st.Routers) != 0 {
			t.Errorf("%s has an instance of a central router", id)
		}
		for _, n := range st.Networks {
			if n.External {
				continue
			}
			if len(n.Endpoints) != 1 || n.Endpoints[0].Tunnel != tunnelOf(at) {
				t.Errorf("%s does not know where the router's leg in %s is: %+v", id, n.ID, n.Endpoints)
			}
		}
	}
	for _, n := range w.s.NetState(at).Networks {
		if n.ID == net && (n.Physical != "office" || n.VLAN != 7 || n.VNI != 0) {
			t.Errorf("the VLAN is told as %+v", n)
		}
	}
}
