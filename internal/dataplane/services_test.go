package dataplane

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// ask sends one DNS question from inside the guest.
func (g *guest) ask(name string, kind uint16, transport string) *dns.Msg {
	g.Helper()
	var c *dns.Conn
	g.must(g.ns.Do(func() (err error) { c, err = dns.DialTimeout(transport, "10.0.1.2:53", time.Second); return err }))
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	g.must(c.WriteMsg(new(dns.Msg).SetQuestion(name, kind)))
	m, err := c.ReadMsg()
	g.must(err)
	return m
}

func TestDNS(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	other := port(2, 1, 77, "open")
	other.Local = false
	w.state.Ports = append(w.state.Ports, other)
	w.apply()
	g := w.boot(portID(1, 1, 10))
	g.dhcp()
	pc, err := net.ListenPacket("udp", "127.0.0.1:5300")
	w.must(err)
	world := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.1")
		m.Answer = append(m.Answer, rr)
		rw.WriteMsg(m)
	})}
	go world.ActivateAndServe()
	defer pc.Close()
	for _, c := range []struct {
		name, transport string
		kind            uint16
		rcode           int
		want            string // of the first answer, without name and TTL
	}{
		{"vm10.t1.example.", "udp", dns.TypeA, dns.RcodeSuccess, "10.0.1.10"},
		{"VM10.T1.example.", "tcp", dns.TypeA, dns.RcodeSuccess, "10.0.1.10"},
		{"vm10.", "udp", dns.TypeA, dns.RcodeSuccess, "10.0.1.10"},
		{"vm10.t1.example.", "udp", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"10.1.0.10.in-addr.arpa.", "udp", dns.TypePTR, dns.RcodeSuccess, "vm10.t1.example."},
		{"vm77.t1.example.", "udp", dns.TypeA, dns.RcodeNameError, ""},
		{"77.1.0.10.in-addr.arpa.", "udp", dns.TypePTR, dns.RcodeNameError, ""}, // another tenant's
		{"www.example.com.", "udp", dns.TypeA, dns.RcodeSuccess, "192.0.2.1"},
		{"www.example.com.", "tcp", dns.TypeA, dns.RcodeServerFailure, ""}, // that resolver has no TCP
	} {
		m := g.ask(c.name, c.kind, c.transport)
		got := ""
		if len(m.Answer) > 0 {
			got = dns.Field(m.Answer[0], 1)
		}
		if m.Rcode != c.rcode || got != c.want {
			t.Errorf("%s %s over %s: %s %q, want %s %q", c.name, dns.TypeToString[c.kind], c.transport,
				dns.RcodeToString[m.Rcode], got, dns.RcodeToString[c.rcode], c.want)
		}
	}
}

func TestDHCPOptionsAndRefusal(t *testing.T) {
	w := newWorld(t)
	p := port(1, 1, 10)
	p.DHCPOptions = []nodeapi.DHCPOption{
		{Name: "ntp-server", Value: "10.0.1.5", IPVersion: 4}, {Name: "bootfile-name", Value: "pxelinux.0", IPVersion: 4},
	}
	w.state = nodeapi.NetState{Networks: []nodeapi.Network{network(1, 1)}, Ports: []nodeapi.Port{p}}
	w.apply()
	g := w.boot(p.ID)
	ack := g.dhcp()
	if got := ack.NTPServers(); len(got) != 1 || got[0].String() != "10.0.1.5" {
		t.Errorf("ntp-server is %v", got)
	}
	if ack.BootFileName != "pxelinux.0" {
		t.Errorf("boot file is %q", ack.BootFileName)
	}
	var c *nclient4.Client
	w.must(g.ns.Do(func() (err error) { c, err = nclient4.New("eth0", nclient4.WithTimeout(time.Second)); return err }))
	defer c.Close()
	mac, _ := net.ParseMAC(p.MAC)
	req, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(192, 168, 9, 9))))
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	r, err := c.SendAndRead(ctx, nclient4.DefaultServers, req, nil)
	if err != nil || r.MessageType() != dhcpv4.MessageTypeNak {
		t.Fatalf("a foreign address is answered by %v, %v", r, err)
	}
}

// v6 adds an IPv6 subnet to a network and an address of it to the first port
// and to the router.
func v6(st *nodeapi.NetState, mode string, addr string) {
	n := &st.Networks[1]
	n.Subnets = append(n.Subnets, nodeapi.Subnet{
		ID: "v6", CIDR: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1"), DHCP: true,
		IPv6AddressMode: mode, IPv6RAMode: mode,
		ServiceAddr: netip.MustParseAddr("fd00:1::2"), RouterAddr: netip.MustParseAddr("fd00:1::1"),
	})
	n.ServiceAddrs = append(n.ServiceAddrs, netip.MustParsePrefix("fd00:1::2/64"))
	st.Routers[0].Interfaces[0].Addrs = append(st.Routers[0].Interfaces[0].Addrs, netip.MustParsePrefix("fd00:1::1/64"))
	st.Ports[0].FixedIPs = append(st.Ports[0].FixedIPs, nodeapi.FixedIP{SubnetID: "v6", Addr: netip.MustParseAddr(addr)})
}

func (g *guest) has(addr string) bool {
	h, err := g.ns.Link()
	g.must(err)
	link, err := h.LinkByName("eth0")
	g.must(err)
	addrs, err := h.AddrList(link, netlink.FAMILY_V6)
	g.must(err)
	for _, a := range addrs {
		if addrOf(a.IP) == netip.MustParseAddr(addr) {
			return true
		}
	}
	return false
}

func TestSLAAC(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	// EUI-64 of the port's MAC fa:16:3e:01:01:0a.
	v6(&w.state, "slaac", "fd00:1::f816:3eff:fe01:10a")
	w.apply()
	g := w.boot(portID(1, 1, 10))
	w.eventually("an address by router advertisement", func() bool { return g.has("fd00:1::f816:3eff:fe01:10a") })
	g.reaches("fd00:1::1")
	got, err := g.get("http://[fe80::a9fe:a9fe%25eth0]/v6")
	if err != nil || got != `server-t1-1-10 /v6 ""` {
		t.Errorf("metadata over IPv6: %q, %v", got, err)
	}
}

func TestDHCPv6(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	v6(&w.state, "dhcpv6-stateful", "fd00:1::10")
	w.apply()
	g := w.boot(portID(1, 1, 10))
	var c *nclient6.Client
	// An address that is still being probed cannot be bound.
	w.eventually("a link-local address", func() bool {
		return g.ns.Do(func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			// By index: Go remembers names of interfaces across namespaces.
			conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP("fe80::f816:3eff:fe01:10a"), Port: dhcpv6.DefaultClientPort, Zone: strconv.Itoa(ifi.Index)})
			if err != nil {
				return err
			}
			c, err = nclient6.NewWithConn(conn, ifi.HardwareAddr, nclient6.WithTimeout(time.Second))
			return err
		}) == nil
	})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	m, err := c.RapidSolicit(ctx)
	w.must(err)
	addr := m.Options.OneIANA().Options.OneAddress()
	if addr == nil || addr.IPv6Addr.String() != "fd00:1::10" {
		t.Fatalf("DHCPv6 gives %v", m.Summary())
	}
	if got := m.Options.DNS(); len(got) != 1 || got[0].String() != "fd00:1::2" {
		t.Errorf("name servers are %v", got)
	}
}
