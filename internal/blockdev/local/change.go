package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// markFile says that a program was changing the volume's file.
const markFile = "changing"

// change runs fn, which changes the file of a volume that nobody has open.
func (d *Driver) change(ctx context.Context, dir string, v nodeapi.VolumeRef, fn func() error) error {
	mark := filepath.Join(dir, markFile)
	switch _, err := os.Lstat(mark); {
	case err == nil:
		if _, err := d.tools.Img(ctx, dir, secrets(v), "check", "-q", "-r", "all", "--image-opts", options(v, file(v.ID))); err != nil {
			return fmt.Errorf("repairing what an interrupted change left: %w", err)
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
	default:
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return errors.Join(syncPath(filepath.Join(dir, file(v.ID))), os.Remove(mark))
}

// work has the user do online, or qemu-img do when there is none.
func (d *Driver) work(ctx context.Context, dir string, v nodeapi.VolumeRef, u volumes.User, online func(volumes.User) error, verb string, args ...string) error {
	if u != nil {
		return errors.Join(online(u), syncPath(filepath.Join(dir, file(v.ID))))
	}
	return d.change(ctx, dir, v, func() error {
		_, err := d.tools.Img(ctx, dir, secrets(v), verb, append(args, "--image-opts", options(v, file(v.ID)))...)
		return err
	})
}

// Extend implements volumes.Driver.
func (d *Driver) Extend(ctx context.Context, v nodeapi.VolumeRef, size int64, u volumes.User) error {
	dir, h, err := d.volume(v)
	switch {
	case err != nil:
		return err
	case h.size == size && u == nil:
		return nil
	case h.size > size:
		return errs.Invalidf("volume %s has %d bytes and cannot be made smaller", v.ID, h.size)
	case u != nil:
		err = errors.Join(u.Resize(ctx, size), syncPath(filepath.Join(dir, file(v.ID))))
	default:
		err = d.change(ctx, dir, v, func() error { return d.resize(ctx, dir, v, size) })
	}
	if err != nil {
		return fmt.Errorf("extending volume %s: %w", v.ID, err)
	}
	return nil
}

// Snapshot implements volumes.Driver.
func (d *Driver) Snapshot(ctx context.Context, v nodeapi.VolumeRef, name string, u volumes.User) error {
	if !namePattern.MatchString(name) {
		return errs.Invalidf("%q is no name of a snapshot", name)
	}
	dir, h, err := d.volume(v)
	if err != nil {
		return err
	}
	if _, ok := h.find(name); ok {
		if u != nil { // taken with others', or by a run that did not get further
			return syncPath(filepath.Join(dir, file(v.ID)))
		}
		return nil
	}
	err = d.work(ctx, dir, v, u, func(u volumes.User) error { return u.Snapshot(ctx, name) }, "snapshot", "-q", "-c", name)
	if err != nil {
		return fmt.Errorf("making snapshot %s of volume %s: %w", name, v.ID, err)
	}
	return nil
}

// DeleteSnapshot implements volumes.Driver.
func (d *Driver) DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, name string, u volumes.User) error {
	dir, h, err := d.volume(v)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if _, ok := h.find(name); !ok {
		return nil
	}
	err = d.work(ctx, dir, v, u, func(u volumes.User) error { return u.DeleteSnapshot(ctx, name) }, "snapshot", "-q", "-d", name)
	if err != nil {
		return fmt.Errorf("deleting snapshot %s of volume %s: %w", name, v.ID, err)
	}
	return nil
}

// Revert implements volumes.Driver.
func (d *Driver) Revert(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	dir, h, err := d.volume(v)
	if err != nil {
		return err
	}
	size, err := h.sizeOf(name)
	if err != nil {
		return err
	}
	for _, s := range h.snapshots {
		if s.size > size { // QEMU shows a snapshot in the volume's size only
			return errs.Conflictf("volume %s cannot become smaller while its snapshot %s is larger than snapshot %s", v.ID, s.name, name)
		}
	}
	if err := d.work(ctx, dir, v, nil, nil, "snapshot", "-q", "-a", name); err != nil {
		return fmt.Errorf("reverting volume %s to snapshot %s: %w", v.ID, name, err)
	}
	return nil
}
