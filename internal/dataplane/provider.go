package dataplane

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/netns"
)

// A provider's network reaches a node through a device of the host's that is
// the cloud's alone. It lives in the node's namespace for as long as a network
// uses it: there the host's own rules and addresses do not touch what passes.
// Its alias says that it is lent, and whether it was up.
const (
	lentAlias   = "strata borrowed "
	lentUpAlias = lentAlias + "up"
)

// borrow makes a device of the host's a port of a network's bridge.
func (p *Plane) borrow(device, bridge string) error {
	node, err := p.node.Link()
	if err != nil {
		return err
	}
	link, err := node.LinkByName(device)
	if err != nil {
		if link, err = p.take(node, device); err != nil {
			return err
		}
	}
	return plug(node, link, bridge, link.Attrs().MTU)
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
