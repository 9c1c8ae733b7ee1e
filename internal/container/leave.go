package container

import (
	"errors"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"

	"github.com/strata-cloud/strata/internal/errs"
)

// The kernel takes its time to take down a namespace, and so does runc. When a run is
// over that is booked, and told of, at once; what is left of it is removed afterwards. A
// crash before that leaves what New removes: tasks, namespaces and files of containers
// that do not run.

// leaving is a run that is over, and not removed from the machine yet.
type leaving struct {
	seats []seat        // addresses that its namespace may still answer for
	done  chan struct{} // closed when they are free
}

// depart takes a container, whose run is over, out of sight of the others on its
// networks, and gives what is closed when nothing of the run is left.
func (d *Daemon) depart(c *live, r Record) chan struct{} {
	if err := d.unknown(c); err != nil {
		d.cfg.Log.Error("ending a container's name server", "container", c.id, "err", err)
	}
	l := leaving{done: make(chan struct{})}
	for _, p := range d.places(r) {
		if p.e.ID == "" || r.HostConfig.NetworkMode.IsHost() {
			continue
		}
		l.seats = append(l.seats, seat{p.e.Network, p.e.Addr}, seat{p.e.Network, p.e.Addr6})
		d.networkEvent(events.ActionDisconnect, p.n, r.ID)
	}
	d.mu.Lock()
	d.leaving[c.id] = l
	d.mu.Unlock()
	return l.done
}

// clear removes what is left of a run, of which r is the record.
func (d *Daemon) clear(c *live, r Record, task client.Task, left chan struct{}) {
	var err error
	if task != nil {
		if _, e := task.Delete(d.rest()); !errdefs.IsNotFound(e) {
			err = e
		}
		d.shims.Release(r.Group)
	}
	if err = errors.Join(err, d.unplugDevices(r), d.unmountImages(r), d.releaseVolumes(r)); err != nil {
		d.cfg.Log.Error("removing what is left of a run", "container", c.id, "err", err)
	}
	d.mu.Lock()
	delete(d.leaving, c.id)
	d.mu.Unlock()
	close(left)
	if len(r.Bound) > 0 {
		if err := d.syncNetworks(); err != nil {
			d.cfg.Log.Error("closing a container's ports", "container", c.id, "err", err)
		}
	}
}

// awaitLeft waits until nothing is left of the last run.
func (c *live) awaitLeft() {
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left != nil {
		<-left
	}
}

// removable tells whether a container, whose op is held, has not been removed yet.
func (c *live) removable() error {
	select {
	case <-c.removed:
		return errs.NotFoundf("No such container: %s", c.id)
	default:
		return nil
	}
}

// gone tells everyone that a container is removed.
func (d *Daemon) gone(c *live, r Record, volumes bool) {
	if volumes {
		for _, m := range r.Mounts {
			d.dropAnonymous(m.Name)
		}
	}
	d.forgetExecs(c)
	d.tell(c, events.ActionDestroy)
	close(c.removed)
}

// vanish removes a container that wants to be removed with its end. It is gone for
// everyone before its files are: no record tells of it any more, or one that says that it
// is being removed, so that New removes them after a crash.
func (d *Daemon) vanish(c *live) error {
	if err := c.removable(); err != nil {
		return err
	}
	r := c.record()
	// It was started again just before; or it has volumes of block storage, which others
	// may have at once when it is gone: what was written to them is there by then.
	if r.State.Running() || len(r.Volumes) > 0 {
		return d.remove(c, true)
	}
	mark := func() error { return d.change(c, func(r *Record) { r.Stopped, r.Removing = true, true }) }
	if r.brief() {
		mark = func() error { return d.dropRecord(c.id) }
	}
	if err := mark(); err != nil {
		return err
	}
	d.forget(c, r.Name)
	d.gone(c, r, true)
	d.group.Go(func() {
		c.awaitLeft()
		err := d.unmakeFiles(r)
		if err == nil && !r.brief() {
			err = d.dropRecord(c.id)
		}
		if err != nil {
			d.cfg.Log.Error("removing what is left of a container", "container", c.id, "err", err)
		}
	})
	return nil
}
