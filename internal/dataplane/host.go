package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// external finds the configuration of an external network.
func (p *Plane) external(n nodeapi.Network) (index int, ok bool) {
	for i, e := range p.cfg.External {
		if e.NetworkID == n.ID && e.NetworkID != "" {
			return i, true
		}
		if e.NetworkID == "" && slices.ContainsFunc(n.Subnets, func(s nodeapi.Subnet) bool {
			return s.CIDR.Masked() == e.CIDR.Masked()
		}) {
			return i, true
		}
	}
	return 0, false
}

// ensureExternal joins the host to the bridge of an external network.
func (p *Plane) ensureExternal(n nodeapi.Network) error {
	i, ok := p.external(n)
	if !ok {
		return nil // its servers and routers are here, its gateway is elsewhere
	}
	if p.cfg.External[i].Device != "" {
		return nil // the provider has the gateway
	}
	link, err := p.ensureHostLink(n, p.externalLink(i))
	if err != nil {
		return err
	}
	_, err = ensureAddrs(p.host, link, hostAddrs(n, p.cfg.External[i]))
	return err
}

// hostAddrs are the addresses of the host on an external network. One that it
// shares has its own address first, from which it speaks: answers to the
// gateway's would go to whatever host is next to who answers.
func hostAddrs(n nodeapi.Network, e External) []netip.Prefix {
	own := netip.PrefixFrom(e.HostAddr, e.CIDR.Bits())
	if n.HostEnd == nil || len(n.HostEnd.Addrs) == 0 {
		return []netip.Prefix{own}
	}
	return append(slices.Clone(n.HostEnd.Addrs), netip.PrefixFrom(e.HostAddr, e.HostAddr.BitLen()))
}

// ensureHostLink makes the veth between the host and the bridge of an external
// network, and gives the host's end.
func (p *Plane) ensureHostLink(n nodeapi.Network, name string) (netlink.Link, error) {
	host, err := p.host.Link()
	if err != nil {
		return nil, err
	}
	node, err := p.node.Link()
	if err != nil {
		return nil, err
	}
	link, err := host.LinkByName(name)
	inner, innerErr := node.LinkByName(name)
	if err == nil && innerErr != nil {
		if link.Attrs().Alias != hostAlias(p.cfg.Name) {
			return nil, fmt.Errorf("the host has a link %s that is not ours", name)
		}
		if err := host.LinkDel(link); err != nil {
			return nil, fmt.Errorf("removing half of %s: %w", name, err)
		}
	}
	if err != nil || innerErr != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, orDefault(n.MTU)
		err := host.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(p.node.FD())})
		if err != nil {
			return nil, fmt.Errorf("adding %s to the host: %w", name, err)
		}
		if link, err = host.LinkByName(name); err != nil {
			return nil, err
		}
		if err := host.LinkSetAlias(link, hostAlias(p.cfg.Name)); err != nil {
			return nil, fmt.Errorf("marking %s: %w", name, err)
		}
		if inner, err = node.LinkByName(name); err != nil {
			return nil, err
		}
	}
	if err := plug(node, inner, ifname.Bridge(n.ID), orDefault(n.MTU)); err != nil {
		return nil, err
	}
	if n.HostEnd != nil {
		if err := setMAC(host, link, n.HostEnd.MAC); err != nil {
			return nil, err
		}
	}
	return link, raise(host, link, orDefault(n.MTU))
}

// hostEnd tells of the host's end of an external network: its MAC, its
// addresses and the port of the bridge; "" when the host has none.
func (p *Plane) hostEnd(n nodeapi.Network) (mac string, addrs []netip.Addr, device string) {
	i, ok := p.external(n)
	if !ok || !n.External || p.cfg.External[i].Device != "" {
		return "", nil, ""
	}
	host, err := p.host.Link()
	if err != nil {
		return "", nil, ""
	}
	link, err := host.LinkByName(p.externalLink(i))
	if err != nil {
		return "", nil, ""
	}
	return link.Attrs().HardwareAddr.String(), addrsOf(hostAddrs(n, p.cfg.External[i])), p.externalLink(i)
}

// removeExternal removes host links, and gives back devices, whose external
// network is not wanted.
func (p *Plane) removeExternal(node *netlink.Handle) error {
	want, borrowed := map[int]bool{}, map[string]bool{}
	for _, n := range p.state.Networks {
		if w, ok, _ := p.wire(n); ok {
			borrowed[w.device] = true
		}
		if i, ok := p.external(n); ok && n.External {
			want[i] = p.cfg.External[i].Device == ""
		}
	}
	errs := []error{giveBack(p.node, p.host, borrowed)}
	for i := range p.cfg.External {
		if link, err := node.LinkByName(p.externalLink(i)); err == nil && !want[i] {
			errs = append(errs, node.LinkDel(link))
		}
	}
	return errors.Join(errs...)
}

func hostTable(name string) string { return "strata-" + name }
func hostAlias(name string) string { return "strata cloud " + name }
