package podnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

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
