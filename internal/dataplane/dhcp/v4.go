package dhcp

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// LeaseTime is how long an address is given for, upstream's default.
const LeaseTime = 24 * time.Hour

// metadataAddr is where servers ask for metadata.
var metadataAddr = netip.MustParsePrefix("169.254.169.254/32")

// Reply gives the answer to a DHCPv4 message from a client on seg, or nil when
// it deserves none: it is from an unknown client, or meant for another server.
func Reply(seg *segment.Segment, req *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	if req.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, nil
	}
	port := seg.ByMAC(req.ClientHWAddr)
	if port == nil {
		return nil, nil
	}
	addr, subnet := lease(seg, port)
	if subnet == nil {
		return nil, nil
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return answer(seg, port, req, addr, subnet, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeInform:
		return answer(seg, port, req, addr, subnet, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeRequest:
		if id := req.ServerIdentifier(); id != nil && !id.Equal(subnet.ServiceAddr.AsSlice()) {
			return nil, nil
		}
		if want := wanted(req); want.IsValid() && want != addr {
			return refuse(req, subnet)
		}
		return answer(seg, port, req, addr, subnet, dhcpv4.MessageTypeAck)
	}
	return nil, nil // DECLINE and RELEASE change nothing here
}

// lease picks the port's first IPv4 address on a subnet that has DHCP.
func lease(seg *segment.Segment, port *nodeapi.Port) (netip.Addr, *nodeapi.Subnet) {
	for _, ip := range port.FixedIPs {
		s := seg.Subnet(ip.SubnetID)
		if ip.Addr.Is4() && s != nil && s.DHCP && s.ServiceAddr.Is4() {
			return ip.Addr, s
		}
	}
	return netip.Addr{}, nil
}

// wanted is the address that a REQUEST asks for: the option, or when it renews, ciaddr.
func wanted(req *dhcpv4.DHCPv4) netip.Addr {
	ip := req.RequestedIPAddress()
	if ip == nil || ip.IsUnspecified() {
		ip = req.ClientIPAddr
	}
	a, _ := netip.AddrFromSlice(ip.To4())
	if !a.IsValid() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// refuse tells a client that its address is not for it; it is broadcast,
// because the client cannot use the address (RFC 2131, 4.3.2).
func refuse(req *dhcpv4.DHCPv4, subnet *nodeapi.Subnet) (*dhcpv4.DHCPv4, error) {
	nak, err := dhcpv4.NewReplyFromRequest(req,
		dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip4(subnet.ServiceAddr))))
	if err != nil {
		return nil, err
	}
	nak.SetBroadcast()
	return nak, nil
}

func answer(seg *segment.Segment, port *nodeapi.Port, req *dhcpv4.DHCPv4, addr netip.Addr, subnet *nodeapi.Subnet, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	r, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind))
	if err != nil {
		return nil, err
	}
	r.ServerIPAddr = ip4(subnet.ServiceAddr)
	if req.MessageType() != dhcpv4.MessageTypeInform {
		r.YourIPAddr = ip4(addr)
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(LeaseTime))
		r.UpdateOption(dhcpv4.OptRenewTimeValue(LeaseTime / 2))
		r.UpdateOption(dhcpv4.OptRebindingTimeValue(LeaseTime * 7 / 8))
	}
	r.UpdateOption(dhcpv4.OptServerIdentifier(ip4(subnet.ServiceAddr)))
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(subnet.CIDR.Bits(), 32)))
	r.UpdateOption(dhcpv4.OptBroadcastAddress(broadcast(subnet.CIDR)))
	if subnet.Gateway.Is4() {
		r.UpdateOption(dhcpv4.OptRouter(ip4(subnet.Gateway)))
	}
	r.UpdateOption(dhcpv4.OptClasslessStaticRoute(routes(subnet)...))
	r.UpdateOption(dhcpv4.OptDNS(resolvers(seg, subnet)...))
	r.UpdateOption(dhcpv4.OptDomainName(seg.Domain()))
	r.UpdateOption(dhcpv4.OptHostName(segment.Hostname(port, addr)))
	if mtu := seg.Network.MTU; mtu > 0 {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(mtu >> 8), byte(mtu)}))
	}
	for _, o := range port.DHCPOptions {
		if o.IPVersion != 6 {
			extra(r, o)
		}
	}
	return r, nil
}

// routes is the classless routes option. A client that reads it must ignore
// the router option (RFC 3442), so the default route is repeated in it.
// Metadata is reached at the responder on the network itself, which also serves
// networks without a router.
func routes(s *nodeapi.Subnet) []*dhcpv4.Route {
	out := []*dhcpv4.Route{route(metadataAddr, s.ServiceAddr)}
	hasDefault := false
	for _, r := range s.HostRoutes {
		if !r.Destination.Addr().Is4() || !r.NextHop.Is4() {
			continue
		}
		if r.Destination == metadataAddr {
			out = out[1:]
		}
		hasDefault = hasDefault || r.Destination.Bits() == 0
		out = append(out, route(r.Destination, r.NextHop))
	}
	if s.Gateway.Is4() && !hasDefault {
		out = append(out, route(netip.MustParsePrefix("0.0.0.0/0"), s.Gateway))
	}
	return out
}

func route(dst netip.Prefix, via netip.Addr) *dhcpv4.Route {
	return &dhcpv4.Route{
		Dest:   &net.IPNet{IP: ip4(dst.Masked().Addr()), Mask: net.CIDRMask(dst.Bits(), 32)},
		Router: ip4(via),
	}
}

// resolvers is the subnet's name servers, or our own when it names none.
func resolvers(seg *segment.Segment, s *nodeapi.Subnet) []net.IP {
	var ips []net.IP
	for _, a := range s.DNSServers {
		if a.Is4() {
			ips = append(ips, ip4(a))
		}
	}
	if len(ips) == 0 {
		ips = append(ips, ip4(s.ServiceAddr))
	}
	return ips
}

func broadcast(p netip.Prefix) net.IP {
	b := p.Masked().Addr().As4()
	mask := net.CIDRMask(p.Bits(), 32)
	for i := range b {
		b[i] |= ^mask[i]
	}
	return net.IP(b[:])
}

func ip4(a netip.Addr) net.IP {
	b := a.As4()
	return net.IP(b[:])
}
