package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// A router's transit is a VXLAN of its own, from each of its instances to the
// one with the gateway. It is a one-way street: what comes back goes over the
// inner networks, whose hosts the gateway's instance knows.
const (
	gatewayMAC = "02:53:54:00:00:01" // of the instance with the gateway
	senderMAC  = "02:53:54:00:00:02" // of all others
)

// Addresses of the gateway's instance on the transit. No device carries them:
// they only lead to gatewayMAC.
var (
	transit4 = netip.MustParseAddr("169.254.0.1")
	transit6 = netip.MustParseAddr("fe80::1")
)

func transitAddr(sameFamily netip.Addr) netip.Addr {
	if sameFamily.Is4() {
		return transit4
	}
	return transit6
}

// inside tells whether an address is on one of the router's inner networks.
func inside(spec nodeapi.Router, a netip.Addr) bool {
	return slices.ContainsFunc(spec.Interfaces, func(l nodeapi.RouterInterface) bool {
		return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// ensureTransit makes the transit device of a router and, on a node without the
// gateway, has it lead there; it is nil when the gateway is nowhere.
func (p *Plane) ensureTransit(r *router, spec nodeapi.Router, segs map[string]*segment.Segment) (netlink.Link, error) {
	name, mac := ifname.Transit(spec.ID), senderMAC
	if spec.GatewayHere {
		mac = gatewayMAC
	}
	mtu := 0
	for _, l := range spec.Interfaces {
		if seg := segs[l.NetworkID]; seg != nil {
			mtu = max(mtu, seg.Network.MTU)
		}
	}
	link, err := p.ensureVXLAN(r.ns, vxlan{name: name, vni: spec.TransitVNI, mtu: mtu, mac: mac})
	if err != nil {
		return nil, err
	}
	// What arrives here comes from addresses that lead back by other legs. (The
	// kernel's loose check refuses everything on a device without an address.)
	if err := r.ns.Sysctl("net/ipv4/conf/"+name+"/rp_filter", "0"); err != nil {
		return nil, err
	}
	h, err := r.ns.Link()
	if err != nil {
		return nil, err
	}
	if err := raise(h, link, orDefault(mtu)); err != nil {
		return nil, err
	}
	if spec.GatewayHere || !p.tunnelTo(spec.GatewayNode) {
		return nil, clearForwarding(h, link)
	}
	return link, leadTo(h, link, spec.GatewayNode)
}

// leadTo sends what is for the gateway's instance to a node.
func leadTo(h *netlink.Handle, link netlink.Link, node netip.Addr) error {
	mac, err := net.ParseMAC(gatewayMAC)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	for _, n := range []netlink.Neigh{
		{Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: unix.NUD_NOARP | unix.NUD_PERMANENT, IP: node.AsSlice()},
		{Family: unix.AF_INET, State: unix.NUD_PERMANENT, IP: transit4.AsSlice()},
		{Family: unix.AF_INET6, State: unix.NUD_PERMANENT, IP: transit6.AsSlice()},
	} {
		if n.Family == unix.AF_INET6 && link.Attrs().MTU < minMTU6 {
			continue
		}
		n.LinkIndex, n.HardwareAddr = index, mac
		if err := h.NeighSet(&n); err != nil {
			return fmt.Errorf("leading %s to %s: %w", link.Attrs().Name, node, err)
		}
	}
	return nil
}

// clearForwarding has a transit lead nowhere.
func clearForwarding(h *netlink.Handle, link netlink.Link) error {
	list, err := h.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("listing where %s leads: %w", link.Attrs().Name, err)
	}
	for _, n := range list {
		if err := h.NeighDel(&n); err != nil {
			return fmt.Errorf("%s: removing where it leads: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
