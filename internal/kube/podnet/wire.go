package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// gateway is the next hop of every pod, and hostMAC who has it: nobody asks or answers,
// since both ends of a pod's device are told of each other for good.
var (
	gateway = netip.MustParseAddr("169.254.1.1")
	hostMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
)

// protocol marks the routes that are ours.
const protocol netlink.RouteProtocol = 85

// podPrefix begins the names of pods' devices.
const (
	podPrefix  = "kp-"
	nodePrefix = "kn-"
)

func hostDevice(port string) string { return podPrefix + port[:min(len(port), 11)] }
func nodeDevice(port string) string { return nodePrefix + port[:min(len(port), 11)] }

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// deviceOf is the device of the node's own port: one that is made here, or that a server has.
func (n *Network) deviceOf(port *nodeapi.ContainerPort) (string, error) {
	if !n.cfg.Own {
		return nodeDevice(port.ID), nil
	}
	h, err := n.cfg.Host.Link()
	if err != nil {
		return "", err
	}
	links, err := h.LinkList()
	if err != nil {
		return "", err
	}
	for _, x := range links {
		if x.Type() == "device" && x.Attrs().HardwareAddr.String() == port.MAC {
			return x.Attrs().Name, nil
		}
	}
	return "", errs.New(errs.Unavailable, "this machine has no network card %s", port.MAC)
}

func (l *live) ownDevice() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.device
}

// ensureNode has the node's own device in the host's namespace.
func (l *live) ensureNode(ctx context.Context) error {
	want := l.part()
	port := *want.Worker.Port
	addr, err := port.IPv4()
	if err != nil {
		return err
	}
	device, host := l.ownDevice(), l.cfg.Host
	h, err := host.Link()
	if err != nil {
		return err
	}
	switch plugged := l.plugged(h, device, &port); {
	case !plugged && l.cfg.Own:
		return errs.New(errs.Unavailable, "%s has not got its address %s yet", device, addr)
	case !plugged && l.dual() && !l.has6():
		return errNo6()
	case !plugged:
		port.Gateways, port.Routes = nil, nil // the machine has its own ways
		if err := l.cfg.Plug(ctx, host, device, port); err != nil {
			return err
		}
	}
	link, err := h.LinkByName(device)
	if err != nil {
		return err
	}
	if !l.cfg.Own { // which is not ours to remove
		if err := l.mark(h, link); err != nil {
			return err
		}
	}
	for _, s := range []string{"proxy_arp=1", "send_redirects=0", "rp_filter=2"} {
		key, value, _ := strings.Cut(s, "=")
		if err := host.Sysctl("net/ipv4/conf/"+device+"/"+key, value); err != nil {
			return err
		}
	}
	// Otherwise the kernel lets others wait for up to a second.
	if err := host.Sysctl("net/ipv4/neigh/"+device+"/proxy_delay", "0"); err != nil {
		return err
	}
	if err := l.cfg.Forward(true); err != nil {
		return err
	}
	if err := l.ensureOrigins(h, link, want.Worker.Balancers); err != nil {
		return err
	}
	// The machine speaks to services from within the cluster's network, also if it has no other way out.
	if err := h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(want.ServiceCIDR), Src: addr.AsSlice(), Scope: netlink.SCOPE_LINK, Protocol: protocol}); err != nil {
		return err
	}
	return l.ensureNode6(h, link)
}

// alias marks the devices of this cloud's pods.
func (n *Network) alias() string { return "strata pods " + n.cfg.Name }

func (l *live) mark(h *netlink.Handle, link netlink.Link) error {
	if link.Attrs().Alias == l.alias() {
		return nil
	}
	return h.LinkSetAlias(link, l.alias())
}

// plugged tells whether the node's device is there as it should be.
func (l *live) plugged(h *netlink.Handle, device string, port *nodeapi.ContainerPort) bool {
	link, err := h.LinkByName(device)
	if err != nil || link.Attrs().HardwareAddr.String() != port.MAC || link.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	list, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(list) == 0 {
		return false
	}
	for _, a := range list {
		if addr, err := port.IPv4(); err != nil || !a.IP.Equal(addr.AsSlice()) {
			return false
		}
	}
	return l.cfg.Own || l.plugged6(h, link, port) // a server's is added
}

// wire gives a pod its device.
func (l *live) wire(ns *netns.NS, p *Pod) error {
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	addr, err := p.Port.IPv4()
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(p.Port.MAC)
	if err != nil {
		return err
	}
	name := hostDevice(p.Port.ID)
	if err := removeLink(h, name); err != nil {
		return err
	}
	if err := removeLink(in, p.Device); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, hostMAC
	if p.Port.MTU > 0 {
		attrs.MTU = p.Port.MTU
	}
	err = h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: p.Device, PeerHardwareAddr: mac, PeerMTU: uint32(p.Port.MTU), PeerNamespace: netlink.NsFd(ns.FD())})
	if err != nil {
		return fmt.Errorf("adding %s: %w", name, err)
	}
	if err := l.wireInside(ns, in, p.Device, addr); err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	if err := l.wireOutside(h, name, mac, addr); err != nil {
		return err
	}
	if err := l.wire6(ns, in, h, p, mac); err != nil {
		return fmt.Errorf("IPv6 of the pod: %w", err)
	}
	return nil
}

// wireInside configures the pod's end.
func (l *live) wireInside(ns *netns.NS, in *netlink.Handle, device string, addr netip.Addr) error {
	eth, err := in.LinkByName(device)
	if err != nil {
		return err
	}
	if err := in.AddrReplace(eth, &netlink.Addr{IPNet: ipNet(single(addr))}); err != nil {
		return err
	}
	if lo, err := in.LinkByName("lo"); err == nil {
		if err := in.LinkSetUp(lo); err != nil {
			return err
		}
	}
	if err := in.LinkSetUp(eth); err != nil {
		return err
	}
	index := eth.Attrs().Index
	return errors.Join(
		in.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET, State: unix.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: hostMAC}),
		in.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(single(gateway)), Scope: netlink.SCOPE_LINK}),
		in.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}))
}

// wireOutside configures the host's end, and the way to the pod.
func (l *live) wireOutside(h *netlink.Handle, name string, mac net.HardwareAddr, addr netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if err := l.mark(h, link); err != nil {
		return err
	}
	if err := l.family6(name); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET, State: unix.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}); err != nil {
		return err
	}
	own, err := l.part().Worker.Port.IPv4()
	if err != nil {
		return err
	}
	return h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(single(addr)), Src: own.AsSlice(), Scope: netlink.SCOPE_LINK, Protocol: protocol})
}

// unwire takes a pod's device, and with it the way to it, and what is known of its
// connections: the next pod with its address has nothing to do with them.
func (l *live) unwire(p *Pod) error {
	if p.Port.ID == "" {
		return nil
	}
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	if err := removeLink(h, hostDevice(p.Port.ID)); err != nil {
		return err
	}
	addr, err := p.Port.IPv4()
	if err != nil {
		return nil // it had none
	}
	if err := l.endFlows(unix.AF_INET, addr); err != nil {
		return err
	}
	return l.unwire6(h, p)
}

// endFlows forgets the connections of an address.
func (l *live) endFlows(family netlink.InetFamily, addr netip.Addr) error {
	return l.cfg.Host.Do(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer nl.Close()
		_, err = nl.ConntrackDeleteFilters(netlink.ConntrackTable, family, flowsOf(addr))
		return err
	})
}

// flowsOf are the connections of an address.
type flowsOf netip.Addr

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsOf) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	a := net.IP(netip.Addr(f).AsSlice())
	return c.Forward.SrcIP.Equal(a) || c.Forward.DstIP.Equal(a) || c.Reverse.SrcIP.Equal(a) || c.Reverse.DstIP.Equal(a)
}

func removeLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}

// check tells what a pod's device lacks.
func (l *live) check(p *Pod) error {
	known, ok := l.get(p.key())
	if !ok || known.Gone {
		return fmt.Errorf("sandbox %s has no device %s", p.Sandbox, p.Device)
	}
	ns, err := netns.OpenFile(p.Sandbox, p.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	in, err := ns.Link()
	if err != nil {
		return err
	}
	addr, err := known.Port.IPv4()
	if err != nil {
		return err
	}
	eth, err := in.LinkByName(p.Device)
	if err != nil {
		return err
	}
	list, err := in.AddrList(eth, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	if len(list) == 0 || !list[0].IP.Equal(addr.AsSlice()) {
		return fmt.Errorf("%s has not the address %s", p.Device, addr)
	}
	if a := l.inside6(&known.Port); a.IsValid() && !netns.HasAddr(in, eth, a) {
		return fmt.Errorf("%s has not the address %s", p.Device, a)
	}
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	_, err = h.LinkByName(hostDevice(known.Port.ID))
	return err
}

// clear removes every device of pods, that of the node, and the rules.
func (l *live) clear(ctx context.Context) error {
	return errors.Join(l.unrule(ctx), l.clearOrigins(), l.cfg.Forward(false), l.cfg.Forward6(false), l.removeLinks(map[string]bool{}))
}

// strays removes what another cluster has left here.
func (l *live) strays() error {
	keep := map[string]bool{nodeDevice(l.part().Worker.Port.ID): true}
	for _, p := range l.all() {
		keep[hostDevice(p.Port.ID)] = true
	}
	return l.removeLinks(keep)
}

func (l *live) removeLinks(keep map[string]bool) error {
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, x := range links {
		if name := x.Attrs().Name; x.Attrs().Alias == l.alias() && !keep[name] {
			err = errors.Join(err, removeLink(h, name))
		}
	}
	return err
}
