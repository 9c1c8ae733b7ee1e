package blockdev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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

// Snapshot keeps the content of the qcow2 disk dir/name, which no machine uses,
// as an internal snapshot; DeleteSnapshot drops it. Both may be repeated.
func Snapshot(ctx context.Context, dir, name, snapshot string) error {
	if err := DeleteSnapshot(ctx, dir, name, snapshot); err != nil {
		return err
	}
	return run(ctx, dir, "qemu-img", "snapshot", "-c", snapshot, name)
}

// DeleteSnapshot drops what Snapshot made. Absent is fine.
func DeleteSnapshot(ctx context.Context, dir, name, snapshot string) error {
	there, err := hasSnapshot(ctx, dir, name, snapshot)
	if err != nil || !there {
		return err
	}
	return run(ctx, dir, "qemu-img", "snapshot", "-d", snapshot, name)
}

func hasSnapshot(ctx context.Context, dir, name, snapshot string) (bool, error) {
	cmd := exec.CommandContext(ctx, "qemu-img", "info", "-U", "-f", "qcow2", "--output=json", name)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return false, fmt.Errorf("reading the snapshots of disk %s: %w", name, err)
	}
	var info struct {
		Snapshots []struct {
			Name string `json:"name"`
		} `json:"snapshots"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return false, fmt.Errorf("reading the snapshots of disk %s: %w", name, err)
	}
	for _, s := range info.Snapshots {
		if s.Name == snapshot {
			return true, nil
		}
	}
	return false, nil
}

// Flatten writes the content of the disk dir/name, or of its internal snapshot
// unless "", to dir/to as a qcow2 image without a base. A machine may use the
// disk meanwhile when it is read from a snapshot.
func Flatten(ctx context.Context, dir, name, snapshot, to string) error {
	format, err := DiskFormat(dir, name)
	if err != nil {
		return fmt.Errorf("reading disk %s: %w", name, err)
	}
	args := []string{"convert", "-U", "-f", string(format), "-O", "qcow2"}
	if snapshot != "" {
		args = append(args, "-l", "snapshot.name="+snapshot)
	}
	return run(ctx, dir, "qemu-img", append(args, name, to)...)
}
