package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Veth is Tap for a container: it puts a device that is plugged into the port's network
// into a namespace, with the port's addresses. It waits until the port's rules are in place.
// The device goes with the namespace, or with Unplug.
func (p *Plane) Veth(ctx context.Context, ns *netns.NS, device string, c nodeapi.ContainerPort) error {
	for {
		port, ok, changed := p.lookup(c.ID)
		if ok {
			return p.veth(port, ns, device, c)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the network to know port %s: %w", c.ID, context.Cause(ctx))
		}
	}
}

func (p *Plane) veth(port nodeapi.Port, ns *netns.NS, device string, c nodeapi.ContainerPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return errs.New(errs.Unavailable, "port %s: the data plane is closed", port.ID)
	}
	if _, ok, _ := p.lookup(port.ID); !ok {
		return errs.NotFoundf("port %s has gone", port.ID)
	}
	if err := p.furnish(port, ns, device, c); err != nil {
		return fmt.Errorf("port %s: %w", port.ID, err)
	}
	p.report(port.ID, true)
	return nil
}

// furnish makes the device anew, since an older one may be in a namespace that nobody
// knows any more.
func (p *Plane) furnish(port nodeapi.Port, ns *netns.NS, device string, c nodeapi.ContainerPort) error {
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(port.MAC)
	if err != nil {
		return err
	}
	name, mtu := ifname.Tap(port.ID), orDefault(p.bridges[port.NetworkID].MTU)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	if err := replaceLink(h, &netlink.Veth{LinkAttrs: attrs, PeerName: device, PeerHardwareAddr: mac, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(ns.FD())}); err != nil {
		return err
	}
	outer, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	inner, err := in.LinkByName(device)
	if err != nil {
		return err
	}
	// Addresses come from the port alone; what routers advertise would be dropped as forged. Nobody
	// else has them: while the kernel asks for that, who forwards asks for no neighbours.
	conf := "net/ipv6/conf/" + device
	if err := errors.Join(ns.Sysctl(conf+"/accept_ra", "0"), ns.Sysctl(conf+"/accept_dad", "0")); err != nil {
		return err
	}
	if err := errors.Join(plug(h, outer, ifname.Bridge(port.NetworkID), mtu), raise(in, inner, mtu)); err != nil {
		return err
	}
	if _, err := ensureAddrs(ns, inner, c.Addrs); err != nil {
		return err
	}
	return vethRoutes(in, inner, c)
}

func replaceLink(h *netlink.Handle, l netlink.Link) error {
	name := l.Attrs().Name
	if old, err := h.LinkByName(name); err == nil {
		if err := h.LinkDel(old); err != nil && !isGone(err) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	if err := h.LinkAdd(l); err != nil {
		return fmt.Errorf("adding %s: %w", name, err)
	}
	return nil
}

// vethRoutes adds the ways out. Those of an earlier device win: it is the container's first.
func vethRoutes(in *netlink.Handle, dev netlink.Link, c nodeapi.ContainerPort) error {
	routes := c.Routes
	for _, g := range c.Gateways {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		routes = append(routes[:len(routes):len(routes)], nodeapi.Route{Destination: all, NextHop: g})
	}
	for _, r := range routes {
		err := in.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: ipNet(r.Destination), Gw: r.NextHop.AsSlice(), Protocol: protocol, Flags: int(netlink.FLAG_ONLINK)})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route %s via %s: %w", r.Destination, r.NextHop, err)
		}
	}
	return nil
}
