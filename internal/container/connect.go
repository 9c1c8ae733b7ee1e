package container

import (
	"errors"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/errs"
)

// Connect puts a container on a network, at once when it runs.
func (d *Daemon) Connect(ref, container string, s *network.EndpointSettings) error {
	c, err := d.find(container)
	if err != nil {
		return err
	}
	n, err := d.findNetwork(ref)
	if err != nil {
		return err
	}
	e := &Endpoint{Network: n.ID}
	if err := e.want(n, s); err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	r := c.record()
	if err := d.connectable(r, n); err != nil {
		return err
	}
	if err := d.change(c, func(r *Record) { r.Endpoints = withEndpoint(r.Endpoints, n.Name, e) }); err != nil {
		return err
	}
	if !r.State.Running() {
		return nil
	}
	err = d.joinNetwork(c, n)
	if err == nil && !c.record().State.Running() { // it has ended meanwhile
		return d.leave(c, n, false)
	}
	if err != nil {
		return errors.Join(err, d.leave(c, n, true))
	}
	d.networkEvent(events.ActionConnect, n, c.id)
	return nil
}

// withEndpoint is a copy with one more, or with one replaced; nil takes it away.
func withEndpoint(all map[string]*Endpoint, name string, e *Endpoint) map[string]*Endpoint {
	out := map[string]*Endpoint{}
	for n, o := range all {
		out[n] = o
	}
	delete(out, name)
	if e != nil {
		out[name] = e
	}
	return out
}

// connectable says why a container cannot be put on a network, in dockerd's words.
func (d *Daemon) connectable(r Record, n *Network) error {
	mode := r.HostConfig.NetworkMode
	switch {
	case r.Removing:
		return errs.Conflictf("Container %s is marked for removal and cannot be connected or disconnected to the network", r.ID)
	case mode.IsContainer(), mode.IsHost() && n.Driver != "host":
		return errs.Invalidf("container sharing network namespace with another container or host cannot be connected to any other network")
	case !mode.IsHost() && n.Driver == "host":
		return errs.Invalidf("cannot connect container to host network - container must be created in host network mode")
	}
	for name, e := range r.Endpoints {
		switch {
		case name == n.Name && e.ID != "" && r.State.Running():
			return errs.Forbiddenf("endpoint with name %s already exists in network %s", r.Name, n.Name)
		case name != n.Name && (name == noneNetwork || n.Name == noneNetwork):
			return errs.Invalidf("container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	return nil
}

// joinNetwork puts a container that runs on a network that is in its record.
func (d *Daemon) joinNetwork(c *live, n *Network) error {
	if err := d.lease(c); err != nil {
		return err
	}
	if err := d.syncFor(c); err != nil {
		return err
	}
	r := c.record()
	places := d.places(r)
	for _, p := range places {
		if p.n.ID == n.ID {
			if err := d.wire(c.id, p); err != nil {
				return err
			}
		}
	}
	return errors.Join(d.route(c.id, places), d.known(c), d.addHosts(r, r.Endpoints[n.Name]))
}

// Disconnect takes a container off a network. force goes on where the network is gone.
func (d *Daemon) Disconnect(ref, container string, force bool) error {
	c, err := d.find(container)
	if err != nil {
		return err
	}
	n, err := d.findNetwork(ref)
	if err != nil && !(force && errs.Is(err, errs.NotFound)) {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	r := c.record()
	name := ref
	if n != nil {
		name = n.Name
	}
	switch {
	case r.Removing:
		return errs.Conflictf("Container %s is marked for removal and cannot be connected or disconnected to the network", r.ID)
	case n != nil && n.Driver == "host" && r.HostConfig.NetworkMode.IsHost() && r.State.Running():
		return errs.Invalidf("cannot disconnect container from host network - container was created in host network mode")
	case r.Endpoints[name] == nil:
		return errs.New(errs.Internal, "container %s is not connected to network %s", r.ID, name)
	}
	if n == nil || !r.State.Running() {
		return d.change(c, func(r *Record) { r.Endpoints = withEndpoint(r.Endpoints, name, nil) })
	}
	if err := d.leave(c, n, true); err != nil {
		return err
	}
	d.networkEvent(events.ActionDisconnect, n, c.id)
	return nil
}

// leave takes a container off a network, and out of its record if it is to forget it.
func (d *Daemon) leave(c *live, n *Network, forget bool) error {
	e := c.record().Endpoints[n.Name]
	if e == nil {
		return nil
	}
	var err error
	if e.ID != "" {
		d.names.Table.Remove(n.ID, e.ID)
		err = d.unwire(c.id, n, e)
	}
	err = errors.Join(err, d.change(c, func(r *Record) {
		left := e.idle()
		if forget {
			left = nil
		}
		r.Endpoints = withEndpoint(r.Endpoints, n.Name, left)
	}))
	r := c.record()
	if err != nil || !r.State.Running() {
		return err
	}
	places := d.places(r)
	err = errors.Join(d.route(c.id, places), d.known(c), d.removeHosts(c.id, e))
	if len(r.Bound) == 0 {
		return err
	}
	if four, six := inlets(places); four == nil && six == nil {
		err = errors.Join(err, d.change(c, func(r *Record) { r.Bound = nil }))
	}
	return errors.Join(err, d.syncNetworks())
}
