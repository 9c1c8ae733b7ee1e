package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestRule(t *testing.T) {
	in := func(ether string, proto, lo, hi int) nodeapi.Rule {
		return nodeapi.Rule{Direction: "ingress", EtherType: ether, Protocol: proto, PortMin: lo, PortMax: hi}
	}
	from := func(r nodeapi.Rule, prefix string) nodeapi.Rule {
		r.RemotePrefix = netip.MustParsePrefix(prefix)
		return r
	}
	egress := in("IPv4", 17, 53, 53)
	egress.Direction = "egress"
	remote := in("IPv6", -1, -1, -1)
	remote.RemoteGroupID = "peers"
	for _, c := range []struct {
		rule nodeapi.Rule
		want string
	}{
		{in("IPv4", -1, -1, -1), "meta nfproto ipv4 accept"},
		{in("IPv4", 6, 22, 22), "meta nfproto ipv4 meta l4proto 6 th dport 22 accept"},
		{in("IPv4", 6, -1, -1), "meta nfproto ipv4 meta l4proto 6 accept"},
		{in("IPv6", 17, 1000, 2000), "meta nfproto ipv6 meta l4proto 17 th dport 1000-2000 accept"},
		{in("IPv4", 1, 8, 0), "meta nfproto ipv4 meta l4proto 1 icmp type 8 icmp code 0 accept"},
		{in("IPv4", 1, 0, -1), "meta nfproto ipv4 meta l4proto 1 icmp type 0 accept"},
		{in("IPv6", 1, 128, -1), "meta nfproto ipv6 meta l4proto 58 icmpv6 type 128 accept"},
		{in("IPv4", 47, -1, -1), "meta nfproto ipv4 meta l4proto 47 accept"},
		{from(in("IPv4", -1, -1, -1), "0.0.0.0/0"), "meta nfproto ipv4 accept"},
		{from(in("IPv4", -1, -1, -1), "10.1.2.3/8"), "meta nfproto ipv4 ip saddr 10.0.0.0/8 accept"},
		{from(egress, "8.8.8.8/32"), "meta nfproto ipv4 meta l4proto 17 th dport 53 ip daddr 8.8.8.8 accept"},
		{remote, "meta nfproto ipv6 ip6 saddr @members6-peers accept"},
	} {
		g := newGroups(&nodeapi.NetState{}, inetTable())
		if got := g.rule(&c.rule); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.rule, got, c.want)
		}
	}
}

func state(ports int) *nodeapi.NetState {
	st := &nodeapi.NetState{SecurityGroups: []nodeapi.SecurityGroup{{ID: "a", Stateful: true}, {ID: "b", Stateful: true}}}
	for i := range ports {
		st.Ports = append(st.Ports, nodeapi.Port{
			ID: fmt.Sprintf("%04d", i), NetworkID: "n", MAC: fmt.Sprintf("fa:16:3e:00:%02x:%02x", i>>8, i&255),
			FixedIPs: []nodeapi.FixedIP{{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}},
			Local:    true, AdminUp: true, PortSecurity: true, SecurityGroups: []string{"b", "a"},
		})
	}
	return st
}

// TestOneMorePortIsOneMoreElement holds the promise of the package: chains are
// shared, and a port adds elements only.
func TestOneMorePortIsOneMoreElement(t *testing.T) {
	c := NewCompiler()
	zones := map[string]uint16{"n": 1}
	old := c.Compile(state(100), zones, nil)
	now := c.Compile(state(101), zones, nil)
	script := now.Bridge.Diff(old.Bridge) + now.Inet.Diff(old.Inet)
	lines := strings.Split(strings.TrimSpace(script), "\n")
	if slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "add element ") || strings.Contains(l, ",") }) {
		t.Errorf("one more port changes more than one element of each set:\n%s", script)
	}
	again := c.Compile(state(100), zones, nil)
	if got := again.Inet.Diff(old.Inet) + again.Bridge.Diff(old.Bridge); got != "" {
		t.Errorf("taking the port away does not lead back: %s", got)
	}
}

func TestPortsThatAreNotSecured(t *testing.T) {
	st := state(3)
	st.Ports[0].AdminUp = false
	st.Ports[1].PortSecurity = false
	st.Ports[2].Local = false
	r := NewCompiler().Compile(st, nil, nil)
	if got := r.Bridge.Sets["senders"].Elements; len(got) != 1 || got["1"] != "drop" {
		t.Errorf("senders: %v", got)
	}
	if len(r.Bridge.Sets["ports"].Elements) != 2 || len(r.Inet.Sets["ingress"].Elements) != 0 {
		t.Error("a remote or unsecured port is filtered")
	}
}

func TestSourcesDoNotOverlap(t *testing.T) {
	st := state(1)
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "192.168.1.1/32"} {
		st.Ports[0].AllowedPairs = append(st.Ports[0].AllowedPairs, nodeapi.AddressPair{Prefix: netip.MustParsePrefix(p)})
	}
	r := NewCompiler().Compile(st, nil, nil)
	if got := r.Bridge.Sets["nets4"].Elements; len(got) != 1 {
		t.Errorf("nets4: %v", got)
	}
	if got := r.Bridge.Sets["src4"].Elements; len(got) != 0 {
		t.Errorf("src4: %v", got)
	}
}

func BenchmarkCompile1000Ports(b *testing.B) {
	c, st := NewCompiler(), state(1000)
	for b.Loop() {
		c.Compile(st, nil, nil)
	}
}
