package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// EnsureCopy makes the disk dir/name as a copy of the disk dir/from, which no
// machine writes to meanwhile. Both share the base.
func EnsureCopy(ctx context.Context, dir, name, from string) error {
	format, err := DiskFormat(dir, from)
	if err != nil {
		return fmt.Errorf("copying disk %s: %w", from, err)
	}
	err = create(dir, name, func(tmp string) error {
		if err := run(ctx, dir, "cp", "--sparse=always", "--reflink=auto", "--", from, filepath.Base(tmp)); err != nil {
			return err
		}
		if format == Raw {
			return nil
		}
		link := name + ".base"
		os.Remove(filepath.Join(dir, link))
		if err := os.Link(filepath.Join(dir, from+".base"), filepath.Join(dir, link)); err != nil {
			return err
		}
		base, err := InspectBase(filepath.Join(dir, link))
		if err != nil {
			return err
		}
		return run(ctx, dir, "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", link, "-F", string(base.Format), filepath.Base(tmp))
	})
	if err != nil {
		return fmt.Errorf("copying disk %s: %w", from, err)
	}
	return nil
}

// DiskFormat tells the format of a disk that this package made. Its content
// does not count, because the guest may have written anything: disks with a
// base are qcow2, others raw.
func DiskFormat(dir, name string) (Format, error) {
	if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
		return "", err
	}
	switch _, err := os.Lstat(filepath.Join(dir, name+".base")); {
	case err == nil:
		return QCOW2, nil
	case errors.Is(err, fs.ErrNotExist):
		return Raw, nil
	default:
		return "", err
	}
}

// EnsureSize makes the disk dir/name at least size bytes large while no machine uses it.
func EnsureSize(ctx context.Context, dir, name string, size int64) error {
	format, err := DiskFormat(dir, name)
	if err != nil {
		return fmt.Errorf("growing disk %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	if format == QCOW2 {
		return Grow(ctx, path, format, size)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() >= size {
		return err
	}
	return os.Truncate(path, size)
}
