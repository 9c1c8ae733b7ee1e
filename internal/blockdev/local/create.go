package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Names of what a new volume is copied from, in its directory while it is made.
const (
	originFile = "origin"
	originKey  = "origin-key"
)

// Create implements volumes.Driver.
func (d *Driver) Create(ctx context.Context, v nodeapi.VolumeRef, size int64, from volumes.Origin) error {
	dir, err := d.path(v)
	if err != nil {
		return err
	}
	if ok, err := d.Exists(ctx, v); ok || err != nil {
		return err
	}
	if size <= 0 {
		return errs.Invalidf("a volume of %d bytes cannot be made", size)
	}
	tmp := dir + newExt
	if err := d.workDir(tmp); err != nil {
		return fmt.Errorf("making volume %s: %w", v.ID, err)
	}
	switch {
	case from.Volume != nil:
		err = d.fromVolume(ctx, tmp, v, size, from)
	case from.Image != nil:
		err = d.fromImage(ctx, tmp, v, size, *from.Image)
	default:
		err = d.create(ctx, tmp, v, size)
	}
	if err == nil {
		err = d.publish(tmp, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making volume %s: %w", v.ID, err), os.RemoveAll(tmp))
	}
	return nil
}

// workDir makes an empty directory for QEMU's user.
func (d *Driver) workDir(dir string) error {
	return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), d.tools.Own(dir))
}

// publish gives a complete volume its name.
func (d *Driver) publish(tmp, dir string) error {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), originFile) {
			err = errors.Join(err, os.Remove(filepath.Join(tmp, e.Name())))
		} else if !strings.HasSuffix(e.Name(), ".base") {
			err = errors.Join(err, syncPath(filepath.Join(tmp, e.Name())))
		}
	}
	if err := errors.Join(err, syncPath(tmp), os.Rename(tmp, dir)); err != nil {
		return err
	}
	return syncPath(filepath.Dir(dir))
}

// keyTime is for how long, in ms, LUKS makes one try of a passphrase take. Keys
// are random and long, so that nobody tries; a volume should open at once.
const keyTime = "10"

// format is qemu-img's options for the file of the volume.
func format(v nodeapi.VolumeRef) []string {
	if len(v.Key) == 0 {
		return []string{"-O", "qcow2"}
	}
	return []string{"-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=" + secretID + ",encrypt.iter-time=" + keyTime}
}

// keyTries: QEMU measures how fast the host is before it makes a LUKS header, and
// gives up when the measurement is disturbed.
const keyTries = 5

// img runs qemu-img where it makes a new file.
func (d *Driver) img(ctx context.Context, dir string, keys []qemu.Secret, verb string, args ...string) (err error) {
	for range keyTries {
		_, err = d.tools.Img(ctx, dir, keys, verb, args...)
		if err == nil || !strings.Contains(err.Error(), "accurate CPU usage") {
			return err
		}
	}
	return err
}

func (d *Driver) create(ctx context.Context, tmp string, v nodeapi.VolumeRef, size int64, backing ...string) error {
	args := append([]string{"-q"}, format(v)...)
	args[1] = "-f"
	return d.img(ctx, tmp, secrets(v), "create", append(append(args, backing...), file(v.ID), strconv.FormatInt(size, 10))...)
}

func (d *Driver) fromImage(ctx context.Context, tmp string, v nodeapi.VolumeRef, size int64, image blockdev.Base) error {
	if image.VirtualSize > size {
		return errs.Invalidf("the image needs a volume of %d bytes, and this one has %d", image.VirtualSize, size)
	}
	as := blockdev.Raw // what is neither is used as it is
	if image.Format == blockdev.QCOW2 {
		as = blockdev.QCOW2
	}
	link := base(v.ID)
	if len(v.Key) > 0 {
		link = originFile
	}
	if err := blockdev.LinkOrCopy(ctx, image.Path, filepath.Join(tmp, link)); err != nil {
		return err
	}
	if len(v.Key) == 0 {
		return d.create(ctx, tmp, v, size, "-b", link, "-F", string(as))
	}
	if err := d.img(ctx, tmp, secrets(v), "convert", append(append([]string{"-f", string(as)}, format(v)...), link, file(v.ID))...); err != nil {
		return err
	}
	return d.resize(ctx, tmp, v, size)
}

// fromVolume copies a snapshot. What the origin shares with an image is shared
// again, unless one of the two is encrypted.
func (d *Driver) fromVolume(ctx context.Context, tmp string, v nodeapi.VolumeRef, size int64, from volumes.Origin) error {
	origin := *from.Volume
	dir, h, err := d.volume(origin)
	if err != nil {
		return err
	}
	had, err := h.sizeOf(from.Snapshot)
	if err != nil {
		return err
	}
	if had > size {
		return errs.Invalidf("what the volume is made from has %d bytes, and the volume only %d", had, size)
	}
	args := format(v)
	if err := os.Link(filepath.Join(dir, file(origin.ID)), filepath.Join(tmp, originFile)); err != nil {
		return err
	}
	keys := secrets(v)
	switch err := os.Link(filepath.Join(dir, base(origin.ID)), filepath.Join(tmp, base(origin.ID))); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(v.Key) > 0:
		defer os.Remove(filepath.Join(tmp, base(origin.ID)))
	default:
		defer os.Remove(filepath.Join(tmp, base(origin.ID)))
		if args, err = d.share(ctx, tmp, args, v, origin); err != nil {
			return err
		}
	}
	opts := options(nodeapi.VolumeRef{}, originFile)
	if len(origin.Key) > 0 {
		keys = append(keys, qemu.Secret{ID: originKey, Key: origin.Key})
		opts += ",encrypt.format=luks,encrypt.key-secret=" + originKey
	}
	args = append(args, "-U", "--image-opts", "-l", "snapshot.name="+from.Snapshot, opts, file(v.ID))
	if err := d.img(ctx, tmp, keys, "convert", args...); err != nil {
		return err
	}
	return d.resize(ctx, tmp, v, size)
}

// share makes the origin's base the new volume's as well.
func (d *Driver) share(ctx context.Context, tmp string, args []string, v, origin nodeapi.VolumeRef) ([]string, error) {
	path := filepath.Join(tmp, base(v.ID))
	if err := os.Link(filepath.Join(tmp, base(origin.ID)), path); err != nil {
		return nil, err
	}
	image, err := blockdev.InspectBase(path)
	if err != nil {
		return nil, err
	}
	as := blockdev.Raw
	if image.Format == blockdev.QCOW2 {
		as = blockdev.QCOW2
	}
	return append(args, "-B", base(v.ID), "-F", string(as)), nil
}

// resize gives the volume, which nobody has open, exactly this size.
func (d *Driver) resize(ctx context.Context, dir string, v nodeapi.VolumeRef, size int64) error {
	h, err := readHeader(filepath.Join(dir, file(v.ID)))
	if err != nil || h.size == size {
		return err
	}
	args := []string{"-q", "--image-opts"}
	if h.size > size {
		args = append(args, "--shrink")
	}
	_, err = d.tools.Img(ctx, dir, secrets(v), "resize", append(args, options(v, file(v.ID)), strconv.FormatInt(size, 10))...)
	return err
}
