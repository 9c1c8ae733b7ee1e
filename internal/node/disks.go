package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Volumes gives instances their volumes. Both calls may be repeated.
type Volumes interface {
	// Attach puts what a machine needs of the volume into its directory and says
	// how to open it: content, format, encryption and keys are filled in.
	Attach(ctx context.Context, dir string, v nodeapi.VolumeSource, readOnly bool) (hypervisor.Disk, error)
	// Detach takes it out again, when the machine has it open no more. Absent is
	// fine. v has no key then.
	Detach(ctx context.Context, dir string, v nodeapi.VolumeSource) error
}

// roleVolume is a disk that is kept elsewhere.
const roleVolume = "volume"

// diskID names a disk in its machine: a volume by the volume's id.
func diskID(d *nodeapi.Disk) string {
	if d.Role == roleVolume && d.Volume != nil {
		return d.Volume.ID
	}
	return d.Name
}

// prepareDisk makes a disk and says how to attach it.
func (a *Agent) prepareDisk(ctx context.Context, inst *nodeapi.Instance, i int) (hypervisor.Disk, error) {
	d := &inst.Disks[i]
	dir, err := a.Machines.Dir(inst.ID)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	var out hypervisor.Disk
	if d.Role == roleVolume {
		out, err = a.attach(ctx, inst.ID, dir, d)
	} else {
		out, err = a.makeDisk(ctx, inst, dir, i)
	}
	if err != nil {
		return out, err
	}
	out.ID, out.Bootable, out.Limits = diskID(d), d.Boot > 0, d.Limits
	out.ReadOnly = out.ReadOnly || d.ReadOnly
	if out.Bus == "" {
		out.Bus = d.Bus
	}
	if out.Serial == "" {
		out.Serial = d.Serial
	}
	return out, nil
}

// attach gets a volume ready; that it is attached is written down before.
func (a *Agent) attach(ctx context.Context, id, dir string, d *nodeapi.Disk) (hypervisor.Disk, error) {
	if d.Volume == nil || a.Volumes == nil {
		return hypervisor.Disk{}, errs.Invalidf("this node reaches no volumes")
	}
	known := *d.Volume
	known.Key, known.Remote = nil, nil // keys are written nowhere
	err := a.note(id, func(m *memory) bool {
		if slices.ContainsFunc(m.Volumes, func(v nodeapi.VolumeSource) bool { return v.ID == known.ID }) {
			return false
		}
		m.Volumes = append(m.Volumes, known)
		return true
	})
	if err != nil {
		return hypervisor.Disk{}, err
	}
	out, err := a.Volumes.Attach(ctx, dir, *d.Volume, d.ReadOnly)
	if err != nil {
		return out, fmt.Errorf("volume %s: %w", d.Volume.ID, err)
	}
	out.Pluggable, out.Shared = true, out.Shared || d.Volume.Shared
	if d.Serial == "" {
		out.Serial = d.Volume.ID
	}
	return out, nil
}

// makeDisk makes a disk of the instance's own unless it is there, and grows it.
func (a *Agent) makeDisk(ctx context.Context, inst *nodeapi.Instance, dir string, i int) (hypervisor.Disk, error) {
	d := &inst.Disks[i]
	name := d.Name
	out := hypervisor.Disk{File: name}
	if name == "" || name != filepath.Base(name) {
		return out, errs.Invalidf("%q is no name of a disk", name)
	}
	if err := a.noteDisk(inst.ID, name); err != nil {
		return out, err
	}
	size := int64(d.SizeGiB) << 30
	if size == 0 {
		size = int64(d.SizeMiB) << 20
	}
	if d.ImageID != "" && d.Format == "iso" && d.CopyFrom == "" {
		return a.linkISO(ctx, dir, d)
	}
	if err := a.fillDisk(ctx, dir, i, d, size); err != nil {
		return out, err
	}
	format, err := blockdev.DiskFormat(dir, name)
	if err != nil {
		return out, err
	}
	out.Format = string(format)
	return out, blockdev.EnsureSize(ctx, dir, name, size)
}

// noteDisk writes down that the disk is begun.
func (a *Agent) noteDisk(id, name string) error {
	return a.note(id, func(m *memory) bool {
		if slices.Contains(m.Disks, name) {
			return false
		}
		m.Disks = append(m.Disks, name)
		return true
	})
}

// fillDisk gives a disk that is not there its first content.
func (a *Agent) fillDisk(ctx context.Context, dir string, i int, d *nodeapi.Disk, size int64) error {
	if _, err := os.Lstat(filepath.Join(dir, d.Name)); err == nil {
		return nil // the disk has its own link to the base, whatever became of the image
	}
	if d.CopyFrom != "" {
		return blockdev.EnsureCopy(ctx, dir, d.Name, d.CopyFrom)
	}
	if d.ImageID == "" {
		content, label := blockdev.Blank, ""
		switch d.Role {
		case "ephemeral":
			content, label = blockdev.Ext4, fmt.Sprintf("ephemeral%d", i-1)
		case "swap":
			content = blockdev.Swap
		}
		return blockdev.EnsureEmpty(ctx, dir, d.Name, size, content, label)
	}
	base, err := a.cache.base(ctx, d.ImageID)
	if err != nil {
		return err
	}
	if base.Format == blockdev.ISO {
		return errs.Invalidf("image %s is an ISO and is not declared as one", d.ImageID)
	}
	return blockdev.EnsureRoot(ctx, dir, d.Name, base, size)
}

func (a *Agent) linkISO(ctx context.Context, dir string, d *nodeapi.Disk) (hypervisor.Disk, error) {
	out := hypervisor.Disk{File: d.Name, Format: "raw", CDROM: true, ReadOnly: true, Bus: "sata"}
	base, err := a.cache.base(ctx, d.ImageID)
	if err != nil {
		return out, err
	}
	if base.Format != blockdev.ISO {
		return out, errs.Invalidf("image %s is not an ISO", d.ImageID)
	}
	return out, blockdev.EnsureLinked(ctx, dir, d.Name, base)
}

// makeLocal makes the disks that the instance keeps in its directory, while it
// stands still: a disk that is a copy of another is made before that may go.
func (a *Agent) makeLocal(ctx context.Context, inst *nodeapi.Instance) error {
	dir, err := a.Machines.Dir(inst.ID)
	if err != nil {
		return err
	}
	for i := range inst.Disks {
		if d := &inst.Disks[i]; d.Role != roleVolume {
			if _, err := a.makeDisk(ctx, inst, dir, i); err != nil {
				return fmt.Errorf("disk %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// sweep removes disks and lets go of volumes that the instance has no more and
// its machine does not use. It gives what the agent has to remember then.
func (a *Agent) sweep(ctx context.Context, inst *nodeapi.Instance) (memory, error) {
	mem, err := a.recall(inst.ID)
	if err != nil {
		return mem, err
	}
	dir, err := a.Machines.Dir(inst.ID)
	if err != nil {
		return mem, err
	}
	used, err := a.inUse(inst.ID)
	if err != nil {
		return mem, err
	}
	for _, name := range inst.Kept {
		used[name] = true
	}
	for i := range inst.Disks {
		d := &inst.Disks[i]
		used[diskID(d)] = true
		if _, err := os.Lstat(filepath.Join(dir, d.Name)); d.CopyFrom != "" && err != nil {
			used[d.CopyFrom] = true
		}
	}
	var failed error
	mem.Disks = slices.DeleteFunc(mem.Disks, func(name string) bool {
		if used[name] {
			return false
		}
		err := blockdev.Remove(dir, name)
		failed = errors.Join(failed, err)
		return err == nil
	})
	for _, name := range mem.Disks {
		failed = errors.Join(failed, a.endRead(ctx, inst.ID, dir, name))
	}
	mem.Volumes, err = a.detach(ctx, dir, mem.Volumes, used)
	return mem, errors.Join(failed, err)
}

// detach lets go of the volumes that are not in use and gives those that stay.
func (a *Agent) detach(ctx context.Context, dir string, attached []nodeapi.VolumeSource, used map[string]bool) (stay []nodeapi.VolumeSource, failed error) {
	for _, v := range attached {
		if used[v.ID] {
			stay = append(stay, v)
			continue
		}
		if a.Volumes == nil {
			continue
		}
		if err := a.Volumes.Detach(ctx, dir, v); err != nil {
			failed = errors.Join(failed, fmt.Errorf("letting go of volume %s: %w", v.ID, err))
			stay = append(stay, v)
		}
	}
	return stay, failed
}

// inUse lists the disks that the machine has open, or will have when it goes on.
func (a *Agent) inUse(id string) (map[string]bool, error) {
	used := map[string]bool{}
	power, err := a.Machines.State(id)
	if gone(err) || err == nil && (power == nodeapi.PowerStopped || power == nodeapi.PowerCrashed) {
		return used, nil
	}
	if err != nil {
		return nil, err
	}
	spec, err := a.Machines.Spec(id)
	if err != nil && !gone(err) {
		return nil, err
	}
	for i := range spec.Disks {
		used[spec.Disks[i].Name()] = true
	}
	return used, nil
}
