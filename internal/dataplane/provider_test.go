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
// itself has the gateway's address.
func (c *cluster) provide() {
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
		w.device = "eth1"
		w.open()
	}
}

// TestProviderNetwork has the outside come to two hosts by a device of theirs.
func TestProviderNetwork(t *testing.T) {
	c := newCluster(t, 2)
	c.provide()
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
	world := func() (net.Conn, error) { return net.DialTimeout("tcp", "172.24.4.51:7000", time.Second) }
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
