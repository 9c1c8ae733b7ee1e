package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// Reset closes the Plane and removes all that it made.
func (p *Plane) Reset(ctx context.Context) error {
	err := p.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.zones)
	clear(p.bridges)
	clear(p.overlays)
	clear(p.reported)
	p.state.Gen = 0
	return errors.Join(err, reset(ctx, p.host, p.cfg.Name))
}

// Reset removes every namespace, link and table of the cloud called name and
// restores the host's settings. It needs nothing but the name, and nothing to
// be running; servers that still run lose their network.
func Reset(ctx context.Context, name string) error {
	host, err := netns.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	return reset(ctx, host, name)
}

func reset(ctx context.Context, host *netns.NS, name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("data plane: %q is not the name of a cloud", name)
	}
	var errs []error
	names, err := netns.List(name + "-")
	errs = append(errs, err)
	for _, ns := range names {
		// Another cloud's name may begin with ours and a dash.
		kind := strings.TrimPrefix(ns, name+"-")
		if kind == "node" {
			errs = append(errs, returnAll(ns, host))
		}
		if kind == "node" || strings.HasPrefix(kind, "net-") || strings.HasPrefix(kind, "qr-") || strings.HasPrefix(kind, "lb-") || strings.HasPrefix(kind, "gate-") {
			errs = append(errs, removeNamespace(ns))
		}
	}
	errs = append(errs, removeHostLinks(host, name))
	tables, err := nft.Tables(ctx, host)
	errs = append(errs, err)
	if slices.Contains(tables, "inet "+hostTable(name)) {
		errs = append(errs, nft.Run(ctx, host, "delete table inet "+hostTable(name)+"\n"))
	}
	return errors.Join(append(errs, GiveForward(host, name))...)
}

// returnAll gives the host back what the node's namespace has of it.
func returnAll(name string, host *netns.NS) error {
	ns, err := netns.Open(name)
	if err != nil {
		return nil // a name without a namespace holds nothing
	}
	defer ns.Close()
	return giveBack(ns, host, nil)
}

// removeNamespace deletes the links in a namespace and then its name. Without
// the links it would live on for as long as a guest holds a tap.
func removeNamespace(name string) error {
	ns, err := netns.Open(name)
	if err != nil {
		return netns.Remove(name)
	}
	defer ns.Close()
	h, err := ns.Link()
	if err != nil {
		return errors.Join(err, netns.Remove(name))
	}
	var errs []error
	links, err := h.LinkList()
	errs = append(errs, err)
	for _, l := range links {
		switch l.Type() {
		case "bridge", "veth", "tuntap", "vxlan", "vlan":
			if err := h.LinkDel(l); err != nil && !isGone(err) {
				errs = append(errs, fmt.Errorf("removing %s in %s: %w", l.Attrs().Name, name, err))
			}
		}
	}
	return errors.Join(append(errs, netns.Remove(name))...)
}

func removeHostLinks(host *netns.NS, name string) error {
	h, err := host.Link()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing the host's links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if l.Attrs().Alias == hostAlias(name) {
			if err := h.LinkDel(l); err != nil && !isGone(err) {
				errs = append(errs, fmt.Errorf("removing %s: %w", l.Attrs().Name, err))
			}
		}
	}
	return errors.Join(errs...)
}
