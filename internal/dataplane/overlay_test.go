package dataplane

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const etherARP = 0x0806

// TestNetworkAcrossHosts has two tenants with the same addresses on two hosts.
func TestNetworkAcrossHosts(t *testing.T) {
	c := newCluster(t, 2)
	peers := group("peers", ingress(-1, -1, -1))
	peers.Rules[2].RemoteGroupID = "peers"
	peers.Members = []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.1.11")}
	c.state.SecurityGroups = []nodeapi.SecurityGroup{peers, group("none")}
	for tenant := 1; tenant <= 2; tenant++ {
		c.state.Networks = append(c.state.Networks, network(tenant, 1))
		c.place(0, port(tenant, 1, 10, "peers"))
		c.place(1, port(tenant, 1, 11, "peers"))
		c.place(1, port(tenant, 1, 12, "none"))
	}
	c.apply()
	dhcp := c.capture(c.hosts[0].node, ifname.Overlay(netID(1, 1)), 0x0800)
	a, b, other := c.boot(portID(1, 1, 10)), c.boot(portID(1, 1, 11)), c.boot(portID(1, 1, 12))
	foreign := c.boot(portID(2, 1, 11))
	for _, f := range udp(dhcp.seen(), 67) {
		t.Errorf("DHCP crossed: % x", f)
	}
	b.serve(7000)
	foreign.serve(7001)
	arp := c.capture(c.hosts[1].node, ifname.Overlay(netID(1, 1)), etherARP)

	a.reaches("10.0.1.11")
	talks(t, "across hosts", func() (net.Conn, error) { return a.dial("10.0.1.11:7000") })
	if _, err := a.dial("10.0.1.11:7001"); err == nil {
		t.Error("one tenant reaches another tenant's server")
	}
	t.Run("remote group", func(t *testing.T) {
		other.blocked("10.0.1.10")
		b.reaches("10.0.1.10")
	})
	t.Run("questions stay home", func(t *testing.T) {
		for _, f := range arp.seen() {
			t.Errorf("ARP crossed: % x", f)
		}
	})
	t.Run("broadcast", func(t *testing.T) {
		f := c.capture(c.hosts[1].node, ifname.Overlay(netID(1, 1)), 0x0800)
		a.ns.Do(exec.Command("ping", "-n", "-b", "-c", "1", "-W", "0.1", "10.0.1.255").Run)
		c.hosts[1].eventually("a broadcast to cross", func() bool { return len(f.seen()) > 0 })
	})
	t.Run("spoofing", func(t *testing.T) {
		f := c.capture(c.hosts[0].node, ifname.Overlay(netID(1, 1)), 0x0800)
		c.must(other.ns.Do(exec.Command("ip", "addr", "add", "10.0.1.11/24", "dev", "eth0").Run))
		other.ns.Do(exec.Command("ping", "-n", "-c", "1", "-W", "0.3", "-I", "10.0.1.11", "10.0.1.10").Run)
		if got := f.seen(); len(got) > 0 {
			t.Errorf("a foreign source crossed: % x", got[0])
		}
	})
	t.Run("a server moves", func(t *testing.T) {
		b.close()
		c.at[portID(1, 1, 11)] = 0
		c.apply()
		moved := c.boot(portID(1, 1, 11))
		moved.serve(7000)
		talks(t, "to its new host", func() (net.Conn, error) { return a.dial("10.0.1.11:7000") })
	})
}

// TestRestartAcrossHosts closes one Plane and makes another over its kernel state.
func TestRestartAcrossHosts(t *testing.T) {
	c := newCluster(t, 2)
	c.state = nodeapi.NetState{Networks: []nodeapi.Network{network(1, 1)}, SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))}}
	c.place(0, port(1, 1, 10, "open"))
	c.place(1, port(1, 1, 11, "open"))
	c.place(1, port(1, 1, 12, "open"))
	c.apply()
	a, b := c.boot(portID(1, 1, 10)), c.boot(portID(1, 1, 11))
	b.serve(7000)
	conn, r, _ := talks(t, "before", func() (net.Conn, error) { return a.dial("10.0.1.11:7000") })
	w := c.hosts[0]
	vx := ifname.Overlay(netID(1, 1))
	index := func() int {
		h, err := w.node.Link()
		c.must(err)
		link, err := h.LinkByName(vx)
		c.must(err)
		return link.Attrs().Index
	}
	before := index()
	// Somebody meddles, and a port goes while the process is down.
	bridge := ifname.Bridge(netID(1, 1))
	c.run(w.node, "bridge", "fdb", "append", "00:00:00:00:00:00", "dst", "192.0.2.77", "dev", vx)
	c.run(w.node, "bridge", "link", "set", "dev", vx, "learning", "on")
	c.run(w.node, "ip", "neigh", "del", "10.0.1.11", "dev", bridge)
	c.must(w.Plane.Close())
	if !echoes(conn, r, "while it is down") {
		t.Fatal("a connection did not survive Close")
	}
	c.state.Ports = c.state.Ports[:2]
	w.open()
	c.apply()
	if !echoes(conn, r, "after the restart") {
		t.Fatal("a connection did not survive the restart")
	}
	if index() != before {
		t.Error("the restart made another VXLAN device")
	}
	out := c.run(w.node, "bridge", "fdb", "show") + c.run(w.node, "ip", "neigh", "show", "dev", bridge)
	for _, gone := range []string{"192.0.2.77", port(1, 1, 12).MAC, "10.0.1.12 "} {
		if strings.Contains(out, gone) {
			t.Errorf("%s is still there:\n%s", gone, out)
		}
	}
	if !strings.Contains(out, "10.0.1.11 lladdr "+b.port.MAC+" PERMANENT") {
		t.Errorf("a neighbour that was taken away is not back:\n%s", out)
	}
	if out := c.run(w.node, "bridge", "-d", "link", "show", "dev", vx); !strings.Contains(out, "learning off") || !strings.Contains(out, "neigh_suppress on") {
		t.Errorf("the overlay's port is not as it was: %s", out)
	}
}
