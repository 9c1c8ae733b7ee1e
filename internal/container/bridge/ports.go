package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// A bridge of Linux takes 1,023 ports. When one is nearly full, a network goes on on
// leaves: further bridges, each on a port of the first.
const perBridge = 1000

// ports counts the ports of bridges.
type ports struct {
	used map[string]int    // by the bridge's name
	at   map[string]string // device of an endpoint to its bridge
}

// bridgeName names a network's bridge.
func bridgeName(id string) string { return "br-" + id[:12] }

// leafName names a leaf, and trunkName the end of its veth on the network's bridge;
// the other end is called as the leaf, with a t.
func leafName(id string, i int) string  { return fmt.Sprintf("b%02x%s", i, id[:12]) }
func trunkName(id string, i int) string { return fmt.Sprintf("l%02x%s", i, id[:12]) }
func stemName(id string, i int) string  { return fmt.Sprintf("t%02x%s", i, id[:12]) }

// deviceName names the end of an endpoint's veth that is not the container's.
func deviceName(endpoint string) string { return "v" + endpoint[:12] }

// countPorts finds out what is on which bridge.
func countPorts(h *netlink.Handle) (ports, error) {
	p := ports{used: map[string]int{}, at: map[string]string{}}
	links, err := h.LinkList()
	if err != nil {
		return p, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		br := names[l.Attrs().MasterIndex]
		if br == "" {
			continue
		}
		p.used[br]++
		if strings.HasPrefix(l.Attrs().Name, "v") {
			p.at[l.Attrs().Name] = br
		}
	}
	return p, nil
}

func (p *ports) add(device, br string) {
	p.used[br]++
	p.at[device] = br
}

func (p *ports) remove(device string) {
	if br, ok := p.at[device]; ok {
		p.used[br]--
		delete(p.at, device)
	}
}

// room gives a bridge of the network with a port to spare.
func (p *Plane) room(h *netlink.Handle, n Network) (netlink.Link, error) {
	trunk, err := h.LinkByName(bridgeName(n.ID))
	if err != nil {
		return nil, err
	}
	if p.ports.used[bridgeName(n.ID)] < p.perBridge {
		return trunk, nil
	}
	for i := 1; i <= 0xff; i++ {
		name := leafName(n.ID, i)
		if p.ports.used[name] >= p.perBridge {
			continue
		}
		if leaf, err := h.LinkByName(name); err == nil && p.ports.used[name] > 0 {
			return leaf, nil
		}
		return p.leaf(h, n, trunk, i)
	}
	return nil, fmt.Errorf("the network %s is full", n.ID)
}

// leaf makes one, or what is missing of it.
func (p *Plane) leaf(h *netlink.Handle, n Network, trunk netlink.Link, i int) (netlink.Link, error) {
	br, err := ensureBridge(h, leafName(n.ID, i), n.MTU)
	if err != nil {
		return nil, err
	}
	if old, err := h.LinkByName(trunkName(n.ID, i)); err == nil {
		if err := h.LinkDel(old); err != nil {
			return nil, err
		}
		p.ports.used[trunk.Attrs().Name]--
		p.ports.used[br.Attrs().Name]--
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = trunkName(n.ID, i), trunk.Attrs().Index
	if n.MTU > 0 {
		attrs.MTU = n.MTU
	}
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: stemName(n.ID, i)}); err != nil {
		return nil, fmt.Errorf("joining bridge %s to its network: %w", br.Attrs().Name, err)
	}
	top, err := h.LinkByName(trunkName(n.ID, i))
	if err != nil {
		return nil, err
	}
	stem, err := h.LinkByName(stemName(n.ID, i))
	if err != nil {
		return nil, err
	}
	err = errors.Join(h.LinkSetMasterByIndex(stem, br.Attrs().Index), h.LinkSetUp(top), h.LinkSetUp(stem), h.LinkSetUp(br))
	if err == nil && n.Apart {
		err = h.LinkSetIsolated(top, true)
	}
	p.ports.used[trunk.Attrs().Name]++
	p.ports.used[br.Attrs().Name]++
	return br, err
}

func ensureBridge(h *netlink.Handle, name string, mtu int) (netlink.Link, error) {
	if br, err := h.LinkByName(name); err == nil {
		return br, nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if mtu > 0 {
		attrs.MTU = mtu
	}
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("adding bridge %s: %w", name, err)
	}
	return h.LinkByName(name)
}

// bridges makes those of the networks and removes all others.
func (p *Plane) bridges(nets []Network) error {
	h, err := p.ns.Link()
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, n := range nets {
		want[n.ID[:12]] = true
		br, err := ensureBridge(h, bridgeName(n.ID), n.MTU)
		if err != nil {
			return err
		}
		for _, s := range n.subnets() {
			if err := address(h, br, netip.PrefixFrom(s.Gateway, s.Prefix.Bits())); err != nil {
				return err
			}
		}
		if err := h.LinkSetUp(br); err != nil {
			return err
		}
	}
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := l.Attrs().Name
		if len(name) != 15 || want[name[3:]] || !strings.HasPrefix(name, "br-") && name[0] != 'b' && name[0] != 'l' {
			continue
		}
		if err := h.LinkDel(l); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
		delete(p.ports.used, name)
	}
	return nil
}
