package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/errs"
)

// ErrNotModified says that a container is already as it was asked to be: 304.
var ErrNotModified = errors.New("not modified")

// Start starts a container.
func (d *Daemon) Start(ref string) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	return d.start(c)
}

// start starts a container whose op is held.
func (d *Daemon) start(c *live) error {
	switch st := c.record().State; {
	case st.Status == container.StatePaused:
		return errs.Conflictf("cannot start a paused container, try unpause instead")
	case st.Running():
		return ErrNotModified
	case c.record().Removing:
		return errs.Conflictf("container is marked for removal and cannot be started")
	}
	c.cancelRetry()
	c.awaitLeft()
	err := d.launch(c)
	c.mu.Lock()
	close(c.begun)
	c.begun = make(chan struct{})
	c.mu.Unlock()
	if err == nil {
		return nil
	}
	code, err := startError(c.record().Path, err)
	err = errors.Join(err, d.unplug(c.record()), d.unmountImages(c.record()), d.releaseVolumes(c.record()), d.change(c, func(r *Record) {
		r.State.Error, r.State.ExitCode = err.Error(), code
	}))
	if c.record().HostConfig.AutoRemove {
		err = errors.Join(err, d.remove(c, true))
	}
	return err
}

func (c *live) cancelRetry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retry != nil {
		c.retry()
		c.retry = nil
	}
}

// launch makes the process and books it.
func (d *Daemon) launch(c *live) error {
	ctx := d.work()
	if err := d.mountVolumes(ctx, c.id, c.record().Volumes); err != nil {
		return err
	}
	netns, err := d.plug(c)
	if err != nil {
		return err
	}
	if err := d.holdVolumes(c.record()); err != nil {
		return err
	}
	if err := d.writeEtc(c); err != nil {
		return err
	}
	if err := d.mountImages(ctx, c.record()); err != nil {
		return err
	}
	r := c.record()
	task, err := d.makeTask(ctx, c, netns)
	if err != nil {
		return err
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		_, e := task.Delete(ctx, client.WithProcessKill)
		d.shims.Release(c.record().Group)
		return errors.Join(err, ignoreMissing(e))
	}
	c.mu.Lock()
	c.task = task
	over := c.exit
	c.mu.Unlock()
	err = d.change(c, func(r *Record) {
		r.State = State{Status: container.StateRunning, Pid: int(task.Pid()), StartedAt: time.Now().UTC(), FinishedAt: r.State.FinishedAt, Health: firstHealth(r.Config)}
		r.Stopped = false
	})
	if err == nil { // before whoever tells of the end
		d.tellMounts(r, events.ActionMount)
		d.tell(c, events.ActionStart)
	}
	d.group.Go(func() { d.supervise(c, task, exit) })
	d.watchHealth(c, over)
	if e := d.tellParents(r); e != nil { // it runs
		d.cfg.Log.Error("telling containers of a link", "container", c.id, "err", e)
	}
	return err
}

// makeTask has runc make the process.
func (d *Daemon) makeTask(ctx context.Context, c *live, netns string) (client.Task, error) {
	r := c.record()
	userns, err := r.userNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer userns.Close() // runc has entered it when the task is there
	spec, err := d.spec(ctx, r, netns, userns)
	if err != nil {
		return nil, err
	}
	cc, err := d.engine.Client.LoadContainer(ctx, c.id)
	if err != nil {
		return nil, err
	}
	if err := cc.Update(ctx, client.UpdateContainerOpts(client.WithSpec(spec))); err != nil {
		return nil, err
	}
	io, err := d.stdio(r)
	if err != nil {
		return nil, err
	}
	return d.newTask(c, cc, io)
}

// stdio says where a container's streams go: output into its log, input from a FIFO
// that we find again.
func (d *Daemon) stdio(r Record) (*streams, error) {
	limits, err := logLimits(r.HostConfig.LogConfig)
	if err != nil {
		return nil, err
	}
	s := &streams{cio.Config{Terminal: r.Config.Tty, Stdout: logfile.URI(d.logPath(r.ID), limits)}}
	if !r.Config.OpenStdin {
		return s, nil
	}
	s.cfg.Stdin = d.stdinPath(r.ID)
	if err := os.Remove(s.cfg.Stdin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return s, syscall.Mkfifo(s.cfg.Stdin, 0o600)
}

func (d *Daemon) stdinPath(id string) string { return filepath.Join(d.dir(id), "stdin") }

// streams are a task's, of which nothing passes through this process.
type streams struct{ cfg cio.Config }

// Config implements cio.IO.
func (s *streams) Config() cio.Config { return s.cfg }

// Cancel implements cio.IO.
func (s *streams) Cancel() {}

// Wait implements cio.IO.
func (s *streams) Wait() {}

// Close implements cio.IO.
func (s *streams) Close() error { return nil }

// createFailed is how dockerd begins to tell of a container that does not start.
const createFailed = "failed to create task for container: "

// startError gives Docker's exit code and kind for a process that did not start.
func startError(path string, err error) (int, error) {
	var known *errs.Error
	if errors.As(err, &known) {
		return 128, err
	}
	msg := createFailed + strings.ReplaceAll(err.Error(), "runc run failed: ", "runc create failed: ") // shims do both at once
	has := func(s string) bool { return strings.Contains(msg, s) }
	switch {
	case has(path) && (has("executable file not found") || has("no such file or directory")):
		return 127, errs.Invalidf("%s", msg)
	case has("permission denied"), has("is a directory"), has("exec format error"):
		return 126, errs.Invalidf("%s", msg)
	case has("not a directory"):
		return 127, errs.Invalidf("%s", msg)
	}
	return 128, errors.New(msg)
}

func ignoreMissing(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// supervise waits for the end of a run and books it.
func (d *Daemon) supervise(c *live, task client.Task, exit <-chan client.ExitStatus) {
	var status client.ExitStatus
	select {
	case status = <-exit:
	case <-d.ctx.Done():
		return // the shim keeps the status for who comes after us
	}
	if d.ctx.Err() != nil {
		return
	}
	code, at, err := status.Result()
	if err != nil {
		d.cfg.Log.Warn("waiting for a container", "container", c.id, "err", err)
		code, at = 255, time.Now()
	}
	d.over(c, task, int(code), at.UTC())
}

// over books the end of a run and does what the policy wants then. What is left of the
// run (task is nil if there was none) is removed afterwards, for which no one waits.
func (d *Daemon) over(c *live, task client.Task, code int, at time.Time) {
	log := d.cfg.Log.With("container", c.id)
	last := c.record()
	started := last.State.StartedAt
	left := d.depart(c, last)
	if err := c.pinReaders(); err != nil {
		log.Error("keeping the log for who reads it", "err", err)
	}
	again, delay := d.again(c, code, at.Sub(started))
	err := d.change(c, func(r *Record) {
		r.Endpoints, r.Bound = idle(r.Endpoints), nil
		r.State.Status, r.State.Pid, r.State.ExitCode, r.State.FinishedAt = container.StateExited, 0, code, at
		if h := r.State.Health; h != nil { // as upstream: nothing looks after it now
			ended := *h
			ended.Status = container.Unhealthy
			r.State.Health = &ended
		}
		if again {
			r.State.Status = container.StateRestarting
			r.Restarts++
		}
	})
	if err != nil {
		log.Error("keeping the end of a container", "err", err)
	}
	d.tell(c, events.ActionDie, "exitCode", fmt.Sprint(code), "execDuration", fmt.Sprint(int(at.Sub(started).Seconds())))
	d.tellMounts(c.record(), events.ActionUnmount)
	c.mu.Lock()
	kept := c.kept
	c.task, c.left = nil, left
	close(c.exit)
	c.exit = make(chan struct{})
	c.mu.Unlock()
	d.group.Go(func() { d.clear(c, last, task, left) })
	switch {
	case again:
		d.retry(c, delay)
	case c.record().HostConfig.AutoRemove && !kept:
		d.group.Go(func() {
			c.op.Lock()
			defer c.op.Unlock()
			if err := d.vanish(c); err != nil && !errs.Is(err, errs.NotFound) {
				log.Error("removing a container that has ended", "err", err)
			}
		})
	}
}

// Restarts wait from 100 ms to a minute, twice as long each time, as dockerd's do;
// a run of ten seconds begins anew.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	goodRun    = 10 * time.Second
)

// again tells whether the policy starts a container once more, and when.
func (d *Daemon) again(c *live, code int, ran time.Duration) (bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.rec.HostConfig.RestartPolicy
	if c.rec.Stopped || c.rec.Removing {
		return false, 0
	}
	if c.delay == 0 || ran >= goodRun {
		c.delay = firstDelay
	} else {
		c.delay = min(2*c.delay, lastDelay)
	}
	switch {
	case p.IsAlways(), p.IsUnlessStopped():
		return true, c.delay
	case p.IsOnFailure():
		return code != 0 && (p.MaximumRetryCount == 0 || c.rec.Restarts < p.MaximumRetryCount), c.delay
	}
	return false, 0
}

// retry starts a container again after a while, unless something else happens to it.
func (d *Daemon) retry(c *live, after time.Duration) {
	ctx, cancel := context.WithCancel(d.ctx)
	c.mu.Lock()
	c.retry = cancel
	c.mu.Unlock()
	d.group.Go(func() {
		defer cancel()
		t := time.NewTimer(after)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c.op.Lock()
		defer c.op.Unlock()
		if ctx.Err() != nil || c.record().State.Status != container.StateRestarting {
			return
		}
		if err := d.start(c); err != nil && !errors.Is(err, ErrNotModified) {
			d.cfg.Log.Warn("restarting a container", "container", c.id, "err", err)
			if e := d.change(c, func(r *Record) { r.State.Status = container.StateExited }); e != nil {
				d.cfg.Log.Error("keeping the end of a container", "container", c.id, "err", e)
			}
		}
	})
}
