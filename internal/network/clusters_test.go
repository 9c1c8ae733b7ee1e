package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// TestClusterPorts has ports of a cluster's nodes and pods: what nodes are told of them,
// whose they are, and that nothing is left of them.
func TestClusterPorts(t *testing.T) {
	w, ctx := start(t), t.Context()
	who, network, router := &policy.Credentials{ProjectID: "shop"}, "", ""
	err := w.s.MakeNetwork(ctx, who, Wanted{Name: "pods", Subnets: []WantedSubnet{{CIDR: netip.MustParsePrefix("10.100.0.0/16")}}},
		func(_ *store.Tx, id, r string) error { network, router = id, r; return nil })
	if err != nil {
		t.Fatal(err)
	}
	node := ClusterPort{ID: "g1", NetworkID: network, ProjectID: "shop", Name: "one n1", Cluster: "c1", Node: "n1"}
	pod := ClusterPort{ID: "p1", NetworkID: network, ProjectID: "shop", Name: "default/web", Cluster: "c1", Node: "n1", Behind: "g1"}
	if _, err := w.s.EnsureClusterPort(ctx, pod); !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
		t.Errorf("a pod without a node: %v", err)
	}
	var addrs []netip.Prefix
	for range 2 { // repeated
		for _, v := range []ClusterPort{node, pod} {
			p, err := w.s.EnsureClusterPort(ctx, v)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, p.Addrs...)
		}
	}
	if len(addrs) != 4 || addrs[0] != addrs[2] || addrs[1] != addrs[3] || addrs[0] == addrs[1] || addrs[0].Bits() != 16 {
		t.Errorf("addresses: %v", addrs)
	}
	for what, v := range map[string]ClusterPort{
		"another cluster":       {ID: "p1", NetworkID: network, ProjectID: "shop", Cluster: "c2", Node: "n1", Behind: "g1"},
		"another node":          {ID: "p1", NetworkID: network, ProjectID: "shop", Cluster: "c1", Node: "n2", Behind: "g1"},
		"behind another's node": {ID: "p2", NetworkID: network, ProjectID: "shop", Cluster: "c1", Node: "n2", Behind: "g1"},
	} {
		if _, err := w.s.EnsureClusterPort(ctx, v); !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	gate, err := w.s.ports.Get("g1")
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"n1", "n2"} {
		if on == "n2" { // which has something on the network as well
			if _, err := w.s.EnsureClusterPort(ctx, ClusterPort{ID: "g2", NetworkID: network, ProjectID: "shop", Cluster: "c1", Node: "n2"}); err != nil {
				t.Fatal(err)
			}
		}
		found := false
		for _, p := range w.s.NetState(on).Ports {
			if p.ID == "p1" {
				found = true
				if p.Behind != "g1" || p.MAC != gate.MAC || p.Local != (on == "n1") || p.PortSecurity {
					t.Errorf("%s is told: %+v", on, p)
				}
			}
		}
		if !found {
			t.Errorf("%s is not told of the pod", on)
		}
	}
	if got := w.s.PodPorts("c1", "n1"); !slices.Equal(got, []string{"p1"}) || len(w.s.PodPorts("c1", "n2"))+len(w.s.PodPorts("c2", "n1")) != 0 {
		t.Errorf("pods' ports: %v", got)
	}
	way := ClusterPort{ID: "w1", NetworkID: network, ProjectID: "shop", Name: "one", Cluster: "c1", Node: "n1", Gate: true}
	for range 2 { // repeated
		if p, err := w.s.EnsureClusterPort(ctx, way); err != nil || len(p.Addrs) != 1 || slices.Contains(addrs, p.Addrs[0]) {
			t.Errorf("the control plane's port: %+v, %v", p, err)
		}
	}
	if p, err := w.s.ports.Get("w1"); err != nil || p.DeviceOwner != "container-infra:gate" || p.DeviceID != "c1" || p.Host != "n1" || p.PortSecurity {
		t.Errorf("the control plane's port is %+v, %v", p, err)
	}
	if _, err := w.s.EnsureClusterPort(ctx, ClusterPort{ID: "p3", NetworkID: network, ProjectID: "shop", Cluster: "c1", Node: "n1", Behind: "w1"}); !errs.Is(err, errs.Conflict) {
		t.Errorf("a pod behind the control plane's port: %v", err)
	}
	for _, id := range []string{"p1", "g1", "w1"} {
		if status, out := w.call("admin", "DELETE", "/ports/"+id, nil); status != 409 || refusal(out) != "ServicePortInUse" {
			t.Errorf("a user deletes %s: %d %v", id, status, out)
		}
	}
	drop := func(cluster, node string, match func(string, bool) bool) {
		t.Helper()
		if err := w.s.DropClusterPorts(ctx, cluster, node, match); err != nil {
			t.Fatal(err)
		}
	}
	all := func(string, bool) bool { return true }
	drop("c2", "n1", all)
	drop("c1", "n2", func(id string, pod bool) bool { return pod && id == "p1" })
	if len(w.s.PodPorts("c1", "n1")) != 1 {
		t.Error("another has dropped the port")
	}
	drop("c1", "n1", func(id string, _ bool) bool { return id != "w1" })
	if _, err := w.s.ports.Get("w1"); err != nil || len(w.s.PodPorts("c1", "n1")) != 0 {
		t.Errorf("a worker that leaves takes the control plane's port: %v", err)
	}
	drop("c1", "", all)
	drop("c1", "", all)
	if err := w.s.DropNetwork(ctx, network, router, func(*store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if w.s.ports.Len() != 0 {
		t.Errorf("%d ports are left", w.s.ports.Len())
	}
}

// TestClusterServerPorts: pods of a server are where the server is, which may send with their
// addresses and no others; the cluster's group goes with the last of its servers.
func TestClusterServerPorts(t *testing.T) {
	w, ctx := start(t), t.Context()
	network := ""
	err := w.s.MakeNetwork(ctx, &policy.Credentials{ProjectID: "shop"}, Wanted{Name: "pods", Subnets: []WantedSubnet{{CIDR: netip.MustParsePrefix("10.100.0.0/16")}}},
		func(_ *store.Tx, id, _ string) error { network = id; return nil })
	if err != nil {
		t.Fatal(err)
	}
	gate := ClusterPort{ID: "s1", NetworkID: network, ProjectID: "shop", Name: "one a", Cluster: "c1", Node: "one-a", Server: true}
	pod := ClusterPort{ID: "p1", NetworkID: network, ProjectID: "shop", Name: "default/web", Cluster: "c1", Node: "one-a", Behind: "s1"}
	var at []netip.Addr
	for range 2 { // repeated
		for _, v := range []ClusterPort{gate, pod} {
			p, err := w.s.EnsureClusterPort(ctx, v)
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, p.Addrs[0].Addr())
		}
		if _, err := w.s.EnsurePort(ctx, PortSpec{ID: "s1", Server: "server-1", Host: "n1", Existing: true}); err != nil { // by compute
			t.Fatal(err)
		}
	}
	for what, v := range map[string]ClusterPort{
		"another node's pod": {ID: "p2", NetworkID: network, ProjectID: "shop", Cluster: "c1", Node: "one-b", Behind: "s1"},
		"another cluster's":  {ID: "p2", NetworkID: network, ProjectID: "shop", Cluster: "c2", Node: "one-a", Behind: "s1"},
		"another's gate":     {ID: "s1", NetworkID: network, ProjectID: "shop", Cluster: "c2", Node: "one-a", Server: true},
	} {
		if _, err := w.s.EnsureClusterPort(ctx, v); !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	told := func(node string) map[string]nodeapi.Port {
		out := map[string]nodeapi.Port{}
		for _, p := range w.s.NetState(node).Ports {
			out[p.ID] = p
		}
		return out
	}
	for _, node := range []string{"n1", "n2"} { // before and after a migration
		if _, err := w.s.EnsurePort(ctx, PortSpec{ID: "s1", Server: "server-1", Host: node, Existing: true}); err != nil {
			t.Fatal(err)
		}
		p := told(node)
		if !p["s1"].Local || !p["s1"].PortSecurity || !slices.Equal(p["s1"].Routed, []netip.Addr{at[1]}) || len(p["s1"].SecurityGroups) != 1 {
			t.Errorf("%s is told of the server: %+v", node, p["s1"])
		}
		if !p["p1"].Local || p["p1"].Behind != "s1" || p["p1"].MAC != p["s1"].MAC || p["p1"].Routed != nil {
			t.Errorf("%s is told of its pod: %+v", node, p["p1"])
		}
	}
	for _, g := range w.s.NetState("n2").SecurityGroups {
		if len(g.Members) != 2 || !slices.Contains(g.Members, at[1]) {
			t.Errorf("members of the group: %v", g.Members)
		}
	}
	all := func(string, bool) bool { return true }
	if err := w.s.DropClusterPorts(ctx, "c1", "one-b", all); err != nil || w.s.groups.Len() == 0 {
		t.Errorf("another node: %v", err)
	}
	if err := w.s.DropClusterPorts(ctx, "c1", "one-a", func(_ string, pod bool) bool { return pod }); err != nil {
		t.Fatal(err)
	}
	if p := told("n2"); len(p["s1"].Routed) != 0 || p["p1"].ID != "" {
		t.Errorf("after the pod has gone: %+v", p)
	}
	if err := w.s.DropClusterPorts(ctx, "c1", "one-a", all); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.groups.Get(clusterGroupID("c1")); !errs.Is(err, errs.NotFound) || len(w.s.ports.By("worker", "c1")) != 0 {
		t.Errorf("the group is left (%v), or ports are", err)
	}
}
