package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
)

// leg is a veth from a bridge in the node's namespace into another namespace.
type leg struct {
	inner, outer string // device names
	bridge       string
	mac          string
	mtu          int
}

// ensureLeg makes a leg into ns, or corrects it, and gives its inner device.
func (p *Plane) ensureLeg(ns *netns.NS, l leg) (netlink.Link, error) {
	node, err := p.node.Link()
	if err != nil {
		return nil, err
	}
	in, err := ns.Link()
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(l.mac)
	if err != nil {
		return nil, err
	}
	mtu := orDefault(l.mtu)
	inner, err := in.LinkByName(l.inner)
	outer, outErr := node.LinkByName(l.outer)
	if err != nil || outErr != nil {
		if outErr == nil { // its other end is lost
			if err := node.LinkDel(outer); err != nil {
				return nil, fmt.Errorf("removing %s: %w", l.outer, err)
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = l.outer, mtu
		err := node.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: l.inner, PeerHardwareAddr: mac,
			PeerNamespace: netlink.NsFd(ns.FD()),
		})
		if err != nil {
			return nil, fmt.Errorf("adding %s: %w", l.outer, err)
		}
		if outer, err = node.LinkByName(l.outer); err != nil {
			return nil, err
		}
		if inner, err = in.LinkByName(l.inner); err != nil {
			return nil, fmt.Errorf("device %s in %s: %w", l.inner, ns.Name, err)
		}
	}
	if err := plug(node, outer, l.bridge, mtu); err != nil {
		return nil, err
	}
	if err := setMAC(in, inner, l.mac); err != nil {
		return nil, err
	}
	return inner, raise(in, inner, mtu)
}

// setMAC gives a device its MAC when it has another.
func setMAC(h *netlink.Handle, link netlink.Link, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil || link.Attrs().HardwareAddr.String() == hw.String() {
		return err
	}
	if err := h.LinkSetHardwareAddr(link, hw); err != nil {
		return fmt.Errorf("setting the MAC of %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// plug puts a device of the node's namespace onto a bridge and sets it up.
func plug(h *netlink.Handle, link netlink.Link, bridge string, mtu int) error {
	br, err := h.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	if link.Attrs().MasterIndex != br.Attrs().Index {
		if err := h.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("plugging %s into %s: %w", link.Attrs().Name, bridge, err)
		}
	}
	return raise(h, link, mtu)
}

// raise sets a device's MTU and sets it up.
func raise(h *netlink.Handle, link netlink.Link, mtu int) error {
	a := link.Attrs()
	if a.MTU != mtu {
		if err := h.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("setting the MTU of %s to %d: %w", a.Name, mtu, err)
		}
	}
	if a.Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting %s up: %w", a.Name, err)
		}
	}
	return nil
}

// ensureAddrs gives a device exactly the addresses of want, besides the
// link-local one that the kernel made from its MAC. It tells which are new.
func ensureAddrs(ns *netns.NS, link netlink.Link, want []netip.Prefix) (added []netip.Prefix, err error) {
	h, err := ns.Link()
	if err != nil {
		return nil, err
	}
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing addresses of %s: %w", link.Attrs().Name, err)
	}
	keep := map[netip.Prefix]bool{}
	if link.Attrs().Flags&net.FlagLoopback == 0 {
		keep[netip.PrefixFrom(segment.LinkLocal(link.Attrs().HardwareAddr), 64)] = true
	}
	var errs []error
	seen := map[netip.Prefix]bool{}
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		prefix := netip.PrefixFrom(ip.Unmap(), ones)
		seen[prefix] = true
		if !slices.Contains(want, prefix) && !keep[prefix] && !ip.IsLoopback() {
			errs = append(errs, h.AddrDel(link, &a))
		}
	}
	for _, prefix := range want {
		if seen[prefix] {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // the control plane gives an address once
		}
		if err := h.AddrReplace(link, addr); err != nil {
			errs = append(errs, fmt.Errorf("adding %s to %s: %w", prefix, link.Attrs().Name, err))
			continue
		}
		added = append(added, prefix)
	}
	return added, errors.Join(errs...)
}

// protocol marks the routes that we made in a namespace, to find them again.
const protocol netlink.RouteProtocol = 85

// wantRoute is a route in a namespace; dev may be nil when via decides.
type wantRoute struct {
	dst netip.Prefix
	via netip.Addr
	dev netlink.Link
}

// ensureRoutes makes the routes of our protocol exactly want.
func ensureRoutes(ns *netns.NS, want []wantRoute) error {
	h, err := ns.Link()
	if err != nil {
		return err
	}
	have, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("listing routes in %s: %w", ns.Name, err)
	}
	type key struct {
		dst netip.Prefix
		via netip.Addr
	}
	wanted, seen := map[key]bool{}, map[key]bool{}
	for _, w := range want {
		wanted[key{w.dst, w.via}] = true
	}
	var errs []error
	for _, r := range have {
		k := key{routeDst(r), addrOf(r.Gw)}
		seen[k] = true
		if !wanted[k] {
			errs = append(errs, h.RouteDel(&r))
		}
	}
	for _, w := range want {
		if seen[key{w.dst, w.via}] {
			continue
		}
		r := &netlink.Route{Dst: ipNet(w.dst), Gw: w.via.AsSlice(), Protocol: protocol}
		if w.dev != nil {
			r.LinkIndex = w.dev.Attrs().Index
			r.Flags = int(netlink.FLAG_ONLINK)
		}
		if err := h.RouteReplace(r); err != nil {
			errs = append(errs, fmt.Errorf("route %s via %s in %s: %w", w.dst, w.via, ns.Name, err))
		}
	}
	return errors.Join(errs...)
}

func routeDst(r netlink.Route) netip.Prefix {
	if r.Dst == nil || r.Dst.IP == nil {
		if r.Family == unix.AF_INET6 {
			return netip.MustParsePrefix("::/0")
		}
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addrOf(r.Dst.IP), ones)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctls sets "key=value" settings inside ns.
func sysctls(ns *netns.NS, settings ...string) error {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := ns.Sysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// loopback sets lo up with the given addresses added.
func loopback(ns *netns.NS, addrs ...netip.Prefix) error {
	h, err := ns.Link()
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting lo up in %s: %w", ns.Name, err)
	}
	_, err = ensureAddrs(ns, lo, addrs)
	return err
}

// ethtoolSetTxChecksum is ETHTOOL_STXCSUM of linux/ethtool.h.
const ethtoolSetTxChecksum = 0x17

// fillChecksums has the kernel write whole checksums into what a device sends.
// DHCP clients that read raw packets refuse one that is left to hardware.
func fillChecksums(ns *netns.NS, device string) error {
	value := struct{ cmd, data uint32 }{ethtoolSetTxChecksum, 0}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("checksums of %s: %w", device, err)
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if errno != 0 {
			return fmt.Errorf("checksums of %s: %w", device, errno)
		}
		return nil
	})
}

// orDefault is Ethernet's MTU for a network that says none.
func orDefault(mtu int) int {
	if mtu <= 0 {
		return 1500
	}
	return mtu
}
