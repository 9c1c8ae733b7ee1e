package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// NetState derives what the data plane of a node should look like: the networks
// that have a port bound there, those that routers join to them, the external
// ones, the routers whose gateway is there, and everything that these need. It
// reads RAM only.
func (s *Service) NetState(node string) nodeapi.NetState {
	c := &call{Service: s, members: s.nodes()}
	st := nodeapi.NetState{Gen: s.DB.Revision()}
	wanted, routers := c.reached(node)
	for _, id := range slices.Sorted(maps.Keys(routers)) {
		if r, err := s.routers.Get(id); err == nil {
			st.Routers = append(st.Routers, c.routerOn(r, node))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		n, err := s.networks.Get(id)
		if err != nil {
			continue
		}
		st.Networks = append(st.Networks, c.networkOn(n, node))
		for _, p := range s.ports.By("network", id) {
			if !serviceOwned(p.DeviceOwner) {
				st.Ports = append(st.Ports, c.nodePort(p, node))
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.groupsOn(node))) {
		if g, err := s.groups.Get(id); err == nil {
			st.SecurityGroups = append(st.SecurityGroups, *c.nodeGroup(g))
		}
	}
	return st
}

// routerOn and networkOn are what a node is told of a router and of a network.
func (c *call) routerOn(r *Router, node string) nodeapi.Router {
	x := c.nodeRouter(r)
	c.place(&x, r, node)
	return x
}

func (c *call) networkOn(n *Network, node string) nodeapi.Network {
	x := c.nodeNetwork(n)
	c.beside(&x, node)
	c.outside(&x, n, node)
	return x
}

// groupsOn are the groups of a node's ports and, for their members, those that
// their rules name.
func (c *call) groupsOn(node string) map[string]bool {
	used := map[string]bool{}
	for _, p := range c.ports.By("host", node) {
		if serviceOwned(p.DeviceOwner) {
			continue
		}
		for _, g := range p.Groups {
			used[g] = true
		}
	}
	for _, id := range slices.Collect(maps.Keys(used)) {
		for _, r := range c.rules.By("group", id) {
			if r.RemoteGroup != "" {
				used[r.RemoteGroup] = true
			}
		}
	}
	return used
}

// reach is what a node has, as it is found: from its ports on through routers to
// further networks, since the sender's node routes all the way.
type reach struct {
	*call
	node              string
	networks, routers map[string]bool
	pending           []string // networks whose routers are to be found
}

// reached are the networks and routers that a node has: those that its ports
// reach, the external networks, and routers whose gateway it has. A node that
// is alone has all routers.
func (c *call) reached(node string) (networks, routers map[string]bool) {
	x := reach{call: c, node: node, networks: map[string]bool{}, routers: map[string]bool{}}
	for _, p := range c.ports.By("host", node) {
		if !serviceOwned(p.DeviceOwner) {
			x.network(p.NetworkID)
		}
	}
	for _, r := range c.routers.All() {
		if c.members.alone() || (r.GatewayID != "" || c.central(r.ID)) && c.gateway(r.ID).ID == node {
			x.router(r.ID)
		}
	}
	for len(x.pending) > 0 {
		id := x.pending[0]
		x.pending = x.pending[1:]
		for _, p := range c.ports.By("leg", id) {
			x.router(p.DeviceID)
		}
	}
	for _, n := range c.networks.By("external", "yes") {
		x.networks[n.ID] = true
	}
	return x.networks, x.routers
}

func (x *reach) network(id string) {
	if !x.networks[id] {
		x.networks[id] = true
		x.pending = append(x.pending, id)
	}
}

func (x *reach) router(id string) {
	if x.routers[id] {
		return
	}
	legs := x.interfaces(id)
	r, err := x.call.routers.Get(id)
	switch {
	case err != nil, r.GatewayID == "" && len(legs) == 0:
		return
	case x.central(id) && x.gateway(id).ID != x.node:
		return
	}
	x.routers[id] = true
	for _, p := range legs {
		x.network(p.NetworkID)
	}
}

// nodeGroup is a group with its rules and the addresses of its members.
func (c *call) nodeGroup(g *SecurityGroup) *nodeapi.SecurityGroup {
	x := nodeapi.SecurityGroup{ID: g.ID, Stateful: g.Stateful}
	for _, r := range c.rules.By("group", g.ID) {
		x.Rules = append(x.Rules, nodeRule(r))
	}
	for _, p := range c.ports.By("group", g.ID) {
		for _, f := range p.FixedIPs {
			x.Members = append(x.Members, f.Addr)
		}
		x.Members = append(x.Members, c.routed(p)...)
		for _, a := range p.Pairs {
			if a.Prefix.IsSingleIP() {
				x.Members = append(x.Members, a.Prefix.Addr())
			}
		}
	}
	slices.SortFunc(x.Members, netip.Addr.Compare)
	x.Members = slices.Compact(x.Members)
	return &x
}

func nodeRule(r *SecurityRule) nodeapi.Rule {
	number := func(n *int) int {
		if n == nil {
			return -1
		}
		return *n
	}
	x := nodeapi.Rule{ID: r.ID, Direction: r.Direction, EtherType: r.EtherType, Protocol: r.number(),
		PortMin: number(r.PortMin), PortMax: number(r.PortMax), RemoteGroupID: r.RemoteGroup}
	if r.Remote.IsValid() {
		x.RemotePrefix = r.Remote.Masked()
	}
	return x
}

func (c *call) nodePort(p *Port, node string) nodeapi.Port {
	host, gate := p.Host, (*Port)(nil)
	if p.Behind != "" {
		if g, err := c.ports.Get(p.Behind); err == nil {
			host, gate = g.Host, g // a server's goes with the server
		}
	}
	x := nodeapi.Port{ID: p.ID, NetworkID: p.NetworkID, MAC: p.MAC, FixedIPs: p.FixedIPs, DeviceID: p.DeviceID, DeviceOwner: p.DeviceOwner,
		Local: host == node, Routed: c.routed(p), AdminUp: p.AdminUp, PortSecurity: p.PortSecurity && !p.open(), AllowedPairs: p.Pairs, SecurityGroups: p.Groups,
		DNSName: p.DNSName, Aliases: p.Aliases, DHCPOptions: p.DHCPOptions}
	if host != "" && !x.Local {
		x.Tunnel = c.members.tunnel(host)
	}
	if gate != nil {
		x.Behind, x.MAC = gate.ID, gate.MAC
	}
	return x
}

// routed are the addresses of the pods that are behind a server's port. A machine of the
// pool is trusted with its own.
func (c *call) routed(p *Port) (out []netip.Addr) {
	if p.Worker == nil {
		return nil
	}
	for _, pod := range c.ports.By("behind", p.ID) {
		for _, f := range pod.FixedIPs {
			out = append(out, f.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (c *call) nodeNetwork(n *Network) nodeapi.Network {
	x := nodeapi.Network{ID: n.ID, VNI: n.VNI, VLAN: n.VLAN, MTU: c.carried(n), External: n.External, DNSDomain: strings.TrimSuffix(n.DNSDomain, ".")}
	if x.DNSDomain == "" {
		x.DNSDomain = domain
	}
	if c.wired(n.Physical) {
		x.Physical = n.Physical
	}
	served := map[string]netip.Addr{}
	dhcp := c.dhcpPort(n.ID)
	if dhcp != nil {
		x.ServicePortID, x.ServiceMAC = dhcp.ID, dhcp.MAC
		for _, f := range dhcp.FixedIPs {
			served[f.SubnetID] = f.Addr
		}
	}
	for _, s := range c.subnets.By("network", n.ID) {
		x.Subnets = append(x.Subnets, c.nodeSubnet(s, served[s.ID]))
		if a := served[s.ID]; a.IsValid() {
			x.ServiceAddrs = append(x.ServiceAddrs, mask(a, s))
		}
	}
	return x
}

func (c *call) nodeSubnet(s *Subnet, served netip.Addr) nodeapi.Subnet {
	x := nodeapi.Subnet{ID: s.ID, CIDR: s.CIDR, Gateway: s.Gateway, DHCP: s.DHCP, DNSServers: s.DNS, HostRoutes: s.Routes,
		IPv6AddressMode: s.AddressMode, IPv6RAMode: s.RAMode, ServiceAddr: served}
	for _, p := range c.ports.By("leg", s.NetworkID) {
		for _, f := range p.FixedIPs {
			if f.SubnetID == s.ID && (!x.RouterAddr.IsValid() || f.Addr == s.Gateway) {
				x.RouterAddr = f.Addr
			}
		}
	}
	return x
}

func (c *call) nodeRouter(r *Router) nodeapi.Router {
	x := nodeapi.Router{ID: r.ID, AdminUp: r.AdminUp, Routes: r.Routes}
	for _, p := range c.interfaces(r.ID) {
		x.Interfaces = append(x.Interfaces, c.nodeLeg(p))
	}
	if p, err := c.ports.Get(r.GatewayID); err == nil {
		g := &nodeapi.RouterGateway{RouterInterface: c.nodeLeg(p), EnableSNAT: r.EnableSNAT}
		for _, f := range p.FixedIPs {
			if s, err := c.subnets.Get(f.SubnetID); err == nil && s.Gateway.IsValid() &&
				!slices.ContainsFunc(g.NextHops, func(a netip.Addr) bool { return a.Is4() == s.Gateway.Is4() }) {
				g.NextHops = append(g.NextHops, s.Gateway)
			}
		}
		x.Gateway = g
	}
	for _, f := range c.floating.By("router", r.ID) {
		x.FloatingIPs = append(x.FloatingIPs, nodeapi.FloatingIP{ID: f.ID, Floating: f.Address, Fixed: f.Fixed})
	}
	return x
}

func (c *call) nodeLeg(p *Port) nodeapi.RouterInterface {
	x := nodeapi.RouterInterface{PortID: p.ID, NetworkID: p.NetworkID, MAC: p.MAC}
	for _, f := range p.FixedIPs {
		if s, err := c.subnets.Get(f.SubnetID); err == nil {
			x.Addrs = append(x.Addrs, mask(f.Addr, s))
		}
	}
	return x
}

// ReportPorts writes what a node says of its ports. Ports that are gone are fine.
func (s *Service) ReportPorts(ctx context.Context, node string, list []nodeapi.PortStatus) error {
	return s.do(ctx, nil, func(c *call) error {
		for _, st := range list {
			p, err := get(c, c.ports, st.PortID)
			if errs.Is(err, errs.NotFound) {
				continue
			} else if err != nil {
				return err
			}
			if p.Host != "" && p.Host != node {
				continue // it has gone elsewhere
			}
			now := *p
			now.Status = statusDown
			if st.Up && p.Host != "" {
				now.Status = statusActive
			}
			if now.Status == p.Status || serviceOwned(p.DeviceOwner) {
				continue
			}
			if err := c.port.put(c, p, &now); err != nil {
				return err
			}
		}
		return nil
	})
}
