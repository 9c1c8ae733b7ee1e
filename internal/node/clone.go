package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// readyWord is what a template's guest says on its console when it can be frozen.
const readyWord = "strata: ready to be cloned"

// freezeTimeout bounds the making of a template. A guest that never says the
// word is of an image that knows nothing of clones.
const freezeTimeout = 5 * time.Minute

// cloneable tells whether the instance may start from a template: one disk, made
// of an image, and one network card that can be plugged in. Any other boots.
func cloneable(inst *nodeapi.Instance, budgetMiB int) bool {
	m := &inst.Machine
	if !m.Clone || m.Type != "" && m.Type != "q35" || m.Firmware != "" && m.Firmware != "bios" || inst.Guest.ConfigDrive ||
		len(inst.Disks) != 1 || len(inst.NICs) != 1 || inst.MemoryMiB > budgetMiB {
		return false
	}
	d, model := &inst.Disks[0], inst.NICs[0].Model
	return d.Role == "root" && d.ImageID != "" && d.Format != "iso" && d.CopyFrom == "" && !d.ReadOnly &&
		(d.Bus == "" || d.Bus == "virtio") && (model == "" || model == "virtio")
}

// rootFile is a template's disk; what the clones call theirs is not in its memory.
const rootFile = "root"

// templateSpec is the machine of an instance's template.
func templateSpec(inst *nodeapi.Instance, id string) hypervisor.Spec {
	d := &inst.Disks[0]
	s := baseSpec(inst)
	s.ID, s.Name, s.Template = id, "template", true
	s.Disks = []hypervisor.Disk{{File: rootFile, Format: "qcow2", Bus: d.Bus, Serial: d.Serial, Bootable: d.Boot > 0}}
	if inst.Machine.KernelID != "" {
		s.Kernel = kernelFile
	}
	if inst.Machine.RamdiskID != "" {
		s.Initrd = initrdFile
	}
	return s
}

// images are what a template is made of.
func imagesOf(inst *nodeapi.Instance) []string {
	list := []string{inst.Disks[0].ImageID, inst.Machine.KernelID, inst.Machine.RamdiskID}
	return slices.DeleteFunc(list, func(id string) bool { return id == "" })
}

// templateKey names the template that the instance can start from: the same
// content, in a machine of the same shape, with a disk of the same size.
func (a *Agent) templateKey(inst *nodeapi.Instance) (string, error) {
	shape, err := a.Machines.Shape(templateSpec(inst, inst.ID))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %s", imagesOf(inst), rootSize(inst), shape))
	return hex.EncodeToString(sum[:16]), nil
}

func rootSize(inst *nodeapi.Instance) int64 { return int64(inst.Disks[0].SizeGiB) << 30 }

// startClone starts the instance from a template, when it may, when its disk was
// never run from and when there is a template: else it has one made for the
// next. False: the instance is to be started as any other, on what is there.
func (a *Agent) startClone(ctx context.Context, inst *nodeapi.Instance) bool {
	if !cloneable(inst, a.templates.budget) {
		return false
	}
	dir, err := a.Machines.Dir(inst.ID)
	if err != nil {
		return false
	}
	if _, err := os.Lstat(filepath.Join(dir, inst.Disks[0].Name)); err == nil {
		return false
	}
	key, err := a.templateKey(inst)
	if err != nil {
		a.Log.Warn("no template for a server", "server", inst.ID, "err", err)
		return false
	}
	found, err := a.templates.use(key, func(t *template) error { return a.cloneFrom(ctx, inst, dir, t) })
	switch {
	case err != nil:
		a.Log.Warn("a server boots instead of being cloned", "server", inst.ID, "err", err)
		if ctx.Err() == nil { // perhaps of another QEMU: it is made anew
			if err := a.templates.drop(key); err != nil {
				a.Log.Warn("a template that does not work stays", "err", err)
			}
		}
	case !found:
		a.orderTemplate(inst, key)
	}
	return found && err == nil
}

func (a *Agent) cloneFrom(ctx context.Context, inst *nodeapi.Instance, dir string, t *template) error {
	d := &inst.Disks[0]
	if err := a.unplugPorts(ctx, inst); err != nil {
		return err
	}
	if err := a.noteDisk(inst.ID, d.Name); err != nil {
		return err
	}
	if err := blockdev.EnsureRoot(ctx, dir, d.Name, t.base, rootSize(inst)); err != nil {
		return err
	}
	spec, err := a.prepare(ctx, inst)
	if err != nil {
		return err
	}
	spec.NICs = nil // adjust plugs them in
	return a.Machines.Clone(ctx, spec, t.from)
}

// orderTemplate has a template like the instance made in the background.
func (a *Agent) orderTemplate(inst *nodeapi.Instance, key string) {
	if !a.templates.wants(key) {
		return
	}
	job := func(ctx context.Context) {
		begin := time.Now()
		err := a.makeTemplate(ctx, inst, key)
		a.templates.made(key, err)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			a.Log.Warn("an image cannot be cloned", "image", inst.Disks[0].ImageID, "err", err)
		default:
			a.Log.Info("a template is ready", "image", inst.Disks[0].ImageID, "template", key, "dur", time.Since(begin))
		}
	}
	select {
	case a.templates.queue <- job:
	default: // many are waiting: the next server asks again
		a.templates.made(key, nil)
	}
}

// makeTemplates makes the templates that were ordered, one after the other.
func (a *Agent) makeTemplates(ctx context.Context) {
	defer a.templates.close()
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-a.templates.queue:
			job(ctx)
		}
	}
}

// makeTemplate boots the image once, without network and without identity, until
// its guest says that it can be frozen. The machine that this takes is removed
// in any case; after a crash as one that nobody wants.
func (a *Agent) makeTemplate(ctx context.Context, inst *nodeapi.Instance, key string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	id := uuid.NewString()
	a.templates.setMaking(id, true)
	defer func() {
		e := a.Machines.Remove(context.WithoutCancel(ctx), id)
		a.templates.setMaking(id, false)
		if e != nil && !gone(e) {
			err = errors.Join(err, e)
		}
	}()
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return err
	}
	err = a.UseBase(ctx, inst.Disks[0].ImageID, func(b blockdev.Base) error { return blockdev.EnsureRoot(ctx, dir, rootFile, b, rootSize(inst)) })
	if err != nil {
		return err
	}
	if _, _, err := a.prepareKernel(ctx, dir, inst.Machine); err != nil {
		return err
	}
	if err := a.Machines.Start(ctx, templateSpec(inst, id), nil); err != nil {
		return err
	}
	if err := a.awaitReady(ctx, id); err != nil {
		return err
	}
	if err := a.Machines.Freeze(ctx, id); err != nil {
		return err
	}
	return a.keepTemplate(ctx, dir, key, recipe{Images: imagesOf(inst), MemoryMiB: inst.MemoryMiB})
}

// awaitReady waits until the guest says the word.
func (a *Agent) awaitReady(ctx context.Context, id string) error {
	return wait.Until(ctx, "the guest to say that it can be cloned", 50*time.Millisecond, func(context.Context) (bool, error) {
		power, err := a.Machines.State(id)
		if err == nil && power != nodeapi.PowerRunning {
			err = errs.Conflictf("the guest of a template is %s", power)
		}
		if err != nil {
			return false, err
		}
		log, err := a.Machines.ConsoleLog(id, 0)
		return bytes.Contains(log, []byte(readyWord)), err
	})
}

// keepTemplate takes the frozen machine's files out of its directory. The disk
// becomes an image without a base, as those are that other disks are based on.
func (a *Agent) keepTemplate(ctx context.Context, dir, key string, r recipe) error {
	tmp := a.templates.path(key) + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o711); err != nil {
		return err
	}
	const flat = "template.flat"
	err := blockdev.Flatten(ctx, dir, rootFile, "", flat)
	for _, f := range []struct {
		from, to string
		mode     os.FileMode
	}{{flat, templateDisk, 0o644}, {hypervisor.FrozenMemory, hypervisor.FrozenMemory, 0o600}, {hypervisor.FrozenDevices, hypervisor.FrozenDevices, 0o600}} {
		if err == nil {
			err = takeFile(filepath.Join(dir, f.from), filepath.Join(tmp, f.to), f.mode)
		}
	}
	if err == nil {
		err = a.templates.publish(key, r)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	// The first clone need not wait for it to be read.
	_, err = a.templates.use(key, func(*template) error { return nil })
	return err
}

// takeFile moves a file out of a directory of QEMU's user and makes it ours. It
// must be what it is taken for: no link to a file elsewhere.
func takeFile(from, to string, mode os.FileMode) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return errs.Conflictf("%s is no file of its own", filepath.Base(from))
	}
	return errors.Join(f.Chown(os.Geteuid(), os.Getegid()), f.Chmod(mode))
}

// pruneTemplates drops the templates that are of no use any more.
func (a *Agent) pruneTemplates(ctx context.Context) {
	err := a.templates.prune(func(image string) bool {
		_, _, err := a.Control.Image(ctx, image)
		return gone(err)
	})
	if err != nil && ctx.Err() == nil {
		a.Log.Warn("unused templates stay", "err", err)
	}
}
