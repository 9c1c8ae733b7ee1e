package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// The fixture numbers its objects: network n of tenant t has id "t<t>net<n>...".
// Ids differ within their first 11 characters, as UUIDs do.

const extID = "ext00000-0000"

func external() nodeapi.Network {
	return nodeapi.Network{ID: extID, MTU: 1500, External: true, Subnets: []nodeapi.Subnet{{
		ID: "extsub", CIDR: netip.MustParsePrefix("172.24.4.0/24"), Gateway: netip.MustParseAddr("172.24.4.1"),
	}}}
}

func netID(tenant, n int) string { return fmt.Sprintf("t%dnet%d00-0000", tenant, n) }

// network is tenant's n-th network, 10.0.n.0/24: the same for every tenant.
func network(tenant, n int) nodeapi.Network {
	a := func(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n), byte(last)}) }
	id := netID(tenant, n)
	return nodeapi.Network{
		ID: id, VNI: 100*tenant + n, MTU: 1400, DNSDomain: fmt.Sprintf("t%d.example.", tenant),
		ServicePortID: fmt.Sprintf("t%ddhcp%d0-0000", tenant, n),
		ServiceMAC:    fmt.Sprintf("fa:16:3e:0%d:0%d:02", tenant, n),
		ServiceAddrs:  []netip.Prefix{netip.PrefixFrom(a(2), 24)},
		Subnets: []nodeapi.Subnet{{
			ID: id + "-v4", CIDR: netip.PrefixFrom(a(0), 24), Gateway: a(1), DHCP: true, ServiceAddr: a(2),
		}},
	}
}

func portID(tenant, n, host int) string { return fmt.Sprintf("t%dn%dp%03d-0000", tenant, n, host) }

// port is a server's port 10.0.n.host in network n.
func port(tenant, n, host int, groups ...string) nodeapi.Port {
	return nodeapi.Port{
		ID: portID(tenant, n, host), NetworkID: netID(tenant, n),
		MAC: fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", tenant, n, host),
		FixedIPs: []nodeapi.FixedIP{{
			SubnetID: netID(tenant, n) + "-v4", Addr: netip.AddrFrom4([4]byte{10, 0, byte(n), byte(host)}),
		}},
		DeviceID: fmt.Sprintf("server-t%d-%d-%d", tenant, n, host), DeviceOwner: "compute:nova",
		Local: true, AdminUp: true, PortSecurity: true, SecurityGroups: groups,
		DNSName: fmt.Sprintf("vm%d", host),
	}
}

// router is tenant's router: .1 in each network, 172.24.4.(100+tenant) outside.
func routerOf(tenant int, nets ...int) nodeapi.Router {
	r := nodeapi.Router{ID: fmt.Sprintf("router%d-0000", tenant), AdminUp: true, GatewayHere: true}
	for _, n := range nets {
		r.Interfaces = append(r.Interfaces, nodeapi.RouterInterface{
			PortID: fmt.Sprintf("t%dqr%d000-0000", tenant, n), NetworkID: netID(tenant, n),
			MAC:   fmt.Sprintf("fa:16:3e:0%d:0%d:01", tenant, n),
			Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n), 1}), 24)},
		})
	}
	r.Gateway = &nodeapi.RouterGateway{
		RouterInterface: nodeapi.RouterInterface{
			PortID: fmt.Sprintf("t%dqg0000-0000", tenant), NetworkID: extID,
			MAC:   fmt.Sprintf("fa:16:3e:0%d:ee:01", tenant),
			Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 24, 4, byte(100 + tenant)}), 24)},
		},
		NextHops: []netip.Addr{netip.MustParseAddr("172.24.4.1")}, EnableSNAT: true,
	}
	return r
}

func floating(id string, last, n, host int) nodeapi.FloatingIP {
	return nodeapi.FloatingIP{
		ID: id, Floating: netip.AddrFrom4([4]byte{172, 24, 4, byte(last)}),
		Fixed: netip.AddrFrom4([4]byte{10, 0, byte(n), byte(host)}),
	}
}

func egressAny() []nodeapi.Rule {
	any := nodeapi.Rule{Direction: "egress", EtherType: "IPv4", Protocol: -1, PortMin: -1, PortMax: -1}
	any6 := any
	any6.EtherType = "IPv6"
	return []nodeapi.Rule{any, any6}
}

func ingress(proto, lo, hi int) nodeapi.Rule {
	return nodeapi.Rule{Direction: "ingress", EtherType: "IPv4", Protocol: proto, PortMin: lo, PortMax: hi}
}

func group(id string, rules ...nodeapi.Rule) nodeapi.SecurityGroup {
	return nodeapi.SecurityGroup{ID: id, Stateful: true, Rules: append(egressAny(), rules...)}
}
