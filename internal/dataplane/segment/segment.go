// Package segment gives the responders of one network (DHCP, DNS, metadata,
// router advertisements) their view of it: who has which address and name. A
// Segment is immutable; a new desired state makes a new one.
package segment

import (
	"net"
	"net/netip"
	"strings"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Segment is a network with its ports indexed.
type Segment struct {
	Network nodeapi.Network

	byMAC  map[string]*nodeapi.Port
	byAddr map[netip.Addr]*nodeapi.Port
	byName map[string][]netip.Addr
	owners map[string]bool // of local ports, by their devices
	subnet map[string]*nodeapi.Subnet
}

// New indexes the ports that belong to n.
func New(n nodeapi.Network, ports []*nodeapi.Port) *Segment {
	s := &Segment{
		Network: n,
		byMAC:   make(map[string]*nodeapi.Port, len(ports)),
		byAddr:  make(map[netip.Addr]*nodeapi.Port, len(ports)),
		byName:  make(map[string][]netip.Addr, len(ports)),
		owners:  map[string]bool{},
		subnet:  make(map[string]*nodeapi.Subnet, len(n.Subnets)),
	}
	for i := range n.Subnets {
		s.subnet[n.Subnets[i].ID] = &n.Subnets[i]
	}
	for _, p := range ports {
		if p.NetworkID != n.ID {
			continue
		}
		if p.Local && p.DeviceID != "" {
			s.owners[p.DeviceID] = true
		}
		if mac, err := net.ParseMAC(p.MAC); err == nil && p.Behind == "" {
			s.byMAC[mac.String()] = p
			s.byAddr[LinkLocal(mac)] = p
		}
		for _, ip := range p.FixedIPs {
			s.byAddr[ip.Addr] = p
			name := Hostname(p, ip.Addr)
			s.byName[name] = append(s.byName[name], ip.Addr)
			for _, alias := range p.Aliases {
				if alias = strings.ToLower(alias); alias != name {
					s.byName[alias] = append(s.byName[alias], ip.Addr)
				}
			}
		}
	}
	return s
}

// ByMAC finds the port with a hardware address, or nil.
func (s *Segment) ByMAC(mac net.HardwareAddr) *nodeapi.Port { return s.byMAC[mac.String()] }

// ByAddr finds the port with a fixed address, or with the link-local address
// that its MAC makes, or nil.
func (s *Segment) ByAddr(a netip.Addr) *nodeapi.Port { return s.byAddr[a.Unmap().WithZone("")] }

// HasLocal tells whether a server or container of this node is on the network.
func (s *Segment) HasLocal(device string) bool { return s.owners[device] }

// ByName gives the addresses of a host name without domain, in any case.
func (s *Segment) ByName(name string) []netip.Addr { return s.byName[strings.ToLower(name)] }

// Subnet finds a subnet of the network, or nil.
func (s *Segment) Subnet(id string) *nodeapi.Subnet { return s.subnet[id] }

// Domain is the network's domain without a trailing dot, openstacklocal when
// none was given, as upstream's default is.
func (s *Segment) Domain() string {
	if d := strings.Trim(strings.ToLower(s.Network.DNSDomain), "."); d != "" {
		return d
	}
	return "openstacklocal"
}

// Hostname is the name of a port's address: its DNS name, or one made from the
// address (host-10-0-0-5).
func Hostname(p *nodeapi.Port, a netip.Addr) string {
	if p.DNSName != "" {
		return strings.ToLower(p.DNSName)
	}
	return "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// LinkLocal is the IPv6 link-local address that a MAC makes by EUI-64 (RFC 4291).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return EUI64(netip.MustParsePrefix("fe80::/64"), mac)
}

// EUI64 is the address in a /64 that a MAC makes.
func EUI64(prefix netip.Prefix, mac net.HardwareAddr) netip.Addr {
	if len(mac) != 6 {
		return netip.Addr{}
	}
	b := prefix.Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b)
}
