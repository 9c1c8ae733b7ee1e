package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// spread is a tenant whose router joins two networks, with a server of each
// network on the first and on the second host, and the gateway on the third.
func spread(t testing.TB) *cluster {
	c := newCluster(t, 3)
	c.gateway = 2
	c.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{external(), network(1, 1), network(1, 2)},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))},
		Routers:        []nodeapi.Router{routerOf(1, 1, 2)},
	}
	c.state.Routers[0].FloatingIPs = []nodeapi.FloatingIP{floating("fip1", 51, 1, 10)}
	c.place(0, port(1, 1, 10, "open"))
	c.place(1, port(1, 2, 20, "open"))
	c.apply()
	return c
}

func TestRouterAcrossHosts(t *testing.T) {
	c := spread(t)
	a, b := c.boot(portID(1, 1, 10)), c.boot(portID(1, 2, 20))
	a.serve(7000)
	b.serve(7000)
	_, _, from := talks(t, "routed", func() (net.Conn, error) { return a.dial("10.0.2.20:7000") })
	if from != "10.0.1.10" {
		t.Errorf("the server sees %s", from)
	}
	talks(t, "routed the other way", func() (net.Conn, error) { return b.dial("10.0.1.10:7000") })
	conn, r, _ := talks(t, "a floating IP from a third host", func() (net.Conn, error) { return c.hosts[2].dial("172.24.4.51:7000") })
	for i := range 2 {
		_, _, from := talks(t, fmt.Sprintf("the floating IP from host %d", i), func() (net.Conn, error) { return c.hosts[i].dial("172.24.4.51:7000") })
		if from != hostAddr(i).String() {
			t.Errorf("the server sees %s as host %d", from, i)
		}
	}
	t.Run("trace", func(t *testing.T) { c.traces(t, a) })
	t.Run("source translation", func(t *testing.T) {
		c.sourceIs(t, 2, a, "172.24.4.51")
		c.sourceIs(t, 2, b, "172.24.4.101")
		c.sourceIs(t, 0, b, "172.24.4.101") // a host that is not the gateway's
	})
	t.Run("hairpin", func(t *testing.T) {
		talks(t, "a server to the other's floating IP", func() (net.Conn, error) { return b.dial("172.24.4.51:7000") })
		talks(t, "a server to its own", func() (net.Conn, error) { return a.dial("172.24.4.51:7000") })
	})
	t.Run("restart", func(t *testing.T) {
		for _, w := range c.hosts {
			c.must(w.Plane.Close())
			w.open()
		}
		c.apply()
		if !echoes(conn, r, "after the restart") {
			t.Error("a connection to a floating IP did not survive the restart of all nodes")
		}
	})
	t.Run("the gateway moves", func(t *testing.T) { c.failOver(t, a, b) })
}

// traces checks that the way of a port names the other nodes and finds a lost one.
func (c *cluster) traces(t *testing.T, g *guest) {
	w := g.world
	found := map[string]string{}
	for _, h := range w.Trace(t.Context(), g.port.ID) {
		found[h.Name] = h.Detail
		if !h.OK {
			t.Errorf("%s of a healthy port: %s", h.Name, h.Detail)
		}
	}
	if !strings.Contains(found["router gateway"], underlay(2).String()) || !strings.Contains(found["overlay"], "VXLAN 101") {
		t.Errorf("the trace says %q", found)
	}
	h, err := w.node.Link()
	c.must(err)
	link, err := h.LinkByName(ifname.Overlay(netID(1, 1)))
	c.must(err)
	c.must(h.LinkDel(link))
	bad := func(h Hop) bool { return h.Name == "overlay" && !h.OK }
	if !slices.ContainsFunc(w.Trace(t.Context(), g.port.ID), bad) {
		t.Error("a lost overlay is not found")
	}
	c.must(w.Plane.Apply(t.Context(), w.state)) // the same generation: verify
	if slices.ContainsFunc(w.Trace(t.Context(), g.port.ID), bad) {
		t.Error("verifying does not bring the overlay back")
	}
}

// sourceIs checks which address a server on a host sees.
func (c *cluster) sourceIs(t *testing.T, host int, g *guest, want string) {
	t.Helper()
	var l net.Listener
	c.must(c.hosts[host].host.Do(func() (err error) { l, err = net.Listen("tcp", hostAddr(host).String()+":0"); return err }))
	defer l.Close()
	conn, err := g.dial(l.Addr().String())
	if err != nil {
		t.Fatalf("%s to host %d: %v", g.port.ID, host, err)
	}
	defer conn.Close()
	s, err := l.Accept()
	c.must(err)
	defer s.Close()
	if got, _, _ := net.SplitHostPort(s.RemoteAddr().String()); got != want {
		t.Errorf("port %s comes from %s, want %s", g.port.ID, got, want)
	}
}

// failOver loses the third host: it hears no more, and its underlay is cut. The
// gateway goes to the first one, and a connection to the floating IP goes on.
func (c *cluster) failOver(t *testing.T, a, b *guest) {
	conn, r, _ := talks(t, "before", func() (net.Conn, error) { return c.hosts[1].dial("172.24.4.51:7000") })
	c.run(c.hosts[2].host, "ip", "link", "set", "eth0", "down")
	c.away[2], c.gateway = true, 0
	c.apply()
	conn.SetDeadline(time.Now().Add(4 * time.Second))
	fmt.Fprintln(conn, "still there")
	if got, err := r.ReadString('\n'); err != nil || got != "still there\n" {
		t.Errorf("a connection did not survive the move: %q, %v", got, err)
	}
	talks(t, "a new connection", func() (net.Conn, error) { return c.hosts[1].dial("172.24.4.51:7000") })
	c.sourceIs(t, 1, b, "172.24.4.101")
	// The lost host comes back with what it had, hears the news and gives up the gateway.
	c.run(c.hosts[2].host, "ip", "link", "set", "eth0", "up")
	c.away[2] = false
	c.apply()
	if out := c.run(c.hosts[2].Plane.routers["router1-0000"].ns, "ip", "-o", "link"); strings.Contains(out, "qg-") {
		t.Errorf("the former gateway kept its leg: %s", out)
	}
	talks(t, "a connection from the former gateway", func() (net.Conn, error) { return c.hosts[2].dial("172.24.4.51:7000") })
	talks(t, "routed after all", func() (net.Conn, error) { return a.dial("10.0.2.20:7000") })
}

// TestResetOfSeveralHosts leaves nothing on any of them.
func TestResetOfSeveralHosts(t *testing.T) {
	c := newCluster(t, 2)
	look := func(w *world) (out string) {
		c.must(w.host.Do(func() error { out = traces(t, w.name); return nil }))
		return out
	}
	before := []string{look(c.hosts[0]), look(c.hosts[1])}
	c.state = nodeapi.NetState{Networks: []nodeapi.Network{external(), network(1, 1)}, Routers: []nodeapi.Router{routerOf(1, 1)}}
	c.place(0, port(1, 1, 10))
	c.apply()
	for i, w := range c.hosts {
		c.must(w.Plane.Reset(context.WithoutCancel(t.Context())))
		if after := look(w); after != before[i] {
			t.Errorf("host %d before:\n%s\nafter:\n%s", i, before[i], after)
		}
	}
	c.apply() // and all of it works again
}

// TestSharedAddress has two servers on two hosts take an address from each
// other, and a floating IP that leads to it from the gateway's node.
func TestSharedAddress(t *testing.T) {
	c := spread(t)
	c.place(1, port(1, 1, 11, "open"))
	c.place(2, port(1, 2, 21, "open"))
	for i := range c.state.Ports {
		if p := &c.state.Ports[i]; p.NetworkID == netID(1, 1) {
			p.AllowedPairs = []nodeapi.AddressPair{{Prefix: netip.MustParsePrefix("10.0.1.100/32")}}
		}
	}
	c.state.Routers[0].FloatingIPs = append(c.state.Routers[0].FloatingIPs, floating("vip", 60, 1, 100))
	c.apply()
	first, second, other, far := c.boot(portID(1, 1, 10)), c.boot(portID(1, 1, 11)), c.boot(portID(1, 2, 20)), c.boot(portID(1, 2, 21))
	for _, g := range []*guest{first, second} {
		g.serve(7000)
	}
	hold := func(g *guest, verb string) {
		c.run(g.ns, "ip", "addr", verb, "10.0.1.100/32", "dev", "eth0")
		if verb == "add" {
			c.must(announce(g.ns, "eth0", g.port.MAC, []netip.Prefix{netip.MustParsePrefix("10.0.1.100/32")}))
		}
	}
	check := func(what string) {
		t.Helper()
		talks(t, what+": from another network and host", func() (net.Conn, error) { return other.dial("10.0.1.100:7000") })
		talks(t, what+": from a third host", func() (net.Conn, error) { return far.dial("10.0.1.100:7000") })
		talks(t, what+": by its floating IP", func() (net.Conn, error) { return c.hosts[0].dial("172.24.4.60:7000") })
	}
	hold(first, "add")
	talks(t, "on its network", func() (net.Conn, error) { return second.dial("10.0.1.100:7000") })
	check("first")
	hold(first, "del")
	hold(second, "add")
	talks(t, "on its network", func() (net.Conn, error) { return first.dial("10.0.1.100:7000") })
	check("second")
}
