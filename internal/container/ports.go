package container

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// taken are ports of the host that lead to containers: PROTOCOL/PORT to addresses.
type taken map[string][]netip.Addr

func (t taken) key(proto string, port int) string { return proto + "/" + strconv.Itoa(port) }

func (t taken) has(proto string, ip netip.Addr, port int) bool {
	return slices.ContainsFunc(t[t.key(proto, port)], func(o netip.Addr) bool {
		return o == ip || o.Is4() == ip.Is4() && (o.IsUnspecified() || ip.IsUnspecified())
	})
}

func (t taken) add(proto string, ip netip.Addr, port int) {
	k := t.key(proto, port)
	t[k] = append(t[k], ip)
}

// addBound adds the ports of a container that runs.
func (t taken) addBound(m nat.PortMap) {
	for p, list := range m {
		for _, b := range list {
			ip, err := netip.ParseAddr(b.HostIP)
			if port, perr := strconv.Atoi(b.HostPort); err == nil && perr == nil {
				t.add(p.Proto(), ip, port)
			}
		}
	}
}

// binder chooses the host's ports of a container.
type binder struct {
	taken
	four, six *place // where it gets out, and so in
}

// bind chooses all.
func (b binder) bind(r Record) (nat.PortMap, error) {
	want := nat.PortMap{}
	for p, list := range r.HostConfig.PortBindings {
		want[p] = list
	}
	if r.HostConfig.PublishAllPorts {
		for p := range r.Config.ExposedPorts {
			if len(want[p]) == 0 {
				want[p] = []nat.PortBinding{{}}
			}
		}
	}
	var ports []nat.Port
	for p := range want {
		ports = append(ports, p)
	}
	nat.Sort(ports, func(a, b nat.Port) bool { return a.Int() < b.Int() || a.Int() == b.Int() && a.Proto() < b.Proto() })
	out := nat.PortMap{}
	for _, p := range ports {
		if p.Proto() != "tcp" && p.Proto() != "udp" {
			return nil, errs.Invalidf("publishing a port of %s is not supported by this engine", p.Proto())
		}
		for _, w := range want[p] {
			got, err := b.bindings(p.Proto(), w)
			if err != nil {
				return nil, b.explain(r, err)
			}
			out[p] = append(out[p], got...)
		}
	}
	return out, nil
}

// explain says which endpoint it was about, as dockerd does.
func (b binder) explain(r Record, err error) error {
	id := ""
	if b.four != nil && len(b.four.e.ID) > 12 {
		id = b.four.e.ID
	}
	return errs.New(errs.KindOf(err), "failed to set up container networking: driver failed programming external connectivity on endpoint %s (%s): %w", r.Name, id, err)
}

// bindings are those that one wish gives: without an address, one of each family that
// the container has.
func (b binder) bindings(proto string, w nat.PortBinding) ([]nat.PortBinding, error) {
	first, last := ephemeralFirst, ephemeralLast
	if w.HostPort != "" && w.HostPort != "0" {
		var err error
		if first, last, err = nat.ParsePortRangeToInt(w.HostPort); err != nil || first < 1 {
			return nil, errs.Invalidf("invalid port specification: %q", w.HostPort)
		}
	}
	ips, err := b.addresses(w.HostIP)
	if err != nil || len(ips) == 0 {
		return nil, err
	}
	busy := "" // whether all are taken by containers, or some by programs of the host
	for port := first; port <= last; port++ {
		if slices.ContainsFunc(ips, func(ip netip.Addr) bool { return b.has(proto, ip, port) }) {
			continue
		}
		if slices.ContainsFunc(ips, func(ip netip.Addr) bool { return !unbound(proto, ip, port) }) {
			busy = "address already in use"
			continue
		}
		var out []nat.PortBinding
		for _, ip := range ips {
			b.add(proto, ip, port)
			out = append(out, nat.PortBinding{HostIP: ip.String(), HostPort: strconv.Itoa(port)})
		}
		return out, nil
	}
	if busy != "" {
		return nil, errs.New(errs.Internal, "failed to bind host port for %s:%s/%s: %s", ips[0], w.HostPort, proto, busy)
	}
	return nil, errs.New(errs.Internal, "Bind for %s:%s failed: port is already allocated", ips[0], w.HostPort)
}

// addresses are the host's on which a wish is fulfilled.
func (b binder) addresses(wish string) (out []netip.Addr, err error) {
	if wish == "" {
		if b.four != nil {
			wish4 := "0.0.0.0"
			if o := b.four.n.Options[optionHostIP]; o != "" {
				wish4 = o
			}
			out = append(out, netip.MustParseAddr(wish4)) // the option was checked
		}
		if b.six != nil {
			out = append(out, netip.IPv6Unspecified())
		}
		return out, nil
	}
	ip, err := netip.ParseAddr(wish)
	switch {
	case err != nil:
		return nil, errs.Invalidf("invalid IP address %s", wish)
	case b.four == nil && b.six == nil: // on internal networks alone: nothing is published
		return nil, nil
	case ip.Is4() && b.four == nil, !ip.Is4() && b.six == nil:
		return nil, errs.Invalidf("publishing on %s for a container that has no address of its family is not supported by this engine", ip)
	}
	return []netip.Addr{ip}, nil
}

// ephemeral are the ports for who has no wish.
const ephemeralFirst, ephemeralLast = 32768, 60999

// unbound tells whether no program of the host has the port.
func unbound(proto string, ip netip.Addr, port int) bool {
	at, family := net.JoinHostPort(ip.String(), strconv.Itoa(port)), "4"
	if ip.Is6() {
		family = "6"
	}
	if proto == "udp" {
		l, err := net.ListenPacket("udp"+family, at)
		if err == nil {
			l.Close()
		}
		return err == nil
	}
	l, err := net.Listen("tcp"+family, at)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// published are the ports that lead to a container that runs.
func (d *Daemon) published(r Record) []bridge.Port {
	if len(r.Bound) == 0 {
		return nil
	}
	four, six := inlets(d.places(r))
	var out []bridge.Port
	for p, list := range r.Bound {
		for _, b := range list {
			ip, _ := netip.ParseAddr(b.HostIP)
			port, _ := strconv.ParseUint(b.HostPort, 10, 16)
			to := netip.Addr{}
			if ip.Is6() && six != nil {
				to = six.e.Addr6
			} else if ip.Is4() && four != nil {
				to = four.e.Addr
			}
			if to.IsValid() {
				out = append(out, bridge.Port{Proto: p.Proto(), HostIP: ip, HostPort: uint16(port), To: netip.AddrPortFrom(to, uint16(p.Int()))})
			}
		}
	}
	slices.SortFunc(out, func(a, b bridge.Port) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}
