package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

// lost is the exit code of a container whose end no one saw, as dockerd gives it.
const lost = 255

// adopt takes over what was there before this process.
func (d *Daemon) adopt() error {
	recs, err := d.loadContainers()
	if err != nil {
		return err
	}
	for id, r := range recs {
		c := newLive(*r)
		d.byID[id] = c
		if !r.Removing || d.byName[r.Name] == nil { // its name may be another's already
			d.byName[r.Name] = c
		}
		d.linked.CompareAndSwap(false, len(r.Links) > 0)
	}
	if err := d.syncNetworks(); err != nil {
		return err
	}
	for _, c := range d.list() {
		if r := c.record(); r.State.Running() {
			d.heldVolumes(r)
		}
	}
	d.resumeAll()
	if err := d.sweepVolumes(); err != nil {
		return err
	}
	if err := d.sweep(); err != nil {
		return err
	}
	d.shims.Trim()
	return nil
}

// adopting is how many containers are taken over at once: each takes some questions to
// its shim, for which one waits.
const adopting = 16

func (d *Daemon) resumeAll() {
	var group sync.WaitGroup
	next := make(chan *live)
	for range adopting {
		group.Go(func() {
			for c := range next {
				err := d.resume(c)
				if err == nil && c.record().State.Running() {
					err = d.known(c)
				}
				if err != nil { // the others are not to suffer
					d.cfg.Log.Error("a container cannot be taken over", "container", c.id, "name", c.record().Name, "err", err)
				}
			}
		})
	}
	for _, c := range d.list() {
		next <- c
	}
	close(next)
	group.Wait()
}

// resume finds out what has become of a container.
func (d *Daemon) resume(c *live) error {
	ctx := d.work()
	cc, err := d.engine.Client.LoadContainer(ctx, c.id)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if c.record().Removing || err != nil { // it was being removed, or not made yet
		return errors.Join(d.endTask(ctx, cc), d.unmake(c))
	}
	task, err := cc.Task(ctx, nil)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	r := c.record()
	switch {
	case err == nil && r.State.Running():
		return d.follow(ctx, c, task)
	case err == nil:
		return d.half(ctx, c, task)
	case r.State.Running():
		d.over(c, nil, lost, time.Now().UTC())
	case r.State.Status == container.StateRestarting:
		d.retry(c, firstDelay)
	}
	return d.always(c)
}

// follow supervises a container that runs, or that has ended while no one looked.
func (d *Daemon) follow(ctx context.Context, c *live, task client.Task) error {
	d.shims.Join(c.record().Group)
	exit, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	status, err := task.Status(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.task = task
	over := c.exit
	c.mu.Unlock()
	if status.Status == client.Paused || status.Status == client.Running {
		err = d.change(c, func(r *Record) {
			r.State.Status, r.State.Pid = container.StateRunning, int(task.Pid())
			if status.Status == client.Paused {
				r.State.Status = container.StatePaused
			}
		})
	}
	if status.Status == client.Stopped { // clients see its end at once
		d.supervise(c, task, exit)
		return err
	}
	d.group.Go(func() { d.supervise(c, task, exit) })
	d.watchHealth(c, over)
	return err
}

// half ends a run of which the record does not know: the crash came between the
// making of the process and its booking, and no client was told of it.
func (d *Daemon) half(ctx context.Context, c *live, task client.Task) error {
	if _, err := task.Delete(ctx, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return errors.Join(d.unplug(c.record()), d.unmountImages(c.record()))
}

func (d *Daemon) endTask(ctx context.Context, cc client.Container) error {
	if cc == nil {
		return nil
	}
	task, err := cc.Task(ctx, nil)
	if err != nil {
		return ignoreMissing(err)
	}
	_, err = task.Delete(ctx, client.WithProcessKill)
	return ignoreMissing(err)
}

// always starts what is to run always, after a restart of the machine or of us.
func (d *Daemon) always(c *live) error {
	r := c.record()
	p := r.HostConfig.RestartPolicy
	if r.State.Status != container.StateExited || !p.IsAlways() && (r.Stopped || !p.IsUnlessStopped()) {
		return nil
	}
	if err := d.change(c, func(r *Record) { r.State.Status = container.StateRestarting }); err != nil {
		return err
	}
	d.retry(c, firstDelay)
	return nil
}

// sweep removes what has no record: a crash came before it was written, or after it
// was removed.
func (d *Daemon) sweep() error {
	ctx := d.work()
	all, err := d.engine.Client.Containers(ctx)
	if err != nil {
		return err
	}
	known := func(id string) bool {
		_, err := d.find(id)
		return err == nil
	}
	for _, cc := range all {
		if known(cc.ID()) {
			continue
		}
		if err := errors.Join(d.endTask(ctx, cc), ignoreMissing(cc.Delete(ctx, client.WithSnapshotCleanup))); err != nil {
			return err
		}
	}
	dirs, err := os.ReadDir(filepath.Join(d.cfg.Dir, "containers"))
	if err != nil {
		return err
	}
	for _, e := range dirs {
		if !known(e.Name()) {
			if err := d.removeFiles(e.Name()); err != nil {
				return err
			}
		}
	}
	if d.cfg.Cloud != nil {
		if err := d.cfg.Cloud.SweepVolumes(ctx, known); err != nil {
			return err
		}
	}
	endpoints := map[string]bool{}
	for _, c := range d.list() {
		for _, e := range c.record().Endpoints {
			endpoints[e.ID] = e.ID != ""
		}
	}
	delete(endpoints, "")
	if err := d.plane.Sweep(endpoints); err != nil {
		return err
	}
	plugged, err := d.plane.Plugged()
	if err != nil {
		return err
	}
	for _, id := range plugged {
		if c, err := d.find(id); err == nil && c.record().State.Running() {
			continue
		} else if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if err := d.plane.Remove(id + strings.Repeat("0", 52)); err != nil {
			return err
		}
	}
	return nil
}
