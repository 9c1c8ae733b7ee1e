package rbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// features of images: no exclusive lock, which a killed client would hold on to for
// half a minute; that a volume has one writer is the agent's business.
const features = "--image-feature=layering"

// newExt ends the name of an image that is not complete.
const newExt = ".new"

// Create implements volumes.Driver.
func (d *Driver) Create(ctx context.Context, v nodeapi.VolumeRef, size int64, from volumes.Origin) error {
	image, err := d.image(v)
	if err != nil {
		return err
	}
	if size <= 0 {
		return errs.Invalidf("a volume of %d bytes cannot be made", size)
	}
	if ok, err := d.Exists(ctx, v); ok || err != nil {
		return err
	}
	err = d.fill(ctx, image+newExt, size, from)
	if err == nil {
		_, err = d.rbd(ctx, "mv", image+newExt, image)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making volume %s: %w", v.ID, err), d.remove(context.WithoutCancel(ctx), image+newExt))
	}
	return nil
}

func (d *Driver) fill(ctx context.Context, image string, size int64, from volumes.Origin) error {
	if err := d.remove(ctx, image); err != nil { // of an earlier try
		return err
	}
	if from.Volume != nil {
		had, err := d.Size(ctx, *from.Volume, from.Snapshot)
		if err != nil {
			return err
		}
		if had > size {
			return errs.Invalidf("what the volume is made from has %d bytes, and the volume only %d", had, size)
		}
		origin, err := d.image(*from.Volume)
		if err != nil {
			return err
		}
		if _, err := d.rbd(ctx, "cp", features, origin+"@"+from.Snapshot, image); err != nil || had == size {
			return err
		}
		_, err = d.rbd(ctx, "resize", "--size", bytesArg(size), image)
		return err
	}
	if from.Image != nil && from.Image.VirtualSize > size {
		return errs.Invalidf("the image needs a volume of %d bytes, and this one has %d", from.Image.VirtualSize, size)
	}
	if _, err := d.rbd(ctx, "create", features, "--size", bytesArg(size), image); err != nil || from.Image == nil {
		return err
	}
	return d.copyImage(ctx, image, *from.Image)
}

// copyImage writes an image over a blank one.
func (d *Driver) copyImage(ctx context.Context, image string, base blockdev.Base) error {
	link, err := os.MkdirTemp(d.Dir, "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(link)
	if err := errors.Join(d.Tools.Own(link), d.configure(link), blockdev.LinkOrCopy(ctx, base.Path, filepath.Join(link, "image"))); err != nil {
		return err
	}
	as := "raw"
	if base.Format == blockdev.QCOW2 {
		as = "qcow2"
	}
	_, err = d.Tools.Img(ctx, link, nil, "convert", "-n", "-t", "writeback", "-f", as, "--target-image-opts", "image", d.options(filepath.Base(image), ""))
	return err
}

// options describe an image, without its pool, to QEMU's programs.
func (d *Driver) options(image, snapshot string) string {
	s := "driver=raw,file.driver=rbd,file.pool=" + d.Pool + ",file.image=" + image + ",file.conf=" + confFile + ",file.user=" + d.User
	if snapshot != "" {
		s += ",file.snapshot=" + snapshot
	}
	return s
}

// Extend implements volumes.Driver.
func (d *Driver) Extend(ctx context.Context, v nodeapi.VolumeRef, size int64, u volumes.User) error {
	had, err := d.Size(ctx, v, "")
	switch {
	case err != nil:
		return err
	case had > size:
		return errs.Invalidf("volume %s has %d bytes and cannot be made smaller", v.ID, had)
	case u != nil:
		return u.Resize(ctx, size) // QEMU has Ceph do it, and tells its guest
	case had == size:
		return nil
	}
	image, err := d.image(v)
	if err != nil {
		return err
	}
	_, err = d.rbd(ctx, "resize", "--size", bytesArg(size), image)
	return err
}

// Snapshot implements volumes.Driver; Ceph takes it whoever has the volume open.
func (d *Driver) Snapshot(ctx context.Context, v nodeapi.VolumeRef, name string, _ volumes.User) error {
	if !namePattern.MatchString(name) {
		return errs.Invalidf("%q is no name of a snapshot", name)
	}
	there, err := d.Snapshots(ctx, v)
	if err != nil || slices.Contains(there, name) {
		return err
	}
	image, err := d.image(v)
	if err != nil {
		return err
	}
	_, err = d.rbd(ctx, "snap", "create", image+"@"+name)
	return err
}

// DeleteSnapshot implements volumes.Driver.
func (d *Driver) DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, name string, _ volumes.User) error {
	image, err := d.image(v)
	if err != nil {
		return err
	}
	if _, err = d.rbd(ctx, "snap", "rm", image+"@"+name); errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Revert implements volumes.Driver.
func (d *Driver) Revert(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	size, err := d.Size(ctx, v, name)
	if err != nil {
		return err
	}
	names, err := d.Snapshots(ctx, v)
	if err != nil {
		return err
	}
	for _, n := range names { // as every driver
		if other, err := d.Size(ctx, v, n); err != nil {
			return err
		} else if other > size {
			return errs.Conflictf("volume %s cannot become smaller while its snapshot %s is larger than snapshot %s", v.ID, n, name)
		}
	}
	image, err := d.image(v)
	if err != nil {
		return err
	}
	_, err = d.rbd(ctx, "snap", "rollback", image+"@"+name)
	return err
}

// Open implements volumes.Driver.
func (d *Driver) Open(ctx context.Context, v nodeapi.VolumeRef, snapshot string) (volumes.Device, error) {
	if _, err := d.Size(ctx, v, snapshot); err != nil {
		return nil, err
	}
	dev, err := d.Tools.Serve(ctx, d.Dir, nil, d.options("vol-"+v.ID, snapshot), "", snapshot != "")
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return dev, nil
}

// Read implements volumes.Driver.
func (d *Driver) Read(ctx context.Context, v nodeapi.VolumeRef, snapshot, format string) (io.ReadCloser, error) {
	if format == "raw" {
		dev, err := d.Open(ctx, v, snapshot)
		if err != nil {
			return nil, err
		}
		return volumes.Stream(dev), nil
	}
	target, err := volumes.ImageFormat(format, false)
	if err != nil {
		return nil, err
	}
	if _, err := d.Size(ctx, v, snapshot); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(d.Dir, "read-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(d.Tools.Own(tmp), d.configure(tmp)); err != nil {
		return nil, err
	}
	args := append(target, "--image-opts", d.options("vol-"+v.ID, snapshot), "image")
	if _, err := d.Tools.Img(ctx, tmp, nil, "convert", args...); err != nil {
		return nil, fmt.Errorf("reading volume %s: %w", v.ID, err)
	}
	return os.Open(filepath.Join(tmp, "image"))
}

// Link implements volumes.Driver.
func (d *Driver) Link(ctx context.Context, v nodeapi.VolumeRef, dir string) (volumes.Disk, error) {
	if _, err := d.Size(ctx, v, ""); err != nil {
		return volumes.Disk{}, err
	}
	if err := d.configure(dir); err != nil {
		return volumes.Disk{}, err
	}
	return volumes.Disk{Format: "raw", RBD: &volumes.RBD{Pool: d.Pool, Image: "vol-" + v.ID, Conf: confFile, User: d.User}}, nil
}

// Unlink implements volumes.Driver. Another volume in dir gets the configuration
// again with its next Link; QEMU reads it only when it opens a volume.
func (d *Driver) Unlink(_ context.Context, v nodeapi.VolumeRef, dir string) error {
	if _, err := d.image(nodeapi.VolumeRef{ID: v.ID}); err != nil {
		return err
	}
	for _, name := range []string{confFile, keyringFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
