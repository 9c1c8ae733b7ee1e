package netpolicy

import (
	"net/netip"
	"reflect"
	"testing"
)

// TestDual has rules about pods that have both families: a rule is about one of them, or says
// nothing of either.
func TestDual(t *testing.T) {
	a := netip.MustParseAddr
	mine := []Local{{"shop", "db", "kp-db", []netip.Addr{a("10.100.0.2"), a("fd00::2")}}, {"shop", "web", "kp-web", []netip.Addr{a("10.100.0.1"), a("fd00::1")}}}
	for name, c := range map[string]struct {
		policy  string
		in, out []string // of db
	}{
		"default deny": {policy: `{"podSelector":{},"policyTypes":["Ingress","Egress"]}`, in: []string{}, out: []string{}},
		"pods of the namespace": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"podSelector":{}}]}]}`,
			in: []string{"ip saddr {10.100.0.1,10.100.0.2}", "ip6 saddr {fd00::1,fd00::2}"}},
		"pods of one family": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"ops"}}}]}]}`,
			in: []string{"ip saddr {10.100.0.4}", "ip6 saddr {}"}},
		"blocks": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}},{"ipBlock":{"cidr":"fd00::/8","except":["fd00:1::/64","fd00:1::/80"]}}],"ports":[{"port":53,"protocol":"UDP"}]}]}`,
			out: []string{"ip daddr 10.0.0.0/8 meta l4proto udp th dport 53", "ip6 daddr fd00::/8 ip6 daddr != fd00:1::/64 meta l4proto udp th dport 53"}},
		"a port": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"ports":[{"port":1}]}]}`, in: []string{"meta l4proto tcp th dport 1"}},
		"a named port": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"ports":[{"port":"sql"}]}]}`,
			in: []string{"meta l4proto tcp ip daddr . th dport {10.100.0.2 . 5432}", "meta l4proto tcp ip6 daddr . th dport {fd00::2 . 5432}"}},
		"a named port for a block": {policy: `{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"ipBlock":{"cidr":"fd00::/8"}}],"ports":[{"port":"sql"}]}]}`,
			in: []string{"ip6 saddr fd00::/8 meta l4proto tcp ip6 daddr . th dport {fd00::2 . 5432}"}},
	} {
		table := Compile("t", state(t).with(t, c.policy), mine, true)
		if got := rules(t, table, "in", "kp-db"); !reflect.DeepEqual(got, c.in) {
			t.Errorf("%s: to db pass %q, want %q", name, got, c.in)
		}
		if got := rules(t, table, "out", "kp-db"); !reflect.DeepEqual(got, c.out) {
			t.Errorf("%s: from db pass %q, want %q", name, got, c.out)
		}
	}
}
