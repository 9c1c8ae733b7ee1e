package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Kernel makes the load balancers of one node.
type Kernel struct {
	// Name begins the names of namespaces, as the data plane's.
	Name string
	// Plug puts a device that is plugged into the port's network into a namespace, with the
	// port's addresses and routes (dataplane.Plane's Veth).
	Plug func(ctx context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error
}

// Infix is between a cloud's name and a load balancer's id in the name of a namespace.
const Infix = "-lb-"

func (k *Kernel) namespace(id string) string { return k.Name + Infix + id }

// List gives the ids of the load balancers that have a namespace here.
func (k *Kernel) List() ([]string, error) {
	names, err := netns.List(k.namespace(""))
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, k.namespace(""))
	}
	return names, err
}

// Remove takes a load balancer away. Absent is fine.
func (k *Kernel) Remove(id string) error {
	name := k.namespace(id)
	if ns, err := netns.Open(name); err == nil {
		if h, err := ns.Link(); err == nil {
			if l, err := h.LinkByName(device); err == nil {
				_ = h.LinkDel(l) // its other end is the data plane's, which removes it too
			}
		}
		ns.Close()
	}
	return netns.Remove(name)
}

// Balancer is a load balancer that has been realised.
type Balancer struct {
	NS *netns.NS
	// Adopted: it was there before, and its table is what another process has made of it.
	Adopted bool
	port    nodeapi.ContainerPort // as plugged in
	rules   *nft.Table            // what the kernel has, nil when not known
	last    map[string]uint64     // counters as they were read last
	sums    map[string]uint64     // and what they have counted, over changes of rules
}

var idRE = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,63}$`)

// Check refuses what could not be written into a script.
func Check(lb *nodeapi.LoadBalancer) error {
	ids := []string{lb.ID, lb.Port.ID}
	var errs []error
	for _, l := range lb.Listeners {
		ids = append(ids, l.ID)
		if l.PoolID != "" {
			ids = append(ids, l.PoolID)
			if !slices.ContainsFunc(lb.Pools, func(p nodeapi.LBPool) bool { return p.ID == l.PoolID }) {
				errs = append(errs, fmt.Errorf("listener %s has no pool %s", l.ID, l.PoolID))
			}
		}
		errs = append(errs, checkEnd(l.Protocol, l.Port))
	}
	for _, p := range lb.Pools {
		ids = append(ids, p.ID)
		for _, m := range p.Members {
			ids = append(ids, m.ID)
			if !m.Addr.IsValid() || m.Addr.Zone() != "" {
				errs = append(errs, fmt.Errorf("member %s has no address", m.ID))
			}
			errs = append(errs, checkEnd(p.Protocol, m.Port))
		}
	}
	for _, id := range ids {
		if !idRE.MatchString(id) {
			errs = append(errs, fmt.Errorf("id %q is not usable in a name", id))
		}
	}
	return errors.Join(errs...)
}

func checkEnd(protocol string, port int) error {
	if protocol != "tcp" && protocol != "udp" || port < 1 || port > 65535 {
		return fmt.Errorf("there is no port %d of %q", port, protocol)
	}
	return nil
}

// Open makes the namespace and the device of a load balancer, or finds them.
func (k *Kernel) Open(ctx context.Context, lb *nodeapi.LoadBalancer) (*Balancer, error) {
	ns, made, err := netns.Ensure(k.namespace(lb.ID))
	if err != nil {
		return nil, err
	}
	b := &Balancer{NS: ns, Adopted: !made, last: map[string]uint64{}, sums: map[string]uint64{}}
	// Before the device is there: what is sent out where it came in is no news to its sender.
	for key, value := range map[string]string{
		"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
		"net/ipv6/conf/default/accept_ra": "0", "net/ipv6/conf/default/accept_dad": "0",
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
	} {
		if err := ns.Sysctl(key, value); err != nil {
			return nil, errors.Join(err, ns.Close())
		}
	}
	if err := b.EnsurePort(ctx, k, lb.Port); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return b, nil
}

// EnsurePort plugs in the device unless it is there as it should be.
func (b *Balancer) EnsurePort(ctx context.Context, k *Kernel, p nodeapi.ContainerPort) error {
	same := func() bool {
		return p.ID == b.port.ID && p.MAC == b.port.MAC && p.MTU == b.port.MTU && slices.Equal(p.Addrs, b.port.Addrs) && slices.Equal(p.Gateways, b.port.Gateways) && slices.Equal(p.Routes, b.port.Routes)
	}
	if b.port.ID != "" && same() && b.plugged(p) || b.port.ID == "" && b.Adopted && b.plugged(p) {
		b.port = p
		return nil
	}
	h, err := b.NS.Link()
	if err != nil {
		return err
	}
	if lo, err := h.LinkByName("lo"); err == nil {
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("setting lo up in %s: %w", b.NS.Name, err)
		}
	}
	if err := k.Plug(ctx, b.NS, device, p); err != nil {
		return err
	}
	b.port = p
	return nil
}

// plugged tells whether the device has the port's MAC and addresses.
func (b *Balancer) plugged(p nodeapi.ContainerPort) bool {
	h, err := b.NS.Link()
	if err != nil {
		return false
	}
	l, err := h.LinkByName(device)
	mac, e := net.ParseMAC(p.MAC)
	if err != nil || e != nil || l.Attrs().HardwareAddr.String() != mac.String() || l.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	have, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return false
	}
	for _, want := range p.Addrs {
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool {
			ip, _ := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			return netip.PrefixFrom(ip.Unmap(), ones) == want
		}) {
			return false
		}
	}
	return true
}

// Apply puts the table in place: all of it at first, later what changed.
func (b *Balancer) Apply(ctx context.Context, lb *nodeapi.LoadBalancer, up func(member string) bool, busy func(member string) int) error {
	now := Compile(lb, up, busy)
	script := now.Replace()
	if b.rules != nil {
		script = now.Diff(*b.rules)
	}
	if err := nft.Run(ctx, b.NS, script); err != nil {
		b.rules = nil // rewrite all of it next time
		return err
	}
	b.rules = &now
	return nil
}

// Close lets go of the namespace, which stays.
func (b *Balancer) Close() error { return b.NS.Close() }
