package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/process"
	"github.com/strata-cloud/strata/internal/wait"
)

// qmpRunner runs QMP commands somewhere.
type qmpRunner func(ctx context.Context, name string, args, out any) error

// startWorker runs a QEMU without a machine, which has the disks open: to take
// their contents from another host, or to send those of a machine that stands still.
func (m *machine) startWorker(ctx context.Context, disks []Disk) (process.ID, *monitor, error) {
	if err := m.own(&Spec{Disks: disks}); err != nil {
		return process.ID{}, nil, err
	}
	b := &argBuilder{}
	b.add("-name", "guest=strata-move-"+m.id+",debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "socket,id=monitor,path="+moveSocket+",server=on,wait=off", "-mon", "chardev=monitor,mode=control")
	for i := range disks {
		for _, n := range disks[i].nodes() {
			b.addJSON("-blockdev", n)
		}
	}
	cmd, err := m.spawn(b.args, nil, moveLog)
	if err != nil {
		return process.ID{}, nil, err
	}
	p, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		return process.ID{}, nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go cmd.Wait() // ends with the worker, or with us
	mon, err := m.dialWorker(ctx, p)
	if err != nil {
		return process.ID{}, nil, errors.Join(err, end(context.WithoutCancel(ctx), p))
	}
	return p, mon, nil
}

// dialWorker connects to the worker's monitor.
func (m *machine) dialWorker(ctx context.Context, p process.ID) (*monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var mon *monitor
	var last error
	err := wait.Until(ctx, "a move's QEMU", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		mon, last = dialMonitor(ctx, m.dir, moveSocket, func(qmpEvent) {})
		if last != nil && !p.Alive() {
			return false, fmt.Errorf("QEMU did not start%s", lastLog(filepath.Join(m.dir, moveLog)))
		}
		return last == nil, nil
	})
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, last)
	}
	return mon, err
}

// endWorker has the worker close its disks and ends it.
func (m *machine) endWorker(ctx context.Context) error {
	mv := m.moving()
	if mv == nil || !mv.Worker.Alive() {
		m.letMoveGo()
		return nil
	}
	if err := m.worker(ctx, "quit", nil, nil); err == nil {
		polite, cancel := context.WithTimeout(ctx, suspendTimeout)
		defer cancel()
		err := wait.Until(polite, "a move's QEMU to end", time.Millisecond, func(context.Context) (bool, error) { return !mv.Worker.Alive(), nil })
		if err != nil {
			return err
		}
	}
	m.letMoveGo()
	return end(ctx, mv.Worker)
}

// worker is the qmpRunner of the move's worker.
func (m *machine) worker(ctx context.Context, name string, args, out any) error {
	m.mu.Lock()
	var mon *monitor
	if m.move != nil {
		mon = m.move.worker
	}
	m.mu.Unlock()
	if mon == nil {
		return fmt.Errorf("%s: %w", name, errMonitorClosed)
	}
	return mon.run(ctx, name, args, out)
}
