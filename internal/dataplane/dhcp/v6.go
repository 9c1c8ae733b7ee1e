package dhcp

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// The values of a subnet's IPv6 modes.
const (
	modeStateful  = "dhcpv6-stateful"
	modeStateless = "dhcpv6-stateless"
)

// Reply6 gives the answer to a DHCPv6 message that came from the link-local
// address from, or nil when it deserves none.
func Reply6(seg *segment.Segment, req *dhcpv6.Message, from netip.Addr, serverMAC net.HardwareAddr) (*dhcpv6.Message, error) {
	port := client6(seg, req, from)
	if port == nil || req.Options.ClientID() == nil {
		return nil, nil
	}
	server := &dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: serverMAC}
	if id := req.Options.ServerID(); id != nil && !id.Equal(server) {
		return nil, nil
	}
	addr, subnet := lease6(seg, port)
	if subnet == nil {
		return nil, nil
	}
	opts := []dhcpv6.Modifier{dhcpv6.WithServerID(server)}
	opts = append(opts, configuration(seg, subnet)...)
	switch req.Type() {
	case dhcpv6.MessageTypeSolicit:
		if !addr.IsValid() {
			return nil, nil
		}
		opts = append(opts, association(req, addr)...)
		if req.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			return dhcpv6.NewReplyFromMessage(req, append(opts, dhcpv6.WithRapidCommit)...)
		}
		return dhcpv6.NewAdvertiseFromSolicit(req, opts...)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		if !addr.IsValid() {
			return nil, nil
		}
		return dhcpv6.NewReplyFromMessage(req, append(opts, association(req, addr)...)...)
	case dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return dhcpv6.NewReplyFromMessage(req, append(opts, status(req, addr))...)
	case dhcpv6.MessageTypeInformationRequest:
		return dhcpv6.NewReplyFromMessage(req, opts...)
	}
	return nil, nil
}

// client6 finds the port that sends: by its link-local address, which
// anti-spoofing vouches for, else by the hardware address in its identifier.
func client6(seg *segment.Segment, req *dhcpv6.Message, from netip.Addr) *nodeapi.Port {
	if p := seg.ByAddr(from); p != nil {
		return p
	}
	if mac, err := dhcpv6.ExtractMAC(req); err == nil {
		return seg.ByMAC(mac)
	}
	return nil
}

// lease6 picks the port's address on a stateful subnet; or a stateless subnet
// of the network with no address, for configuration alone.
func lease6(seg *segment.Segment, port *nodeapi.Port) (netip.Addr, *nodeapi.Subnet) {
	var stateless *nodeapi.Subnet
	for _, ip := range port.FixedIPs {
		s := seg.Subnet(ip.SubnetID)
		if s == nil || !s.DHCP || !ip.Addr.Is6() {
			continue
		}
		switch s.IPv6AddressMode {
		case modeStateful:
			return ip.Addr, s
		case modeStateless:
			stateless = s
		}
	}
	return netip.Addr{}, stateless
}

func configuration(seg *segment.Segment, s *nodeapi.Subnet) []dhcpv6.Modifier {
	var servers []net.IP
	for _, a := range s.DNSServers {
		if a.Is6() {
			servers = append(servers, a.AsSlice())
		}
	}
	if len(servers) == 0 && s.ServiceAddr.Is6() {
		servers = append(servers, s.ServiceAddr.AsSlice())
	}
	opts := []dhcpv6.Modifier{dhcpv6.WithOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{seg.Domain()}}))}
	if len(servers) > 0 {
		opts = append(opts, dhcpv6.WithDNS(servers...))
	}
	return opts
}

// association gives the address to each identity association that was asked for.
func association(req *dhcpv6.Message, addr netip.Addr) []dhcpv6.Modifier {
	var opts []dhcpv6.Modifier
	for _, ia := range req.Options.IANA() {
		opts = append(opts, dhcpv6.WithOption(&dhcpv6.OptIANA{
			IaId: ia.IaId, T1: LeaseTime / 2, T2: LeaseTime * 4 / 5,
			Options: dhcpv6.IdentityOptions{Options: []dhcpv6.Option{&dhcpv6.OptIAAddress{
				IPv6Addr: addr.AsSlice(), PreferredLifetime: LeaseTime, ValidLifetime: LeaseTime,
			}}},
		}))
	}
	return opts
}

// status answers a CONFIRM by whether the addresses are right, the others by success.
func status(req *dhcpv6.Message, addr netip.Addr) dhcpv6.Modifier {
	code := uint16(0)
	if req.Type() == dhcpv6.MessageTypeConfirm {
		for _, ia := range req.Options.IANA() {
			for _, a := range ia.Options.Addresses() {
				if !a.IPv6Addr.Equal(addr.AsSlice()) {
					code = 4 // NotOnLink
				}
			}
		}
	}
	return dhcpv6.WithOption(&dhcpv6.OptionGeneric{
		OptionCode: dhcpv6.OptionStatusCode, OptionData: []byte{byte(code >> 8), byte(code)},
	})
}
