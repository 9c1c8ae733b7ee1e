package idmap

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// Able tells why files below dir cannot be shown with these ids; nil: they can.
func (m *Map) Able(dir string) error {
	needs := func(err error) error {
		return errs.New(errs.Unavailable, "%s needs Linux 5.19 with user namespaces, and %s on a file system with idmapped mounts, such as ext4, XFS or Btrfs (%s): leave the flag out, or move the data directory", Flag, dir, err)
	}
	if ok, err := overlayutils.SupportsIDMappedMounts(); err != nil {
		return needs(err)
	} else if !ok {
		return needs(unix.ENOSYS)
	}
	opts := m.Shifted()
	ids, err := mount.GetUsernsFD(strings.TrimPrefix(opts[0], "uidmap="), strings.TrimPrefix(opts[1], "gidmap="))
	if err != nil {
		return needs(err)
	}
	defer ids.Close()
	tree, err := unix.OpenTree(-int(unix.EBADF), dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return needs(err)
	}
	defer unix.Close(tree) // nothing is attached anywhere
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ids.Fd())}); err != nil {
		return needs(err)
	}
	return nil
}

// Reaches tells which directory on the way to dir keeps the containers' root out. That
// root finds its container's files by their path.
func (m *Map) Reaches(dir string) error {
	uid, gid := m.RootPair()
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		enter := uint32(0o001)
		switch {
		case int(st.Uid) == uid:
			enter = 0o100
		case int(st.Gid) == gid:
			enter = 0o010
		}
		if st.Mode&enter == 0 {
			return errs.Invalidf("%s: root of containers (user %d, group %d here) cannot pass through %s: chmod o+x %s", Flag, uid, gid, dir, dir)
		}
		if dir == "/" {
			return nil
		}
	}
}
