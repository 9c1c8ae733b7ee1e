package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/netns"
)

// vxlan is a VXLAN device that should be.
type vxlan struct {
	name string
	vni  int
	mtu  int
	mac  string // "": any
}

// ensureVXLAN makes a VXLAN device in ns or corrects it, and gives it, not yet
// up. The device is made from the host's namespace: there its socket stays, so
// that what it carries crosses the underlay while it itself is out of reach of
// the host. Who is where is told, never learned.
func (p *Plane) ensureVXLAN(ns *netns.NS, v vxlan) (netlink.Link, error) {
	in, err := ns.Link()
	if err != nil {
		return nil, err
	}
	host, err := p.host.Link()
	if err != nil {
		return nil, err
	}
	link, err := in.LinkByName(v.name)
	if err == nil && !p.fits(link, v) {
		if err := in.LinkDel(link); err != nil && !isGone(err) {
			return nil, fmt.Errorf("removing %s, which differs: %w", v.name, err)
		}
		link = nil
	}
	if err != nil || link == nil {
		if p.hostRules == nil {
			return nil, fmt.Errorf("%s waits for the host's rules: without them anybody could send to it", v.name)
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.Namespace = v.name, orDefault(v.mtu), netlink.NsFd(ns.FD())
		err := host.LinkAdd(&netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: v.vni, SrcAddr: p.cfg.Tunnel.AsSlice(), Port: p.cfg.TunnelPort,
		})
		if err != nil {
			return nil, fmt.Errorf("adding %s for VXLAN %d: %w", v.name, v.vni, err)
		}
		if link, err = in.LinkByName(v.name); err != nil {
			return nil, err
		}
	}
	if v.mac == "" {
		return link, nil
	}
	return link, setMAC(in, link, v.mac)
}

// fits tells whether a device is the one wanted, as far as it cannot be changed.
func (p *Plane) fits(link netlink.Link, v vxlan) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == v.vni && have.Port == p.cfg.TunnelPort && !have.Learning && addrOf(have.SrcAddr) == p.cfg.Tunnel
}

// overlaid tells whether a network or router with this VXLAN id spans nodes.
func (p *Plane) overlaid(vni int) bool { return vni > 0 && p.cfg.Tunnel.IsValid() }

// tunnelTo gives the address of another node that VXLAN can be sent to: one of
// our own family that is not ourselves.
func (p *Plane) tunnelTo(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && a != p.cfg.Tunnel && a.Is4() == p.cfg.Tunnel.Is4()
}
