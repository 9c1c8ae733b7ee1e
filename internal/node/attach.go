package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

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
	defer s.busy.Lock(v.ID)()
	machine := filepath.Base(dir)
	machines, err := s.attached(v.VolumeRef)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	machines = slices.DeleteFunc(machines, func(m string) bool { return m == machine })
	if len(machines) > 0 && !v.Shared {
		return hypervisor.Disk{}, errs.Conflictf("volume %s is attached to server %s", v.ID, machines[0])
	}
	if err := s.mark(v.VolumeRef, machine); err != nil {
		return hypervisor.Disk{}, err
	}
	var disk hypervisor.Disk
	if s.elsewhere(&v) {
		disk, err = s.reach(&v)
	} else {
		disk, err = s.link(ctx, dir, &v, len(machines) > 0)
	}
	if err != nil {
		return disk, errors.Join(err, s.forget(v.VolumeRef, machine))
	}
	disk.ReadOnly = readOnly
	return disk, nil
}

// elsewhere tells whether the volume is in the files of another node.
func (s *Storage) elsewhere(v *nodeapi.VolumeSource) bool {
	return v.Driver == localdisk.Name && v.Node != "" && s.Node != "" && v.Node != s.Node
}

// reach says how a volume of another node is opened.
func (s *Storage) reach(v *nodeapi.VolumeSource) (hypervisor.Disk, error) {
	if v.Remote == nil {
		return hypervisor.Disk{}, errs.Conflictf("volume %s is kept on node %s, which does not show it to this one", v.ID, v.Node)
	}
	disk, err := remoteDisk(v.Remote)
	disk.Shared = v.Shared
	return disk, err
}

// link gives a machine a volume of this node. One that others use too is reached
// by way of its export; others are the machines here that have it.
func (s *Storage) link(ctx context.Context, dir string, v *nodeapi.VolumeSource, others bool) (hypervisor.Disk, error) {
	d, err := s.driver(v.VolumeRef)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	if _, served := s.Exports.Reach(v.ID); served {
		if _, wanted := s.wantedExport(v.ID); wanted || others || len(s.Exports.Users(v.ID)) > 0 {
			disk, err := s.localDisk(v.ID)
			disk.Shared = v.Shared
			return disk, err
		}
		if err := s.Exports.End(ctx, v.ID); err != nil { // of this very machine, before it was started anew
			return hypervisor.Disk{}, err
		}
	}
	if v.Shared && v.Driver == localdisk.Name {
		socket, err := s.Exports.Ensure(ctx, d, v.VolumeRef, dir)
		return hypervisor.Disk{NBD: &hypervisor.NBD{Socket: socket, Export: export.Name}, Format: "raw", Shared: true}, err
	}
	disk, err := d.Link(ctx, v.VolumeRef, dir)
	out := hypervisor.Disk{File: disk.File, Format: disk.Format, Shared: v.Shared, Encrypted: len(v.Key) > 0, Key: v.Key}
	if disk.RBD != nil {
		out.RBD = &hypervisor.RBD{Pool: disk.RBD.Pool, Image: disk.RBD.Image, Conf: disk.RBD.Conf, User: disk.RBD.User}
	}
	return out, err
}

// mark notes that a machine has the volume.
func (s *Storage) mark(v nodeapi.VolumeRef, machine string) error {
	marks := filepath.Join(s.Dir, v.ID)
	if err := os.MkdirAll(marks, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(marks, machine), nil, 0o600)
}

// Detach implements Volumes.
func (s *Storage) Detach(ctx context.Context, dir string, v nodeapi.VolumeSource) error {
	defer s.busy.Lock(v.ID)()
	if s.elsewhere(&v) {
		return s.forget(v.VolumeRef, filepath.Base(dir))
	}
	d, err := s.driver(v.VolumeRef)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Unlink(ctx, v.VolumeRef, dir), s.Exports.Unlink(v.ID, dir), s.forget(v.VolumeRef, filepath.Base(dir))); err != nil {
		return err
	}
	return s.endExport(ctx, v.VolumeRef)
}

// endExport ends the volume's export when no machine has it any more, here or
// on another host.
func (s *Storage) endExport(ctx context.Context, v nodeapi.VolumeRef) error {
	left, err := s.attached(v)
	if err != nil || len(left) > 0 || len(s.Exports.Users(v.ID)) > 0 {
		return err
	}
	if _, wanted := s.wantedExport(v.ID); wanted {
		return nil
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
		var dirs []string
		for _, m := range machines {
			dir, e := s.Machines.Dir(m)
			dirs, err = append(dirs, dir), errors.Join(err, e)
		}
		if err == nil {
			err = s.Exports.Adopt(ctx, s.Drivers[localdisk.Name], v, dirs...)
		}
		if err == nil && len(machines) == 0 && len(s.Exports.Users(id)) == 0 {
			err = s.Exports.End(ctx, id)
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

// Run keeps the exports up and true until ctx ends; they outlive it.
func (s *Storage) Run(ctx context.Context) {
	var group sync.WaitGroup
	parts := []func(context.Context){s.Exports.Run}
	if s.Control != nil {
		parts = append(parts, s.followExports, s.sendReports, s.loop.Run)
	}
	for _, part := range parts {
		group.Go(func() { part(ctx) })
	}
	group.Wait()
}

// UseBase hands the base of an image to use, which stays in place until use returns.
func (a *Agent) UseBase(ctx context.Context, image string, use func(blockdev.Base) error) error {
	for {
		b, err := a.cache.base(ctx, image)
		if err != nil {
			return err
		}
		done, err := func() (bool, error) {
			defer a.cache.locks.Lock(image)() // against prune
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
	open, err := s.open(v)
	if err != nil {
		return nil, err
	}
	if u := s.Exports.User(v.ID); u != nil {
		return exported{u, open}, nil
	}
	if len(open) > 0 {
		return open[0], nil
	}
	return nil, nil
}

// open lists the running machines that have the volume.
func (s *Storage) open(v nodeapi.VolumeRef) ([]machineDisk, error) {
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
	return open, nil
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
