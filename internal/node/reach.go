package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Console implements nodes.Conn.
func (a *Agent) Console(ctx context.Context, id, kind string) (net.Conn, error) {
	return a.Machines.Console(ctx, id, kind)
}

// Interrupt implements nodes.Conn.
func (a *Agent) Interrupt(ctx context.Context, id string) error {
	return a.Machines.Interrupt(ctx, id)
}

// SetPassword implements nodes.Conn.
func (a *Agent) SetPassword(ctx context.Context, id, user, password string) error {
	return a.Machines.SetPassword(ctx, id, user, password)
}

// Diagnostics implements nodes.Conn.
func (a *Agent) Diagnostics(ctx context.Context, id string) (*nodeapi.Diagnostics, error) {
	out, err := a.Machines.Diagnostics(ctx, id)
	if err != nil {
		return nil, err
	}
	spec, err := a.Machines.Spec(id)
	if err != nil {
		return nil, err
	}
	for i := range min(len(spec.NICs), len(out.NICs)) {
		counted, err := a.Plane.Counters(ctx, spec.NICs[i].ID)
		if err != nil {
			return nil, err
		}
		counted.MAC = out.NICs[i].MAC
		out.NICs[i] = counted
	}
	inst, _ := a.want(id)
	if inst == nil {
		return out, nil
	}
	all := out.Disks
	out.Disks = nil
	for i := range inst.Disks { // in the instance's order
		for n := range min(len(spec.Disks), len(all)) {
			if spec.Disks[n].Name() == diskID(&inst.Disks[i]) {
				out.Disks = append(out.Disks, all[n])
			}
		}
	}
	return out, nil
}

const (
	// readSnapshot is the internal snapshot that a disk is read from.
	readSnapshot = "strata-read"
	// readSuffix names the file that is being made of it. It is there for as long
	// as the snapshot may be.
	readSuffix = ".read"
)

// ReadDisk implements nodes.Conn.
func (a *Agent) ReadDisk(ctx context.Context, id, disk string) (io.ReadCloser, error) {
	inst, _ := a.want(id)
	if inst == nil {
		return nil, errs.NotFoundf("there is no instance %s here", id)
	}
	own := slices.ContainsFunc(inst.Disks, func(d nodeapi.Disk) bool { return d.Name == disk && d.Role != roleVolume })
	if !own && !slices.Contains(inst.Kept, disk) || disk != filepath.Base(disk) {
		return nil, errs.NotFoundf("instance %s has no disk %q of its own", id, disk)
	}
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return nil, err
	}
	if err := a.endRead(ctx, id, dir, disk); err != nil {
		return nil, err
	}
	defer a.reads.Lock(id + "/" + disk)()
	return a.readDisk(ctx, id, dir, disk)
}

// readDisk keeps the disk's content by a snapshot, copies that, and drops it.
func (a *Agent) readDisk(ctx context.Context, id, dir, disk string) (_ io.ReadCloser, err error) {
	format, err := blockdev.DiskFormat(dir, disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFoundf("disk %s of instance %s was never made", disk, id)
	}
	if err != nil {
		return nil, err
	}
	used, err := a.inUse(id)
	if err != nil {
		return nil, err
	}
	snapshot := ""
	if format == blockdev.QCOW2 {
		snapshot = readSnapshot
	} else if used[disk] {
		return nil, errs.Conflictf("disk %s can be read only while the machine is stopped", disk)
	}
	out, err := os.OpenFile(filepath.Join(dir, disk+readSuffix), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		dropped := a.dropRead(context.WithoutCancel(ctx), id, dir, disk, snapshot != "")
		if err = errors.Join(err, dropped); err != nil {
			out.Close()
		}
	}()
	if snapshot != "" {
		if err := a.snapshot(ctx, id, dir, disk); err != nil {
			return nil, err
		}
	}
	return out, blockdev.Flatten(ctx, dir, disk, snapshot, disk+readSuffix)
}

// live tells whether a process has the machine's disks open.
func (a *Agent) live(id string) (bool, error) {
	power, err := a.Machines.State(id)
	if gone(err) {
		return false, nil
	}
	return power == nodeapi.PowerRunning || power == nodeapi.PowerPaused, err
}

// snapshot keeps the disk as it is now, whoever has it open.
func (a *Agent) snapshot(ctx context.Context, id, dir, disk string) error {
	live, err := a.live(id)
	if err != nil {
		return err
	}
	if live {
		err := a.Machines.SnapshotDisk(ctx, id, disk, readSnapshot)
		if !gone(err) { // a kept disk is in the directory and not in the machine
			return err
		}
	}
	return blockdev.Snapshot(ctx, dir, disk, readSnapshot)
}

// dropRead removes the file of a read and then the snapshot.
func (a *Agent) dropRead(ctx context.Context, id, dir, disk string, snapshot bool) error {
	if snapshot {
		live, err := a.live(id)
		if err == nil && live {
			err = a.Machines.DeleteDiskSnapshot(ctx, id, disk, readSnapshot)
		}
		if err == nil && !live || gone(err) {
			err = blockdev.DeleteSnapshot(ctx, dir, disk, readSnapshot)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(dir, disk+readSuffix))
}

// endRead cleans up after a read that a crash cut off, unless one is going on.
func (a *Agent) endRead(ctx context.Context, id, dir, disk string) error {
	if _, err := os.Lstat(filepath.Join(dir, disk+readSuffix)); err != nil {
		return nil
	}
	defer a.reads.Lock(id + "/" + disk)()
	if _, err := os.Lstat(filepath.Join(dir, disk+readSuffix)); err != nil {
		return nil
	}
	format, err := blockdev.DiskFormat(dir, disk)
	if err != nil {
		return err
	}
	return a.dropRead(ctx, id, dir, disk, format == blockdev.QCOW2)
}
