package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// TestClusterPortsDual has ports of clusters with both families: on a network that is made for
// them, and on one that is there.
func TestClusterPortsDual(t *testing.T) {
	w, ctx := start(t), t.Context()
	who := &policy.Credentials{ProjectID: "shop"}
	four, six := netip.MustParsePrefix("10.100.0.0/16"), netip.MustParsePrefix("fd00:1::/64")
	network := func(name string, subnets ...WantedSubnet) (id string) {
		t.Helper()
		if err := w.s.MakeNetwork(ctx, who, Wanted{Name: name, Subnets: subnets}, func(_ *store.Tx, n, _ string) error { id = n; return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	has := func(v ClusterPort) (in4, in6 netip.Prefix, n int) {
		t.Helper()
		p, err := w.s.EnsureClusterPort(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range p.Addrs {
			if four.Contains(a.Addr()) {
				in4 = a
			} else if six.Contains(a.Addr()) {
				in6 = a
			}
		}
		return in4, in6, len(p.Addrs)
	}
	made := network("pods", WantedSubnet{CIDR: four}, WantedSubnet{CIDR: six, SLAAC: true})
	node := ClusterPort{ID: "g1", NetworkID: made, ProjectID: "shop", Cluster: "c1", Node: "n1", IPv6: true}
	pod := ClusterPort{ID: "p1", NetworkID: made, ProjectID: "shop", Cluster: "c1", Node: "n1", Behind: "g1", IPv6: true}
	a4, a6, n := has(node)
	b4, b6, m := has(pod)
	if n != 2 || m != 2 || a4 == b4 || a6 == b6 || a6.Bits() != 64 || a4.Bits() != 16 || !b6.IsValid() {
		t.Errorf("a node has %s and %s, its pod %s and %s", a4, a6, b4, b6)
	}
	subs := w.s.subnets.By("network", made)
	if i := slices.IndexFunc(subs, func(s *Subnet) bool { return s.version() == 6 }); i < 0 || subs[i].RAMode != modeSLAAC || subs[i].AddressMode != modeSLAAC {
		t.Errorf("servers on the network have subnets %+v", subs)
	}
	if err := w.s.DropClusterPorts(ctx, "c1", "", func(string, bool) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := w.s.DropNetwork(ctx, made, "", func(*store.Tx) error { return nil }); err != nil {
		t.Errorf("the network does not go: %v", err)
	}

	there := network("there", WantedSubnet{CIDR: four}, WantedSubnet{CIDR: six}, WantedSubnet{CIDR: netip.MustParsePrefix("10.7.0.0/16")})
	sub, err := w.s.ClusterSubnet(who, "there", "")
	if err != nil {
		t.Fatal(err)
	}
	sub6, err := w.s.ClusterSubnet6(sub.NetworkID)
	if err != nil || sub6.CIDR != six {
		t.Fatalf("its subnet for IPv6 is %+v, %v", sub6, err)
	}
	for _, dual := range []bool{true, false} {
		v := ClusterPort{ID: map[bool]string{true: "d1", false: "d2"}[dual], NetworkID: there, SubnetID: sub.ID, ProjectID: "shop", Cluster: "c1", Node: "n1"}
		if dual {
			v.SubnetID6, v.IPv6 = sub6.ID, true
		}
		if _, in6, n := has(v); in6.IsValid() != dual || n != map[bool]int{true: 2, false: 1}[dual] {
			t.Errorf("with IPv6 (%v) a port has %d addresses", dual, n)
		}
	}
	alone := network("alone", WantedSubnet{CIDR: netip.MustParsePrefix("10.8.0.0/16")})
	if _, err := w.s.ClusterSubnet6(alone); !errs.Is(err, errs.NotFound) {
		t.Errorf("a network of IPv4 alone: %v", err)
	}
}

// TestClusterGroupDual: servers of a cluster with IPv6 let it in, those of others do not.
func TestClusterGroupDual(t *testing.T) {
	w, ctx := start(t), t.Context()
	var network string
	err := w.s.MakeNetwork(ctx, &policy.Credentials{ProjectID: "shop"}, Wanted{Name: "pods", Subnets: []WantedSubnet{{CIDR: netip.MustParsePrefix("10.100.0.0/16")}, {CIDR: netip.MustParsePrefix("fd00:1::/64"), SLAAC: true}}},
		func(_ *store.Tx, id, _ string) error { network = id; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for cluster, dual := range map[string]bool{"c1": true, "c2": false} {
		if _, err := w.s.EnsureClusterPort(ctx, ClusterPort{ID: "w" + cluster, NetworkID: network, ProjectID: "shop", Cluster: cluster, Node: "n", Server: true, IPv6: dual}); err != nil {
			t.Fatal(err)
		}
		open := slices.ContainsFunc(w.s.rules.By("group", clusterGroupID(cluster)), func(r *SecurityRule) bool { return r.Direction == ingress && r.EtherType == ipv6 })
		if open != dual {
			t.Errorf("servers of %s let IPv6 in: %v", cluster, open)
		}
	}
}
