package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/configdrive"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/keyed"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Names of the files in an instance's directory.
const (
	kernelFile = "kernel"
	initrdFile = "initrd"
	configFile = "config.iso"
)

// baseSpec is the instance's machine without its devices.
func baseSpec(inst *nodeapi.Instance) hypervisor.Spec {
	m := inst.Machine
	return hypervisor.Spec{ID: inst.ID, Name: inst.Name, VCPUs: inst.VCPUs, MemoryMiB: inst.MemoryMiB, MachineType: m.Type, Firmware: m.Firmware, CommandLine: m.CommandLine, GuestAgent: m.GuestAgent}
}

// prepare makes the files that the machine needs and says how to launch it.
func (a *Agent) prepare(ctx context.Context, inst *nodeapi.Instance) (hypervisor.Spec, error) {
	m, s := inst.Machine, baseSpec(inst)
	dir, err := a.Machines.Dir(inst.ID)
	if err != nil {
		return s, err
	}
	for i := range inst.Disks {
		disk, err := a.prepareDisk(ctx, inst, i)
		if err != nil {
			return s, fmt.Errorf("disk %s: %w", inst.Disks[i].Name, err)
		}
		s.Disks = append(s.Disks, disk)
	}
	if m.KernelID != "" {
		s.Kernel, s.Initrd, err = a.prepareKernel(ctx, dir, m)
		if err != nil {
			return s, err
		}
	}
	for _, n := range inst.NICs {
		s.NICs = append(s.NICs, machineNIC(n))
	}
	if !inst.Guest.ConfigDrive {
		return s, nil
	}
	if err := configdrive.Ensure(inst, filepath.Join(dir, configFile)); err != nil {
		return s, fmt.Errorf("config drive: %w", err)
	}
	s.Disks = append(s.Disks, hypervisor.Disk{File: configFile, Format: "raw", ReadOnly: true, Serial: "config-2"})
	return s, nil
}

func (a *Agent) prepareKernel(ctx context.Context, dir string, m nodeapi.Machine) (kernel, initrd string, err error) {
	for _, f := range []struct {
		id, name string
		to       *string
	}{{m.KernelID, kernelFile, &kernel}, {m.RamdiskID, initrdFile, &initrd}} {
		if f.id == "" {
			continue
		}
		*f.to = f.name
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			continue
		}
		path, _, err := a.Control.Image(ctx, f.id)
		if err != nil {
			return "", "", fmt.Errorf("the image's %s: %w", f.name, err)
		}
		if err := blockdev.EnsureLinked(ctx, dir, f.name, blockdev.Base{Path: path}); err != nil {
			return "", "", fmt.Errorf("the image's %s: %w", f.name, err)
		}
		if err := os.Chmod(filepath.Join(dir, f.name), 0o644); err != nil {
			return "", "", err
		}
	}
	return kernel, initrd, nil
}

// imageCache keeps the bases of root disks. Entries are links or conversions of
// images, so that losing one loses nothing.
type imageCache struct {
	dir     string
	control Control
	locks   keyed.Mutex
}

// base gives the base of an image, making it when it is not there.
func (c *imageCache) base(ctx context.Context, id string) (blockdev.Base, error) {
	if id != filepath.Base(id) {
		return blockdev.Base{}, errs.Invalidf("%q is no image id", id)
	}
	defer c.locks.Lock(id)()
	source, _, err := c.control.Image(ctx, id)
	if err != nil {
		return blockdev.Base{}, fmt.Errorf("image %s: %w", id, err)
	}
	return blockdev.EnsureBase(ctx, source, filepath.Join(c.dir, id))
}

// prune drops the bases of images that no instance here is made of.
func (c *imageCache) prune(used map[string]bool) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), ".new")
		if used[id] {
			continue
		}
		unlock := c.locks.Lock(id)
		err := os.Remove(filepath.Join(c.dir, e.Name()))
		unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
