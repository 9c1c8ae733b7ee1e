package network

import (
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// TestVIPs has the port of a load balancer open to everybody, and no other one that
// somebody makes look like it.
func TestVIPs(t *testing.T) {
	w, ctx := start(t), t.Context()
	made := func(what, body string, args ...any) string {
		return w.make("alice", what, "/"+what+"s", body, args...)["id"].(string)
	}
	net := made("network", `"name":"n"`)
	sub := made("subnet", `"network_id":"%s","ip_version":4,"cidr":"10.0.0.0/24"`, net)
	forged := made("port", `"network_id":"%s","security_groups":[],"device_owner":"Octavia","device_id":"lb-x"`, net)
	kept := made("port", `"network_id":"%s","security_groups":[]`, net)
	port, err := w.s.ports.Get(kept)
	if err != nil {
		t.Fatal(err)
	}
	project := port.ProjectID
	take := func(id string, existing bool) error {
		return w.s.TakeVIP(ctx, VIPSpec{PortID: id, NetworkID: net, At: []nodeapi.FixedIP{{SubnetID: sub}}, Existing: existing, LoadBalancer: "x", ProjectID: project, Node: "n1"}, func(*store.Tx, []nodeapi.FixedIP) error { return nil })
	}
	secure := func(id string) bool {
		t.Helper()
		for _, p := range w.s.NetState("n1").Ports {
			if p.ID == id {
				return p.PortSecurity
			}
		}
		t.Fatalf("the node is not told of %s", id)
		return false
	}
	for id, existing := range map[string]bool{"made": false, kept: true} {
		if err := take(id, existing); err != nil {
			t.Fatal(err)
		}
		if secure(id) {
			t.Errorf("%s is not open", id)
		}
	}
	if !secure(forged) {
		t.Error("a port that only looks like a load balancer's is open")
	}
	if status, out := w.call("alice", "PUT", "/ports/"+kept, map[string]any{"port": map[string]any{"device_id": "server"}}); status != 200 {
		t.Fatal(status, out)
	}
	if !secure(kept) {
		t.Error("a port that is no load balancer's any more is open")
	}
	six := made("subnet", `"network_id":"%s","ip_version":6,"cidr":"fd00:7::/64","ipv6_address_mode":"slaac","ipv6_ra_mode":"slaac"`, net)
	two := VIPSpec{PortID: "two", NetworkID: net, At: []nodeapi.FixedIP{{SubnetID: six}, {SubnetID: sub, Addr: netip.MustParseAddr("10.0.0.77")}}, LoadBalancer: "y", ProjectID: project, Node: "n1"}
	if err := w.s.TakeVIP(ctx, two, func(_ *store.Tx, at []nodeapi.FixedIP) error {
		if len(at) != 2 || !netip.MustParsePrefix("fd00:7::/64").Contains(at[0].Addr) || at[1] != two.At[1] {
			t.Errorf("on two subnets: %v", at)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if status, out := w.call("admin", "PUT", "/quotas/"+project, map[string]any{"quota": map[string]any{"port": 4}}); status != 200 {
		t.Fatal(status, out)
	}
	if err := take("more", false); !errs.Is(err, errs.QuotaExceeded) {
		t.Errorf("over the quota of ports: %v", err)
	}
}
