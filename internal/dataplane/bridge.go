package dataplane

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// aliasPrefix begins a bridge's alias, which has the network's conntrack zone:
// flows are found again after a restart only under the same zone.
const aliasPrefix = "strata zone "

// ensureBridge makes the bridge of a network and, for an external one that
// this node serves, the host's link into it.
func (p *Plane) ensureBridge(n nodeapi.Network, verify bool) error {
	if was, ok := p.bridges[n.ID]; ok && was.MTU == n.MTU && was.External == n.External && was.Physical == n.Physical && was.VLAN == n.VLAN &&
		same(was.Subnets, n.Subnets) && same(was.HostEnd, n.HostEnd) {
		return nil
	}
	delete(p.bridges, n.ID)
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	if verify && len(p.zones) == 0 {
		if err := p.loadZones(h); err != nil {
			return err
		}
	}
	link, err := makeBridge(h, n)
	if err != nil {
		return err
	}
	if err := p.zone(h, link, n.ID); err != nil {
		return err
	}
	if err := raise(h, link, orDefault(n.MTU)); err != nil {
		return err
	}
	if err := p.ensureWire(n); err != nil {
		return err
	}
	if n.External {
		if err := p.ensureExternal(n); err != nil {
			return err
		}
	}
	p.bridges[n.ID] = n
	return nil
}

// makeBridge finds a network's bridge and makes it when there is none.
func makeBridge(h *netlink.Handle, n nodeapi.Network) (netlink.Link, error) {
	name := ifname.Bridge(n.ID)
	link, err := h.LinkByName(name)
	if err != nil {
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, orDefault(n.MTU)
		// Nobody queries for multicast listeners here, so snooping would lose members.
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
			return nil, fmt.Errorf("adding bridge %s: %w", name, err)
		}
		if link, err = h.LinkByName(name); err != nil {
			return nil, err
		}
	}
	return link, setMAC(h, link, bridgeMAC(n.ID))
}

// bridgeMAC is a MAC for a bridge. Left alone a bridge takes one of its ports'
// and changes it as ports come, and forgets its neighbours each time.
func bridgeMAC(networkID string) string {
	sum := sha256.Sum256([]byte(networkID))
	return net.HardwareAddr(append([]byte{0x02}, sum[:5]...)).String()
}

// zone keeps or chooses the conntrack zone of a network, and writes it on the bridge.
func (p *Plane) zone(h *netlink.Handle, br netlink.Link, networkID string) error {
	if _, ok := p.zones[networkID]; ok && strings.HasPrefix(br.Attrs().Alias, aliasPrefix) {
		return nil
	}
	used := map[uint16]bool{}
	for _, z := range p.zones {
		used[z] = true
	}
	zone, ok := p.zones[networkID]
	if !ok {
		for zone = 1; used[zone]; zone++ {
			if zone == 65535 {
				return errors.New("no conntrack zone is free")
			}
		}
	}
	alias := aliasPrefix + strconv.Itoa(int(zone)) + " " + networkID
	if err := h.LinkSetAlias(br, alias); err != nil {
		return fmt.Errorf("noting the zone of %s: %w", br.Attrs().Name, err)
	}
	p.zones[networkID] = zone
	return nil
}

// loadZones reads the zones that an earlier process chose.
func (p *Plane) loadZones(h *netlink.Handle) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing bridges: %w", err)
	}
	for _, l := range links {
		rest, ok := strings.CutPrefix(l.Attrs().Alias, aliasPrefix)
		if !ok {
			continue
		}
		zone, id, _ := strings.Cut(rest, " ")
		if z, err := strconv.ParseUint(zone, 10, 16); err == nil {
			p.zones[id] = uint16(z)
		}
	}
	return nil
}

// removeLinks removes the bridges, taps and overlays in the node's namespace that nobody
// wants. The veths of routers and services go with their namespaces.
func (p *Plane) removeLinks() error {
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	want := map[string]bool{}
	for _, n := range p.state.Networks {
		want[ifname.Bridge(n.ID)] = true
		if p.spans(n) {
			want[ifname.Overlay(n.ID)] = true
		}
		if w, ok, _ := p.wire(n); ok && w.vlan > 0 {
			want[w.port] = true
		}
	}
	for _, port := range p.state.Ports {
		if port.Local && port.Behind == "" {
			want[ifname.Tap(port.ID)] = true
			delete(p.ahead, port.ID)
		}
	}
	for id := range p.ahead { // another port's news must not take it from under a move
		want[ifname.Tap(id)] = true
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		ours := slices.ContainsFunc([]string{ifname.Bridge(""), ifname.Tap(""), ifname.Overlay(""), ifname.VLAN("")}, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		})
		if ours && !want[name] {
			if err := h.LinkDel(l); err != nil && !isGone(err) {
				errs = append(errs, fmt.Errorf("removing %s: %w", name, err))
			}
		}
	}
	return errors.Join(append(errs, p.removeExternal(h))...)
}

// isGone tells that a link was removed by someone else meanwhile.
func isGone(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || strings.Contains(err.Error(), "no such device")
}
