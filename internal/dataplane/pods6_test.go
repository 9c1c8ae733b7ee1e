package dataplane

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// pods6 is the network of pods for IPv6. Nobody advertises it.
var pods6 = netip.MustParsePrefix("fd00:1::/64")

// family6 gives the network a subnet for IPv6.
func (w *workers) family6() {
	if !w.dual {
		return
	}
	n := &w.state.Networks[0]
	n.Subnets = append(n.Subnets, nodeapi.Subnet{ID: "v6", CIDR: pods6, Gateway: pods6.Addr().Next()})
	open6 := ingress(-1, -1, -1)
	open6.EtherType = "IPv6"
	w.state.SecurityGroups[0].Rules = append(w.state.SecurityGroups[0].Rules, open6)
}

// with6 gives a port the address whose last part is that of its IPv4 one.
func (w *workers) with6(p nodeapi.Port) nodeapi.Port {
	if w.dual {
		p.FixedIPs = append(p.FixedIPs, nodeapi.FixedIP{SubnetID: "v6", Addr: netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", p.FixedIPs[0].Addr.As4()[3]))})
	}
	return p
}

// TestPodsDual has pods with both families on two hosts: who reaches whom by IPv6, and whom
// they see; IPv4 is as it was.
func TestPodsDual(t *testing.T) {
	w := newWorkersOf(t, nil, true)
	a, b, c := w.add(0, "a"), w.add(1, "b"), w.add(0, "c")
	one, two := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11))
	for _, g := range []*guest{one, two} {
		w.run(g.ns, "ip", "addr", "add", g.port.FixedIPs[1].Addr.String()+"/64", "dev", "eth0", "nodad")
		g.serve(7000)
	}
	w.serve(a, b, c)
	nodes := []string{"fd00:1::5", "fd00:1::6"}
	for what, x := range map[string]struct {
		from         *netns.NS
		to, expected string
	}{
		"pod to pod on another node":  {a.ns, b.addr6, a.addr6},
		"and back":                    {b.ns, a.addr6, b.addr6},
		"pod to pod on its node":      {a.ns, c.addr6, a.addr6},
		"pod to its node":             {a.ns, nodes[0], a.addr6},
		"pod to another node":         {a.ns, nodes[1], a.addr6},
		"node to its pod":             {w.hosts[0].host, a.addr6, nodes[0]},
		"node to another's pod":       {w.hosts[0].host, b.addr6, nodes[0]},
		"node to node":                {w.hosts[0].host, nodes[1], nodes[0]},
		"pod to a server of its node": {a.ns, "fd00:1::10", a.addr6},
		"pod to a server elsewhere":   {a.ns, "fd00:1::11", a.addr6},
		"server to a pod of its node": {one.ns, a.addr6, "fd00:1::10"},
		"server to a pod elsewhere":   {two.ns, a.addr6, "fd00:1::11"},
	} {
		if got := w.sees(what, x.from, "["+x.to+"]:7000"); got != x.expected {
			t.Errorf("%s: it is seen as %s, want %s", what, got, x.expected)
		}
	}
	if got := w.sees("IPv4", a.ns, b.addr+":7000"); got != a.addr {
		t.Errorf("by IPv4 it is seen as %s, want %s", got, a.addr)
	}
	if _, err := a.cni("CHECK"); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	t.Run("forged sources", func(t *testing.T) {
		w.run(a.ns, "ip", "addr", "add", c.addr6+"/128", "dev", "eth0", "nodad")
		if err := a.ns.Do(exec.Command("ping", "-n", "-c", "1", "-W", "0.3", "-I", c.addr6, b.addr6).Run); err == nil {
			t.Error("a pod speaks with another's address")
		}
		w.run(a.ns, "ip", "addr", "del", c.addr6+"/128", "dev", "eth0")
	})
	t.Run("a node routes for pods alone", func(t *testing.T) {
		w.run(w.hosts[0].host, "ip", "addr", "add", "2001:db8::1/64", "dev", "lo")
		w.run(w.hosts[1].host, "ip", "addr", "add", "2001:db8:1::2/64", "dev", "lo")
		w.run(w.hosts[0].host, "ip", "route", "add", "2001:db8:1::/64", "via", nodes[1])
		w.run(one.ns, "ip", "route", "add", "2001:db8:1::/64", "via", nodes[0])
		if ping(one.ns, "2001:db8:1::2", 0) {
			t.Error("a server reaches through a node what is not the cluster's")
		}
	})
	t.Run("the world", func(t *testing.T) { w.world6(t, a) })
	t.Run("ports of a node", func(t *testing.T) { w.published6(t, a, b, nodes) })
	t.Run("services", func(t *testing.T) { w.services6(t, a, b, nodes) })
	t.Run("agents", func(t *testing.T) { w.agents6(t, a, b, one) })
}

// world6 has a pod reach what its machine does, with its machine's address, and not be left
// waiting for what that does not.
func (w *workers) world6(t *testing.T, a *pod) {
	for i, h := range w.hosts {
		w.must(h.host.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "0"))
		w.run(h.host, "ip", "addr", "add", fmt.Sprintf("2001:db8:9::%d/64", i+1), "dev", "eth0", "nodad")
	}
	if got := w.sees("the world", a.ns, "[2001:db8:9::2]:7000"); got != "2001:db8:9::1" {
		t.Errorf("the world sees %s", got)
	}
	var out []byte
	began := time.Now()
	_ = a.ns.Do(func() (err error) {
		out, err = exec.Command("ping", "-n", "-c", "1", "-W", "2", "2001:db8:ffff::1").CombinedOutput()
		return err
	})
	if !strings.Contains(string(out), "nreachable") || time.Since(began) > time.Second {
		t.Errorf("what has no way: after %v\n%s", time.Since(began), out)
	}
}

func (w *workers) published6(t *testing.T, a, b *pod, nodes []string) {
	p := w.sandbox(0, "p")
	out, err := p.cni("ADD", "runtimeConfig", `{"portMappings":[{"hostPort":8080,"containerPort":7000,"protocol":"tcp"},{"hostPort":8081,"containerPort":7000,"protocol":"TCP","hostIP":"::"},{"hostPort":8082,"containerPort":7000,"hostIP":"0.0.0.0"}]}`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.hosts[0].serveIn(p.ns, 7000)
	for what, x := range map[string]struct {
		from         *netns.NS
		to, expected string
	}{
		"from another machine": {w.hosts[1].host, "[" + nodes[0] + "]:8080", nodes[1]},
		"of IPv6 alone":        {w.hosts[1].host, "[" + nodes[0] + "]:8081", nodes[1]},
		"from a pod beside it": {a.ns, "[" + nodes[0] + "]:8080", a.addr6},
		"from a pod elsewhere": {b.ns, "[" + nodes[0] + "]:8080", b.addr6},
		"from the pod itself":  {p.ns, "[" + nodes[0] + "]:8080", nodes[0]},
		"by IPv4":              {w.hosts[1].host, "192.0.2.1:8080", "192.0.2.2"},
	} {
		if got := w.sees(what, x.from, x.to); got != x.expected {
			t.Errorf("%s: it is seen as %s, want %s", what, got, x.expected)
		}
	}
	for _, not := range []string{"[" + nodes[0] + "]:8082", "192.0.2.1:8081"} {
		if c, err := w.hosts[1].dial(not); err == nil {
			c.Close()
			t.Errorf("a port of one family is at %s", not)
		}
	}
	if _, err := p.cni("DEL"); err != nil {
		t.Error(err)
	}
	if proxies := w.run(w.hosts[0].host, "ip", "-6", "neigh", "show", "proxy"); strings.Count(proxies, "fd00:1::") != 2 {
		t.Errorf("of a pod that is gone there is %s", proxies)
	}
}

// services6 has rules like kube-proxy's lead to a pod.
func (w *workers) services6(t *testing.T, a, b *pod, nodes []string) {
	for _, h := range w.hosts {
		w.run(h.host, "nft", "add table ip6 svc; add chain ip6 svc pre { type nat hook prerouting priority -100; }; add chain ip6 svc out { type nat hook output priority -100; };"+
			"add rule ip6 svc pre ip6 daddr fd00:254::1 tcp dport 80 dnat to ["+b.addr6+"]:7000; add rule ip6 svc out ip6 daddr fd00:254::1 tcp dport 80 dnat to ["+b.addr6+"]:7000")
	}
	for what, x := range map[string]struct {
		from     *netns.NS
		expected string
	}{"a pod": {a.ns, a.addr6}, "a node": {w.hosts[0].host, nodes[0]}, "its own node": {w.hosts[1].host, nodes[1]}} {
		if got := w.sees("a service from "+what, x.from, "[fd00:254::1]:80"); got != x.expected {
			t.Errorf("a service from %s: it is seen as %s, want %s", what, got, x.expected)
		}
	}
}

// agents6 has an agent start anew, answer again for pods when their place is made anew, and
// leave nothing.
func (w *workers) agents6(t *testing.T, a, b *pod, one *guest) {
	host := w.hosts[0].host
	w.nets[0].Close()
	w.run(host, "ip", "link", "del", "kn-"+gate(0).ID[:11])
	w.open(0)
	w.run(one.ns, "ip", "-6", "neigh", "flush", "dev", "eth0")
	if !ping(one.ns, a.addr6, time.Second) || !ping(a.ns, b.addr6, time.Second) {
		t.Error("after the node's place was made anew its pods are not reached")
	}
	w.must(w.nets[0].Remove(t.Context(), "c1"))
	links, tables, on := w.run(host, "ip", "link"), w.run(host, "nft", "list", "tables"), w.run(host, "sysctl", "-n", "net.ipv6.conf.all.forwarding")
	if strings.Contains(links, "kp-") || strings.Contains(links, "kn-") || strings.Contains(tables, "strata-pods") || strings.TrimSpace(on) != "0" {
		t.Errorf("there are left:\n%s%sforwarding %s", links, tables, on)
	}
}
