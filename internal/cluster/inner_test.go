package cluster

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
)

// TestInnerNetworks has labels choose networks, and refuses what is none.
func TestInnerNetworks(t *testing.T) {
	six := func(l Labels) string {
		t.Helper()
		n, err := networksOf(l, "c1")
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(n.pods, n.services)
	}
	pods, services := localNetworks("c1")
	if other, _ := localNetworks("c2"); other == pods || pods.Bits() != 64 || services.Bits() != 108 || pods.Overlaps(services) || pods != pods.Masked() || services != services.Masked() ||
		!netip.MustParsePrefix("fd00::/8").Contains(pods.Addr()) || netip.PrefixFrom(pods.Addr(), 48).Masked() != netip.PrefixFrom(services.Addr(), 48).Masked() {
		t.Errorf("the networks of a cluster are %s and %s, of another %s", pods, services, other)
	}
	both := fmt.Sprintf("[10.100.0.0/16 %s] [10.254.0.0/16 %s]", pods, services)
	for labels, want := range map[string]string{
		`{}`:                      "[10.100.0.0/16] [10.254.0.0/16]",
		`{"ipv6_enabled":"true"}`: both,
		`{"ipv6_enabled":true}`:   both,
		`{"ipv6_enabled":"no"}`:   "[10.100.0.0/16] [10.254.0.0/16]",
		`{"flannel_network_cidr":"10.1.0.0/16,fd00:1::/64"}`:                                                       fmt.Sprintf("[10.1.0.0/16 fd00:1::/64] [10.254.0.0/16 %s]", services),
		`{"service_cluster_ip_range":"10.2.0.0/16, fd00:2::/112","ipv6_enabled":"true"}`:                           fmt.Sprintf("[10.100.0.0/16 %s] [10.2.0.0/16 fd00:2::/112]", pods),
		`{"flannel_network_cidr":"10.1.0.0/16,2001:db8::/64","service_cluster_ip_range":"10.2.0.0/16,fd00::/108"}`: "[10.1.0.0/16 2001:db8::/64] [10.2.0.0/16 fd00::/108]",

		`{"ipv6_enabled":"perhaps"}`: "Unrecognized value 'perhaps' for ipv6_enabled",
		`{"ipv6_enabled":"false","flannel_network_cidr":"10.1.0.0/16,fd00:1::/64"}`:                            "says that there is no IPv6",
		`{"flannel_network_cidr":"fd00:1::/64"}`:                                                               "no IPv4 network",
		`{"flannel_network_cidr":"fd00:1::/64,10.1.0.0/16"}`:                                                   "no IPv4 network",
		`{"flannel_network_cidr":"10.1.0.0/16,10.2.0.0/16"}`:                                                   "no IPv6 network of a /64 to a /64",
		`{"flannel_network_cidr":"10.1.0.0/16,fd00::/56"}`:                                                     "no IPv6 network of a /64 to a /64",
		`{"flannel_network_cidr":"10.1.0.0/16,fd00::1/64"}`:                                                    "no IPv6 network",
		`{"flannel_network_cidr":"10.1.0.0/16,fe80::/64"}`:                                                     "no IPv6 network",
		`{"flannel_network_cidr":"10.1.0.0/16,fd00::/64,fd01::/64"}`:                                           "no IPv6 network",
		`{"service_cluster_ip_range":"10.2.0.0/16,fd00::/64"}`:                                                 "no IPv6 network of a /108 to a /120",
		`{"flannel_network_cidr":"10.1.0.0/16,fd00::/64","service_cluster_ip_range":"10.2.0.0/16,fd00::/108"}`: "overlap",
		`{"flannel_network_cidr":6}`:                                                                           "no network",
	} {
		var l Labels
		if err := json.Unmarshal([]byte(labels), &l); err != nil {
			t.Fatal(err)
		}
		if got := six(l); got != want && (strings.HasPrefix(want, "[") || !strings.Contains(got, want)) {
			t.Errorf("%s gives %s, want %s", labels, got, want)
		}
	}
}

// TestDual has a cluster with both families, on networks of its own and on one that is there;
// others are told nothing of it.
func TestDual(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	part := func(id string) (p nodePart) {
		t.Helper()
		worker := w.svc.workers.By("cluster", id)[0]
		x := w.agents[worker.Node].has()[id]
		return nodePart{x.PodCIDR6, x.ServiceCIDR6, len(x.Worker.Pods), w.nets.ports[worker.Port]}
	}
	end := func(id string) {
		t.Helper()
		w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
		w.settled()
	}
	id := w.made(`,"name":"six","node_count":1,"labels":{"ipv6_enabled":"true"}`)
	pods, services := localNetworks(id)
	if p := part(id); p.pods != pods || p.services != services || p.n != 2 || !p.port.IPv6 || p.port.SubnetID6 != "" {
		t.Errorf("a worker is told %+v", p)
	}
	c, err := w.svc.clusters.Get(id)
	if err != nil || c.Network.CIDR6 != pods || len(w.nets.made[c.Network.ID]) != 2 || w.nets.made[c.Network.ID][1] != pods || !w.nets.ports[c.Gate].IPv6 {
		t.Errorf("its network is %+v, made of %v", c.Network, w.nets.made)
	}
	if k := w.svc.control(c); len(k.Services) != 2 || k.Services[1] != services {
		t.Errorf("services are of %v", k.Services)
	}
	end(id)

	id = w.made(`,"name":"four","node_count":1`)
	if p := part(id); p.pods.IsValid() || p.services.IsValid() || p.n != 1 || p.port.IPv6 {
		t.Errorf("without the label a worker is told %+v", p)
	}
	if raw, err := json.Marshal(w.svc.Parts(w.svc.workers.By("cluster", id)[0].Node)); err != nil || strings.Contains(string(raw), "cidr6") {
		t.Errorf("a node is told %s, %v", raw, err)
	}
	end(id)

	id = w.made(`,"name":"fixed","node_count":1,"fixed_network":"dual","labels":{"ipv6_enabled":"true"}`)
	if p := part(id); p.pods.String() != "fd00:7::/64" || p.port.SubnetID != "private-subnet" || p.port.SubnetID6 != "private-subnet6" || !p.port.IPv6 {
		t.Errorf("on a network that is there a worker is told %+v", p)
	}
	end(id)
	id = w.made(`,"name":"half","node_count":1,"fixed_network":"dual"`)
	if p := part(id); p.pods.IsValid() || p.n != 1 || p.port.SubnetID6 != "" || p.port.IPv6 {
		t.Errorf("on it without the label a worker is told %+v", p)
	}
	end(id)
	for _, bad := range []string{`"fixed_network":"private","labels":{"ipv6_enabled":"true"}`, `"fixed_network":"dual","labels":{"service_cluster_ip_range":"10.254.0.0/16,fd00:7::/108"}`,
		`"labels":{"ipv6_enabled":"maybe"}`} {
		w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`",`+bad+`}`).want(400)
	}
	w.do("owner", "1.11", "POST", "/clustertemplates", `{"coe":"kubernetes","server_type":"bm","labels":{"flannel_network_cidr":"10.1.0.0/16,fd00::/48"}}`).want(400)
}

// nodePart is what a worker is told of IPv6, and its port.
type nodePart struct {
	pods, services netip.Prefix
	n              int // of networks of pods
	port           PortSpec
}

// TestOlderLabel: a cluster that was made when the label meant nothing stays what it is.
func TestOlderLabel(t *testing.T) {
	c := &Cluster{ID: "c1", ClusterFields: ClusterFields{Labels: Labels{dualLabel: "true"}}, Network: &PodNetwork{CIDR: netip.MustParsePrefix("10.100.0.0/16")}}
	if n, err := c.inner(); err != nil || len(n.pods) != 1 || len(n.services) != 1 {
		t.Errorf("its networks are %v, %v", n, err)
	}
}
