package dataplane

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/firewall"
	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// A provider's network reaches a node through a device of the host's that is
// the cloud's alone. It lives in the node's namespace for as long as a network
// uses it: there the host's own rules and addresses do not touch what passes.
// Its alias says that it is lent, and whether it was up.
const (
	lentAlias   = "strata borrowed "
	lentUpAlias = lentAlias + "up"
)

// wire is how a network reaches a provider's network.
type wire struct {
	device string // of the host's
	vlan   int    // 0: untagged
	port   string // of the bridge: the device, or its VLAN
}

// wire tells whether a network is on a provider's network, and how. missing: it
// is on one that this node has no device for.
func (p *Plane) wire(n nodeapi.Network) (w wire, ok, missing bool) {
	if i, external := p.external(n); external && n.External && p.cfg.External[i].Device != "" {
		w.device = p.cfg.External[i].Device
	} else if n.Physical != "" {
		w.device = p.cfg.Providers[n.Physical]
	}
	if w.device == "" {
		return w, false, n.VLAN > 0
	}
	w.port, w.vlan = w.device, n.VLAN
	if n.VLAN > 0 {
		w.port = ifname.VLAN(n.ID)
	}
	return w, true, false
}

// edges are the ports by which networks reach other nodes.
func (p *Plane) edges() map[string]firewall.Edge {
	out := map[string]firewall.Edge{}
	for _, n := range p.state.Networks {
		if w, ok, _ := p.wire(n); ok {
			out[n.ID] = firewall.Edge{Device: w.port, Wire: true}
		} else if p.spans(n) {
			out[n.ID] = firewall.Edge{Device: ifname.Overlay(n.ID)}
		}
	}
	return out
}

// ensureWire makes a provider's network, or one VLAN of it, a port of a
// network's bridge.
func (p *Plane) ensureWire(n nodeapi.Network) error {
	w, ok, missing := p.wire(n)
	if missing {
		return fmt.Errorf("this node has no device on the provider's network %q", n.Physical)
	}
	if !ok {
		return nil
	}
	node, err := p.node.Link()
	if err != nil {
		return err
	}
	link, err := node.LinkByName(w.device)
	if err != nil {
		if link, err = p.take(node, w.device); err != nil {
			return err
		}
	}
	if w.vlan == 0 {
		return plug(node, link, ifname.Bridge(n.ID), link.Attrs().MTU)
	}
	if err := raise(node, link, link.Attrs().MTU); err != nil {
		return err
	}
	tagged, err := ensureVLAN(node, link, w)
	if err != nil {
		return err
	}
	return plug(node, tagged, ifname.Bridge(n.ID), min(orDefault(n.MTU), link.Attrs().MTU))
}

// ensureVLAN makes the device of one VLAN of a provider's device. Not every
// kernel can.
func ensureVLAN(node *netlink.Handle, parent netlink.Link, w wire) (netlink.Link, error) {
	link, err := node.LinkByName(w.port)
	if have, ok := link.(*netlink.Vlan); err == nil && ok && have.VlanId == w.vlan && have.ParentIndex == parent.Attrs().Index {
		return link, nil
	}
	if err == nil {
		if err := node.LinkDel(link); err != nil && !isGone(err) {
			return nil, fmt.Errorf("removing %s, which differs: %w", w.port, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = w.port, parent.Attrs().Index
	err = node.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: w.vlan, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("VLAN %d of %s: this kernel has no VLAN devices; load or install its module 8021q", w.vlan, w.device)
	}
	if err != nil {
		return nil, fmt.Errorf("adding VLAN %d of %s: %w", w.vlan, w.device, err)
	}
	return node.LinkByName(w.port)
}

// take moves a device from the host into the node's namespace.
func (p *Plane) take(node *netlink.Handle, device string) (netlink.Link, error) {
	host, err := p.host.Link()
	if err != nil {
		return nil, err
	}
	link, err := host.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("the host has no device %s for the provider's network: %w", device, err)
	}
	alias := lentAlias
	if link.Attrs().Flags&net.FlagUp != 0 {
		alias = lentUpAlias
	}
	if err := host.LinkSetAlias(link, alias); err != nil {
		return nil, fmt.Errorf("marking %s: %w", device, err)
	}
	if err := host.LinkSetNsFd(link, p.node.FD()); err != nil {
		return nil, fmt.Errorf("borrowing %s from the host: %w", device, err)
	}
	return node.LinkByName(device)
}

// giveBack returns the devices of the host's that are in a namespace, besides
// those that are wanted.
func giveBack(ns, host *netns.NS, wanted map[string]bool) error {
	in, err := ns.Link()
	if err != nil {
		return err
	}
	out, err := host.Link()
	if err != nil {
		return err
	}
	links, err := in.LinkList()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	var errs []error
	for _, l := range links {
		name, alias := l.Attrs().Name, l.Attrs().Alias
		if wanted[name] || !strings.HasPrefix(alias, lentAlias) {
			continue
		}
		err := errors.Join(in.LinkSetNoMaster(l), in.LinkSetAlias(l, ""), in.LinkSetNsFd(l, host.FD()))
		if err == nil && alias == lentUpAlias {
			if l, err = out.LinkByName(name); err == nil {
				err = out.LinkSetUp(l)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("giving %s back to the host: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
