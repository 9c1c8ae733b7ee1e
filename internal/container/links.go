package container

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/strata-cloud/strata/internal/errs"
)

// Links on the default bridge (--link) are Docker's first way for containers to find each
// other: the one that has the link knows the other by /etc/hosts, and by its environment
// what it has. The other is known by its id, so that a link survives a new name.

// link is another container as one knows it.
type link struct {
	alias string
	to    *live
	rec   Record
	ends  *Endpoint // on the bridge; it may have no addresses
}

// wantedLinks finds the containers that a new one is linked with, by alias.
func (d *Daemon) wantedLinks(r Record) (map[string]string, error) {
	h := r.HostConfig
	if len(h.Links) == 0 || h.NetworkMode.IsUserDefined() {
		return nil, nil
	}
	out := map[string]string{}
	for _, l := range h.Links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			_, alias = cutLast(name)
		}
		if _, alias = cutLast(alias); name == "" || alias == "" {
			return nil, errs.Invalidf("bad format for links: %s", l)
		}
		c, err := d.find(name)
		for err == nil && c.record().HostConfig.NetworkMode.IsContainer() {
			c, err = d.find(c.record().HostConfig.NetworkMode.ConnectedContainer())
		}
		if err != nil { // not 404: clients would take that for a missing image
			return nil, errs.Invalidf("could not get container for %s: %s", name, err)
		}
		if c.record().HostConfig.NetworkMode.IsHost() {
			return nil, errs.Invalidf("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		out[alias] = c.id
	}
	return out, nil
}

// cutLast splits a path before its last part.
func cutLast(path string) (dir, last string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// links are those of a container that is on the bridge, by alias. One whose other end does
// not run is an error.
func (d *Daemon) links(r Record) (out []link, err error) {
	if r.Endpoints[bridgeNetwork] == nil {
		return nil, nil
	}
	for alias, id := range r.Links {
		c, err := d.find(id)
		if err != nil {
			return nil, errs.New(errs.Internal, "Cannot link to a container that is gone: %s AS /%s/%s", id[:12], r.Name, alias)
		}
		l := link{alias: alias, to: c, rec: c.record()}
		if l.ends = l.rec.Endpoints[bridgeNetwork]; l.ends == nil {
			return nil, errs.New(errs.Internal, "Cannot link to /%s, as it does not belong to the default network", l.rec.Name)
		}
		if !l.rec.State.Running() {
			return nil, errs.New(errs.Internal, "Cannot link to a non running container: /%s AS /%s/%s", l.rec.Name, r.Name, alias)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b link) int { return strings.Compare(a.alias, b.alias) })
	return out, nil
}

// hostLines are what a link adds to /etc/hosts: the alias, and what the other calls itself.
func (l link) hostLines() string {
	names := l.alias + " " + l.rec.Config.Hostname
	if l.alias != l.rec.Name {
		names += " " + l.rec.Name
	}
	var b strings.Builder
	for _, a := range []netip.Addr{l.ends.Addr, l.ends.Addr6} {
		if a.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.String()
}

// linkEnv is the environment that a container has from its links.
func (d *Daemon) linkEnv(r Record) (out []string, err error) {
	list, err := d.links(r)
	for _, l := range list {
		out = append(out, l.env(r.Name)...)
	}
	return out, err
}

// env is what one link adds (moby, daemon/links/links.go: variables, and their order).
func (l link) env(parent string) []string {
	alias := strings.ReplaceAll(strings.ToUpper(l.alias), "-", "_")
	ip := l.ends.Addr.String()
	var ports []nat.Port
	for p := range l.rec.Config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, byProtocol)
	var out []string
	for i, p := range ports {
		url := p.Proto() + "://" + ip + ":" + p.Port()
		if i == 0 {
			out = append(out, alias+"_PORT="+url)
		}
		prefix := alias + "_PORT_" + p.Port() + "_" + strings.ToUpper(p.Proto())
		out = append(out, prefix+"="+url, prefix+"_ADDR="+ip, prefix+"_PORT="+p.Port(), prefix+"_PROTO="+p.Proto())
		if first := rangeOf(ports, i); first != p {
			prefix := alias + "_PORT_" + first.Port() + "_" + strings.ToUpper(first.Proto())
			out = append(out, prefix+"_START="+first.Proto()+"://"+ip+":"+first.Port(), prefix+"_PORT_START="+first.Port(), prefix+"_END="+url, prefix+"_PORT_END="+p.Port())
		}
	}
	out = append(out, alias+"_NAME=/"+parent+"/"+l.alias)
	for _, v := range l.rec.Config.Env {
		if name, value, ok := strings.Cut(v, "="); ok && name != "HOME" && name != "PATH" {
			out = append(out, alias+"_ENV_"+name+"="+value)
		}
	}
	return out
}

// byProtocol has TCP first, then numbers count.
func byProtocol(a, b nat.Port) int {
	if a.Proto() == b.Proto() {
		return a.Int() - b.Int()
	}
	if a.Proto() == "tcp" {
		return -1
	}
	if b.Proto() == "tcp" {
		return 1
	}
	return strings.Compare(a.Proto(), b.Proto())
}

// rangeOf is the first of the consecutive ports that end with the ith; it is that one itself
// unless the range ends there.
func rangeOf(ports []nat.Port, i int) nat.Port {
	follows := func(i int) bool {
		return i > 0 && i < len(ports) && ports[i].Proto() == ports[i-1].Proto() && ports[i].Int() == ports[i-1].Int()+1
	}
	first := ports[i]
	if follows(i + 1) {
		return first
	}
	for ; follows(i); i-- {
		first = ports[i-1]
	}
	return first
}

// eachLink calls f with every link that there is: who has it, its alias, and to whom.
func (d *Daemon) eachLink(f func(parent *live, alias, to string)) {
	if !d.linked.Load() {
		return
	}
	for _, c := range d.list() {
		for alias, to := range c.record().Links {
			f(c, alias, to)
		}
	}
}

// tellParents gives the containers that know one by a link, and run, its addresses, which
// may be others than before.
func (d *Daemon) tellParents(r Record) error {
	ends := r.Endpoints[bridgeNetwork]
	if ends == nil || !ends.Addr.IsValid() {
		return nil
	}
	var all []error
	d.eachLink(func(p *live, alias, to string) {
		if pr := p.record(); to == r.ID && pr.State.Running() && pr.Endpoints[bridgeNetwork] != nil {
			all = append(all, d.relink(p.id, link{alias: alias, rec: r, ends: ends}))
		}
	})
	return errors.Join(all...)
}

// relink puts a link's lines in the place of the former ones.
func (d *Daemon) relink(id string, l link) error {
	return d.editHosts(id, func(f []string) bool { return len(f) > 2 && f[1] == l.alias && f[2] == l.rec.Config.Hostname }, l.hostLines())
}

// linkNames are the further names that containers have from links, by id.
func (d *Daemon) linkNames() map[string][]string {
	out := map[string][]string{}
	d.eachLink(func(p *live, alias, to string) { out[to] = append(out[to], "/"+p.record().Name+"/"+alias) })
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// linkViews is a container's configuration, with its links as clients see them.
func (d *Daemon) linkViews(r Record) *container.HostConfig {
	if len(r.Links) == 0 {
		return r.HostConfig
	}
	h := *r.HostConfig
	h.Links = nil
	for alias, id := range r.Links {
		if c, err := d.find(id); err == nil {
			h.Links = append(h.Links, "/"+c.record().Name+":/"+r.Name+"/"+alias)
		}
	}
	slices.Sort(h.Links)
	return &h
}

// RemoveLink removes the link PARENT/ALIAS; the containers stay.
func (d *Daemon) RemoveLink(ref string) error {
	parent, alias := cutLast(strings.TrimPrefix(ref, "/"))
	if parent == "" {
		if _, err := d.find(alias); err != nil {
			return err
		}
		return errs.New(errs.Internal, "Conflict, cannot remove the default link name of the container")
	}
	c, done, err := d.locked(parent)
	if err != nil {
		return errs.NotFoundf("No such container: %s", ref)
	}
	defer done()
	r := c.record()
	if r.Links[alias] == "" {
		return errs.NotFoundf("No such container: %s", ref)
	}
	if to, err := d.find(r.Links[alias]); err == nil && r.State.Running() {
		if err := d.relink(c.id, link{alias: alias, rec: to.record(), ends: &Endpoint{}}); err != nil {
			return err
		}
	}
	return d.change(c, func(r *Record) {
		left := map[string]string{}
		for a, id := range r.Links {
			if a != alias {
				left[a] = id
			}
		}
		r.Links = left
	})
}
