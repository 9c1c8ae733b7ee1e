package csi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// point is something that is mounted.
type point struct{ *mountinfo.Info }

func (p point) device() string { return fmt.Sprintf("%d:%d", p.Major, p.Minor) }

func mountinfoOf() ([]point, error) {
	all, err := mountinfo.GetMounts(nil)
	out := make([]point, len(all))
	for i, m := range all {
		out[i] = point{m}
	}
	return out, err
}

// mounted tells whether something is mounted at a path.
func mounted(path string) (bool, error) {
	all, err := mountinfoOf()
	for _, m := range all {
		if m.Mountpoint == path {
			return true, nil
		}
	}
	return false, err
}

// bindDir has a directory's mount at another path, too.
func bindDir(from, to string, readOnly bool) error {
	if err := os.MkdirAll(to, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	ok, err := mounted(to)
	if err != nil {
		return err
	}
	if ok {
		var was, is unix.Statfs_t
		if err := errors.Join(unix.Statfs(from, &was), unix.Statfs(to, &is)); err != nil || was.Fsid == is.Fsid {
			if err == nil && readOnly != (is.Flags&unix.ST_RDONLY != 0) && was.Flags&unix.ST_RDONLY == 0 {
				return errs.Conflictf("the volume is at %s already, in another way", to)
			}
			return err
		}
		return errs.Conflictf("something else is mounted at %s", to)
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", from, to, err)
	}
	if readOnly {
		if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return errors.Join(fmt.Errorf("mounting %s read-only: %w", to, err), unbind(to))
		}
	}
	return nil
}

// bindFile has a device at another path, too.
func bindFile(device, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if ok, err := mounted(to); err != nil || ok {
		return err
	}
	if err := unix.Mount(device, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", device, to, err)
	}
	return nil
}

// unbind ends what is mounted at a path. Absent is fine.
func unbind(path string) error {
	for {
		ok, err := mounted(path)
		if err != nil || !ok {
			return err
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
	}
}
