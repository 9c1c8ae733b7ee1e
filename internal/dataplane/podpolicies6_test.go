package dataplane

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestPodPoliciesDual has policies hold in both families, also for what names one alone.
func TestPodPoliciesDual(t *testing.T) {
	needs.Root(t, "this test")
	api := newClusterAPI(t)
	w := newWorkersOf(t, api, true)
	pods := map[string]*pod{}
	for name, host := range map[string]int{"a": 0, "b": 1, "c": 0} {
		api.pod(name)
		pods[name] = w.add(host, name)
		api.pod(name, pods[name].addr, pods[name].addr6)
		for _, port := range []int{7000, 7001} {
			w.hosts[0].serveIn(pods[name].ns, port)
		}
	}
	dial := func(from, to string, port int, six bool) error {
		ns := w.hosts[1].host // of b's node
		if from != "" {
			ns = pods[from].ns
		}
		at := pods[to].addr
		if six {
			at = pods[to].addr6
		}
		return ns.Do(func() error {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(at, fmt.Sprint(port)), 300*time.Millisecond)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	reach := func(what string, v4, v6 bool, from, to string, port int) {
		t.Helper()
		for six, want := range map[bool]bool{false: v4, true: v6} {
			w.hosts[0].eventually(fmt.Sprintf("%s: %q to %s port %d by IPv6 (%v): %v", what, from, to, port, six, want),
				func() bool { return (dial(from, to, port, six) == nil) == want })
		}
	}
	reach("no policy", true, true, "a", "b", 7000)
	api.policy("deny", `{"podSelector":{},"policyTypes":["Ingress"]}`)
	reach("default deny", false, false, "a", "b", 7000)
	reach("default deny, on one node", false, false, "a", "c", 7000)
	reach("its node's probe", true, true, "", "b", 7000)
	api.policy("allow", `{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"a"}}}],"ports":[{"port":"web"}]}]}`)
	reach("allowed", true, true, "a", "b", 7000)
	reach("another port", false, false, "a", "b", 7001)
	reach("another pod", false, false, "c", "b", 7000)
	api.policy("allow", `{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"ipBlock":{"cidr":"fd00:1::/64"}}]}]}`)
	reach("a block of IPv6", false, true, "c", "b", 7001)
	api.policy("allow", `{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.1.0/24"}}]}]}`)
	reach("a block of IPv4", true, false, "c", "b", 7001)
	api.put(apiPolicies, "deny", "")
	api.put(apiPolicies, "allow", "")
	api.policy("egress", fmt.Sprintf(`{"podSelector":{"matchLabels":{"app":"a"}},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"fd00::/8","except":["%s/128"]}}]}]}`, pods["c"].addr6))
	reach("egress by IPv6 alone", false, true, "a", "b", 7000)
	reach("egress, excepted", false, false, "a", "c", 7000)
	reach("egress of another", true, true, "c", "a", 7000)
}
