package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Open implements volumes.Driver.
func (d *Driver) Open(ctx context.Context, v nodeapi.VolumeRef, snapshot string) (volumes.Device, error) {
	dir, h, err := d.volume(v)
	if err != nil {
		return nil, err
	}
	size, err := h.sizeOf(snapshot)
	if err != nil {
		return nil, err
	}
	opts := options(v, file(v.ID))
	if snapshot != "" {
		opts += ",force-share=on" // a snapshot does not change under its user
	}
	dev, err := d.tools.Serve(ctx, dir, secrets(v), opts, snapshot, snapshot != "")
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return volumes.Limit(dev, size), nil // QEMU shows a snapshot in the volume's size of now
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
	target, err := volumes.ImageFormat(format, len(v.Key) > 0)
	if err != nil {
		return nil, err
	}
	dir, h, err := d.volume(v)
	if err != nil {
		return nil, err
	}
	size, err := h.sizeOf(snapshot)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "*"+readExt)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(d.tools.Own(tmp), link(dir, tmp, v.ID)); err != nil {
		return nil, err
	}
	if err := d.convert(ctx, tmp, v, snapshot, size, target); err != nil {
		return nil, fmt.Errorf("reading volume %s: %w", v.ID, err)
	}
	return os.Open(filepath.Join(tmp, "image")) // and its name goes
}

// convert makes tmp/image of a snapshot, in the snapshot's own size.
func (d *Driver) convert(ctx context.Context, tmp string, v nodeapi.VolumeRef, snapshot string, size int64, target []string) error {
	copied := nodeapi.VolumeRef{ID: "copy"}
	from := append([]string{"-U", "--image-opts", "-l", "snapshot.name=" + snapshot}, options(v, file(v.ID)))
	h, err := readHeader(filepath.Join(tmp, file(v.ID)))
	if err != nil {
		return err
	}
	if h.size != size {
		if _, err := d.tools.Img(ctx, tmp, nil, "convert", append(append([]string{"-O", "qcow2"}, from...), file(copied.ID))...); err != nil {
			return err
		}
		if err := d.resize(ctx, tmp, copied, size); err != nil {
			return err
		}
		from = []string{"--image-opts", options(copied, file(copied.ID))}
	}
	_, err = d.tools.Img(ctx, tmp, nil, "convert", append(append(target, from...), "image")...)
	return err
}

// Link implements volumes.Driver.
func (d *Driver) Link(_ context.Context, v nodeapi.VolumeRef, dir string) (volumes.Disk, error) {
	own, _, err := d.volume(v)
	if err != nil {
		return volumes.Disk{}, err
	}
	if err := link(own, dir, v.ID); err != nil {
		return volumes.Disk{}, fmt.Errorf("giving volume %s to a server: %w", v.ID, err)
	}
	return volumes.Disk{Format: "qcow2", File: file(v.ID)}, nil
}

// link makes links of the volume's files; files of that name that are not they are replaced.
func link(from, to, id string) error {
	for _, name := range []string{base(id), file(id)} {
		err := point(filepath.Join(from, name), filepath.Join(to, name))
		if errors.Is(err, fs.ErrExist) && !same(filepath.Join(from, name), filepath.Join(to, name)) {
			err = errors.Join(os.Remove(filepath.Join(to, name)), point(filepath.Join(from, name), filepath.Join(to, name)))
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == base(id), errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		}
	}
	return nil
}

// point makes a hard link, which stays good whatever becomes of the volume's
// directory, or to another filesystem a symbolic one.
func point(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	return os.Symlink(from, to)
}

func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Unlink implements volumes.Driver.
func (d *Driver) Unlink(_ context.Context, v nodeapi.VolumeRef, dir string) error {
	if _, err := d.path(v); err != nil {
		return err
	}
	for _, name := range []string{file(v.ID), base(v.ID)} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("taking volume %s from a server: %w", v.ID, err)
		}
	}
	return nil
}
