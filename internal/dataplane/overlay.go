package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// overlay is how a network reaches other nodes.
type overlay struct {
	vni, mtu int
	entries  entries
}

// spans tells whether a network reaches other nodes over VXLAN.
func (p *Plane) spans(n nodeapi.Network) bool {
	_, wired, _ := p.wire(n) // then the provider's network joins the nodes
	return !wired && p.overlaid(n.VNI)
}

// ensureOverlay makes the VXLAN port of a network's bridge and tells kernel
// and bridge who is where. It comes after all local legs are in place. A network
// without remote ports has one too: routers elsewhere send from other networks.
func (p *Plane) ensureOverlay(n nodeapi.Network, ports []*nodeapi.Port, tables *neighbours) error {
	if _, ok := p.bridges[n.ID]; !ok || !p.spans(n) {
		delete(p.overlays, n.ID)
		return nil
	}
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	want := overlay{vni: n.VNI, mtu: n.MTU, entries: p.forwarding(n, ports)}
	was, known := p.overlays[n.ID]
	if known && was.vni == want.vni && was.mtu == want.mtu && maps.Equal(was.entries, want.entries) {
		return nil
	}
	delete(p.overlays, n.ID)
	t := bridgeTables{h: h}
	if t.bridge, err = h.LinkByName(ifname.Bridge(n.ID)); err != nil {
		return err
	}
	have := was.entries
	if !known || was.vni != want.vni || was.mtu != want.mtu {
		if err := p.plugOverlay(h, &t, n); err != nil {
			return err
		}
		if err := tables.load(h); err != nil {
			return err
		}
		have = t.have(tables)
	} else if t.vxlan, err = h.LinkByName(ifname.Overlay(n.ID)); err != nil {
		return err
	}
	if err := t.change(have, want.entries); err != nil {
		return err
	}
	p.overlays[n.ID] = want
	return nil
}

// plugOverlay makes the VXLAN device a port that learns nothing and carries no
// question that the bridge can answer.
func (p *Plane) plugOverlay(h *netlink.Handle, t *bridgeTables, n nodeapi.Network) error {
	name, bridge := ifname.Overlay(n.ID), ifname.Bridge(n.ID)
	// The bridge's IPv6 neighbours need IPv6 on the bridge, which must not speak itself.
	if conf := "net/ipv6/conf/" + bridge + "/"; orDefault(n.MTU) >= minMTU6 {
		if err := sysctls(p.node, conf+"addr_gen_mode=1", conf+"accept_ra=0", conf+"disable_ipv6=0"); err != nil {
			return err
		}
	}
	link, err := p.ensureVXLAN(p.node, vxlan{name: name, vni: n.VNI, mtu: n.MTU})
	if err != nil {
		return err
	}
	if link.Attrs().MasterIndex != t.bridge.Attrs().Index {
		if err := h.LinkSetMaster(link, t.bridge); err != nil {
			return fmt.Errorf("plugging %s into %s: %w", name, bridge, err)
		}
	}
	t.vxlan = link
	return errors.Join(h.LinkSetLearning(link, false), h.LinkSetBrNeighSuppress(link, true), raise(h, link, orDefault(n.MTU)))
}

// forwarding is what the tables of a network should say.
func (p *Plane) forwarding(n nodeapi.Network, ports []*nodeapi.Port) entries {
	out := entries{}
	if slices.ContainsFunc(ports, func(p *nodeapi.Port) bool { return len(p.AllowedPairs) > 0 }) {
		p.floodRouters(out, n.ID)
	}
	for _, port := range ports {
		if !port.Local && !p.tunnelTo(port.Tunnel) {
			continue
		}
		addrs := make([]netip.Addr, len(port.FixedIPs))
		for i, ip := range port.FixedIPs {
			addrs[i] = ip.Addr
		}
		tunnel := port.Tunnel
		if port.Local {
			tunnel = netip.Addr{}
		}
		out.add(n, port.MAC, addrs, tunnel)
	}
	for _, e := range n.Endpoints {
		if p.tunnelTo(e.Tunnel) {
			out.add(n, e.MAC, e.Addrs, e.Tunnel)
		}
	}
	p.pin(out, n)
	if mac, addrs, device := p.hostEnd(n); device != "" {
		out.pinned(n, mac, addrs, device)
	}
	if orDefault(n.MTU) < minMTU6 {
		maps.DeleteFunc(out, func(e entry, _ target) bool { return e.kind == answered && e.addr.Is6() })
	}
	return out
}

// minMTU6 is what IPv6 needs; the kernel has none on a device with less.
const minMTU6 = 1280

// floodRouters has broadcasts of a network reach all nodes that route into it,
// so that who takes over an address is heard where it is asked for.
func (p *Plane) floodRouters(out entries, network string) {
	joined := map[string]bool{network: true}
	var gateways []netip.Addr
	for grown := true; grown; {
		grown = false
		for _, r := range p.state.Routers {
			if !slices.ContainsFunc(r.Interfaces, func(l nodeapi.RouterInterface) bool { return joined[l.NetworkID] }) {
				continue
			}
			gateways = append(gateways, r.GatewayNode)
			for _, l := range r.Interfaces {
				grown = grown || !joined[l.NetworkID]
				joined[l.NetworkID] = true
			}
		}
	}
	for i := range p.state.Ports {
		if joined[p.state.Ports[i].NetworkID] {
			gateways = append(gateways, p.state.Ports[i].Tunnel)
		}
	}
	for _, a := range gateways {
		if p.tunnelTo(a) {
			out[entry{kind: flooded, addr: a}] = target{}
		}
	}
}

// add tells of a MAC and its addresses. One without a tunnel is here, where the
// bridge learns it; its addresses are known so that nobody elsewhere is asked.
func (e entries) add(n nodeapi.Network, mac string, addrs []netip.Addr, tunnel netip.Addr) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return
	}
	mac = hw.String()
	if tunnel.IsValid() {
		e[entry{kind: flooded, addr: tunnel}] = target{}
		e[entry{kind: tunnelled, mac: mac}] = target{addr: tunnel}
		e[entry{kind: switched, mac: mac}] = target{device: ifname.Overlay(n.ID)}
	}
	for _, a := range append(slices.Clone(addrs), segment.LinkLocal(hw)) {
		e[entry{kind: answered, addr: a}] = target{mac: mac}
	}
}

// pinned tells of a MAC that stays behind a device of ours.
func (e entries) pinned(n nodeapi.Network, mac string, addrs []netip.Addr, device string) {
	e.add(n, mac, addrs, netip.Addr{})
	if hw, err := net.ParseMAC(mac); err == nil {
		e[entry{kind: switched, mac: hw.String()}] = target{device: device, pinned: true}
	}
}

// pin tells of the legs that every node has with the same MAC and addresses:
// each node keeps to its own.
func (p *Plane) pin(out entries, n nodeapi.Network) {
	if n.ServicePortID != "" {
		out.pinned(n, n.ServiceMAC, append(addrsOf(n.ServiceAddrs), metadata4.Addr(), metadata6.Addr()), ifname.ServiceOuter(n.ServicePortID))
	}
	for _, r := range p.state.Routers {
		if !r.AdminUp {
			continue
		}
		for _, l := range r.Interfaces {
			if l.NetworkID == n.ID {
				out.pinned(n, l.MAC, addrsOf(l.Addrs), ifname.RouterOuter(l.PortID))
			}
		}
		if g := r.Gateway; g != nil && r.GatewayHere && g.NetworkID == n.ID {
			out.pinned(n, g.MAC, gatewayAddrs(r), ifname.GatewayOuter(g.PortID))
		}
	}
}

// gatewayAddrs are all addresses on a router's leg to the outside.
func gatewayAddrs(r nodeapi.Router) []netip.Addr {
	addrs := addrsOf(r.Gateway.Addrs)
	for _, f := range r.FloatingIPs {
		addrs = append(addrs, f.Floating)
	}
	return addrs
}

func addrsOf(prefixes []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.Addr()
	}
	return out
}
