package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/export"
	localdisk "github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Attach implements Volumes. The machine's directory is named by its id. It waits
// for work that is done on the volume, so that the machine finds it free.
func (s *Storage) Attach(ctx context.Context, dir string, v nodeapi.VolumeSource, readOnly bool) (hypervisor.Disk, error) {
	d, err := s.driver(v.VolumeRef)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	defer s.busy.lock(v.ID)()
	machine := filepath.Base(dir)
	machines, err := s.attached(v.VolumeRef)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	for _, m := range machines {
		if m != machine && !v.Shared {
			return hypervisor.Disk{}, errs.Conflictf("volume %s is attached to server %s", v.ID, m)
		}
	}
	marks := filepath.Join(s.Dir, v.ID)
	if err := os.MkdirAll(marks, 0o700); err != nil {
		return hypervisor.Disk{}, err
	}
	if err := os.WriteFile(filepath.Join(marks, machine), nil, 0o600); err != nil {
		return hypervisor.Disk{}, err
	}
	if v.Shared && v.Driver == localdisk.Name {
		link, err := s.Exports.Ensure(ctx, d, v.VolumeRef, nil, dir)
		if err != nil {
			return hypervisor.Disk{}, errors.Join(err, s.forget(v.VolumeRef, machine))
		}
		return hypervisor.Disk{NBD: &hypervisor.NBD{Socket: link, Export: export.Name}, Format: "raw", ReadOnly: readOnly, Shared: true}, nil
	}
	disk, err := d.Link(ctx, v.VolumeRef, dir)
	if err != nil {
		return hypervisor.Disk{}, errors.Join(err, s.forget(v.VolumeRef, machine))
	}
	out := hypervisor.Disk{File: disk.File, Format: disk.Format, ReadOnly: readOnly, Encrypted: len(v.Key) > 0, Key: v.Key}
	if disk.RBD != nil {
		out.RBD = &hypervisor.RBD{Pool: disk.RBD.Pool, Image: disk.RBD.Image, Conf: disk.RBD.Conf, User: disk.RBD.User}
	}
	return out, nil
}

// Detach implements Volumes.
func (s *Storage) Detach(ctx context.Context, dir string, v nodeapi.VolumeSource) error {
	d, err := s.driver(v.VolumeRef)
	if err != nil {
		return err
	}
	defer s.busy.lock(v.ID)()
	if err := errors.Join(d.Unlink(ctx, v.VolumeRef, dir), s.Exports.Unlink(v.ID, dir), s.forget(v.VolumeRef, filepath.Base(dir))); err != nil {
		return err
	}
	return s.endExport(ctx, v.VolumeRef)
}

// endExport ends the volume's export when no machine has it any more.
func (s *Storage) endExport(ctx context.Context, v nodeapi.VolumeRef) error {
	left, err := s.attached(v)
	if err != nil || len(left) > 0 {
		return err
	}
	return s.Exports.End(ctx, v.ID)
}

// adoptExports knows the exports again that an earlier agent left running.
func (s *Storage) adoptExports(ctx context.Context) error {
	ids, err := s.Exports.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		v, err := s.localVolume(ctx, id)
		if err != nil {
			return err
		}
		machines, err := s.attached(v)
		if err == nil && len(machines) == 0 {
			err = s.Exports.End(ctx, id)
		}
		var dirs []string
		for _, m := range machines {
			dir, e := s.Machines.Dir(m)
			dirs, err = append(dirs, dir), errors.Join(err, e)
		}
		if err == nil && len(dirs) > 0 {
			err = s.Exports.Adopt(ctx, s.Drivers[localdisk.Name], v, dirs...)
		}
		if err != nil {
			return fmt.Errorf("export of volume %s: %w", id, err)
		}
	}
	return nil
}

// localVolume finds the pool that a volume of files is in.
func (s *Storage) localVolume(ctx context.Context, id string) (nodeapi.VolumeRef, error) {
	v := nodeapi.VolumeRef{ID: id, Driver: localdisk.Name, Pool: localdisk.Pool}
	pools, err := s.Drivers[localdisk.Name].Pools(ctx)
	if err != nil {
		return v, err
	}
	for _, p := range pools {
		in := v
		in.Pool = p.Name
		if ok, err := s.Drivers[localdisk.Name].Exists(ctx, in); ok || err != nil {
			return in, err
		}
	}
	return v, nil
}

// Run keeps the exports up until ctx ends; they outlive it.
func (s *Storage) Run(ctx context.Context) { s.Exports.Run(ctx) }

// UseBase hands the base of an image to use, which stays in place until use returns.
func (a *Agent) UseBase(ctx context.Context, image string, use func(blockdev.Base) error) error {
	for {
		b, err := a.cache.base(ctx, image)
		if err != nil {
			return err
		}
		done, err := func() (bool, error) {
			defer a.cache.locks.lock(image)() // against prune
			if _, err := os.Lstat(b.Path); notThere(err) {
				return false, ctx.Err()
			}
			return true, use(b)
		}()
		if done || err != nil {
			return err
		}
	}
}

// forget drops the mark that a machine has the volume.
func (s *Storage) forget(v nodeapi.VolumeRef, machine string) error {
	marks := filepath.Join(s.Dir, v.ID)
	if err := os.Remove(filepath.Join(marks, machine)); err != nil && !notThere(err) {
		return err
	}
	os.Remove(marks) // if it was the last one
	return nil
}

// attached names the machines that have the volume; those that are gone have not.
func (s *Storage) attached(v nodeapi.VolumeRef) ([]string, error) {
	if v.ID == "" || v.ID != filepath.Base(v.ID) || v.ID == ".." {
		return nil, errs.Invalidf("%q is no id of a volume", v.ID)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, v.ID))
	if err != nil && !notThere(err) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		switch _, err := s.Machines.State(e.Name()); {
		case gone(err):
			if err := s.forget(v, e.Name()); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// user is who has the volume open; nil: nobody.
func (s *Storage) user(v nodeapi.VolumeRef) (volumes.User, error) {
	machines, err := s.attached(v)
	if err != nil {
		return nil, err
	}
	var open []machineDisk
	for _, m := range machines {
		power, err := s.Machines.State(m)
		if err != nil && !gone(err) {
			return nil, err
		}
		if power != nodeapi.PowerRunning && power != nodeapi.PowerPaused {
			continue
		}
		spec, err := s.Machines.Spec(m)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", m, err)
		}
		for _, d := range spec.Disks {
			if d.Name() == v.ID {
				open = append(open, machineDisk{s.Machines, m, v.ID})
			}
		}
	}
	if u := s.Exports.User(v.ID); u != nil {
		return exported{u, open}, nil
	}
	if len(open) > 0 {
		return open[0], nil
	}
	return nil, nil
}

// exported is a volume that machines have open by way of an export.
type exported struct {
	volumes.User
	machines []machineDisk
}

// Resize implements volumes.User: the export grows first.
func (e exported) Resize(ctx context.Context, size int64) error {
	err := e.User.Resize(ctx, size)
	for _, m := range e.machines {
		if err == nil {
			err = m.Resize(ctx, size)
		}
	}
	return err
}

// machineDisk is a volume that a running machine has open; the volume's id is the disk's.
type machineDisk struct {
	machines      hypervisor.Driver
	machine, disk string
}

var _ volumes.User = machineDisk{}

func (m machineDisk) Resize(ctx context.Context, size int64) error {
	return m.machines.ResizeDisk(ctx, m.machine, m.disk, size)
}

func (m machineDisk) Snapshot(ctx context.Context, name string) error {
	return m.machines.SnapshotDisk(ctx, m.machine, m.disk, name)
}

func (m machineDisk) DeleteSnapshot(ctx context.Context, name string) error {
	return m.machines.DeleteDiskSnapshot(ctx, m.machine, m.disk, name)
}
