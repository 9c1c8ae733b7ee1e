package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
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
