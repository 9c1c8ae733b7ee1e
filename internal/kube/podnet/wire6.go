package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// gateway6 is the next hop of every pod over IPv6: hostMAC has it, as it has gateway, and
// nobody asks for it or answers.
var gateway6 = netip.MustParseAddr("fe80::1")

// dual tells whether the cluster's pods have IPv6 as well.
func (l *live) dual() bool { return l.part().PodCIDR6.IsValid() }

// inside6 is a port's IPv6 address in the network of pods; not valid: it has none. What else
// a port has, on a network that was there before, is not for pods.
func (l *live) inside6(p *nodeapi.ContainerPort) netip.Addr {
	return p.In(l.part().PodCIDR6)
}

// off6 turns IPv6 off for a device when it is "1", and default is that of new ones.
func off6(device string) string { return "net/ipv6/conf/" + device + "/disable_ipv6" }

// has6 tells whether the machine has IPv6 for new devices.
func (l *live) has6() bool {
	var raw []byte
	err := l.cfg.Host.Do(func() (err error) { raw, err = os.ReadFile("/proc/sys/" + off6("default")); return err })
	return err == nil && strings.TrimSpace(string(raw)) == "0"
}

func errNo6() error {
	return errs.New(errs.Unavailable, "the cluster's pods have IPv6, which is turned off on this machine: sysctl -w net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.all.disable_ipv6=0")
}

// plugged6 tells whether the node's device has the IPv6 address that it should have.
func (l *live) plugged6(h *netlink.Handle, link netlink.Link, port *nodeapi.ContainerPort) bool {
	a := l.inside6(port)
	return !a.IsValid() || netns.HasAddr(h, link, a)
}

// ensureNode6 is ensureNode for IPv6: the machine forwards, and answers for its pods.
func (l *live) ensureNode6(h *netlink.Handle, link netlink.Link) error {
	want := l.part()
	if !want.PodCIDR6.IsValid() {
		return nil
	}
	own, device := l.inside6(want.Worker.Port), link.Attrs().Name
	if !own.IsValid() {
		return errs.New(errs.Unavailable, "port %s has no address in the pods' network %s", want.Worker.Port.ID, want.PodCIDR6)
	}
	if l.cfg.Own {
		// A server's own ways come by advertisements, which who forwards does not heed otherwise.
		if err := l.cfg.Host.Sysctl("net/ipv6/conf/"+device+"/accept_ra", "2"); err != nil {
			return err
		}
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(own, want.PodCIDR6.Bits())), Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
	}
	if err := l.cfg.Forward6(true); err != nil {
		return err
	}
	for _, s := range []string{"conf/" + device + "/forwarding=1", "conf/" + device + "/proxy_ndp=1", "neigh/" + device + "/proxy_delay=0"} {
		key, value, _ := strings.Cut(s, "=")
		if err := l.cfg.Host.Sysctl("net/ipv6/"+key, value); err != nil {
			return err
		}
	}
	if err := l.ensureProxies(h, link.Attrs().Index); err != nil {
		return fmt.Errorf("answering for pods: %w", err)
	}
	return h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(want.ServiceCIDR6), Src: own.AsSlice(), Protocol: protocol})
}

// proxy has the machine answer on the node's own device for an address: there is no proxy_arp
// of IPv6, which would follow routes.
func proxy(index int, a netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, Family: unix.AF_INET6, Flags: netlink.NTF_PROXY, IP: a.AsSlice()}
}

// ensureProxies has the machine answer for its pods, and for nobody else. A device that was made
// anew answers for none.
func (l *live) ensureProxies(h *netlink.Handle, index int) error {
	have, err := h.NeighProxyList(index, unix.AF_INET6)
	if err != nil {
		return err
	}
	want := map[netip.Addr]bool{}
	for _, p := range l.all() {
		if a := l.inside6(&p.Port); a.IsValid() && !p.Gone {
			want[a] = true
		}
	}
	for _, n := range have {
		a, _ := netip.AddrFromSlice(n.IP)
		if !want[a] {
			err = errors.Join(err, unproxy(h, index, a))
		}
		delete(want, a)
	}
	for a := range want {
		err = errors.Join(err, h.NeighSet(proxy(index, a)))
	}
	return err
}

// unproxy ends that. Absent is fine.
func unproxy(h *netlink.Handle, index int, a netip.Addr) error {
	if err := h.NeighDel(proxy(index, a)); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// family6 turns IPv6 of a pod's end on the host on or off. It has no address of its own there,
// and hears nobody.
func (l *live) family6(name string) error {
	if !l.dual() {
		if err := l.cfg.Host.Sysctl(off6(name), "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	conf := "net/ipv6/conf/" + name
	return errors.Join(l.cfg.Host.Sysctl(conf+"/addr_gen_mode", "1"), l.cfg.Host.Sysctl(conf+"/accept_ra", "0"), l.cfg.Host.Sysctl(off6(name), "0"))
}

// wire6 gives a pod its IPv6 address, and the machine the way to it.
func (l *live) wire6(ns *netns.NS, in, h *netlink.Handle, p *Pod, mac net.HardwareAddr) error {
	if !l.dual() {
		return nil
	}
	part := l.part()
	addr, own := l.inside6(&p.Port), l.inside6(part.Worker.Port)
	if !addr.IsValid() || !own.IsValid() {
		return errs.New(errs.Unavailable, "port %s or %s has no address in the pods' network %s", p.Port.ID, part.Worker.Port.ID, part.PodCIDR6)
	}
	if err := wireInside6(ns, in, p.Device, addr); err != nil {
		return err
	}
	link, err := h.LinkByName(hostDevice(p.Port.ID))
	if err != nil {
		return err
	}
	gate, err := h.LinkByName(l.ownDevice())
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET6, State: unix.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}); err != nil {
		return err
	}
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(single(addr)), Src: own.AsSlice(), Protocol: protocol}); err != nil {
		return err
	}
	return h.NeighSet(proxy(gate.Attrs().Index, addr))
}

// wireInside6 is the pod's end. Runtimes may have turned IPv6 off there, as those who know
// none do.
func wireInside6(ns *netns.NS, in *netlink.Handle, device string, addr netip.Addr) error {
	eth, err := in.LinkByName(device)
	if err != nil {
		return err
	}
	if err := errors.Join(ns.Sysctl("net/ipv6/conf/"+device+"/accept_ra", "0"), ns.Sysctl(off6(device), "0"), ns.Sysctl(off6("lo"), "0")); err != nil {
		return err
	}
	index := eth.Attrs().Index
	return errors.Join(
		in.AddrReplace(eth, &netlink.Addr{IPNet: ipNet(single(addr)), Flags: unix.IFA_F_NODAD}), // the control plane gives an address once
		in.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET6, State: unix.NUD_PERMANENT, IP: gateway6.AsSlice(), HardwareAddr: hostMAC}),
		in.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gateway6.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}))
}

// unwire6 ends what the machine does for a pod's IPv6 address besides its device.
func (l *live) unwire6(h *netlink.Handle, p *Pod) error {
	addr := l.inside6(&p.Port)
	if !addr.IsValid() {
		return nil
	}
	if gate, err := h.LinkByName(l.ownDevice()); err == nil {
		if err := unproxy(h, gate.Attrs().Index, addr); err != nil {
			return err
		}
	}
	return l.endFlows(unix.AF_INET6, addr)
}
