package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Hop is one check on the way between a server's port and the world.
type Hop struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was seen
	Fix    string `json:"fix"`    // what to do when it is not OK
}

const fixApply = "apply the network state again; if that does not help, see the node's log for this object"

// Trace checks the way of a local port hop by hop, from its tap to the host. It
// changes nothing. A check that has no meaning for the port is left out.
func (p *Plane) Trace(ctx context.Context, portID string) []Hop {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := tracer{p: p}
	i := slices.IndexFunc(p.state.Ports, func(x nodeapi.Port) bool { return x.ID == portID && x.Local })
	if p.node == nil || i < 0 {
		t.add("port", false, "the node knows no such local port", "check that the port is bound to this node and active")
		return t.hops
	}
	t.port = p.state.Ports[i]
	t.tap()
	t.rules()
	t.overlay()
	t.service()
	for _, r := range p.state.Routers {
		for _, l := range r.Interfaces {
			if l.NetworkID == t.port.NetworkID {
				t.router(r, l)
			}
		}
	}
	return t.hops
}

type tracer struct {
	p    *Plane
	port nodeapi.Port
	hops []Hop
}

func (t *tracer) add(name string, ok bool, detail, fix string) bool {
	if ok {
		fix = ""
	}
	t.hops = append(t.hops, Hop{Name: name, OK: ok, Detail: detail, Fix: fix})
	return ok
}

func (t *tracer) tap() {
	name, bridge := ifname.Tap(t.port.ID), ifname.Bridge(t.port.NetworkID)
	h, err := t.p.node.Link()
	if err != nil {
		t.add("tap", false, err.Error(), fixApply)
		return
	}
	link, err := h.LinkByName(name)
	if err != nil {
		t.add("tap", false, name+" does not exist", "start the server: its tap is made when it starts")
		return
	}
	running := link.Attrs().RawFlags&0x10000 != 0 // IFF_LOWER_UP: a process holds the tap
	t.add("tap", running, fmt.Sprintf("%s carrier %v, mtu %d", name, running, link.Attrs().MTU),
		"no process has the tap open: check that the server's VMM runs")
	br, err := h.LinkByName(bridge)
	if err != nil {
		t.add("bridge", false, bridge+" does not exist", fixApply)
		return
	}
	t.add("bridge", link.Attrs().MasterIndex == br.Attrs().Index && br.Attrs().Flags&net.FlagUp != 0,
		name+" in "+bridge, fixApply)
}

func (t *tracer) rules() {
	t.add("security groups", t.p.rules != nil,
		fmt.Sprintf("admin up %v, port security %v, groups %d", t.port.AdminUp, t.port.PortSecurity, len(t.port.SecurityGroups)), fixApply)
	t.add("admin state", t.port.AdminUp, fmt.Sprintf("admin_state_up is %v", t.port.AdminUp), "set the port's admin_state_up to true")
}

// network is the port's.
func (t *tracer) network() nodeapi.Network {
	for _, n := range t.p.state.Networks {
		if n.ID == t.port.NetworkID {
			return n
		}
	}
	return nodeapi.Network{}
}

// overlay checks the way to other nodes.
func (t *tracer) overlay() {
	n := t.network()
	if !t.p.spans(n) {
		return
	}
	name := ifname.Overlay(n.ID)
	var peers []string
	for e := range t.p.overlays[n.ID].entries {
		if e.kind == flooded {
			peers = append(peers, e.addr.String())
		}
	}
	slices.Sort(peers)
	h, err := t.p.node.Link()
	if err != nil {
		t.add("overlay", false, err.Error(), fixApply)
		return
	}
	link, err := h.LinkByName(name)
	ok := err == nil && link.Attrs().MasterIndex != 0 && link.Attrs().Flags&net.FlagUp != 0
	t.add("overlay", ok, fmt.Sprintf("%s carries VXLAN %d to %v", name, n.VNI, peers), fixApply)
	host, err := t.p.host.Link()
	if err != nil {
		t.add("underlay", false, err.Error(), fixApply)
		return
	}
	for _, peer := range peers {
		a := netip.MustParseAddr(peer)
		_, err := host.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{SrcAddr: t.p.cfg.Tunnel.AsSlice()})
		t.add("underlay", err == nil, fmt.Sprintf("from %s to the node at %s", t.p.cfg.Tunnel, peer),
			"the host has lost its tunnel address or the route to the node: check its network")
	}
}

func (t *tracer) service() {
	n := t.network()
	if n.ServicePortID == "" {
		return
	}
	s := t.p.services[n.ID]
	ok := s != nil && len(s.responders) > 0
	t.add("DHCP, DNS and metadata", ok, fmt.Sprintf("listening on %v", n.ServiceAddrs), fixApply)
	if !ok {
		return
	}
	for _, ip := range t.port.FixedIPs {
		if ip.Addr.Is4() {
			t.neighbour("server answers ARP", s.ns, ifname.ServiceInner(n.ServicePortID), ip.Addr,
				"the server does not have its address: check its console, or restart its DHCP client")
		}
	}
}

// neighbour asks the kernel of a namespace to resolve an address, and looks.
func (t *tracer) neighbour(name string, ns *netns.NS, device string, addr netip.Addr, fix string) {
	mac, err := resolve(ns, device, addr)
	if err != nil {
		t.add(name, false, err.Error(), fix)
		return
	}
	t.add(name, true, fmt.Sprintf("%s is at %s", addr, mac), "")
}

func (t *tracer) router(r nodeapi.Router, l nodeapi.RouterInterface) {
	rt := t.p.routers[r.ID]
	if !t.add("router", rt != nil, "router "+r.ID, "set the router's admin_state_up to true; else "+fixApply) {
		return
	}
	h, err := rt.ns.Link()
	if err != nil {
		t.add("router interface", false, err.Error(), fixApply)
		return
	}
	link, err := h.LinkByName(ifname.RouterInner(l.PortID))
	t.add("router interface", err == nil && hasAddrs(h, link, l.Addrs), fmt.Sprintf("%s with %v", ifname.RouterInner(l.PortID), l.Addrs), fixApply)
	if r.Gateway == nil {
		return
	}
	if !r.GatewayHere {
		t.transit(h, r)
		return
	}
	device := ifname.GatewayInner(r.Gateway.PortID)
	link, err = h.LinkByName(device)
	t.add("router gateway", err == nil && hasAddrs(h, link, r.Gateway.Addrs), fmt.Sprintf("%s with %v", device, r.Gateway.Addrs), fixApply)
	for _, f := range r.FloatingIPs {
		if slices.ContainsFunc(t.port.FixedIPs, func(ip nodeapi.FixedIP) bool { return ip.Addr == f.Fixed }) {
			t.floating(rt, f)
		}
	}
	for _, via := range r.Gateway.NextHops {
		if via.Is4() {
			t.neighbour("external gateway answers ARP", rt.ns, device, via,
				"nobody has the external gateway's address: check the host's link and its address")
		}
	}
}

// transit checks the way to a router's gateway on another node.
func (t *tracer) transit(h *netlink.Handle, r nodeapi.Router) {
	name := ifname.Transit(r.ID)
	if !r.GatewayNode.IsValid() {
		t.add("router gateway", false, "no node has the gateway of router "+r.ID, "start a node: `strata status` shows which are away")
		return
	}
	link, err := h.LinkByName(name)
	ok := err == nil && link.Attrs().Flags&net.FlagUp != 0
	t.add("router gateway", ok, fmt.Sprintf("on the node at %s, over %s with VXLAN %d", r.GatewayNode, name, r.TransitVNI), fixApply)
	for _, f := range r.FloatingIPs {
		if slices.ContainsFunc(t.port.FixedIPs, func(ip nodeapi.FixedIP) bool { return ip.Addr == f.Fixed }) {
			t.hostRoute(f)
		}
	}
}

func (t *tracer) floating(rt *router, f nodeapi.FloatingIP) {
	ok := rt.rules != nil && rt.rules.Sets["floating"].Elements[f.Floating.String()] == f.Fixed.String()
	t.add("floating IP", ok, fmt.Sprintf("%s is translated to %s", f.Floating, f.Fixed), fixApply)
	t.hostRoute(f)
}

// hostRoute checks the way from the host to a floating IP.
func (t *tracer) hostRoute(f nodeapi.FloatingIP) {
	if len(t.p.hostLinks()) == 0 {
		return // outside is a provider's network
	}
	h, err := t.p.host.Link()
	if err != nil {
		t.add("host route", false, err.Error(), fixApply)
		return
	}
	routes, err := h.RouteGet(f.Floating.AsSlice())
	if err != nil || len(routes) == 0 {
		t.add("host route", false, fmt.Sprintf("no route to %s", f.Floating), "add a route to the external network on the host")
		return
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	ours := err == nil && link.Attrs().Alias == hostAlias(t.p.cfg.Name)
	if t.add("host route", ours, fmt.Sprintf("%s goes through %s", f.Floating, nameOf(link)),
		"another route of the host covers the external network: remove it or choose another range") {
		t.neighbour("floating IP answers ARP", t.p.host, nameOf(link), f.Floating, fixApply)
	}
}

func nameOf(link netlink.Link) string {
	if link == nil {
		return "an unknown device"
	}
	return link.Attrs().Name
}

func hasAddrs(h *netlink.Handle, link netlink.Link, want []netip.Prefix) bool {
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	return err == nil && !slices.ContainsFunc(want, func(w netip.Prefix) bool {
		return !slices.ContainsFunc(have, func(a netlink.Addr) bool { return addrOf(a.IP) == w.Addr() })
	})
}
