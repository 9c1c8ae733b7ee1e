package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Group is the control group of build containers, below Config.Group.
const Group = "buildkit"

// Clean removes what builds of a process that died have left in a directory, whose
// processes have ended. layers is where the snapshots are.
func Clean(dir, runDir, layers string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	var all []error
	for i := len(mounts) - 1; i >= 0; i-- {
		m := mounts[i]
		switch {
		case strings.HasPrefix(m.Mountpoint, dir+"/"):
			all = append(all, unmount(m.Mountpoint))
		case strings.HasPrefix(filepath.Base(m.Mountpoint), "buildkit-mount") && of(m, layers):
			// BuildKit's own, in the directory for temporary files.
			all = append(all, unmount(m.Mountpoint), os.Remove(m.Mountpoint))
		}
	}
	for _, d := range []string{filepath.Join(dir, executorDir), filepath.Join(dir, "contexts"), filepath.Join(dir, "cachemounts"), runDir} {
		all = append(all, os.RemoveAll(d))
	}
	return errors.Join(all...)
}

func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// of tells whether a mount shows a snapshot of ours: an overlay names its layers, a
// bind mount the directory within its file system.
func of(m *mountinfo.Info, layers string) bool {
	if strings.Contains(m.VFSOptions, layers+"/") {
		return true
	}
	head, _, ok := strings.Cut(m.Root, filepath.Base(layers)+"/")
	return ok && m.FSType != "overlay" && strings.HasSuffix(filepath.Dir(layers)+"/", head)
}
