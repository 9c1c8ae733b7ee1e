package container

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// nameServer is the address of containers' own.
var nameServer = bridge.Resolver.String()

// writeEtc writes the files of /etc that depend on the network.
func (d *Daemon) writeEtc(c *live) error {
	r := c.record()
	dir := d.dir(c.id)
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
			if err := r.writeEtc(filepath.Join(dir, f), raw); err != nil {
				return err
			}
		}
		return nil
	}
	host := r.HostConfig.NetworkMode.IsHost()
	hosts, err := d.hosts(r, host)
	if err != nil {
		return err
	}
	c.mu.Lock()
	named := c.resolver != nil
	c.mu.Unlock()
	for f, text := range map[string]string{"hostname": r.Config.Hostname + "\n", "hosts": hosts, "resolv.conf": resolvConf(r, host, named)} {
		if err := r.writeEtc(filepath.Join(dir, f), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// writeEtc writes a file that a container's root may change.
func (r Record) writeEtc(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	return r.give(path)
}

func (d *Daemon) hosts(r Record, host bool) (string, error) {
	var b strings.Builder
	if host && len(r.HostConfig.ExtraHosts) == 0 {
		raw, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		return string(raw), nil
	}
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, e := range r.HostConfig.ExtraHosts {
		name, ip, err := extraHost(e)
		if err != nil {
			return "", err
		}
		if ip == hostGateway {
			ip = bridge.HostAddr(d.cfg.Name).String()
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	links, err := d.links(r)
	if err != nil {
		return "", err
	}
	for _, l := range links {
		b.WriteString(l.hostLines())
	}
	for _, p := range joining(r, d.places(r)) {
		b.WriteString(hostLines(r, p.e))
	}
	for _, p := range r.Ports {
		for _, a := range p.Addrs {
			b.WriteString(hostLines(r, &Endpoint{Addr: a.Addr()}))
		}
	}
	return b.String(), nil
}

const hostGateway = "host-gateway"

// extraHost reads NAME:ADDRESS.
func extraHost(s string) (name, ip string, err error) {
	name, ip, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return "", "", errs.Invalidf("bad format for add-host: %q", s)
	}
	if ip == hostGateway {
		return name, ip, nil
	}
	ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
	if _, err := netip.ParseAddr(ip); err != nil {
		return "", "", errs.Invalidf("invalid IP address in add-host: %q", ip)
	}
	return name, ip, nil
}

// hostLines are what an endpoint adds to /etc/hosts: the container's own name.
func hostLines(r Record, e *Endpoint) string {
	names := r.Config.Hostname
	if r.Config.Domainname != "" {
		names += "." + r.Config.Domainname
	}
	if short, _, long := strings.Cut(names, "."); long {
		names += " " + short
	}
	var b strings.Builder
	for _, a := range []netip.Addr{e.Addr, e.Addr6} {
		if a.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.String()
}

// addHosts adds an endpoint to the file of a container that runs.
func (d *Daemon) addHosts(r Record, e *Endpoint) error {
	if e == nil {
		return nil
	}
	return d.editHosts(r.ID, func([]string) bool { return false }, hostLines(r, e))
}

// removeHosts takes it out again.
func (d *Daemon) removeHosts(id string, e *Endpoint) error {
	return d.editHosts(id, func(f []string) bool {
		a, err := netip.ParseAddr(f[0])
		return err == nil && (a == e.Addr || a == e.Addr6)
	}, "")
}

// editHosts takes lines out of a container's hosts file, judged by their fields, and adds others.
func (d *Daemon) editHosts(id string, drop func(fields []string) bool, more string) error {
	path := filepath.Join(d.dir(id), "hosts")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 0 || !drop(f) {
			b.WriteString(line)
		}
	}
	return rewrite(path, b.String()+more)
}

// rewrite changes a file in its place: a container has it mounted.
func rewrite(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// resolvConf is the host's, changed as the user wishes, without servers that only the
// host reaches. named has questions go to the container's own name server, which asks
// the others.
func resolvConf(r Record, host, named bool) string {
	from := readResolv()
	var servers []string
	for _, s := range from.servers {
		if a, err := netip.ParseAddr(s); err == nil && (host || !a.IsLoopback()) {
			servers = append(servers, s)
		}
	}
	search, options := from.search, from.options
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
	if named {
		servers = []string{nameServer}
		if !hasDots(options) {
			options = append(options[:len(options):len(options)], "ndots:0")
		}
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
