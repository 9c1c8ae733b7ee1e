package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// Endpoint is a container's place on a network.
type Endpoint struct {
	Network Network
	Addr    netip.Addr
	MAC     net.HardwareAddr
}

// MAC is the address that Docker makes from an IPv4 address.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

func containerSpace(name, id string) string { return name + "-c-" + id[:12] }

// Plug gives a container a namespace with a device on the network, and the path
// of the namespace. The network is one of the last Sync.
func (p *Plane) Plug(id string, e Endpoint) (path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ns == nil {
		return "", fmt.Errorf("the network %s is not there", e.Network.ID)
	}
	name := containerSpace(p.name, id)
	ns, _, err := netns.Ensure(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	if err := p.wire(ns, id, e); err != nil {
		return "", errors.Join(fmt.Errorf("plugging container %s: %w", id[:12], err), netns.Remove(name))
	}
	return filepath.Join(netns.Dir, name), nil
}

func (p *Plane) wire(ns *netns.NS, id string, e Endpoint) error {
	node, err := p.ns.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	br, err := node.LinkByName(bridgeName(e.Network.ID))
	if err != nil {
		return err
	}
	outer := "v" + id[:12]
	if old, err := node.LinkByName(outer); err == nil {
		if err := node.LinkDel(old); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = outer, br.Attrs().Index
	err = node.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: e.MAC, PeerNamespace: netlink.NsFd(ns.FD())})
	if err != nil {
		return err
	}
	link, err := node.LinkByName(outer)
	if err != nil {
		return err
	}
	eth, err := in.LinkByName("eth0")
	if err != nil {
		return err
	}
	lo, err := in.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := errors.Join(node.LinkSetUp(link), in.LinkSetUp(lo), address(in, eth, netip.PrefixFrom(e.Addr, e.Network.Subnet.Bits())), in.LinkSetUp(eth)); err != nil {
		return err
	}
	if e.Network.Internal {
		return nil
	}
	return in.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: e.Network.Gateway.AsSlice()})
}

// Space makes the namespace of a container whose devices someone else makes, and gives its
// path. It is removed by Unplug.
func (p *Plane) Space(id string, furnish func(ns *netns.NS) error) (path string, err error) {
	name := containerSpace(p.name, id)
	ns, _, err := netns.Ensure(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	in, err := ns.Link()
	if err != nil {
		return "", err
	}
	lo, err := in.LinkByName("lo")
	if err == nil {
		err = in.LinkSetUp(lo)
	}
	if err == nil {
		err = furnish(ns)
	}
	if err != nil {
		return "", errors.Join(err, netns.Remove(name))
	}
	return filepath.Join(netns.Dir, name), nil
}

// Unplug removes a container's namespace and device. What is not there is no error.
func (p *Plane) Unplug(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := netns.Remove(containerSpace(p.name, id))
	if p.ns == nil {
		return err
	}
	node, e := p.ns.Link()
	if e != nil {
		return errors.Join(err, e)
	}
	if l, e := node.LinkByName("v" + id[:12]); e == nil {
		// It goes with the other end, whose namespace is just being taken down.
		if e := node.LinkDel(l); e != nil && !errors.Is(e, unix.ENODEV) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Plugged lists the containers (the first 12 digits of their ids) that have a namespace.
func (p *Plane) Plugged() ([]string, error) {
	prefix := containerSpace(p.name, strings.Repeat("x", 12))
	prefix = prefix[:len(prefix)-12]
	names, err := netns.List(prefix)
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], prefix)
	}
	return names, err
}

// Reset removes everything of the cloud called name. It needs nothing to be running.
func Reset(ctx context.Context, name string) error {
	host, err := netns.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	var errs []error
	p := &Plane{name: name, host: host}
	ids, err := p.Plugged()
	errs = append(errs, err)
	for _, id := range ids {
		errs = append(errs, netns.Remove(name+"-c-"+id))
	}
	h, err := host.Link()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if l, err := h.LinkByName(p.uplink()); err == nil {
		errs = append(errs, h.LinkDel(l))
	}
	errs = append(errs, netns.Remove(space(name)))
	tables, err := nft.Tables(ctx, host)
	errs = append(errs, err)
	if slices.Contains(tables, "inet "+table(name)) {
		errs = append(errs, nft.Run(ctx, host, "delete table inet "+table(name)+"\n"))
	}
	return errors.Join(append(errs, dataplane.GiveForward(host, table(name)))...)
}
