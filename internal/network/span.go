package network

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Span gives what reaches across nodes its numbers: a VXLAN id for the transit
// of each router with a gateway and for each flat network, and to each node an
// address of its own on the latter. A pool of one node needs none of it. It may
// be repeated; when nothing is missing it only reads.
func (s *Service) Span(ctx context.Context) error {
	hosts := s.nodes().joined()
	if len(hosts) < 2 || !s.unspanned(&call{Service: s}, hosts) {
		return nil
	}
	return s.do(ctx, nil, func(c *call) error { return c.span(hosts) })
}

// flat tells whether a network is joined across nodes by us: outside and without
// a provider's device.
func (s *Service) flat(n *Network) bool {
	return n.Type == typeFlat && n.External && !s.wired(n.Physical)
}

// central tells whether a router is on one node: it has a leg in a provider's
// network, where switches must not see its MAC in many places.
func (c *call) central(router string) bool {
	return !c.members.alone() && slices.ContainsFunc(c.interfaces(router), func(p *Port) bool {
		n, err := c.networks.Get(p.NetworkID)
		return err == nil && c.wired(n.Physical)
	})
}

// gateway is the node that has a router's gateway.
func (c *call) gateway(router string) Host {
	var needs []string
	r, err := c.routers.Get(router)
	if err != nil {
		return c.members.gateway(router, nil)
	}
	for _, id := range append([]string{r.GatewayNet}, networksOf(c.interfaces(router))...) {
		if n, err := c.networks.Get(id); err == nil && c.wired(n.Physical) && !slices.Contains(needs, n.Physical) {
			needs = append(needs, n.Physical)
		}
	}
	slices.Sort(needs)
	return c.members.gateway(router, needs)
}

func networksOf(ports []*Port) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = p.NetworkID
	}
	return out
}

// unspanned tells whether anything is missing.
func (s *Service) unspanned(c *call, hosts []Host) bool {
	for _, r := range s.routers.All() {
		if r.GatewayNet != "" && r.Transit == 0 {
			return true
		}
	}
	for _, n := range s.networks.By("external", "yes") {
		if !s.flat(n) {
			continue
		}
		come, gone := c.hostEnds(n, hosts)
		if n.Join == 0 || len(come)+len(gone) > 0 && s.subnets.Count("network", n.ID) > 0 {
			return true
		}
	}
	return false
}

func (c *call) span(hosts []Host) error {
	for _, r := range c.routers.All() {
		r, err := get(c, c.routers, r.ID)
		if err != nil || r.GatewayNet == "" || r.Transit != 0 {
			continue
		}
		vni, err := c.freeVNI()
		if err != nil {
			return err
		}
		if _, err := c.routers.TxUpdate(c.tx, r.ID, func(x *Router) error { x.Transit = vni; return nil }); err != nil {
			return err
		}
	}
	for _, n := range by(c, c.networks, "external", "yes") {
		if c.flat(n) {
			if err := c.spanFlat(n, hosts); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *call) spanFlat(n *Network, hosts []Host) error {
	if n.Join == 0 {
		vni, err := c.freeVNI()
		if err != nil {
			return err
		}
		if _, err := c.networks.TxUpdate(c.tx, n.ID, func(x *Network) error { x.Join = vni; return nil }); err != nil {
			return err
		}
	}
	come, gone := c.hostEnds(n, hosts)
	for _, p := range gone {
		if err := c.ports.TxDelete(c.tx, p.ID); err != nil {
			return err
		}
	}
	for _, h := range come {
		// A full subnet leaves the node without an address of its own, not the others.
		if err := c.makeHostEnd(n, h); errs.Is(err, errs.Conflict) {
			break
		} else if err != nil {
			return err
		}
	}
	return nil
}

// ownerHost is of a node's own port on an external network, by upstream's name for
// the port that each node with floating IPs has (neutron_lib DEVICE_OWNER_AGENT_GW).
const ownerHost = "network:floatingip_agent_gateway"

func hostDevice(h Host) string { return deviceUUID("host " + h.ID) }

// hostEnd finds a node's own port on an external network.
func (c *call) hostEnd(network string, h Host) *Port {
	for _, p := range by(c, c.ports, "device", hostDevice(h)) {
		if p.DeviceOwner == ownerHost && p.NetworkID == network {
			return p
		}
	}
	return nil
}

// hostEnds compares a network's ports of nodes with the nodes.
func (c *call) hostEnds(n *Network, hosts []Host) (come []Host, gone []*Port) {
	for _, h := range hosts {
		if c.hostEnd(n.ID, h) == nil {
			come = append(come, h)
		}
	}
	for _, p := range by(c, c.ports, "owner", ownerHost) {
		if p.NetworkID == n.ID && !slices.ContainsFunc(hosts, func(h Host) bool { return hostDevice(h) == p.DeviceID }) {
			gone = append(gone, p)
		}
	}
	return come, gone
}

func (c *call) makeHostEnd(n *Network, h Host) error {
	p := &Port{Base: Base{ID: uuid.NewString(), Created: c.now, Updated: c.now, Revision: 1}, NetworkID: n.ID, DeviceID: hostDevice(h),
		DeviceOwner: ownerHost, AdminUp: true, Status: statusActive, VNICType: "normal", Host: h.ID}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	if err := c.allocate(p, attr.Values{}); err != nil {
		return err
	}
	if len(p.FixedIPs) == 0 {
		return nil
	}
	return c.ports.TxCreate(c.tx, p)
}

// place fills in where a router's gateway is.
func (c *call) place(x *nodeapi.Router, r *Router, node string) {
	g := c.gateway(r.ID)
	if x.Central = c.central(r.ID); !x.Central {
		x.TransitVNI = r.Transit
	}
	x.GatewayHere = c.members.alone() || g.ID == node
	if !x.GatewayHere {
		x.GatewayNode = g.Tunnel
	}
}

// carried is the MTU of a network as nodes have it: one that we join is a VXLAN.
func (s *Service) carried(n *Network) int {
	if n.Join > 0 && s.flat(n) {
		return min(n.MTU, s.MTU-overhead)
	}
	return n.MTU
}

// beside fills in the legs of routers that are on another node alone.
func (c *call) beside(x *nodeapi.Network, node string) {
	for _, p := range c.ports.By("leg", x.ID) {
		if !c.central(p.DeviceID) {
			continue
		}
		h := c.gateway(p.DeviceID)
		if h.ID != node && h.Tunnel.IsValid() {
			x.Endpoints = append(x.Endpoints, endpoint(p, h))
		}
	}
}

// endpoint is a port on another node.
func endpoint(p *Port, h Host) nodeapi.Endpoint {
	e := nodeapi.Endpoint{MAC: p.MAC, Tunnel: h.Tunnel}
	for _, f := range p.FixedIPs {
		e.Addrs = append(e.Addrs, f.Addr)
	}
	return e
}

// outside fills in who has what on an external network.
func (c *call) outside(x *nodeapi.Network, n *Network, node string) {
	if n.Join == 0 || !c.flat(n) {
		return
	}
	x.VNI = n.Join
	if p := c.hostEnd(n.ID, c.members.byID[node]); p != nil {
		leg := c.nodeLeg(p)
		x.HostEnd = &nodeapi.HostEnd{MAC: leg.MAC, Addrs: leg.Addrs}
	}
	for _, p := range c.ports.By("network", n.ID) {
		var h Host
		switch p.DeviceOwner {
		case ownerHost:
			h = c.members.byID[p.Host]
		case ownerGateway:
			h = c.gateway(p.DeviceID)
		}
		if h.ID == node || !h.Tunnel.IsValid() {
			continue
		}
		e := endpoint(p, h)
		if p.DeviceOwner == ownerGateway {
			for _, f := range c.floating.By("router", p.DeviceID) {
				e.Addrs = append(e.Addrs, f.Address)
			}
		}
		x.Endpoints = append(x.Endpoints, e)
	}
}
