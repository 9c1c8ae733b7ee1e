package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/ipam"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// Network is a bridge.
type Network struct {
	ID       string
	V4, V6   Subnet // one of them is optional
	Internal bool   // no way out
	Apart    bool   // its containers do not reach each other
	Routed   bool   // its containers' addresses go out as they are
	MTU      int    // 0: the kernel's
}

// Subnet is a network's part of one family of addresses.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

func (s Subnet) valid() bool { return s.Prefix.IsValid() }

// subnets are those that there are.
func (n Network) subnets() (out []Subnet) {
	for _, s := range []Subnet{n.V4, n.V6} {
		if s.valid() {
			out = append(out, s)
		}
	}
	return out
}

// Port is a port of the host that leads to a container.
type Port struct {
	Proto    string // tcp or udp
	HostIP   netip.Addr
	HostPort uint16
	To       netip.AddrPort
}

// Plane is the networking of one cloud's containers.
type Plane struct {
	name      string
	host      *netns.NS
	perBridge int // containers

	waits  sync.Mutex
	spares []*spares // by owner
	over   bool      // none is made any more

	mu    sync.Mutex
	ns    *netns.NS // nil until the first network
	nets  []Network // as Sync last made them
	ports ports
	outer *nft.Table
	inner *nft.Table
}

// New opens the plane; nothing is made before the first Sync with a network.
func New(name string) (*Plane, error) {
	host, err := netns.Current()
	if err != nil {
		return nil, err
	}
	if err := removeSpares(name); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return &Plane{name: name, host: host, perBridge: perBridge}, nil
}

// Close closes handles; everything that a container has stays.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(p.closeSpares(), p.host.Close())
	if p.ns != nil {
		err = errors.Join(err, p.ns.Close())
	}
	return err
}

func (p *Plane) uplink() string { return p.name + "c" }

func space(name string) string { return name + "-ctr" }

func table(name string) string { return name + "-ctr" }

const innerUplink = "up0"

// transit gives the two ends of the veth addresses that no one else has: from the
// link-local range, by the cloud's name.
func transit(name string) (host, inner netip.Prefix) {
	sum := sha256.Sum256([]byte(name))
	a := netip.AddrFrom4([4]byte{169, 254, 64 + sum[0]%64, sum[1] &^ 3})
	return netip.PrefixFrom(a.Next(), 30), netip.PrefixFrom(a.Next().Next(), 30)
}

// transit6 does so for IPv6, from the cloud's own addresses.
func transit6(name string) (host, inner netip.Prefix) {
	a := ipam.Unique(name).Addr()
	return netip.PrefixFrom(a.Next(), 126), netip.PrefixFrom(a.Next().Next(), 126)
}

// HostAddr is the host's address for the containers of a cloud.
func HostAddr(name string) netip.Addr {
	host, _ := transit(name)
	return host.Addr()
}

// Sync makes bridges, routes and rules as the networks and ports want them.
func (p *Plane) Sync(ctx context.Context, nets []Network, ports []Port) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ns == nil {
		if len(nets) == 0 {
			return nil
		}
		if err := p.open(); err != nil {
			return fmt.Errorf("containers' networking: %w", err)
		}
	}
	if !slices.Equal(p.nets, nets) {
		p.nets = nil // unknown, until it has worked
		if err := errors.Join(p.family6(nets), p.bridges(nets), p.routes(nets)); err != nil {
			return err
		}
		p.nets = slices.Clone(nets)
	}
	return p.rules(ctx, nets, ports)
}

// open makes the namespace and the veth into it.
func (p *Plane) open() error {
	ns, _, err := netns.Ensure(space(p.name))
	if err != nil {
		return err
	}
	if err := p.furnish(ns); err != nil {
		return errors.Join(err, ns.Close())
	}
	h, err := ns.Link()
	if err == nil {
		p.ports, err = countPorts(h)
	}
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	p.ns = ns
	return nil
}

func (p *Plane) furnish(ns *netns.NS) error {
	if err := ns.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	// What stays on a bridge is no business of our rules, which know no leaves, and
	// addresses, which are ours alone, are not probed for a second before their use.
	for key, value := range map[string]string{"net/bridge/bridge-nf-call-iptables": "0", "net/bridge/bridge-nf-call-ip6tables": "0", noDAD: "0"} {
		if err := sysctl(ns, key, value); err != nil {
			return err
		}
	}
	host, err := p.host.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	if lo, err := in.LinkByName("lo"); err == nil {
		if err := in.LinkSetUp(lo); err != nil {
			return err
		}
	}
	outer, err := host.LinkByName(p.uplink())
	inner, innerErr := in.LinkByName(innerUplink)
	if err != nil || innerErr != nil {
		if err == nil { // half of a pair
			if err := host.LinkDel(outer); err != nil {
				return err
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = p.uplink()
		if err := host.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: innerUplink, PeerNamespace: netlink.NsFd(ns.FD())}); err != nil {
			return fmt.Errorf("adding %s: %w", p.uplink(), err)
		}
		if outer, err = host.LinkByName(p.uplink()); err != nil {
			return err
		}
		if inner, err = in.LinkByName(innerUplink); err != nil {
			return err
		}
	}
	a, b := transit(p.name)
	if err := errors.Join(sysctl(p.host, "net/ipv6/conf/"+p.uplink()+"/accept_dad", "0"), address(host, outer, a), address(in, inner, b), host.LinkSetUp(outer), in.LinkSetUp(inner)); err != nil {
		return err
	}
	if err := in.RouteReplace(&netlink.Route{LinkIndex: inner.Attrs().Index, Gw: a.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("the way out of containers: %w", err)
	}
	// A published port answers on 127.0.0.1 as well.
	return errors.Join(p.host.Sysctl("net/ipv4/conf/"+p.uplink()+"/route_localnet", "1"), dataplane.TakeForward(p.host, table(p.name)))
}

// noDAD is whether new devices of a namespace probe for their addresses.
const noDAD = "net/ipv6/conf/default/accept_dad"

// sysctl sets what not every kernel has.
func sysctl(ns *netns.NS, key, value string) error {
	if err := ns.Sysctl(key, value); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// family6 gives the veth IPv6 and lets the host forward it once a network has it.
func (p *Plane) family6(nets []Network) error {
	if !slices.ContainsFunc(nets, func(n Network) bool { return n.V6.valid() }) {
		return dataplane.GiveForward6(p.host, table(p.name))
	}
	host, err := p.host.Link()
	if err != nil {
		return err
	}
	in, err := p.ns.Link()
	if err != nil {
		return err
	}
	outer, err := host.LinkByName(p.uplink())
	if err != nil {
		return err
	}
	inner, err := in.LinkByName(innerUplink)
	if err != nil {
		return err
	}
	a, b := transit6(p.name)
	if err := errors.Join(p.ns.Sysctl("net/ipv6/conf/all/forwarding", "1"), address(host, outer, a), address(in, inner, b)); err != nil {
		return err
	}
	if err := in.RouteReplace(&netlink.Route{LinkIndex: inner.Attrs().Index, Gw: a.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("the way out of containers over IPv6: %w", err)
	}
	return dataplane.TakeForward6(p.host, table(p.name))
}

// address gives a link an address, usable at once: our numbers are ours alone.
func address(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrReplace(l, a); err != nil {
		return fmt.Errorf("adding %s to %s: %w", p, l.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// routes tells the host where the subnets are.
func (p *Plane) routes(nets []Network) error {
	h, err := p.host.Link()
	if err != nil {
		return err
	}
	up, err := h.LinkByName(p.uplink())
	if err != nil {
		return err
	}
	_, inner := transit(p.name)
	_, inner6 := transit6(p.name)
	want := map[string]bool{}
	for _, n := range nets {
		for _, s := range n.subnets() {
			gw := inner
			if s.Prefix.Addr().Is6() {
				gw = inner6
			}
			dst := ipNet(s.Prefix.Masked())
			want[dst.String()] = true
			if err := h.RouteReplace(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: dst, Gw: gw.Addr().AsSlice()}); err != nil {
				return fmt.Errorf("route to %s: %w", s.Prefix, err)
			}
		}
	}
	have, err := h.RouteList(up, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, r := range have {
		if r.Gw != nil && r.Dst != nil && !want[r.Dst.String()] {
			if err := h.RouteDel(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Taken are the subnets that the host has routes to, which a new network keeps out of.
func (p *Plane) Taken() ([]netip.Prefix, error) {
	h, err := p.host.Link()
	if err != nil {
		return nil, err
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		if ones, _ := r.Dst.Mask.Size(); ok && ones > 0 {
			out = append(out, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	return out, nil
}
