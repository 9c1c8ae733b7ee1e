package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// swapping is a disk of a running machine that is being reached in another way. It
// is in state.json until that is over: meanwhile the guest stands still.
type swapping struct {
	Disk string `json:"disk"`
	Runs bool   `json:"runs"` // the guest ran before and shall again
}

// swapTimeout bounds what is done on QEMU's side of a swap.
const swapTimeout = 30 * time.Second

// SwapDisk implements Driver. QEMU can have two block nodes of a device change
// places only by copying from one to the other: with the guest standing still and
// nothing to copy, that is at once. In between a node without content is the device's.
func (d *QEMU) SwapDisk(ctx context.Context, id, diskID string, open func(context.Context) (Disk, error)) error {
	return d.withDisk(ctx, id, diskID, "swapping a disk of", func(m *machine, st machineState, disk *Disk) error {
		switch {
		case m.moving() != nil:
			return errs.Conflictf("machine %s is being moved", id)
		case st.Swapping != nil && st.Swapping.Disk != diskID:
			return errs.Conflictf("disk %s of the machine is being swapped", st.Swapping.Disk)
		}
		old := *disk
		if err := m.park(ctx, &st, disk); err != nil {
			return errors.Join(err, m.unpark(context.WithoutCancel(ctx), old, old))
		}
		if open == nil {
			return m.unpark(ctx, old, old)
		}
		now, err := open(ctx)
		if err == nil {
			next := old
			next.reach(&now)
			if err = next.validate(); err == nil {
				err = m.unpark(context.WithoutCancel(ctx), old, next)
			}
		}
		if err != nil {
			return errors.Join(err, m.unpark(context.WithoutCancel(ctx), old, old))
		}
		return nil
	})
}

// Swapping implements Driver.
func (d *QEMU) Swapping(id string) string {
	m, err := d.find(id)
	if err != nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.swapped
}

// blank names the node that is the device's while its disk is closed: zeroes alone,
// which nobody reads, for the guest stands still.
func (d *Disk) blank() string { return qemuID("swap", d.Name()) }

// park stops the guest and closes its disk. It may be repeated.
func (m *machine) park(ctx context.Context, st *machineState, d *Disk) error {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	if st.Swapping == nil {
		var status struct {
			Running bool `json:"running"`
		}
		if err := m.command(ctx, "query-status", nil, &status); err != nil {
			return err
		}
		st.Swapping = &swapping{Disk: d.Name(), Runs: status.Running}
		m.setSwapped(d.Name())
		if err := m.writeState(*st); err != nil {
			return err
		}
	}
	if err := m.command(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if _, err := m.blockInfo(ctx, d.blank()); errs.Is(err, errs.NotFound) {
		info, err := m.blockInfo(ctx, d.node())
		if err != nil {
			return err
		}
		err = m.command(ctx, "blockdev-add", map[string]any{"driver": "null-co", "node-name": d.blank(), "size": info.Image.VirtualSize, "read-zeroes": true}, nil)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := m.replaceRoot(ctx, d, d.node(), d.blank()); err != nil {
		return err
	}
	return m.dropBlocks(ctx, d.node(), d.protocol())
}

// unpark opens the disk as next is and lets the guest go on. The objects of old
// are in QEMU, whose keys are not known here any more.
func (m *machine) unpark(ctx context.Context, old, next Disk) error {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	if root, err := m.root(ctx, &next); err != nil {
		return err
	} else if root != next.node() {
		if err := m.open(ctx, &next); err != nil {
			return fmt.Errorf("opening it: %w", err)
		}
		if err := m.replaceRoot(ctx, &next, next.blank(), next.node()); err != nil {
			return errors.Join(err, m.dropBlocks(ctx, next.node(), next.protocol()))
		}
	}
	if err := m.dropBlocks(ctx, next.blank()); err != nil {
		return err
	}
	for _, o := range old.objects() {
		if !slices.ContainsFunc(next.objects(), func(n object) bool { return n.id == o.id }) {
			_ = m.command(ctx, "object-del", map[string]string{"id": o.id}, nil) // it may not be there
		}
	}
	st, err := m.readState()
	if err != nil {
		return err
	}
	if st.Swapping != nil && st.Swapping.Runs {
		if err := m.goOn(ctx); err != nil {
			return err
		}
	}
	*st.Spec.disk(next.Name()) = next
	st.Swapping = nil
	if err := m.writeState(st); err != nil {
		return err
	}
	m.setSwapped("")
	return nil
}

// open makes the disk's objects, as far as their keys are given, and block nodes.
func (m *machine) open(ctx context.Context, d *Disk) error {
	if err := m.dropBlocks(ctx, d.node(), d.protocol()); err != nil { // a failure may have left them
		return err
	}
	defer m.removeSecrets()
	for _, o := range d.objects() {
		if len(o.data) == 0 {
			continue
		}
		if err := o.write(m.dir, m.d.UID, m.d.GID); err != nil {
			return fmt.Errorf("handing over a key: %w", err)
		}
		_ = m.command(ctx, "object-del", map[string]string{"id": o.id}, nil) // one of an earlier time
		if err := m.command(ctx, "object-add", o.byFile(), nil); err != nil {
			return err
		}
	}
	if err := m.own(&Spec{Disks: []Disk{*d}}); err != nil {
		return err
	}
	for _, n := range d.nodes() {
		if err := m.command(ctx, "blockdev-add", n, nil); err != nil {
			return err
		}
	}
	return nil
}

// replaceRoot makes to the node that the disk's device uses instead of from, while
// the guest stands still.
func (m *machine) replaceRoot(ctx context.Context, d *Disk, from, to string) error {
	root, err := m.root(ctx, d)
	if err != nil || root == to {
		return err
	}
	job := qemuID("swapjob", d.Name())
	if err := m.endSwapJob(ctx, job); err != nil {
		return err
	}
	if err := m.command(ctx, "blockdev-mirror", map[string]any{"job-id": job, "device": from, "target": to, "sync": "none"}, nil); err != nil {
		return err
	}
	asked := false
	err = wait.Until(ctx, "a disk to change places", time.Millisecond, func(ctx context.Context) (bool, error) {
		j, err := m.swapJob(ctx, job)
		if err != nil || j == nil {
			return j == nil, err
		}
		if j.Ready && !asked {
			asked = true
			return false, m.command(ctx, "block-job-complete", map[string]string{"device": job}, nil)
		}
		return false, nil
	})
	if err != nil {
		return errors.Join(err, m.endSwapJob(context.WithoutCancel(ctx), job))
	}
	if root, err = m.root(ctx, d); err == nil && root != to {
		err = fmt.Errorf("the device still uses %s", root)
	}
	return err
}

// swapJob looks for a job; nil: there is none of that name.
func (m *machine) swapJob(ctx context.Context, id string) (*mirror, error) {
	var all []mirror
	err := m.command(ctx, "query-block-jobs", nil, &all)
	for i := range all {
		if all[i].ID == id {
			return &all[i], err
		}
	}
	return nil, err
}

// endSwapJob ends a job that a failure or a restart has left.
func (m *machine) endSwapJob(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	return wait.Until(ctx, "a job to end", time.Millisecond, func(ctx context.Context) (bool, error) {
		j, err := m.swapJob(ctx, id)
		if err == nil && j != nil {
			_ = m.command(ctx, "block-job-cancel", map[string]any{"device": id, "force": true}, nil) // it may be ending already
		}
		return j == nil, err
	})
}

// root is the block node that the disk's device uses.
func (m *machine) root(ctx context.Context, d *Disk) (string, error) {
	var all []struct {
		Device   string `json:"qdev"`
		Inserted struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	if err := m.command(ctx, "query-block", nil, &all); err != nil {
		return "", err
	}
	for _, b := range all {
		if b.Device == d.device() || slices.Contains(strings.Split(b.Device, "/"), d.device()) {
			return b.Inserted.Node, nil
		}
	}
	return "", errs.NotFoundf("machine %s has no device of disk %s", m.id, d.Name())
}

// dropBlocks removes block nodes, as far as they are there.
func (m *machine) dropBlocks(ctx context.Context, names ...string) error {
	for _, name := range names {
		switch _, err := m.blockInfo(ctx, name); {
		case errs.Is(err, errs.NotFound):
			continue
		case err != nil:
			return err
		}
		if err := m.command(ctx, "blockdev-del", map[string]string{"node-name": name}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) setSwapped(disk string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.swapped = disk
}

// goOn continues the guest of a machine whose swap has ended.
func (m *machine) goOn(ctx context.Context) error {
	m.mu.Lock()
	mon := m.mon
	m.mu.Unlock()
	if mon == nil {
		return errMonitorClosed
	}
	return mon.run(ctx, "cont", nil, nil)
}

// mayGoOn refuses to continue a guest while one of its disks has no content.
func (m *machine) mayGoOn() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.swapped == "" {
		return nil
	}
	return errs.Conflictf("disk %s of machine %s is being swapped", m.swapped, filepath.Base(m.dir))
}
