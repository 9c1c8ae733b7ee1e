package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// provide gives each host a device eth1 on a provider's network, where the test
// itself has the gateway's address, and makes its Plane anew.
func (c *cluster) provide(configure func(w *world)) {
	root, err := netns.Current()
	c.must(err)
	h, err := root.Link()
	c.must(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "provider"
	c.must(h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	bridge, err := h.LinkByName("provider")
	c.must(err)
	c.must(h.LinkSetUp(bridge))
	_, err = ensureAddrs(root, bridge, []netip.Prefix{netip.MustParsePrefix("172.24.4.1/24")})
	c.must(err)
	c.Cleanup(func() {
		h.LinkDel(bridge)
		root.Close()
	})
	for i, w := range c.hosts {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = fmt.Sprintf("wire%d", i), bridge.Attrs().Index
		c.must(h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth1", PeerNamespace: netlink.NsFd(w.host.FD())}))
		wire, err := h.LinkByName(attrs.Name)
		c.must(err)
		c.must(h.LinkSetUp(wire))
		c.Cleanup(func() { h.LinkDel(wire) })
		c.run(w.host, "ip", "link", "set", "eth1", "up")
		configure(w)
		w.open()
	}
}

// TestProviderNetwork has the outside come to two hosts by a device of theirs.
func TestProviderNetwork(t *testing.T) {
	c := newCluster(t, 2)
	c.provide(func(w *world) { w.device = "eth1" })
	before := c.run(c.hosts[0].host, "ip", "-o", "link", "show", "eth1")
	c.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{external(), network(1, 1)},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))},
		Routers:        []nodeapi.Router{routerOf(1, 1)},
	}
	c.state.Routers[0].FloatingIPs = []nodeapi.FloatingIP{floating("fip1", 51, 1, 10)}
	c.place(1, port(1, 1, 10, "open"))
	c.apply()
	a := c.boot(portID(1, 1, 10))
	a.serve(7000)
	// Longer than until the first packet is sent again, which a switch may lose as the gateway
	// moves, and far shorter than until switches forget by themselves.
	world := func() (net.Conn, error) { return net.DialTimeout("tcp", "172.24.4.51:7000", 10*time.Second) }
	_, _, from := talks(t, "the floating IP from the provider's network", world)
	if from != "172.24.4.1" {
		t.Errorf("the server sees %s", from)
	}
	sourceIs(t, c.hosts[1], a, "172.24.4.51")
	if out := c.run(c.hosts[0].host, "ip", "-o", "addr"); strings.Contains(out, "172.24.4.") {
		t.Errorf("the host has an address outside: %s", out)
	}
	t.Run("the gateway moves", func(t *testing.T) {
		// The MAC stays and its place changes: the announcement tells the provider's switches.
		c.gateway = 1
		c.apply()
		talks(t, "the floating IP at its new place", world)
	})
	for _, w := range c.hosts {
		c.must(w.Plane.Reset(context.WithoutCancel(t.Context())))
	}
	if after := c.run(c.hosts[0].host, "ip", "-o", "link", "show", "eth1"); after != before {
		t.Errorf("the device came back as\n%s and was\n%s", after, before)
	}
}

// TestServersOnProviderNetwork has servers on a flat network that two hosts share
// by their devices, and a router, which is on one host, to a network of a tenant.
func TestServersOnProviderNetwork(t *testing.T) {
	c := newCluster(t, 2)
	c.provide(func(w *world) { w.providers = map[string]string{"office": "eth1"} })
	c.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{network(1, 1), network(1, 2)},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))},
		Routers:        []nodeapi.Router{routerOf(1, 1, 2)},
	}
	office := &c.state.Networks[1]
	office.VNI, office.Physical = 0, "office"
	c.state.Routers[0].Gateway, c.state.Routers[0].Central = nil, true
	c.place(0, port(1, 2, 10, "open"))
	c.place(1, port(1, 2, 11, "open"))
	c.place(1, port(1, 1, 12, "open"))
	root, err := netns.Current()
	c.must(err)
	defer root.Close()
	seen := c.capture(root, "wire1", 0x0800)
	c.apply()
	a, b, inner := c.boot(portID(1, 2, 10)), c.boot(portID(1, 2, 11)), c.boot(portID(1, 1, 12))
	for _, g := range []*guest{a, b, inner} {
		g.serve(7000)
	}
	for _, f := range udp(seen.seen(), 67) {
		t.Errorf("DHCP crossed the provider's network: % x", f)
	}
	talks(t, "on the provider's network", func() (net.Conn, error) { return a.dial("10.0.2.11:7000") })
	talks(t, "from a tenant's network", func() (net.Conn, error) { return inner.dial("10.0.2.11:7000") })
	talks(t, "into a tenant's network", func() (net.Conn, error) { return b.dial("10.0.1.12:7000") })
	talks(t, "by way of the overlay", func() (net.Conn, error) { return a.dial("10.0.1.12:7000") })
	t.Run("VLAN", func(t *testing.T) { c.tagged(t) })
}

// tagged puts the servers' network on a VLAN. A kernel without VLANs says so, and
// no other network is hurt.
func (c *cluster) tagged(t *testing.T) {
	c.state.Networks[1].VLAN = 7
	c.state.Gen++
	w := c.hosts[0]
	w.state = c.view(0)
	if err := w.Plane.Apply(t.Context(), w.state); err != nil {
		if !strings.Contains(err.Error(), "no VLAN devices") {
			t.Fatal(err)
		}
		if _, ok := w.Plane.bridges[netID(1, 1)]; !ok {
			t.Error("a network without a VLAN is hurt")
		}
		t.Logf("the refusal is what was tested: %v", err)
		return
	}
	c.apply()
	seen := c.capture(c.hosts[1].node, "eth1", 0x8100)
	g := c.hosts[0].guests[portID(1, 2, 10)]
	talks(t, "on a VLAN", func() (net.Conn, error) { return g.dial("10.0.2.11:7000") })
	if len(seen.seen()) == 0 {
		t.Error("no tagged frame was seen")
	}
}

func TestWire(t *testing.T) {
	p, err := New(Config{Name: "x", Host: &netns.NS{}, Providers: map[string]string{"office": "eth1"},
		External: []External{{CIDR: netip.MustParsePrefix("172.24.4.0/24"), Device: "eth2"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		n           nodeapi.Network
		want        wire
		ok, missing bool
	}{
		"overlay":          {n: nodeapi.Network{ID: "n", VNI: 5}},
		"flat":             {n: nodeapi.Network{ID: "n", Physical: "office"}, want: wire{device: "eth1", port: "eth1"}, ok: true},
		"VLAN":             {n: nodeapi.Network{ID: "n", Physical: "office", VLAN: 7}, want: wire{device: "eth1", vlan: 7, port: "vl-n"}, ok: true},
		"flat, no device":  {n: nodeapi.Network{ID: "n", Physical: "home"}},
		"VLAN, no device":  {n: nodeapi.Network{ID: "n", Physical: "home", VLAN: 7}, missing: true},
		"outside":          {n: external(), want: wire{device: "eth2", port: "eth2"}, ok: true},
		"outside, on VLAN": {n: nodeapi.Network{ID: "n", External: true, Physical: "office", VLAN: 8}, want: wire{device: "eth1", vlan: 8, port: "vl-n"}, ok: true},
	} {
		if w, ok, missing := p.wire(tc.n); w != tc.want || ok != tc.ok || missing != tc.missing {
			t.Errorf("%s: %+v %v %v", name, w, ok, missing)
		}
	}
}
