package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// Endpoint is a container's place on a network.
type Endpoint struct {
	ID      string
	Network Network
	Addr    netip.Addr
	Addr6   netip.Addr // optional
	MAC     net.HardwareAddr
	Device  string   // in the container, such as eth0
	Sysctls []string // of the device, NAME=VALUE with IFNAME for its name
}

// MAC is the address that Docker makes from an IPv4 address, or one like it for IPv6.
func MAC(a netip.Addr) net.HardwareAddr {
	if !a.Is4() {
		sum := sha256.Sum256(a.AsSlice())
		return net.HardwareAddr{0x02, 0x42, sum[0], sum[1], sum[2], sum[3]}
	}
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

func containerSpace(name, id string) string { return name + "-c-" + id[:12] }

// Path is where a container's namespace is.
func (p *Plane) Path(id string) string { return filepath.Join(netns.Dir, containerSpace(p.name, id)) }

// Open makes a container's namespace, without a network. It belongs to an owner, or to the
// host.
func (p *Plane) Open(id string, owner *netns.Owner) error {
	name := containerSpace(p.name, id)
	ns, err := netns.Open(name)
	if err == nil { // it may be half made
		return errors.Join(ns.Close(), makeSpace(name, owner))
	}
	if ahead := owner == nil || owner.Within == nil; ahead && errors.Is(err, os.ErrNotExist) && p.waiting(owner).use(name) {
		return nil
	}
	return makeSpace(name, owner)
}

// Do runs f in a container's namespace.
func (p *Plane) Do(id string, f func(*netns.NS) error) (err error) {
	ns, err := netns.Open(containerSpace(p.name, id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	return f(ns)
}

// Connect gives a container, whose namespace is open, a device on a network. The
// network is one of the last Sync.
func (p *Plane) Connect(id string, e Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ns == nil {
		return fmt.Errorf("the network %s is not there", e.Network.ID)
	}
	err := p.Do(id, func(ns *netns.NS) error { return p.wire(ns, e) })
	if err != nil {
		return errors.Join(fmt.Errorf("putting container %s on its network: %w", id[:12], err), p.drop(e.ID))
	}
	return nil
}

func (p *Plane) wire(ns *netns.NS, e Endpoint) error {
	node, err := p.ns.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	if err := p.drop(e.ID); err != nil {
		return err
	}
	if e.Addr6.IsValid() {
		if err := sysctl(ns, noDAD, "0"); err != nil {
			return err
		}
	}
	br, err := p.room(node, e.Network)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = deviceName(e.ID), br.Attrs().Index
	if e.Network.MTU > 0 {
		attrs.MTU = e.Network.MTU
	}
	err = node.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: e.Device, PeerHardwareAddr: e.MAC, PeerNamespace: netlink.NsFd(ns.FD())})
	if err != nil {
		return err
	}
	p.ports.add(attrs.Name, br.Attrs().Name)
	link, err := node.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	if err := e.quiet(node, link, ns); err != nil {
		return err
	}
	if e.Network.Apart {
		if err := node.LinkSetIsolated(link, true); err != nil {
			return err
		}
	}
	eth, err := in.LinkByName(e.Device)
	if err != nil {
		return err
	}
	if e.Network.MTU > 0 {
		if err := in.LinkSetMTU(eth, e.Network.MTU); err != nil {
			return err
		}
	}
	return errors.Join(e.number(in, eth), node.LinkSetUp(link), in.LinkSetUp(eth), e.settings(ns))
}

// quiet keeps devices from announcing themselves over IPv6: the bridge's port has nothing
// to say, and the container's only where its network has IPv6, as with dockerd. Each
// announcement goes to all containers of the network.
func (e Endpoint) quiet(node *netlink.Handle, port netlink.Link, ns *netns.NS) error {
	if err := node.LinkSetIP6AddrGenMode(port, nl.IN6_ADDR_GEN_MODE_NONE); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return err
	}
	if e.Addr6.IsValid() {
		return nil
	}
	return sysctl(ns, "net/ipv6/conf/"+e.Device+"/disable_ipv6", "1")
}

// number gives the device its addresses.
func (e Endpoint) number(in *netlink.Handle, eth netlink.Link) error {
	for _, a := range []struct {
		addr netip.Addr
		of   Subnet
	}{{e.Addr, e.Network.V4}, {e.Addr6, e.Network.V6}} {
		if a.addr.IsValid() {
			if err := address(in, eth, netip.PrefixFrom(a.addr, a.of.Prefix.Bits())); err != nil {
				return err
			}
		}
	}
	return nil
}

// settings makes those of the device.
func (e Endpoint) settings(ns *netns.NS) error {
	for _, s := range e.Sysctls {
		key, value, _ := strings.Cut(s, "=")
		key = strings.ReplaceAll(strings.ReplaceAll(key, ".", "/"), "/IFNAME/", "/"+e.Device+"/")
		if err := ns.Sysctl(key, value); err != nil {
			return fmt.Errorf("setting %s of %s: %w", s, e.Device, err)
		}
	}
	return nil
}

// drop removes an endpoint's device. One that is not there is no error.
func (p *Plane) drop(endpoint string) error {
	name := deviceName(endpoint)
	if _, ok := p.ports.at[name]; !ok {
		return nil
	}
	node, err := p.ns.Link()
	if err != nil {
		return err
	}
	if err := removeDevice(node, name); err != nil {
		return err
	}
	p.ports.remove(name)
	return nil
}

// Disconnect takes an endpoint's device away.
func (p *Plane) Disconnect(endpoint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ns == nil {
		return nil
	}
	return p.drop(endpoint)
}

// Route makes a container's default routes lead through these endpoints; nil: there is
// none of the family.
func (p *Plane) Route(id string, via4, via6 *Endpoint) error {
	return p.Do(id, func(ns *netns.NS) error {
		h, err := ns.Link()
		if err != nil {
			return err
		}
		for family, via := range map[int]*Endpoint{netlink.FAMILY_V4: via4, netlink.FAMILY_V6: via6} {
			if err := route(h, family, via); err != nil {
				return fmt.Errorf("the way out of container %s: %w", id[:12], err)
			}
		}
		return nil
	})
}

// route sets one family's default route. Others that someone made stay.
func route(h *netlink.Handle, family int, via *Endpoint) error {
	var gw netip.Addr
	index := 0
	if via != nil {
		eth, err := h.LinkByName(via.Device)
		if err != nil {
			return err
		}
		index, gw = eth.Attrs().Index, via.Network.V4.Gateway
		if family == netlink.FAMILY_V6 {
			gw = via.Network.V6.Gateway
		}
	}
	have, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	for _, r := range have {
		if ones := 0; r.Dst != nil {
			if ones, _ = r.Dst.Mask.Size(); ones > 0 {
				continue
			}
		}
		if r.Gw == nil || index == r.LinkIndex && r.Gw.Equal(gw.AsSlice()) {
			continue
		}
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if via == nil {
		return nil
	}
	return h.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gw.AsSlice()})
}

// Remove removes a container's namespace and devices. What is not there is no error.
// The kernel takes its time, in which others may be connected: it is asked over a handle
// of its own, and nothing is locked meanwhile.
func (p *Plane) Remove(id string, endpoints ...string) error {
	all := []error{netns.Remove(containerSpace(p.name, id))}
	p.mu.Lock()
	var names []string
	for _, e := range endpoints {
		if _, ok := p.ports.at[deviceName(e)]; ok {
			names = append(names, deviceName(e))
		}
	}
	p.mu.Unlock()
	if len(names) == 0 {
		return errors.Join(all...)
	}
	ns, err := netns.Open(space(p.name))
	if err != nil {
		return errors.Join(append(all, err)...)
	}
	defer ns.Close()
	node, err := ns.Link()
	if err != nil {
		return errors.Join(append(all, err)...)
	}
	for _, name := range names {
		if err := removeDevice(node, name); err != nil {
			all = append(all, err)
			continue
		}
		p.mu.Lock()
		p.ports.remove(name)
		p.mu.Unlock()
	}
	return errors.Join(all...)
}

// removeDevice removes a container's device, which also goes with the other end, whose
// namespace may just be being taken down.
func removeDevice(node *netlink.Handle, name string) error {
	l, err := node.LinkByName(name)
	if err != nil {
		return nil
	}
	if err := node.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
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

// Sweep removes the devices of all but these endpoints.
func (p *Plane) Sweep(endpoints map[string]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ns == nil {
		return nil
	}
	known := map[string]bool{}
	for e := range endpoints {
		known[deviceName(e)] = true
	}
	node, err := p.ns.Link()
	if err != nil {
		return err
	}
	links, err := node.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := l.Attrs().Name
		if len(name) != 13 || name[0] != 'v' || known[name] {
			continue
		}
		if err := node.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
		p.ports.remove(name)
	}
	return nil
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
	errs = append(errs, removeSpares(name))
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
	return errors.Join(append(errs, dataplane.GiveForward(host, table(name)), dataplane.GiveForward6(host, table(name)))...)
}
