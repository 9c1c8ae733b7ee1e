// Package nodeapi has the plain types that cross between the control plane and
// a node's agent: what a node should run and what it reports back. It has no
// logic. The control plane owns every Spec-like type (with a generation), the
// agent owns every Status; neither writes the other's.
package nodeapi

import "net/netip"

// NetState is everything that the data plane of one node should look like. It
// is derived from the network service's records, never stored.
type NetState struct {
	Gen            int64           `json:"gen"` // store revision it was derived at
	Networks       []Network       `json:"networks"`
	Ports          []Port          `json:"ports"`
	Routers        []Router        `json:"routers"`
	SecurityGroups []SecurityGroup `json:"security_groups"`
}

// Network is one layer-2 segment.
type Network struct {
	ID        string   `json:"id"`
	VNI       int      `json:"vni"`      // VXLAN id; 0: on this node alone, or joined by a provider's network
	Physical  string   `json:"physical"` // the provider's network that it is on, or ""
	VLAN      int      `json:"vlan"`     // its tag there; 0: untagged
	MTU       int      `json:"mtu"`
	External  bool     `json:"external"`
	DNSDomain string   `json:"dns_domain"`
	Subnets   []Subnet `json:"subnets"`
	// ServiceMAC and ServiceAddrs are of the network's DHCP port: DHCP, DNS and
	// metadata answer there.
	ServicePortID string         `json:"service_port_id"`
	ServiceMAC    string         `json:"service_mac"`
	ServiceAddrs  []netip.Prefix `json:"service_addrs"`
	// HostEnd is this host's own place in an external network that several hosts
	// share; nil: it has the gateway's address only.
	HostEnd *HostEnd `json:"host_end,omitempty"`
	// Endpoints are what other nodes alone have on the network besides ports.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// HostEnd is the address by which one host is known on an external network.
type HostEnd struct {
	MAC   string         `json:"mac"`
	Addrs []netip.Prefix `json:"addrs"`
}

// Endpoint is a router's gateway with its floating IPs, a leg of a router that is
// on one node, or another host's end.
type Endpoint struct {
	MAC    string       `json:"mac"`
	Addrs  []netip.Addr `json:"addrs"`
	Tunnel netip.Addr   `json:"tunnel"` // of the node where it is
}

// Subnet is the addressing of a network.
type Subnet struct {
	ID              string       `json:"id"`
	CIDR            netip.Prefix `json:"cidr"`
	Gateway         netip.Addr   `json:"gateway"` // zero: none
	DHCP            bool         `json:"dhcp"`
	DNSServers      []netip.Addr `json:"dns_servers"`
	HostRoutes      []Route      `json:"host_routes"`
	IPv6AddressMode string       `json:"ipv6_address_mode"` // slaac, dhcpv6-stateful, dhcpv6-stateless or ""
	IPv6RAMode      string       `json:"ipv6_ra_mode"`
	ServiceAddr     netip.Addr   `json:"service_addr"` // the DHCP port's address here, or zero
	RouterAddr      netip.Addr   `json:"router_addr"`  // address of a router interface that advertises here, or zero
}

// Route is a destination and its next hop.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nexthop"`
}

// FixedIP is an address of a port on a subnet.
type FixedIP struct {
	SubnetID string     `json:"subnet_id"`
	Addr     netip.Addr `json:"addr"`
}

// Port is a port of one of the node's networks. Ports of servers elsewhere are
// present too (DNS names, VXLAN forwarding); Local says whose tap is here.
type Port struct {
	ID             string        `json:"id"`
	NetworkID      string        `json:"network_id"`
	MAC            string        `json:"mac"`
	FixedIPs       []FixedIP     `json:"fixed_ips"`
	DeviceID       string        `json:"device_id"`
	DeviceOwner    string        `json:"device_owner"`
	Local          bool          `json:"local"`
	Tunnel         netip.Addr    `json:"tunnel"` // of the node where a port lives that is not local; zero: nowhere
	AdminUp        bool          `json:"admin_up"`
	PortSecurity   bool          `json:"port_security"`
	AllowedPairs   []AddressPair `json:"allowed_pairs"`
	SecurityGroups []string      `json:"security_groups"`
	DNSName        string        `json:"dns_name"`
	Aliases        []string      `json:"aliases,omitempty"` // further names that it is found by
	DHCPOptions    []DHCPOption  `json:"dhcp_options"`
	// Behind is the port whose device leads to this one, which has none of its own: the MAC
	// is that port's, whose machine routes. "": there is none.
	Behind string `json:"behind,omitempty"`
	// Routed are the addresses of ports behind this one, which it sends from as well.
	Routed []netip.Addr `json:"routed,omitempty"`
}

// AddressPair is a further source address that a port may use; an empty MAC means the port's own.
type AddressPair struct {
	Prefix netip.Prefix `json:"prefix"`
	MAC    string       `json:"mac"`
}

// DHCPOption is an extra DHCP option of a port, by upstream's option name or number.
type DHCPOption struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	IPVersion int    `json:"ip_version"`
}

// SecurityGroup is a set of accept rules with the addresses of its members.
type SecurityGroup struct {
	ID       string       `json:"id"`
	Stateful bool         `json:"stateful"`
	Rules    []Rule       `json:"rules"`
	Members  []netip.Addr `json:"members"` // of every port in the group, on any node; for remote-group rules
}

// Rule accepts traffic. Zero values mean any.
type Rule struct {
	ID            string       `json:"id"`
	Direction     string       `json:"direction"`  // ingress or egress
	EtherType     string       `json:"ether_type"` // IPv4 or IPv6
	Protocol      int          `json:"protocol"`   // IP protocol number; -1: any
	PortMin       int          `json:"port_min"`   // -1: any; for ICMP the type
	PortMax       int          `json:"port_max"`   // -1: any; for ICMP the code
	RemotePrefix  netip.Prefix `json:"remote_prefix"`
	RemoteGroupID string       `json:"remote_group_id"`
}

// Router joins networks.
type Router struct {
	ID          string            `json:"id"`
	AdminUp     bool              `json:"admin_up"`
	Interfaces  []RouterInterface `json:"interfaces"`
	Gateway     *RouterGateway    `json:"gateway"`
	Routes      []Route           `json:"routes"`
	FloatingIPs []FloatingIP      `json:"floating_ips"`
	// One node has the gateway, with translation and floating IPs; the instances
	// on other nodes send there what leaves the router, over the VXLAN TransitVNI.
	GatewayHere bool       `json:"gateway_here"`
	GatewayNode netip.Addr `json:"gateway_node"` // tunnel address, when not here; zero: nowhere
	TransitVNI  int        `json:"transit_vni"`  // 0: the router is on one node
	Central     bool       `json:"central"`      // no other node has an instance
}

// RouterInterface is a router's leg into a network.
type RouterInterface struct {
	PortID    string         `json:"port_id"`
	NetworkID string         `json:"network_id"`
	MAC       string         `json:"mac"`
	Addrs     []netip.Prefix `json:"addrs"`
}

// RouterGateway is a router's leg into the external network.
type RouterGateway struct {
	RouterInterface
	NextHops   []netip.Addr `json:"next_hops"` // per family at most one
	EnableSNAT bool         `json:"enable_snat"`
}

// FloatingIP maps an external address one to one onto a fixed address.
type FloatingIP struct {
	ID       string     `json:"id"`
	Floating netip.Addr `json:"floating"`
	Fixed    netip.Addr `json:"fixed"`
}

// PortStatus is what the data plane says of a local port.
type PortStatus struct {
	PortID string `json:"port_id"`
	Up     bool   `json:"up"` // plugged, rules applied
}
