package configdrive

import (
	"fmt"
	"net/netip"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// networkDataJSON is network_data.json (nova/virt/netutils.py).
type networkDataJSON struct {
	Links    []link    `json:"links"`
	Networks []network `json:"networks"`
	Services []service `json:"services"`
}

type link struct {
	ID    string `json:"id"`
	VIFID string `json:"vif_id"`
	Type  string `json:"type"`
	MTU   *int   `json:"mtu"`
	MAC   string `json:"ethernet_mac_address"`
}

type network struct {
	ID        string     `json:"id"`
	Type      string     `json:"type"`
	Link      string     `json:"link"`
	Address   string     `json:"ip_address,omitempty"`
	Netmask   string     `json:"netmask,omitempty"`
	Routes    []netRoute `json:"routes,omitzero"`
	NetworkID string     `json:"network_id"`
	Services  []service  `json:"services,omitzero"`
}

type netRoute struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type service struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

func networkData(inst *nodeapi.Instance) networkDataJSON {
	out := networkDataJSON{Links: []link{}, Networks: []network{}, Services: []service{}}
	seen := map[service]bool{}
	for _, n := range inst.Guest.Network {
		if len(n.Subnets) == 0 {
			continue
		}
		l := link{ID: linkName(n.PortID), VIFID: n.PortID, Type: "bridge", MAC: n.MAC}
		if n.MTU > 0 {
			l.MTU = &n.MTU
		}
		out.Links = append(out.Links, l)
		for _, version := range []int{4, 6} {
			sub, addr, ok := firstSubnet(&n, version)
			if !ok {
				continue
			}
			net := describe(&n, sub, addr, version, l.ID, len(out.Networks))
			out.Networks = append(out.Networks, net)
			for _, s := range net.Services {
				if !seen[s] {
					seen[s] = true
					out.Services = append(out.Services, s)
				}
			}
		}
	}
	return out
}

// linkName is upstream's name of the tap of a port.
func linkName(port string) string { return "tap" + port[:min(11, len(port))] }

// firstSubnet finds the subnet of the IP version that the NIC has an address
// on: upstream shows one of each version.
func firstSubnet(n *nodeapi.NetworkInfo, version int) (*nodeapi.Subnet, netip.Addr, bool) {
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if s.CIDR.Addr().Is4() != (version == 4) {
			continue
		}
		for _, f := range n.FixedIPs {
			if f.SubnetID == s.ID {
				return s, f.Addr, true
			}
		}
	}
	return nil, netip.Addr{}, false
}

func describe(n *nodeapi.NetworkInfo, s *nodeapi.Subnet, addr netip.Addr, version int, link string, index int) network {
	net := network{ID: fmt.Sprintf("network%d", index), Type: fmt.Sprintf("ipv%d", version), Link: link, NetworkID: n.NetworkID}
	switch {
	case version == 6 && s.IPv6AddressMode != "":
		net.Type += "_" + s.IPv6AddressMode
	case s.DHCP:
		net.Type += "_dhcp"
		return net
	}
	net.Address = addr.String()
	net.Netmask = netmask(s.CIDR)
	net.Routes = []netRoute{}
	if s.Gateway.IsValid() {
		zero := "0.0.0.0"
		if version == 6 {
			zero = "::"
		}
		net.Routes = append(net.Routes, netRoute{zero, zero, s.Gateway.String()})
	}
	for _, r := range s.HostRoutes {
		net.Routes = append(net.Routes, netRoute{r.Destination.Masked().Addr().String(), netmask(r.Destination), r.NextHop.String()})
	}
	net.Services = []service{}
	for _, d := range s.DNSServers {
		net.Services = append(net.Services, service{"dns", d.String()})
	}
	return net
}

// netmask writes a prefix's length as an address, for IPv6 too as upstream does.
func netmask(p netip.Prefix) string {
	ones := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		ones[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(ones)
	return a.String()
}
