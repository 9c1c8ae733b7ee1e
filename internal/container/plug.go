package container

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/events"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/container/ipam"
	"github.com/strata-cloud/strata/internal/errs"
)

// plug puts a container that is about to start onto its networks, and gives the
// path of its network namespace; "" is the host's.
func (d *Daemon) plug(c *live) (string, error) {
	r := c.record()
	mode := r.HostConfig.NetworkMode
	if mode.IsContainer() {
		return d.share(c, mode.ConnectedContainer())
	}
	if len(r.Ports) > 0 {
		return d.plugPorts(r)
	}
	if err := d.findNetworks(c, r); err != nil {
		return "", err
	}
	if err := d.lease(c); err != nil {
		return "", err
	}
	if mode.IsHost() {
		return "", nil
	}
	if err := d.syncFor(c); err != nil {
		return "", err
	}
	if err := d.openSpace(r); err != nil {
		return "", err
	}
	r = c.record()
	places := d.places(r)
	for _, p := range joining(r, places) {
		if err := d.wire(c.id, p); err != nil {
			return "", err
		}
		d.networkEvent(events.ActionConnect, p.n, c.id)
	}
	if err := d.route(c.id, places); err != nil {
		return "", err
	}
	return d.shims.Path(d.plane.Path(c.id)), d.known(c)
}

// share puts a container into another's namespace; it is called as the other is.
func (d *Daemon) share(c *live, ref string) (string, error) {
	other, err := d.find(ref)
	if err != nil {
		return "", err
	}
	path, err := d.namespaceOf(ref, "net")
	if err != nil {
		return "", err
	}
	o := other.record().Config
	return path, d.change(c, func(r *Record) {
		cfg := *r.Config
		cfg.Hostname, cfg.Domainname = o.Hostname, o.Domainname
		r.Config = &cfg
	})
}

// findNetworks sees to it that a container's networks are there; one that was not when
// the container was made is known by what the user called it.
func (d *Daemon) findNetworks(c *live, r Record) error {
	for name, e := range r.Endpoints {
		n, err := d.findNetwork(e.Network)
		if err != nil {
			return err
		}
		if n.ID == e.Network {
			continue
		}
		found := *e
		found.Network = n.ID
		if err := d.change(c, func(r *Record) { r.Endpoints = withEndpoint(withEndpoint(r.Endpoints, name, nil), n.Name, &found) }); err != nil {
			return err
		}
	}
	return nil
}

// route makes the ways out lead where they should.
func (d *Daemon) route(id string, places []place) error {
	var via [2]*bridge.Endpoint
	four, six := ways(places)
	for i, w := range []*place{four, six} {
		if w != nil {
			e := w.e.plane(w.n)
			via[i] = &e
		}
	}
	return d.plane.Route(id, via[0], via[1])
}

// lease gives a container's endpoints ids, devices and addresses as far as they have
// none, and free ports of the host where it wants any.
func (d *Daemon) lease(c *live) error {
	err := d.tryLease(c)
	if !errs.Is(err, errs.Forbidden) {
		return err
	}
	// The address, or the last one, may be that of a run that is just over.
	d.mu.Lock()
	leaving := slices.Collect(maps.Values(d.leaving))
	d.mu.Unlock()
	if len(leaving) == 0 {
		return err
	}
	for _, l := range leaving {
		<-l.done
	}
	return d.tryLease(c)
}

func (d *Daemon) tryLease(c *live) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ports := taken{}
	used := d.usedLocked()
	for _, o := range d.byID {
		if o != c {
			ports.addBound(o.record().Bound)
		}
	}
	r := c.record()
	next := r
	next.Endpoints = map[string]*Endpoint{}
	for name, e := range r.Endpoints {
		next.Endpoints[name] = e
	}
	for _, p := range joining(r, d.placesLocked(r)) {
		if p.e.ID != "" {
			continue
		}
		e, err := d.leaseOne(next, p, used[p.n.ID])
		if err != nil {
			return err
		}
		next.Endpoints[p.name] = e
	}
	b := binder{taken: ports}
	if b.four, b.six = inlets(d.placesLocked(next)); len(r.Bound) == 0 {
		bound, err := b.bind(next)
		if err != nil {
			return err
		}
		next.Bound = bound
	}
	return d.note(c, func(r *Record) { r.Endpoints, r.Bound = next.Endpoints, next.Bound })
}

// usedLocked are the addresses that are taken, by network.
func (d *Daemon) usedLocked() map[string]map[netip.Addr]bool {
	used := map[string]map[netip.Addr]bool{}
	take := func(network string, a netip.Addr) {
		if used[network] == nil {
			used[network] = map[netip.Addr]bool{}
		}
		used[network][a] = a.IsValid()
	}
	for _, s := range d.sandboxes {
		take(s.network, s.addr)
	}
	for _, l := range d.leaving {
		for _, s := range l.seats {
			take(s.network, s.addr)
		}
	}
	for _, o := range d.byID {
		for _, e := range o.record().Endpoints {
			take(e.Network, e.Addr)
			take(e.Network, e.Addr6)
		}
	}
	return used
}

// leaseOne is an endpoint that a container gets. d.mu is held.
func (d *Daemon) leaseOne(r Record, p place, used map[netip.Addr]bool) (*Endpoint, error) {
	e := *p.e
	e.ID = newID()
	if !p.n.wired() {
		return &e, nil
	}
	n := p.n
	if !n.V4.Valid() && !n.NoV4 { // the bridge that is always there, at its first use
		with := *n
		if err := d.allot(&with, false); err != nil {
			return nil, err
		}
		if err := d.networks.put(n.ID, &with); err != nil {
			return nil, err
		}
		n, d.nets[n.ID], d.stale = &with, &with, true
	}
	var err error
	if n.V4.Valid() {
		if e.Addr, err = address(n, n.V4, e.Wanted, used); err != nil {
			return nil, err
		}
	}
	if n.V6.Valid() {
		if e.Addr6, err = address(n, n.V6, e.Wanted6, used); err != nil {
			return nil, err
		}
	}
	if e.Name != "" {
		e.Device = e.Name
	}
	for i := 0; e.Device == ""; i++ {
		name := fmt.Sprint(n.device(), i)
		taken := false
		for _, o := range r.Endpoints {
			taken = taken || o.Device == name
		}
		if !taken {
			e.Device = name
		}
	}
	return &e, nil
}

// address chooses one: the wanted, or the first that is free.
func address(n *Network, p ipam.Pool, wanted netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	if wanted.IsValid() {
		if !p.Free(wanted, used) {
			return wanted, errs.Forbiddenf("Address already in use")
		}
		return wanted, nil
	}
	a, ok := p.Next(used)
	if !ok {
		return a, errs.Forbiddenf("no available addresses on this network's address pools: %s (%s)", n.Name, n.ID)
	}
	return a, nil
}

// syncFor makes rules where a container needs them.
func (d *Daemon) syncFor(c *live) error {
	d.mu.Lock()
	stale := d.stale
	d.mu.Unlock()
	if !stale && len(c.record().Bound) == 0 {
		return nil
	}
	return d.syncNetworks()
}

// syncNetworks makes bridges and rules as records say.
func (d *Daemon) syncNetworks() error {
	d.syncing.Lock() // or an older picture could come after a newer one
	defer d.syncing.Unlock()
	var nets []bridge.Network
	var ports []bridge.Port
	d.mu.Lock()
	d.stale = false
	for _, n := range d.nets {
		if !n.lan() && (n.V4.Valid() || n.V6.Valid()) {
			nets = append(nets, n.plane())
		}
	}
	d.mu.Unlock()
	slices.SortFunc(nets, func(a, b bridge.Network) int { return strings.Compare(a.ID, b.ID) })
	for _, c := range d.list() {
		ports = append(ports, d.published(c.record())...)
	}
	err := d.plane.Sync(d.ctx, nets, ports)
	if err != nil {
		d.mu.Lock()
		d.stale = true
		d.mu.Unlock()
	}
	return err
}

// unplug takes a container that does not run off its networks.
func (d *Daemon) unplug(r Record) error {
	c, err := d.find(r.ID)
	if err != nil {
		return nil
	}
	err = errors.Join(d.unknown(c), d.unplugDevices(r))
	if !slices.ContainsFunc(slices.Collect(maps.Values(r.Endpoints)), func(e *Endpoint) bool { return e.ID != "" }) && len(r.Bound) == 0 {
		return err
	}
	places := d.places(r)
	err = errors.Join(err, d.change(c, func(r *Record) { r.Endpoints, r.Bound = idle(r.Endpoints), nil }))
	for _, p := range places {
		if p.e.ID != "" && !r.HostConfig.NetworkMode.IsHost() {
			d.networkEvent(events.ActionDisconnect, p.n, r.ID)
		}
	}
	if len(r.Bound) > 0 {
		err = errors.Join(err, d.syncNetworks())
	}
	return err
}

// unplugDevices removes a container's namespace and devices.
func (d *Daemon) unplugDevices(r Record) error {
	switch mode := r.HostConfig.NetworkMode; {
	case mode.IsContainer(), mode.IsHost():
		return nil
	case len(r.Ports) > 0:
		return d.unplugPorts(r)
	}
	var ids []string
	for _, e := range r.Endpoints {
		if e.ID != "" {
			ids = append(ids, e.ID)
		}
	}
	return errors.Join(d.leaveLANs(r), d.plane.Remove(r.ID, ids...))
}
