package podnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestOwnDevice: in a server the rules are about its own network card, pods do not reach what
// is closed to them, however they get there, and leave with their own addresses.
func TestOwnDevice(t *testing.T) {
	closed := netip.MustParseAddr("169.254.169.254")
	want := nodeapi.KubePart{PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), Worker: &nodeapi.KubeWorker{Port: &nodeapi.ContainerPort{ID: "0123456789abcdef"},
		Balancers: []nodeapi.KubeBalancer{{Addr: netip.MustParseAddr("10.100.0.7"), MAC: "fa:16:3e:00:00:07", Transparent: true}}}}
	server := &live{Network: New(Config{Name: "t", Own: true, Closed: []netip.Addr{closed}}), device: "eth0", want: want, pods: map[string]*Pod{}}
	machine := &live{Network: New(Config{Name: "t", TunnelPort: 4789}), device: nodeDevice("0123456789abcdef"), want: want, pods: map[string]*Pod{}}
	for name, l := range map[string]*live{"eth0": server, "kn-0123456789a": machine} {
		table := l.compile()
		all := ""
		for _, c := range table.Chains {
			all += strings.Join(c.Rules, "\n") + "\n"
		}
		for _, rule := range []string{`iifname != "` + name + `" accept`, `iifname "` + name + `" ct state new ct mark set`, `oifname != { "` + name + `", "lo" } masquerade`} {
			if !strings.Contains(all, rule) {
				t.Errorf("%s has no rule %s in\n%s", name, rule, all)
			}
		}
		ways := table.Chains["ways"].Rules
		drop, known := slices.Index(ways, `iifname "kp-*" ip daddr 169.254.169.254 drop`), slices.Index(ways, "ct state established,related accept")
		if own := l == server; (drop >= 0) != own || drop > known || strings.Contains(all, "udp dport") == own {
			t.Errorf("%s: %q", name, ways)
		}
	}
}

// TestFamilies: without IPv6 what pods send of it ends, and no rule speaks of it otherwise; with it
// a pod sends with its addresses in the cluster's networks, and with no other that its port has.
func TestFamilies(t *testing.T) {
	pod := &Pod{KubePod: nodeapi.KubePod{Sandbox: "s", Device: "eth0"}, Ports: []cni.PortMapping{{HostPort: 80, ContainerPort: 8080}}, Port: nodeapi.ContainerPort{ID: "fedcba9876543210",
		Addrs: []netip.Prefix{netip.MustParsePrefix("fd00:9::7/64"), netip.MustParsePrefix("10.100.0.7/16"), netip.MustParsePrefix("fd00:1::7/64")}}}
	l := &live{Network: New(Config{Name: "t"}), device: "kn-0", pods: map[string]*Pod{pod.key(): pod},
		want: nodeapi.KubePart{PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), Worker: &nodeapi.KubeWorker{}}}
	if four := l.compile().Replace(); strings.Contains(four, "ip6") || strings.Contains(four, "fd00:") || !strings.Contains(four, `iifname "kp-*" meta nfproto ipv6 drop`) {
		t.Errorf("with IPv4 alone:\n%s", four)
	}
	if r := l.result(cni.Version, pod); len(r.IPs) != 1 || len(r.Routes) != 1 {
		t.Errorf("with IPv4 alone the runtime is told %+v", r)
	}
	l.want.PodCIDR6 = netip.MustParsePrefix("fd00:1::/64")
	table := l.compile()
	for set, want := range map[string]string{"pods": `"kp-fedcba98765" . 10.100.0.7`, "pods6": `"kp-fedcba98765" . fd00:1::7`, "everywhere": "tcp . 80", "everywhere6": "tcp . 80", "loops6": "fd00:1::7 . fd00:1::7"} {
		if _, ok := table.Sets[set].Elements[want]; !ok || len(table.Sets[set].Elements) != 1 {
			t.Errorf("%s has %v, want %s", set, table.Sets[set].Elements, want)
		}
	}
	if six := table.Replace(); strings.Contains(six, "nfproto ipv6 drop") || !strings.Contains(six, "ip6 saddr fd00:1::/64 ip6 daddr != fd00:1::/64 oifname != { \"kn-0\", \"lo\" } masquerade") {
		t.Errorf("with IPv6:\n%s", six)
	}
	if r := l.result(cni.Version, pod); len(r.IPs) != 2 || r.IPs[1].Address != "fd00:1::7/128" || r.IPs[1].Gateway != "fe80::1" || r.Routes[1].Dst != "::/0" {
		t.Errorf("with IPv6 the runtime is told %+v", r)
	}
}
