package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/metadata"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/dataplane/ra"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// router is a router that has been realised.
type router struct {
	ns       *netns.NS
	spec     nodeapi.Router    // as realised
	subnets  []nodeapi.Network // the networks of its legs, as realised
	rules    *nft.Table        // what the kernel has
	legs     atomic.Pointer[[]*segment.Segment]
	metadata io.Closer
	adverts  map[string]*ra.Advertiser // by device
}

// ensureRouter makes a router with its legs, routes, translation and responders.
func (p *Plane) ensureRouter(ctx context.Context, spec nodeapi.Router, segs map[string]*segment.Segment, verify bool) error {
	r := p.routers[spec.ID]
	if r == nil {
		ns, made, err := netns.Ensure(p.routerNS(spec.ID))
		if err != nil {
			return err
		}
		r = &router{ns: ns, adverts: map[string]*ra.Advertiser{}}
		p.routers[spec.ID] = r
		verify = verify || made
	}
	views, nets := r.attach(spec, segs)
	r.legs.Store(&views)
	if !verify && same(r.spec, spec) && same(r.subnets, nets) {
		return nil
	}
	old := r.spec
	r.spec = nodeapi.Router{}
	if verify {
		r.rules = nil
	}
	if err := sysctls(r.ns,
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=1",
		"net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2",
		"net/ipv6/conf/default/accept_ra=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv6/conf/all/forwarding=1", "net/ipv4/ip_forward=1"); err != nil {
		return err
	}
	if err := loopback(r.ns, metadata4); err != nil {
		return err
	}
	// Rules first: a router without them would forward what it must not.
	if err := r.ensureRules(ctx, spec); err != nil {
		return err
	}
	if err := p.ensureLegs(ctx, r, spec, segs); err != nil {
		return err
	}
	if err := r.forget(&old, &spec); err != nil {
		return err
	}
	if err := p.startMetadata(ctx, r); err != nil {
		return err
	}
	r.spec, r.subnets = spec, nets
	return nil
}

// attach gives the segments of a router's legs, and their networks.
func (r *router) attach(spec nodeapi.Router, segs map[string]*segment.Segment) ([]*segment.Segment, []nodeapi.Network) {
	var views []*segment.Segment
	var nets []nodeapi.Network
	for _, l := range spec.Interfaces {
		if seg := segs[l.NetworkID]; seg != nil {
			views = append(views, seg)
			nets = append(nets, seg.Network)
		}
	}
	return views, nets
}

// ensureLegs makes the legs, their addresses and the routes over them.
func (p *Plane) ensureLegs(ctx context.Context, r *router, spec nodeapi.Router, segs map[string]*segment.Segment) error {
	want := map[string]bool{"lo": true}
	var errs []error
	for _, l := range spec.Interfaces {
		device := ifname.RouterInner(l.PortID)
		want[device] = true
		seg := segs[l.NetworkID]
		if seg == nil {
			errs = append(errs, fmt.Errorf("interface %s: network %s is not known here", l.PortID, l.NetworkID))
			continue
		}
		link, err := p.ensureRouterLeg(r, l, device, ifname.RouterOuter(l.PortID), seg.Network.MTU, l.Addrs)
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", l.PortID, err))
			continue
		}
		if err := r.advertise(ctx, p, link, l, seg); err != nil {
			errs = append(errs, err)
		}
	}
	routes, err := p.ensureWayOut(r, spec, segs, want)
	errs = append(errs, err, r.removeLegs(want), ensureRoutes(r.ns, routes))
	return errors.Join(errs...)
}

// ensureWayOut makes what leads out of the router, the gateway or the transit to
// it, and gives the routes. It notes the devices in want.
func (p *Plane) ensureWayOut(r *router, spec nodeapi.Router, segs map[string]*segment.Segment, want map[string]bool) ([]wantRoute, error) {
	var routes []wantRoute
	var errs []error
	out := func(via netip.Addr, dev netlink.Link) {
		dst := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if via.Is4() {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		routes = append(routes, wantRoute{dst: dst, via: via, dev: dev})
	}
	var transit netlink.Link
	if p.overlaid(spec.TransitVNI) && spec.Gateway != nil {
		want[ifname.Transit(spec.ID)] = true
		var err error
		if transit, err = p.ensureTransit(r, spec, segs); err != nil {
			errs = append(errs, fmt.Errorf("transit: %w", err))
		}
	}
	switch g := spec.Gateway; {
	case g == nil:
	case spec.GatewayHere:
		device := ifname.GatewayInner(g.PortID)
		want[device] = true
		link, err := p.ensureGateway(r, spec, device, segs)
		errs = append(errs, err)
		for _, via := range g.NextHops {
			if err == nil {
				out(via, link)
			}
		}
	case transit != nil:
		for _, via := range g.NextHops {
			out(transitAddr(via), transit)
		}
	}
	return append(routes, staticRoutes(spec, transit)...), errors.Join(errs...)
}

// staticRoutes are the router's own routes. A next hop that is outside is beyond
// the gateway, wherever that is.
func staticRoutes(spec nodeapi.Router, transit netlink.Link) []wantRoute {
	var routes []wantRoute
	for _, x := range spec.Routes {
		w := wantRoute{dst: x.Destination.Masked(), via: x.NextHop}
		if spec.Gateway != nil && !spec.GatewayHere && !inside(spec, x.NextHop) {
			if transit == nil {
				continue
			}
			w.via, w.dev = transitAddr(x.NextHop), transit
		}
		routes = append(routes, w)
	}
	return routes
}

func (p *Plane) ensureGateway(r *router, spec nodeapi.Router, device string, segs map[string]*segment.Segment) (netlink.Link, error) {
	g := spec.Gateway
	seg := segs[g.NetworkID]
	if seg == nil {
		return nil, fmt.Errorf("gateway: network %s is not known here", g.NetworkID)
	}
	addrs := append([]netip.Prefix(nil), g.Addrs...)
	for _, f := range spec.FloatingIPs {
		addrs = append(addrs, netip.PrefixFrom(f.Floating, f.Floating.BitLen()))
	}
	link, err := p.ensureRouterLeg(r, g.RouterInterface, device, ifname.GatewayOuter(g.PortID), seg.Network.MTU, addrs)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return link, nil
}

// ensureRouterLeg makes one leg and announces the addresses that are new on it.
func (p *Plane) ensureRouterLeg(r *router, l nodeapi.RouterInterface, inner, outer string, mtu int, addrs []netip.Prefix) (netlink.Link, error) {
	link, err := p.ensureLeg(r.ns, leg{inner: inner, outer: outer, bridge: ifname.Bridge(l.NetworkID), mac: l.MAC, mtu: mtu})
	if err != nil {
		return nil, err
	}
	// An address may be taken over right after it was.
	if err := r.ns.Sysctl("net/ipv4/neigh/"+inner+"/locktime", "0"); err != nil {
		return nil, err
	}
	added, err := ensureAddrs(r.ns, link, addrs)
	if err != nil {
		return nil, err
	}
	return link, announce(r.ns, inner, l.MAC, added)
}

// removeLegs removes the devices that no leg has any more.
func (r *router) removeLegs(want map[string]bool) error {
	h, err := r.ns.Link()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing legs: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if want[name] || l.Type() != "veth" && l.Type() != "vxlan" {
			continue
		}
		if a := r.adverts[name]; a != nil {
			a.Close()
			delete(r.adverts, name)
		}
		if err := h.LinkDel(l); err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("removing %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// advertise has the router advertise on a leg whose subnets ask for it.
func (r *router) advertise(ctx context.Context, p *Plane, link netlink.Link, l nodeapi.RouterInterface, seg *segment.Segment) error {
	device := link.Attrs().Name
	msg := ra.Advertisement(seg.Network, l)
	a := r.adverts[device]
	switch {
	case msg == nil && a == nil:
		return nil
	case msg == nil:
		delete(r.adverts, device)
		return a.Close()
	case a != nil && a.Index == link.Attrs().Index:
		a.Set(msg)
		return nil
	case a != nil:
		a.Close()
	}
	a = &ra.Advertiser{NS: r.ns, Device: device, Index: link.Attrs().Index, Log: p.log}
	a.Set(msg)
	if err := a.Start(ctx); err != nil {
		return fmt.Errorf("advertising on %s: %w", device, err)
	}
	r.adverts[device] = a
	return nil
}

// startMetadata answers servers that send metadata requests to their gateway.
func (p *Plane) startMetadata(ctx context.Context, r *router) error {
	if r.metadata != nil {
		return nil
	}
	s := &metadata.Server{
		NS: r.ns, Addrs: []string{"169.254.169.254:80"}, Owner: r.owner,
		Handle: p.cfg.Metadata, Log: p.log.With("router", r.ns.Name),
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	r.metadata = s
	return nil
}

// owner finds the port of an address on the networks of the router's legs. A
// router's subnets never overlap, so that an address means one port.
func (r *router) owner(a netip.Addr) *nodeapi.Port {
	for _, seg := range *r.legs.Load() {
		if port := seg.ByAddr(a); port != nil && a.Is4() {
			return port
		}
	}
	return nil
}

func (r *router) close() error {
	var errs []error
	if r.metadata != nil {
		errs = append(errs, r.metadata.Close())
	}
	for _, a := range r.adverts {
		errs = append(errs, a.Close())
	}
	return errors.Join(append(errs, r.ns.Close())...)
}
