package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// slaac gives the n-th network of the state fd00:n::/64, the router an address
// on it, and each port there the one of its MAC.
func slaac(st *nodeapi.NetState, n int) {
	a := func(last string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:%d::%s", n, last)) }
	x := &st.Networks[n]
	x.Subnets = append(x.Subnets, nodeapi.Subnet{ID: "v6", CIDR: netip.PrefixFrom(a(""), 64), Gateway: a("1"), DHCP: true,
		IPv6AddressMode: "slaac", IPv6RAMode: "slaac", ServiceAddr: a("2"), RouterAddr: a("1")})
	x.ServiceAddrs = append(x.ServiceAddrs, netip.PrefixFrom(a("2"), 64))
	leg := &st.Routers[0].Interfaces[n-1]
	leg.Addrs = append(leg.Addrs, netip.PrefixFrom(a("1"), 64))
	for i := range st.Ports {
		p := &st.Ports[i]
		mac, _ := net.ParseMAC(p.MAC)
		if p.NetworkID == x.ID {
			p.FixedIPs = append(p.FixedIPs, nodeapi.FixedIP{SubnetID: "v6", Addr: segment.EUI64(netip.PrefixFrom(a(""), 64), mac)})
		}
	}
}

func TestIPv6AcrossHosts(t *testing.T) {
	c := spread(t)
	c.place(1, port(1, 1, 11, "open"))
	slaac(&c.state, 1)
	slaac(&c.state, 2)
	open6 := ingress(-1, -1, -1)
	open6.EtherType = "IPv6"
	c.state.SecurityGroups[0].Rules = append(c.state.SecurityGroups[0].Rules, open6)
	g := c.state.Routers[0].Gateway
	g.Addrs = append(g.Addrs, netip.MustParsePrefix("2001:db8::101/64"))
	g.NextHops = append(g.NextHops, netip.MustParseAddr("2001:db8::1"))
	c.apply()
	nd := c.capture(c.hosts[0].node, ifname.Overlay(netID(1, 1)), 0x86dd)
	addr := func(p nodeapi.Port) string { return p.FixedIPs[1].Addr.String() }
	boot := func(id string) *guest {
		g := c.boot(id)
		g.eventually("an address by router advertisement", func() bool { return g.has(addr(g.port)) })
		return g
	}
	a, b, same := boot(portID(1, 1, 10)), boot(portID(1, 2, 20)), boot(portID(1, 1, 11))
	for _, s := range []*guest{a, b, same} {
		s.serve(7000)
	}
	dial := func(from *guest, to *guest) func() (net.Conn, error) {
		return func() (net.Conn, error) { return from.dial("[" + addr(to.port) + "]:7000") }
	}
	talks(t, "on one network", dial(a, same))
	talks(t, "routed", dial(a, b))
	talks(t, "routed the other way", dial(b, a))
	for _, f := range nd.seen() {
		if len(f) > 54 && f[20] == 58 && f[54] >= 133 && f[54] <= 136 {
			t.Errorf("neighbour or router discovery crossed: % x", f)
		}
	}
	// The world is the gateway's host; nothing translates on the way there.
	world := c.hosts[2]
	c.run(world.host, "ip", "addr", "add", "2001:db8::1/64", "dev", world.name+"-x", "nodad")
	c.run(world.host, "ip", "route", "add", "fd00::/16", "via", "2001:db8::101")
	a.reaches("2001:db8::1")
	if !ping(world.host, addr(b.port), 0) {
		t.Error("the world does not reach an IPv6 address behind the router")
	}
}

// TestOnlyNodesTunnel has a stranger on the underlay, and a server, send VXLAN.
func TestOnlyNodesTunnel(t *testing.T) {
	c := spread(t)
	c.boot(portID(1, 2, 20))
	a := c.boot(portID(1, 1, 10))
	// A broadcast into network 1 of tenant 1, as the third host would send it.
	frame := append([]byte{8, 0, 0, 0, 0, 0, 101, 0}, arpRequest(net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.0.1.9"), netip.MustParseAddr("10.0.1.77"))...)
	seen := c.capture(c.hosts[0].node, ifname.Overlay(netID(1, 1)), etherARP)
	send := func(do func(func() error) error) {
		c.must(do(func() error {
			conn, err := net.Dial("udp", net.JoinHostPort(underlay(0).String(), "4789"))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write(frame)
			return err
		}))
	}
	stranger, err := netns.Current()
	c.must(err)
	defer stranger.Close()
	c.run(stranger, "ip", "addr", "add", "192.0.2.100/24", "dev", "underlay")
	send(stranger.Do)
	send(a.ns.Do)                                                             // by way of its router and the third host, which would lend its address
	c.run(c.hosts[0].host, "ping", "-n", "-c", "1", "-W", "1", "192.0.2.100") // whatever was sent has arrived
	if got := seen.seen(); len(got) > 0 {
		t.Errorf("a frame from outside the cloud came in: % x", got[0])
	}
	send(c.hosts[2].host.Do)
	c.hosts[0].eventually("a node's frame to come in", func() bool { return len(seen.seen()) > 0 })
}
