package shims

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Without is set in the environment of a shim that has a mount namespace of its own, to
// the directory whose mounts it takes away there.
const Without = "STRATA_SHIM_WITHOUT"

// separate makes ready for shims with mount namespaces of their own, and tells whether
// they can have them.
//
// runc copies the mounts of whoever calls it and reads the list of them several times,
// so that containers that are all mounted in one place make each other slow: the
// thousandth takes three times as long as the first. What a container's files are mounted
// below is private to each namespace therefore. Everything else is shared with the
// machine's own, as systemd has it: a disk that is mounted later is there for containers
// of all shims, and what a container mounts in a shared volume is there for the machine.
// Where the root is not shared that would be lost, and shims stay in our namespace.
func separate(bundles string) (bool, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return false, err
	}
	shared, made := false, false
	for _, m := range mounts {
		switch {
		case m.Mountpoint == "/":
			shared = strings.Contains(" "+m.Optional, " shared:")
		case m.Mountpoint == bundles:
			made = true
		case strings.HasPrefix(m.Mountpoint, bundles+"/"): // of a shim that has no namespace: it could not unmount it
			return false, nil
		}
	}
	if made || !shared {
		return made, nil
	}
	if err := os.MkdirAll(bundles, 0o711); err != nil {
		return false, err
	}
	if err := unix.Mount(bundles, bundles, "", unix.MS_BIND, ""); err != nil {
		return false, fmt.Errorf("mounting %s: %w", bundles, err)
	}
	if err := unix.Mount("", bundles, "", unix.MS_PRIVATE, ""); err != nil {
		return false, errors.Join(fmt.Errorf("keeping the mounts in %s apart: %w", bundles, err), rejoin(bundles))
	}
	return true, nil
}

// rejoin undoes separate. Shims that run have a copy.
func rejoin(bundles string) error {
	if err := unix.Unmount(bundles, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", bundles, err)
	}
	return nil
}

// Shed takes away, in the mount namespace of this process, the mounts in the directory
// that Without names: they are many, and each would be kept in memory for each shim.
func Shed() error {
	dir := os.Getenv(Without)
	if dir == "" {
		return nil
	}
	err := unix.Mount("", dir, "", unix.MS_PRIVATE|unix.MS_REC, "") // or they would be gone for all
	if err == nil {
		err = unix.Unmount(dir, unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) { // it is no mount
		return nil
	}
	return err
}

// Path is where a shim, and who is called by it, finds a file of ours that may be mounted.
func (p *Pool) Path(path string) string {
	if !p.apart {
		return path
	}
	return filepath.Join("/proc", fmt.Sprint(os.Getpid()), "root", path)
}
