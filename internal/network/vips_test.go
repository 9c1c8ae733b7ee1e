package network

import (
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
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
		return w.s.TakeVIP(ctx, VIPSpec{PortID: id, NetworkID: net, SubnetID: sub, Existing: existing, LoadBalancer: "x", ProjectID: project, Node: "n1"}, func(*store.Tx, string) error { return nil })
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
	if status, out := w.call("admin", "PUT", "/quotas/"+project, map[string]any{"quota": map[string]any{"port": 3}}); status != 200 {
		t.Fatal(status, out)
	}
	if err := take("more", false); !errs.Is(err, errs.QuotaExceeded) {
		t.Errorf("over the quota of ports: %v", err)
	}
}
