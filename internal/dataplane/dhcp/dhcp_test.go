package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		name, value string
		code        uint8
		want        []byte // nil: refused
	}{
		{"mtu", "1400", 26, []byte{5, 120}},
		{"option:ntp-server", "10.0.0.1,10.0.0.2", 42, []byte{10, 0, 0, 1, 10, 0, 0, 2}},
		{"42", "raw", 42, []byte("raw")},
		{"bootfile-name", "pxe.0", 67, []byte("pxe.0")},
		{"domain-search", "a.b", 119, []byte{1, 'a', 1, 'b', 0}},
		{"classless-static-route", "10.1.0.0/16,10.0.0.9", 121, []byte{16, 10, 1, 10, 0, 0, 9}},
		{"ip-forward-enable", "true", 19, []byte{1}},
		{"mtu", "70000", 26, nil},
		{"router", "not-an-address", 3, nil},
		{"classless-static-route", "10.1.0.0/16", 121, nil},
	} {
		opt, ok := optionByName(c.name)
		if !ok || opt.code != c.code {
			t.Errorf("%s is option %d, %v", c.name, opt.code, ok)
			continue
		}
		got, ok := encode(opt.enc, c.value)
		if ok != (c.want != nil) || ok && !bytes.Equal(got, c.want) {
			t.Errorf("%s %q: %v, %v, want %v", c.name, c.value, got, ok, c.want)
		}
	}
	for _, name := range []string{"", "0", "255", "256", "no-such-option"} {
		if opt, ok := optionByName(name); ok {
			t.Errorf("option %q is %v", name, opt)
		}
	}
}

func testSegment(change func(*nodeapi.Subnet)) *segment.Segment {
	s := nodeapi.Subnet{
		ID: "s", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
		DHCP: true, ServiceAddr: netip.MustParseAddr("10.0.0.2"),
	}
	change(&s)
	return segment.New(nodeapi.Network{ID: "n", MTU: 1450, Subnets: []nodeapi.Subnet{s}}, []*nodeapi.Port{{
		ID: "p", NetworkID: "n", MAC: "fa:16:3e:00:00:01",
		FixedIPs: []nodeapi.FixedIP{{SubnetID: "s", Addr: netip.MustParseAddr("10.0.0.10")}},
	}})
}

func TestReply(t *testing.T) {
	known := net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}
	message := func(mac net.HardwareAddr, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind))...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	asks := func(ip ...byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IP(ip)))
	}
	other := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 99)))
	same := func(*nodeapi.Subnet) {}
	for _, c := range []struct {
		what   string
		req    *dhcpv4.DHCPv4
		change func(*nodeapi.Subnet)
		want   dhcpv4.MessageType // 0: silence
	}{
		{"discover", message(known, dhcpv4.MessageTypeDiscover), same, dhcpv4.MessageTypeOffer},
		{"request", message(known, dhcpv4.MessageTypeRequest, asks(10, 0, 0, 10)), same, dhcpv4.MessageTypeAck},
		{"foreign address", message(known, dhcpv4.MessageTypeRequest, asks(10, 0, 0, 11)), same, dhcpv4.MessageTypeNak},
		{"other server", message(known, dhcpv4.MessageTypeRequest, asks(10, 0, 0, 10), other), same, 0},
		{"inform", message(known, dhcpv4.MessageTypeInform), same, dhcpv4.MessageTypeAck},
		{"release", message(known, dhcpv4.MessageTypeRelease), same, 0},
		{"unknown client", message(net.HardwareAddr{2, 0, 0, 0, 0, 9}, dhcpv4.MessageTypeDiscover), same, 0},
		{"no DHCP", message(known, dhcpv4.MessageTypeDiscover), func(s *nodeapi.Subnet) { s.DHCP = false }, 0},
	} {
		r, err := Reply(testSegment(c.change), c.req)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := dhcpv4.MessageType(0)
		if r != nil {
			got = r.MessageType()
		}
		if got != c.want {
			t.Errorf("%s is answered by %s, want %s", c.what, got, c.want)
		}
	}
}

func TestIsolatedSubnetHasNoRouterButMetadata(t *testing.T) {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Reply(testSegment(func(s *nodeapi.Subnet) { s.Gateway = netip.Addr{} }), m)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Router()) != 0 {
		t.Errorf("routers %v", r.Router())
	}
	routes := r.ClasslessStaticRoute()
	if len(routes) != 1 || routes[0].Dest.String() != "169.254.169.254/32" || routes[0].Router.String() != "10.0.0.2" {
		t.Errorf("routes %v", routes)
	}
	if r.HostName() != "host-10-0-0-10" || r.DomainName() != "openstacklocal" {
		t.Errorf("named %s.%s", r.HostName(), r.DomainName())
	}
}
