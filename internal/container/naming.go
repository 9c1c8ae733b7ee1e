package container

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/container/names"
	"github.com/strata-cloud/strata/internal/netns"
)

// known makes a container that runs known by its names, and gives it a name server
// once it is on a network that has names.
func (d *Daemon) known(c *live) error {
	r := c.record()
	v := &names.View{Upstreams: func() []names.Upstream { return upstreams(r) }}
	v.Dots = setsDots(r)
	places := d.places(r)
	four, six := ways(places)
	v.Outside = four != nil || six != nil
	for _, p := range places {
		if !p.n.named() {
			continue
		}
		v.Members = append(v.Members, names.Member{Network: p.n.ID, Name: p.n.Name, Links: p.e.links()})
		e := names.Entry{ID: p.e.ID, Names: dnsNames(r, p.e)}
		for _, a := range []netip.Addr{p.e.Addr, p.e.Addr6} {
			if a.IsValid() {
				e.Addrs = append(e.Addrs, a)
			}
		}
		d.names.Table.Set(p.n.ID, e)
	}
	c.view.Store(v)
	if len(v.Members) == 0 {
		return nil
	}
	return d.resolve(c)
}

// resolve starts a container's name server, if it has none yet.
func (d *Daemon) resolve(c *live) error {
	c.mu.Lock()
	has := c.resolver != nil
	c.mu.Unlock()
	if has {
		return nil
	}
	pc, l, err := d.plane.ListenDNS(c.id)
	if err != nil {
		return err
	}
	r := d.names.Start(d.ctx, pc, l, func() names.View { return *c.view.Load() }, func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = d.plane.Do(c.id, func(ns *netns.NS) error {
			return ns.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
		})
		return conn, err
	})
	c.mu.Lock()
	c.resolver = r
	c.mu.Unlock()
	return d.useResolver(c)
}

// unknown ends a container's name server and takes its names away.
func (d *Daemon) unknown(c *live) error {
	for _, e := range c.record().Endpoints {
		if e.ID != "" {
			d.names.Table.Remove(e.Network, e.ID)
		}
	}
	return c.closeResolver()
}

func (c *live) closeResolver() error {
	c.mu.Lock()
	r := c.resolver
	c.resolver = nil
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Close()
}

// hostResolv is the host's resolv.conf.
type hostResolv struct {
	servers, search, options []string
}

func readResolv() (h hostResolv) {
	raw, _ := os.ReadFile("/etc/resolv.conf") // a host without one has no names
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				h.servers = append(h.servers, f[1])
			}
		case "search", "domain":
			h.search = f[1:]
		case "options":
			h.options = append(h.options, f[1:]...)
		}
	}
	return h
}

// upstreams are whom a container's name server asks: those that it was given, from its
// own namespace, or the host's.
func upstreams(r Record) (out []names.Upstream) {
	servers, host := r.HostConfig.DNS, false
	if len(servers) == 0 {
		servers, host = readResolv().servers, true
	}
	for _, s := range servers {
		if s != nameServer {
			out = append(out, names.Upstream{Addr: net.JoinHostPort(s, "53"), Host: host})
		}
	}
	return out
}

func setsDots(r Record) bool {
	options := r.HostConfig.DNSOptions
	if len(options) == 0 {
		options = readResolv().options
	}
	return hasDots(options)
}

func hasDots(options []string) bool {
	for _, o := range options {
		if strings.HasPrefix(o, "ndots:") {
			return true
		}
	}
	return false
}

// useResolver makes a container that began without the name server use it.
func (d *Daemon) useResolver(c *live) error {
	r := c.record()
	path := filepath.Join(d.dir(c.id), "resolv.conf")
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it is just starting
	}
	if err != nil || string(have) != resolvConf(r, false, false) {
		return err // changed in the container: it is the user's
	}
	return rewrite(path, resolvConf(r, false, true))
}
