package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// Network is a bridge.
type Network struct {
	ID       string
	Subnet   netip.Prefix
	Gateway  netip.Addr
	Internal bool // no way out
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
	name string
	host *netns.NS

	mu    sync.Mutex
	ns    *netns.NS // nil until the first network
	outer *nft.Table
	inner *nft.Table
}

// New opens the plane; nothing is made before the first Sync with a network.
func New(name string) (*Plane, error) {
	host, err := netns.Current()
	if err != nil {
		return nil, err
	}
	return &Plane{name: name, host: host}, nil
}

// Close closes handles; everything stays.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.host.Close()
	if p.ns != nil {
		err = errors.Join(err, p.ns.Close())
	}
	return err
}

func (p *Plane) uplink() string { return p.name + "c" }

func space(name string) string { return name + "-ctr" }

func table(name string) string { return name + "-ctr" }

const innerUplink = "up0"

// bridgeName names a network's bridge.
func bridgeName(id string) string { return "br-" + id[:12] }

// transit gives the two ends of the veth addresses that no one else has: from the
// link-local range, by the cloud's name.
func transit(name string) (host, inner netip.Prefix) {
	sum := sha256.Sum256([]byte(name))
	a := netip.AddrFrom4([4]byte{169, 254, 64 + sum[0]%64, sum[1] &^ 3})
	return netip.PrefixFrom(a.Next(), 30), netip.PrefixFrom(a.Next().Next(), 30)
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
	if err := p.bridges(nets); err != nil {
		return err
	}
	if err := p.routes(nets); err != nil {
		return err
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
	p.ns = ns
	return nil
}

func (p *Plane) furnish(ns *netns.NS) error {
	if err := ns.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
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
	if err := errors.Join(address(host, outer, a), address(in, inner, b), host.LinkSetUp(outer), in.LinkSetUp(inner)); err != nil {
		return err
	}
	if err := in.RouteReplace(&netlink.Route{LinkIndex: inner.Attrs().Index, Gw: a.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("the way out of containers: %w", err)
	}
	// A published port answers on 127.0.0.1 as well.
	return errors.Join(p.host.Sysctl("net/ipv4/conf/"+p.uplink()+"/route_localnet", "1"), dataplane.TakeForward(p.host, table(p.name)))
}

func address(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	if err := h.AddrReplace(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
		return fmt.Errorf("adding %s to %s: %w", p, l.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bridges makes exactly one per network.
func (p *Plane) bridges(nets []Network) error {
	h, err := p.ns.Link()
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, n := range nets {
		name := bridgeName(n.ID)
		want[name] = true
		br, err := h.LinkByName(name)
		if err != nil {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = name
			if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
				return fmt.Errorf("adding bridge %s: %w", name, err)
			}
			if br, err = h.LinkByName(name); err != nil {
				return err
			}
		}
		if err := errors.Join(address(h, br, netip.PrefixFrom(n.Gateway, n.Subnet.Bits())), h.LinkSetUp(br)); err != nil {
			return err
		}
	}
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Type() == "bridge" && !want[l.Attrs().Name] {
			if err := h.LinkDel(l); err != nil {
				return fmt.Errorf("removing bridge %s: %w", l.Attrs().Name, err)
			}
		}
	}
	return nil
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
	want := map[string]bool{}
	for _, n := range nets {
		dst := ipNet(n.Subnet.Masked())
		want[dst.String()] = true
		if err := h.RouteReplace(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: dst, Gw: inner.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("route to %s: %w", n.Subnet, err)
		}
	}
	have, err := h.RouteList(up, netlink.FAMILY_V4)
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
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if ones, _ := r.Dst.Mask.Size(); ok && ones > 0 {
			out = append(out, netip.PrefixFrom(a, ones))
		}
	}
	return out, nil
}

// rules puts both tables in place.
func (p *Plane) rules(ctx context.Context, nets []Network, ports []Port) error {
	outer, inner := p.outerTable(nets, ports), innerTable(nets)
	if err := replace(ctx, p.host, &p.outer, outer); err != nil {
		return fmt.Errorf("rules of the host for containers: %w", err)
	}
	if err := replace(ctx, p.ns, &p.inner, inner); err != nil {
		return fmt.Errorf("rules between containers' networks: %w", err)
	}
	return nil
}

// replace turns what the kernel has into what is wanted.
func replace(ctx context.Context, ns *netns.NS, have **nft.Table, want nft.Table) error {
	script := want.Replace()
	if *have != nil {
		script = want.Diff(**have)
	}
	*have = nil // unknown, until it has worked
	if err := nft.Run(ctx, ns, script); err != nil {
		return err
	}
	*have = &want
	return nil
}

// outerTable is the host's.
func (p *Plane) outerTable(nets []Network, ports []Port) nft.Table {
	t := nft.NewTable("inet", table(p.name))
	up := p.uplink()
	var dnat, post []string
	for _, port := range ports {
		match := "fib daddr type local"
		if port.HostIP.IsValid() && !port.HostIP.IsUnspecified() {
			match = "ip daddr " + port.HostIP.String()
		}
		dnat = append(dnat, fmt.Sprintf("meta nfproto ipv4 %s meta l4proto %s th dport %d dnat ip to %s", match, port.Proto, port.HostPort, port.To))
	}
	for _, n := range nets {
		if !n.Internal {
			post = append(post, fmt.Sprintf("ip saddr %s oifname != %q masquerade", n.Subnet.Masked(), up))
		}
		post = append(post, fmt.Sprintf("ip saddr %s oifname %q ct status dnat masquerade", n.Subnet.Masked(), up))
	}
	post = append(post, fmt.Sprintf("ip saddr 127.0.0.0/8 oifname %q masquerade", up))
	t.Chains["prerouting"] = nft.Chain{Hook: "type nat hook prerouting priority -100; policy accept", Rules: dnat}
	t.Chains["output"] = nft.Chain{Hook: "type nat hook output priority -100; policy accept", Rules: dnat}
	t.Chains["postrouting"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: post}
	// From outside one comes in through published ports only.
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy accept", Rules: []string{
		fmt.Sprintf("oifname %q ct status dnat accept", up),
		fmt.Sprintf("oifname %q ct state new drop", up),
	}}
	return t
}

// innerTable keeps networks apart.
func innerTable(nets []Network) nft.Table {
	t := nft.NewTable("inet", "ctr")
	rules := []string{"ct state established,related accept"}
	for _, n := range nets {
		br := bridgeName(n.ID)
		rules = append(rules, fmt.Sprintf("iifname %q oifname %[1]q accept", br))
		if !n.Internal {
			rules = append(rules, fmt.Sprintf("iifname %q oifname %q accept", br, innerUplink), fmt.Sprintf("iifname %q oifname %q accept", innerUplink, br))
		}
	}
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy drop", Rules: rules}
	return t
}
