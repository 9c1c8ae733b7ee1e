package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// suspendTimeout bounds the saving and the loading of a machine's memory.
const suspendTimeout = 10 * time.Minute

// locked runs an operation on the machine, one at a time.
func (d *QEMU) locked(ctx context.Context, id, what string, op func(*machine) error) error {
	m, err := d.find(id)
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if err := op(m); err != nil {
		return fmt.Errorf("%s machine %s: %w", what, id, err)
	}
	return nil
}

// Stop implements Driver.
func (d *QEMU) Stop(ctx context.Context, id string, grace time.Duration) error {
	return d.locked(ctx, id, "stopping", func(m *machine) error {
		if mv := m.moving(); mv != nil && mv.Role == MoveOut && (mv.Done || !mv.Live) && mv.Fault == "" {
			return nil // it stands still
		}
		if m.running() && grace > 0 {
			m.expect()
			if m.shutDown(ctx, grace) {
				return d.removeCgroup(ctx, id)
			}
		}
		if err := m.kill(ctx); err != nil {
			return err
		}
		os.Remove(filepath.Join(m.dir, memoryFile))
		m.changeState(func(s *machineState) { s.Suspended, s.Crashed, s.Off = false, "", true })
		return nil
	})
}

// Cut implements Driver. It waits for no operation.
func (d *QEMU) Cut(ctx context.Context, id string) error {
	m, err := d.find(id)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err == nil {
		err = m.endAll(ctx)
	}
	return err
}

// Lost implements Driver.
func (d *QEMU) Lost(id string) (bool, error) {
	m, err := d.find(id)
	if err != nil {
		return false, err
	}
	if m.running() || m.moving() != nil {
		return false, nil
	}
	st, err := m.readState()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return st.Spec.ID != "" && !st.Off && !st.Suspended, err
}

// expect notes that the process may end now because we want it.
func (m *machine) expect() {
	m.mu.Lock()
	m.expected = true
	m.mu.Unlock()
}

// shutDown presses the power button and tells whether the process ended in time.
func (m *machine) shutDown(ctx context.Context, grace time.Duration) bool {
	m.mu.Lock()
	exited, paused := m.exited, m.state == nodeapi.PowerPaused
	m.mu.Unlock()
	if exited == nil {
		return true
	}
	if paused { // a guest that stands still hears no button
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	return m.pressUntil(ctx, exited) == nil
}

// pressAgain is how often the power button is pressed: a guest that is still
// booting does not hear it (nova's shutdown_retry_interval is for the same).
const pressAgain = 5 * time.Second

// pressUntil presses the power button again and again until done closes.
func (m *machine) pressUntil(ctx context.Context, done <-chan struct{}) error {
	again := time.NewTicker(pressAgain)
	defer again.Stop()
	for {
		if err := m.command(ctx, "system_powerdown", nil, nil); err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// kill ends the process at once and removes its cgroup.
func (m *machine) kill(ctx context.Context) error {
	m.mu.Lock()
	m.expected = true
	exited, p := m.exited, m.process
	m.mu.Unlock()
	if exited != nil {
		if err := p.Kill(); err != nil {
			return fmt.Errorf("killing QEMU: %w", err)
		}
		select {
		case <-exited:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return m.d.removeCgroup(ctx, m.id)
}

func errNotRunning(id string) error { return errs.Conflictf("machine %s does not run", id) }

// Reboot implements Driver. It keeps the process: QEMU is told to hold instead of to
// exit when the guest has shut down, and is reset then.
func (d *QEMU) Reboot(ctx context.Context, id string, grace time.Duration) error {
	return d.locked(ctx, id, "rebooting", func(m *machine) error {
		if err := m.stays(); err != nil {
			return err
		}
		if !m.running() {
			return errNotRunning(id)
		}
		if m.power() == nodeapi.PowerRunning {
			if err := m.awaitShutdown(ctx, grace); err != nil {
				return err
			}
		}
		if err := m.command(ctx, "system_reset", nil, nil); err != nil {
			return err
		}
		return m.command(ctx, "cont", nil, nil)
	})
}

// awaitShutdown asks the guest to shut down and returns when it did or when grace is over.
func (m *machine) awaitShutdown(ctx context.Context, grace time.Duration) error {
	events, done := m.listen()
	defer done()
	if err := m.command(ctx, "set-action", map[string]string{"shutdown": "pause"}, nil); err != nil {
		return err
	}
	defer func() {
		_ = m.command(context.WithoutCancel(ctx), "set-action", map[string]string{"shutdown": "poweroff"}, nil)
	}()
	down := make(chan struct{})
	wait, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	go func() {
		for {
			select {
			case e := <-events:
				if e.Name == "SHUTDOWN" {
					close(down)
					return
				}
			case <-wait.Done():
				return
			}
		}
	}()
	if err := m.pressUntil(wait, down); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return context.Cause(ctx)
}

// Pause implements Driver.
func (d *QEMU) Pause(ctx context.Context, id string) error {
	return d.locked(ctx, id, "pausing", func(m *machine) error {
		if err := m.stays(); err != nil {
			return err
		}
		if !m.running() {
			return errNotRunning(id)
		}
		if err := m.command(ctx, "stop", nil, nil); err != nil {
			return err
		}
		m.setPower(nodeapi.PowerPaused, "")
		return nil
	})
}

// Resume implements Driver.
func (d *QEMU) Resume(ctx context.Context, id string) error {
	return d.locked(ctx, id, "resuming", func(m *machine) error {
		if err := m.stays(); err != nil {
			return err
		}
		if !m.running() {
			return errNotRunning(id)
		}
		if err := m.command(ctx, "cont", nil, nil); err != nil {
			return err
		}
		m.setPower(nodeapi.PowerRunning, "")
		return nil
	})
}

// Retry implements Driver. QEMU stops a guest for an I/O error in this case alone: its
// disks have the default werror=enospc, by which all other errors are the guest's.
func (d *QEMU) Retry(ctx context.Context, id string) (starved bool, err error) {
	err = d.locked(ctx, id, "continuing", func(m *machine) error {
		if m.stays() != nil || !m.running() || m.power() != nodeapi.PowerPaused {
			return nil
		}
		var status struct {
			Status string `json:"status"`
		}
		if err := m.command(ctx, "query-status", nil, &status); err != nil || status.Status != "io-error" {
			return err
		}
		starved = true
		return m.command(ctx, "cont", nil, nil)
	})
	return starved, err
}

// Suspend implements Driver. The memory goes through a descriptor, because the
// sandbox lets QEMU start no program and open no file of ours.
func (d *QEMU) Suspend(ctx context.Context, id string) error {
	return d.locked(ctx, id, "suspending", func(m *machine) error {
		if err := m.stays(); err != nil {
			return err
		}
		if !m.running() {
			if m.power() == nodeapi.PowerSuspended {
				return nil
			}
			return errNotRunning(id)
		}
		if err := m.saveMemory(ctx, memoryFile, false); err != nil {
			os.Remove(filepath.Join(m.dir, memoryFile))
			// The guest goes on as if nothing had been asked.
			return errors.Join(err, m.command(context.WithoutCancel(ctx), "cont", nil, nil))
		}
		m.changeState(func(s *machineState) { s.Suspended = true })
		return m.kill(ctx)
	})
}

// saveMemory stops the guest and saves its devices and memory; without memory
// that is a shared mapping when ignoreShared is set.
func (m *machine) saveMemory(ctx context.Context, name string, ignoreShared bool) error {
	ctx, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	f, err := os.OpenFile(filepath.Join(m.dir, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := m.command(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.ignoreShared(ctx, ignoreShared); err != nil {
		return err
	}
	if err := m.commandFD(ctx, "getfd", map[string]string{"fdname": "memory"}, nil, f); err != nil {
		return err
	}
	// The guest stands still, so the disk sets the pace.
	_ = m.command(ctx, "migrate-set-parameters", map[string]int64{"max-bandwidth": 1 << 40}, nil)
	if err := m.command(ctx, "migrate", map[string]string{"uri": "fd:memory"}, nil); err != nil {
		return err
	}
	if err := m.awaitMigration(ctx); err != nil {
		return err
	}
	return f.Sync()
}

// awaitMigration waits for the memory to be saved or loaded.
func (m *machine) awaitMigration(ctx context.Context) error {
	return wait.Until(ctx, "the machine's memory", 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		var info struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := m.command(ctx, "query-migrate", nil, &info); err != nil {
			return false, err
		}
		switch info.Status {
		case "completed":
			return true, nil
		case "failed", "cancelled":
			return false, fmt.Errorf("moving memory %s: %s", info.Status, info.Error)
		}
		return false, nil
	})
}

// Restore implements Driver.
func (d *QEMU) Restore(ctx context.Context, id string, taps []*os.File, disks []Disk) error {
	return d.locked(ctx, id, "restoring", func(m *machine) error {
		if err := m.stays(); err != nil {
			return err
		}
		if m.running() {
			return nil
		}
		st, err := m.readState()
		if err != nil {
			return err
		}
		if !st.Suspended {
			return errs.Conflictf("machine %s is not suspended", id)
		}
		if len(taps) != len(st.Spec.NICs) {
			return errs.Invalidf("%d taps for %d NICs", len(taps), len(st.Spec.NICs))
		}
		st.Spec.takeKeys(disks)
		f, err := os.Open(filepath.Join(m.dir, memoryFile))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := m.launch(ctx, st.Spec, taps, &origin{state: f}); err != nil {
			return err
		}
		if err := m.loaded(ctx); err != nil {
			return errors.Join(err, m.kill(context.WithoutCancel(ctx)))
		}
		m.changeState(func(s *machineState) { s.Suspended = false })
		os.Remove(filepath.Join(m.dir, memoryFile))
		m.setPower(nodeapi.PowerRunning, "")
		return nil
	})
}

// loaded waits until the memory is read back, and lets the guest go on.
func (m *machine) loaded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	if err := m.awaitMigration(ctx); err != nil {
		return err
	}
	return m.command(ctx, "cont", nil, nil)
}
