package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// parseSignal reads TERM, SIGTERM or 15.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, errs.Invalidf("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(rest, "+")); err == nil && n <= 30 {
			return syscall.Signal(34 + n), nil
		}
	}
	return 0, errs.Invalidf("invalid signal: %s", s)
}

// Stop ends a container: by its signal, and by force after the time-out, which is
// infinite when negative.
func (d *Daemon) Stop(ctx context.Context, ref, signal string, timeout *int) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	if signal != "" {
		if _, err := parseSignal(signal); err != nil {
			return err
		}
	}
	if err := d.halt(ctx, c, signal, timeout); err != nil {
		return err
	}
	d.tell(c, events.ActionStop)
	return nil
}

// halt ends a container whose op is held.
func (d *Daemon) halt(ctx context.Context, c *live, signal string, timeout *int) error {
	c.cancelRetry()
	r := c.record()
	c.mu.Lock()
	exit := c.exit
	c.mu.Unlock()
	if err := d.change(c, func(r *Record) {
		r.Stopped = true
		if r.State.Status == container.StateRestarting {
			r.State.Status = container.StateExited
		}
	}); err != nil {
		return err
	}
	task, err := c.running()
	if err != nil {
		if r.State.Status == container.StateRestarting {
			return nil
		}
		return ErrNotModified
	}
	sig, err := parseSignal(cmp.Or(signal, r.Config.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	seconds := 10
	for _, t := range []*int{r.Config.StopTimeout, timeout} {
		if t != nil {
			seconds = *t
		}
	}
	if r.State.Status == container.StatePaused {
		if err := d.unpause(c); err != nil {
			return err
		}
	}
	if err := task.Kill(d.work(), sig); err != nil && !ended(err) {
		return err
	}
	d.tell(c, events.ActionKill, "signal", strconv.Itoa(int(sig)))
	if await(ctx, exit, time.Duration(seconds)*time.Second) {
		return nil
	}
	return d.killAndWait(c, exit)
}

// ended tells of an error of a signal that only says that the container has just ended, and
// its shim perhaps with it.
func ended(err error) bool { return errdefs.IsNotFound(err) || shimGone(err) }

// await waits for the end of a run. A client that goes away makes it as good as
// timed out, as with dockerd.
func await(ctx context.Context, exit <-chan struct{}, timeout time.Duration) bool {
	var after <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-exit:
		return true
	case <-ctx.Done():
		return false
	case <-after:
		return false
	}
}

// hardest bounds the wait for a process that was killed: one in the kernel may not die.
const hardest = 20 * time.Second

func (d *Daemon) killAndWait(c *live, exit <-chan struct{}) error {
	task, err := c.running()
	if err != nil {
		return nil // it has ended
	}
	if err := task.Kill(d.work(), syscall.SIGKILL); err != nil && !ended(err) {
		return err
	}
	d.tell(c, events.ActionKill, "signal", "9")
	if await(d.ctx, exit, hardest) {
		return nil
	}
	return fmt.Errorf("container %s PID %d is zombie and can not be killed. Use the --init option when creating containers to run an init inside the container that forwards signals and reaps processes", c.id, c.record().State.Pid)
}

// Kill sends a signal.
func (d *Daemon) Kill(ref, signal string) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if signal != "" {
		if sig, err = parseSignal(signal); err != nil {
			return err
		}
	}
	task, err := c.running()
	if err != nil {
		return errs.Conflictf("cannot kill container: %s: %s", ref, err)
	}
	r := c.record()
	c.mu.Lock()
	exit := c.exit
	c.mu.Unlock()
	stop, _ := parseSignal("SIGTERM")
	if s, err := parseSignal(r.Config.StopSignal); err == nil {
		stop = s
	}
	ends := sig == syscall.SIGKILL || sig == stop
	if ends {
		if err := d.change(c, func(r *Record) { r.Stopped = true }); err != nil {
			return err
		}
	}
	if ends && r.State.Status == container.StatePaused {
		if err := d.unpause(c); err != nil {
			return err
		}
	}
	if err := task.Kill(d.work(), sig); err != nil {
		if ended(err) {
			return errs.Conflictf("cannot kill container: %s: container %s is not running", ref, c.id)
		}
		return err
	}
	d.tell(c, events.ActionKill, "signal", strconv.Itoa(int(sig)))
	if sig == syscall.SIGKILL {
		await(d.ctx, exit, hardest)
	}
	return nil
}

// Restart stops a container that runs, and starts it.
func (d *Daemon) Restart(ctx context.Context, ref, signal string, timeout *int) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	c.keep(true) // even one that is removed when it ends
	defer c.keep(false)
	if err := d.halt(ctx, c, signal, timeout); err != nil && !errors.Is(err, ErrNotModified) {
		return err
	}
	if err := d.start(c); err != nil {
		return err
	}
	d.tell(c, events.ActionRestart)
	return nil
}

// Pause freezes a container.
func (d *Daemon) Pause(ref string) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	task, err := c.running()
	if err != nil {
		return err
	}
	if c.record().State.Status == container.StatePaused {
		return errs.Conflictf("container %s is already paused", c.id)
	}
	if err := task.Pause(d.work()); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", c.id, err)
	}
	if err := d.change(c, func(r *Record) { r.State.Status = container.StatePaused }); err != nil {
		return err
	}
	d.tell(c, events.ActionPause)
	return nil
}

// Unpause thaws it.
func (d *Daemon) Unpause(ref string) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	return d.unpause(c)
}

func (d *Daemon) unpause(c *live) error {
	task, err := c.running()
	if err != nil {
		return err
	}
	if c.record().State.Status != container.StatePaused {
		return errs.Conflictf("container %s is not paused", c.id)
	}
	if err := task.Resume(d.work()); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.id, err)
	}
	if err := d.change(c, func(r *Record) {
		if r.State.Status == container.StatePaused { // it may have been killed meanwhile
			r.State.Status = container.StateRunning
		}
	}); err != nil {
		return err
	}
	d.tell(c, events.ActionUnPause)
	return nil
}

// Remove removes a container; force ends it first, and volumes takes its anonymous
// volumes along.
func (d *Daemon) Remove(ref string, force, volumes bool) error {
	c, done, err := d.locked(ref)
	if err != nil {
		return err
	}
	defer done()
	if st := c.record().State; (st.Running() || st.Status == container.StateRestarting) && !force {
		what := "stop the container before removing or force remove"
		if st.Status == container.StatePaused {
			what = "unpause and then " + what
		}
		return errs.Conflictf("cannot remove container %q: container is %s: %s", "/"+c.record().Name, st.Status, what)
	}
	return d.remove(c, volumes)
}

// remove removes a container whose op is held, whatever it does.
func (d *Daemon) remove(c *live, volumes bool) error {
	c.cancelRetry()
	if err := c.removable(); err != nil {
		return err
	}
	c.mu.Lock()
	exit := c.exit
	c.mu.Unlock()
	if c.record().State.Status == container.StatePaused {
		if err := d.unpause(c); err != nil {
			return err
		}
	}
	runs := c.record().State.Running()
	// A crash after this removes the container at the next start.
	if err := d.change(c, func(r *Record) { r.Stopped, r.Removing = true, true }); err != nil {
		return err
	}
	if runs {
		if err := d.killAndWait(c, exit); err != nil {
			return err
		}
	}
	c.awaitLeft()
	r := c.record()
	if err := d.unmake(c); err != nil {
		return fmt.Errorf("removing container %s: %w", c.id, err)
	}
	d.gone(c, r, volumes)
	return nil
}

// dropAnonymous removes a volume that no one named and no one else has.
func (d *Daemon) dropAnonymous(name string) {
	for _, v := range d.Volumes() {
		if v.Name == name && v.Anonymous && len(v.Users) == 0 {
			if err := d.dropVolume(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				d.cfg.Log.Warn("removing an anonymous volume", "volume", name, "err", err)
			}
		}
	}
}

// Rename gives a container another name.
func (d *Daemon) Rename(ref, name string) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if !nameRE.MatchString(name) {
		return errs.Invalidf("Error when allocating new name: Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	c.op.Lock()
	defer c.op.Unlock()
	old := c.record().Name
	if old == name {
		return errs.Invalidf("Renaming a container with the same name as its current name")
	}
	d.mu.Lock()
	if other := d.byName[name]; other != nil {
		d.mu.Unlock()
		return errs.Conflictf("Error when allocating new name: Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other.id)
	}
	d.byName[name] = c
	d.mu.Unlock()
	err = d.change(c, func(r *Record) { r.Name = name })
	d.mu.Lock()
	if err != nil {
		delete(d.byName, name)
	} else {
		delete(d.byName, old)
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.tell(c, events.ActionRename, "oldName", "/"+old)
	if c.record().State.Running() {
		return d.known(c)
	}
	return nil
}
