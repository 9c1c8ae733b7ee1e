package container

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/go-connections/nat"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// plug puts a container that is about to start onto its networks, and gives the
// path of its network namespace; "" is the host's, or one without a network that
// runc makes.
func (d *Daemon) plug(c *live) (string, error) {
	r := c.record()
	if mode := r.HostConfig.NetworkMode; mode.IsContainer() {
		return d.namespaceOf(mode.ConnectedContainer(), "net")
	}
	if len(r.Ports) > 0 {
		return d.plugPorts(r)
	}
	for name, e := range r.Endpoints {
		n, err := d.findNetwork(e.Network)
		if err != nil {
			return "", err
		}
		if n.Driver != "bridge" {
			if err := d.change(c, func(r *Record) {
				r.Endpoints = map[string]*Endpoint{name: {Network: n.ID, ID: newID(), Aliases: e.Aliases}}
			}); err != nil {
				return "", err
			}
			continue
		}
		if n, err = d.lease(c, n, name); err != nil {
			return "", err
		}
		if err := d.syncNetworks(); err != nil {
			return "", err
		}
		addr := c.record().Endpoints[name].Addr
		path, err := d.plane.Plug(c.id, bridge.Endpoint{Network: n.plane(), Addr: addr, MAC: bridge.MAC(addr)})
		if err != nil {
			return "", err
		}
		d.Events.send(events.NetworkEventType, events.ActionConnect, n.ID, map[string]string{"container": c.id, "name": n.Name, "type": n.Driver})
		return path, nil
	}
	return "", nil
}

// lease gives a container an address, and free ports of the host where it wants any.
func (d *Daemon) lease(c *live, n *Network, name string) (*Network, error) {
	used, ports := map[netip.Addr]bool{}, map[string]string{}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !n.Subnet.IsValid() {
		subnet, err := d.free(netip.Prefix{})
		if err != nil {
			return nil, err
		}
		with := *n
		with.Subnet, with.Gateway = subnet, subnet.Addr().Next()
		if err := d.networks.put(n.ID, &with); err != nil {
			return nil, err
		}
		d.nets[n.ID], n = &with, &with
	}
	for _, o := range d.byID {
		if o == c {
			continue
		}
		r := o.record()
		for _, e := range r.Endpoints {
			if e.Network == n.ID {
				used[e.Addr] = used[e.Addr] || e.Addr.IsValid()
			}
		}
		for _, p := range published(r) {
			ports[fmt.Sprintf("%s/%d", p.Proto, p.HostPort)] = r.Name
		}
	}
	addr, err := n.address(c.record().Endpoints[name], used)
	if err != nil {
		return nil, err
	}
	bindings, err := bindPorts(c.record(), ports)
	if err != nil {
		return nil, err
	}
	return n, d.change(c, func(r *Record) {
		e := *r.Endpoints[name]
		e.ID, e.Addr = newID(), addr
		r.Endpoints = map[string]*Endpoint{name: &e}
		r.Bound = bindings
	})
}

// address chooses one: the wanted, the one of before, or the first that is free.
func (n *Network) address(e *Endpoint, used map[netip.Addr]bool) (netip.Addr, error) {
	if e.Wanted.IsValid() {
		if used[e.Wanted] || e.Wanted == n.Gateway {
			return e.Wanted, errs.Forbiddenf("Address already in use")
		}
		return e.Wanted, nil
	}
	last := broadcast(n.Subnet)
	for a := n.Subnet.Masked().Addr().Next(); n.Subnet.Contains(a) && a != last; a = a.Next() {
		if !used[a] && a != n.Gateway {
			return a, nil
		}
	}
	return netip.Addr{}, errs.Forbiddenf("no available IPv4 addresses on this network's address pools: %s (%s)", n.Name, n.ID)
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// bindPorts chooses the host's ports of a container.
func bindPorts(r Record, taken map[string]string) (nat.PortMap, error) {
	out := nat.PortMap{}
	want := nat.PortMap{}
	for p, b := range r.HostConfig.PortBindings {
		want[p] = b
	}
	if r.HostConfig.PublishAllPorts {
		for p := range r.Config.ExposedPorts {
			if len(want[p]) == 0 {
				want[p] = []nat.PortBinding{{}}
			}
		}
	}
	for p, list := range want {
		if p.Proto() != "tcp" && p.Proto() != "udp" {
			return nil, errs.Invalidf("publishing a port of %s is not supported by this engine", p.Proto())
		}
		for _, b := range list {
			got, err := bindPort(p.Proto(), b, taken)
			if err != nil {
				return nil, err
			}
			out[p] = append(out[p], got)
		}
	}
	return out, nil
}

// ephemeral are the ports for who has no wish.
const ephemeralFirst, ephemeralLast = 32768, 60999

func bindPort(proto string, b nat.PortBinding, taken map[string]string) (nat.PortBinding, error) {
	if b.HostIP == "" {
		b.HostIP = "0.0.0.0"
	}
	ip, err := netip.ParseAddr(b.HostIP)
	if err != nil {
		return b, errs.Invalidf("invalid IP address %s", b.HostIP)
	}
	if !ip.Is4() {
		return b, errs.Invalidf("publishing on the IPv6 address %s is not supported by this engine", ip)
	}
	first, last := ephemeralFirst, ephemeralLast
	if b.HostPort != "" && b.HostPort != "0" {
		if first, last, err = nat.ParsePortRangeToInt(b.HostPort); err != nil || first < 1 {
			return b, errs.Invalidf("invalid port specification: %q", b.HostPort)
		}
	}
	for port := first; port <= last; port++ {
		key := fmt.Sprintf("%s/%d", proto, port)
		if taken[key] != "" || !unbound(proto, ip, port) {
			continue
		}
		taken[key] = "this"
		b.HostPort = strconv.Itoa(port)
		return b, nil
	}
	return b, errs.New(errs.Internal, "Bind for %s:%s failed: port is already allocated", b.HostIP, b.HostPort)
}

// unbound tells whether a program of the host has the port.
func unbound(proto string, ip netip.Addr, port int) bool {
	at := net.JoinHostPort(ip.String(), strconv.Itoa(port))
	if proto == "udp" {
		l, err := net.ListenPacket("udp4", at)
		if err == nil {
			l.Close()
		}
		return err == nil
	}
	l, err := net.Listen("tcp4", at)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// published are the ports that lead to a container that runs.
func published(r Record) []bridge.Port {
	var addr netip.Addr
	for _, e := range r.Endpoints {
		addr = e.Addr
	}
	if !addr.IsValid() {
		return nil
	}
	var out []bridge.Port
	for p, list := range r.Bound {
		for _, b := range list {
			ip, _ := netip.ParseAddr(b.HostIP)
			port, _ := strconv.ParseUint(b.HostPort, 10, 16)
			out = append(out, bridge.Port{Proto: p.Proto(), HostIP: ip, HostPort: uint16(port), To: netip.AddrPortFrom(addr, uint16(p.Int()))})
		}
	}
	slices.SortFunc(out, func(a, b bridge.Port) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

// syncNetworks makes bridges and rules as records say.
func (d *Daemon) syncNetworks() error {
	d.syncing.Lock() // or an older picture could come after a newer one
	defer d.syncing.Unlock()
	var nets []bridge.Network
	var ports []bridge.Port
	d.mu.Lock()
	for _, n := range d.nets {
		if n.Subnet.IsValid() {
			nets = append(nets, n.plane())
		}
	}
	d.mu.Unlock()
	slices.SortFunc(nets, func(a, b bridge.Network) int { return strings.Compare(a.ID, b.ID) })
	for _, c := range d.list() {
		ports = append(ports, published(c.record())...)
	}
	return d.plane.Sync(d.ctx, nets, ports)
}

// unplug takes a container off its networks.
func (d *Daemon) unplug(r Record) error {
	if r.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	if len(r.Ports) > 0 {
		return d.unplugPorts(r)
	}
	plugged := false
	for _, e := range r.Endpoints {
		plugged = plugged || e.Addr.IsValid()
	}
	if !plugged {
		return nil
	}
	err := d.plane.Unplug(r.ID)
	c, ferr := d.find(r.ID)
	if ferr != nil {
		return err
	}
	err = errors.Join(err, d.change(c, func(r *Record) {
		next := map[string]*Endpoint{}
		for name, e := range r.Endpoints {
			next[name] = &Endpoint{Network: e.Network, Wanted: e.Wanted, Aliases: e.Aliases}
		}
		r.Endpoints, r.Bound = next, nil
	}))
	for name, e := range r.Endpoints {
		d.Events.send(events.NetworkEventType, events.ActionDisconnect, e.Network, map[string]string{"container": r.ID, "name": name, "type": "bridge"})
	}
	if len(r.Bound) > 0 {
		err = errors.Join(err, d.syncNetworks())
	}
	return err
}

// writeEtc writes the files of /etc that depend on the network.
func (d *Daemon) writeEtc(c *live) error {
	r := c.record()
	dir := d.dir(c.id)
	host := r.HostConfig.NetworkMode.IsHost()
	if mode := r.HostConfig.NetworkMode; mode.IsContainer() {
		other, err := d.find(mode.ConnectedContainer())
		if err != nil {
			return err
		}
		for _, f := range etcFiles {
			raw, err := os.ReadFile(filepath.Join(d.dir(other.id), f))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, f), raw, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	hosts, err := d.hosts(r, host)
	if err != nil {
		return err
	}
	for f, text := range map[string]string{"hostname": r.Config.Hostname + "\n", "hosts": hosts, "resolv.conf": resolvConf(r, host)} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) hosts(r Record, host bool) (string, error) {
	var b strings.Builder
	if host {
		raw, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return "", err
		}
		b.Write(raw)
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, e := range r.HostConfig.ExtraHosts {
		name, ip, ok := strings.Cut(e, ":")
		if !ok {
			return "", errs.Invalidf("bad format for add-host: %q", e)
		}
		if ip == "host-gateway" {
			ip = bridge.HostAddr(d.cfg.Name).String()
		}
		if _, err := netip.ParseAddr(strings.Trim(ip, "[]")); err != nil {
			return "", errs.Invalidf("invalid IP address in add-host: %q", ip)
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(ip, "[]"), name)
	}
	for _, e := range r.Endpoints {
		if e.Addr.IsValid() {
			name := r.Config.Hostname
			if r.Config.Domainname != "" {
				name += "." + r.Config.Domainname + " " + r.Config.Hostname
			}
			fmt.Fprintf(&b, "%s\t%s\n", e.Addr, name)
		}
	}
	for _, p := range r.Ports {
		for _, a := range p.Addrs {
			fmt.Fprintf(&b, "%s\t%s\n", a.Addr(), r.Config.Hostname)
		}
	}
	return b.String(), nil
}

// resolvConf is the host's, without servers that only the host reaches, changed as
// the user wishes.
func resolvConf(r Record, host bool) string {
	raw, _ := os.ReadFile("/etc/resolv.conf") // a host without one has no names
	var servers, search, options []string
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && (host || !a.IsLoopback()) {
				servers = append(servers, f[1])
			}
		case "search", "domain":
			search = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	if len(r.Ports) > 0 {
		servers, search, options = portNames(r.Ports)
	}
	h := r.HostConfig
	if len(h.DNS) > 0 {
		servers = h.DNS
	}
	if len(h.DNSSearch) > 0 {
		search = h.DNSSearch
	}
	if len(h.DNSOptions) > 0 {
		options = h.DNSOptions
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && search[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}
