package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/dhcp"
	"github.com/strata-cloud/strata/internal/dataplane/dns"
	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/metadata"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

var (
	metadata4 = netip.MustParsePrefix("169.254.169.254/32")
	metadata6 = netip.MustParsePrefix("fe80::a9fe:a9fe/64")
)

// service is a network's DHCP port with its responders.
type service struct {
	ns         *netns.NS
	net        nodeapi.Network // as realised
	view       atomic.Pointer[segment.Segment]
	responders []io.Closer
}

// responder is something that listens in a namespace.
type responder interface {
	Start(ctx context.Context) error
	io.Closer
}

// ensureService makes the DHCP port of a network and has its responders listen.
func (p *Plane) ensureService(ctx context.Context, seg *segment.Segment, verify bool) error {
	n := seg.Network
	if n.ServicePortID == "" {
		return nil // removed with the other orphans
	}
	s := p.services[n.ID]
	if s == nil {
		ns, made, err := netns.Ensure(p.serviceNS(n.ID))
		if err != nil {
			return err
		}
		s = &service{ns: ns}
		p.services[n.ID] = s
		verify = verify || made
	}
	s.view.Store(seg)
	if !verify && same(s.net, n) {
		return nil
	}
	device := ifname.ServiceInner(n.ServicePortID)
	restart := s.net.ServicePortID != n.ServicePortID
	s.net = nodeapi.Network{}
	if err := sysctls(s.ns, "net/ipv6/conf/default/accept_ra=0", "net/ipv6/conf/default/accept_dad=0"); err != nil {
		return err
	}
	if err := loopback(s.ns); err != nil {
		return err
	}
	link, err := p.ensureLeg(s.ns, leg{
		inner: device, outer: ifname.ServiceOuter(n.ServicePortID),
		bridge: ifname.Bridge(n.ID), mac: n.ServiceMAC, mtu: n.MTU,
	})
	if err != nil {
		return err
	}
	if err := fillChecksums(s.ns, device); err != nil {
		return err
	}
	addrs := append([]netip.Prefix{metadata4, metadata6}, n.ServiceAddrs...)
	if _, err := ensureAddrs(s.ns, link, addrs); err != nil {
		return err
	}
	if err := ensureRoutes(s.ns, gateways(n)); err != nil {
		return err
	}
	if restart {
		if err := p.startService(ctx, s, link); err != nil {
			return err
		}
	}
	s.net = n
	return nil
}

// gateways is the way out of a network, so that other subnets behind its
// router can use its name server.
func gateways(n nodeapi.Network) []wantRoute {
	var routes []wantRoute
	have := map[bool]bool{}
	for _, s := range n.Subnets {
		if !s.Gateway.IsValid() || !s.ServiceAddr.IsValid() || have[s.Gateway.Is4()] {
			continue
		}
		have[s.Gateway.Is4()] = true
		dst := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if s.Gateway.Is4() {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		routes = append(routes, wantRoute{dst: dst, via: s.Gateway})
	}
	return routes
}

func (p *Plane) startService(ctx context.Context, s *service, link netlink.Link) error {
	if err := s.stop(); err != nil {
		return err
	}
	device := link.Attrs().Name
	zone := strconv.Itoa(link.Attrs().Index) // a name would be resolved in the host's namespace
	log := p.log.With("network", s.view.Load().Network.ID)
	view := s.view.Load
	owner := func(a netip.Addr) *nodeapi.Port { return view().ByAddr(a) }
	for _, r := range []responder{
		&dhcp.Server4{View: view, NS: s.ns, Device: device, Log: log},
		&dhcp.Server6{View: view, NS: s.ns, Device: device, Log: log},
		&dns.Server{View: view, Beside: func(a netip.Addr) []*segment.Segment { return p.beside(view(), a) }, NS: s.ns, Resolvers: p.cfg.Resolvers, Log: log},
		&metadata.Server{
			NS: s.ns, Owner: owner, Handle: p.cfg.Metadata, Log: log,
			Addrs: []string{"169.254.169.254:80", "[fe80::a9fe:a9fe%" + zone + "]:80"},
		},
	} {
		if err := r.Start(ctx); err != nil {
			return errors.Join(fmt.Errorf("starting %T: %w", r, err), s.stop())
		}
		s.responders = append(s.responders, r)
	}
	return nil
}

// containerOwner is the device owner of ports of containers.
const containerOwner = "compute:zun"

// beside lists the other networks of the container that has an address in a network.
func (p *Plane) beside(seg *segment.Segment, a netip.Addr) (out []*segment.Segment) {
	port, all := seg.ByAddr(a), p.seen.Load()
	if port == nil || port.DeviceOwner != containerOwner || port.DeviceID == "" || all == nil {
		return nil
	}
	for _, other := range *all {
		if other.Network.ID != seg.Network.ID && other.HasLocal(port.DeviceID) {
			out = append(out, other)
		}
	}
	return out
}

// stop stops the responders.
func (s *service) stop() error {
	var errs []error
	for _, r := range s.responders {
		errs = append(errs, r.Close())
	}
	s.responders = nil
	return errors.Join(errs...)
}

func (s *service) close() error { return errors.Join(s.stop(), s.ns.Close()) }
