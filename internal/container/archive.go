package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/oci"
	confs "github.com/containerd/continuity/fs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	mountapi "github.com/docker/docker/api/types/mount"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/container/rootfs"
	"github.com/strata-cloud/strata/internal/errs"
)

// withFiles calls f with what a container sees, volumes among it. One that does not
// run is not started before f is over.
func (d *Daemon) withFiles(ctx context.Context, c *live, f func(*rootfs.Root) error) error {
	if pid := c.record().State.Pid; c.record().State.Running() {
		root, err := openProcess(pid, c.id)
		if err == nil {
			return errors.Join(f(root.Shifted(c.record().IDs)), root.Close())
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.awaitLeft()
	r := c.record()
	if r.State.Running() {
		return errs.Conflictf("container %s has just been started", c.id)
	}
	mounts, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Mounts(d.request(ctx), c.id)
	if err != nil {
		return err
	}
	return d.withVolumes(r, func() error {
		root, err := rootfs.Mount(d.dir(c.id), func(dir string) error { return mountAll(dir, mounts, r) })
		if err != nil {
			return fmt.Errorf("mounting the files of container %s: %w", c.id, err)
		}
		return errors.Join(f(root.Shifted(r.IDs)), root.Close())
	})
}

// openOwn opens the files of a container that runs, without its volumes, as its shim has
// them mounted: the shim is the parent of its first process.
func (d *Daemon) openOwn(c *live) (*rootfs.Root, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.record().State.Pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nPPid:"))
	parent, _, _ := bytes.Cut(rest, []byte("\n"))
	bundle := filepath.Join("/proc", string(bytes.TrimSpace(parent)), "root", d.bundle(c.id))
	var outer, inner unix.Stat_t
	if err := errors.Join(unix.Stat(bundle, &outer), unix.Stat(filepath.Join(bundle, "rootfs"), &inner)); err != nil {
		return nil, err
	}
	if outer.Dev == inner.Dev { // of a process that stands in for a shim that was killed
		return nil, errs.Conflictf("the files of container %s are not mounted", c.id)
	}
	return rootfs.Open(filepath.Join(bundle, "rootfs"))
}

// openProcess opens the root of a process that is certainly the container's: a pid
// may have been given to another one meanwhile.
func openProcess(pid int, id string) (*rootfs.Root, error) {
	proc, err := os.OpenRoot(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	self, err := proc.Open(".")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	groups, err := proc.ReadFile("cgroup")
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(groups, []byte(id)) {
		return nil, os.ErrNotExist
	}
	return rootfs.Open(fmt.Sprintf("/proc/self/fd/%d/root", self.Fd()))
}

// mountAll mounts the files of a container that does not run, with its volumes.
func mountAll(dir string, mounts []mount.Mount, r Record) error {
	if err := rootfs.MountAll(mounts, dir); err != nil {
		return err
	}
	for _, p := range r.Mounts {
		if p.Type != mountapi.TypeBind && p.Type != mountapi.TypeVolume {
			continue
		}
		at, err := confs.RootPath(dir, p.Destination)
		if err != nil {
			return err
		}
		fi, err := os.Stat(p.Source)
		if err != nil {
			continue // the start will say so
		}
		if err := mountPoint(at, fi.IsDir(), r); err != nil {
			return err
		}
		if err := unix.Mount(p.Source, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", p.Destination, err)
		}
		if !p.RW {
			if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
				return err
			}
		}
	}
	if r.HostConfig.ReadonlyRootfs {
		return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// mountPoint makes what is to be mounted upon, as runc does at the start.
func mountPoint(at string, dir bool, r Record) error {
	uid, gid := r.root()
	if dir {
		return user.MkdirAllAndChown(at, 0o755, uid, gid, user.WithOnlyNew)
	}
	if err := user.MkdirAllAndChown(filepath.Dir(at), 0o755, uid, gid, user.WithOnlyNew); err != nil {
		return err
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), r.give(at))
}

// fileError gives an error of files the kind that upstream gives it.
func fileError(err error, path, ref string) error {
	var bad rootfs.BadArchive
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return errs.Invalidf("%s", err)
	case errors.Is(err, rootfs.ErrNotDirectory), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return errs.Invalidf("%s: %s", path, err)
	case errors.Is(err, rootfs.ErrReadOnly), errors.Is(err, unix.EROFS):
		return errs.Forbiddenf("container rootfs or mounted volume is marked read-only: %s", path)
	case errors.Is(err, fs.ErrNotExist):
		return errs.NotFoundf("Could not find the file %s in container %s", path, ref)
	}
	return err
}

// StatPath tells of a file of a container.
func (d *Daemon) StatPath(ctx context.Context, ref, path string) (st container.PathStat, err error) {
	c, err := d.find(ref)
	if err != nil {
		return st, err
	}
	err = d.withFiles(ctx, c, func(root *rootfs.Root) (err error) {
		st, err = root.Stat(path)
		return err
	})
	return st, fileError(err, path, ref)
}

// CopyOut writes files of a container into an archive. begin is called before the
// first byte, when all is well.
func (d *Daemon) CopyOut(ctx context.Context, ref, path string, begin func(container.PathStat) io.Writer) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	err = d.withFiles(ctx, c, func(root *rootfs.Root) error {
		st, err := root.Stat(path)
		if err != nil {
			return err
		}
		return root.Pack(begin(st), path)
	})
	if err == nil {
		d.tell(c, events.ActionArchivePath)
	}
	return fileError(err, path, ref)
}

// CopyIn unpacks an archive, compressed or not, into a directory of a container.
func (d *Daemon) CopyIn(ctx context.Context, ref, path string, keepKind, asUser bool, from io.Reader) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	plain, err := compression.DecompressStream(from)
	if err != nil {
		return errs.Invalidf("the archive cannot be read: %s", err)
	}
	defer plain.Close()
	o := rootfs.UnpackOptions{KeepKind: keepKind}
	if asUser && c.record().Config.User != "" {
		if o.Owner, err = d.owner(ctx, c); err != nil {
			return err
		}
	}
	err = d.withFiles(ctx, c, func(root *rootfs.Root) error { return root.Unpack(plain, path, o) })
	if err == nil {
		d.tell(c, events.ActionExtractToDir)
	}
	return fileError(err, path, ref)
}

// owner is the container's user.
func (d *Daemon) owner(ctx context.Context, c *live) (*rootfs.Owner, error) {
	s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	cc := &containers.Container{ID: c.id, Snapshotter: d.engine.Snapshotter, SnapshotKey: c.id}
	if err := oci.WithUser(c.record().Config.User)(d.request(ctx), d.engine.Client, cc, s); err != nil {
		return nil, errs.Invalidf("unable to find user %s: %s", c.record().Config.User, err)
	}
	return &rootfs.Owner{UID: int(s.Process.User.UID), GID: int(s.Process.User.GID)}, nil
}

// bundle is where containerd has a container that runs.
func (d *Daemon) bundle(id string) string {
	return filepath.Join(d.cfg.Dir, "containerd", "state", "io.containerd.runtime.v2.task", engine.Namespace, id)
}

// Export writes a container's own files, without its volumes, into an archive.
func (d *Daemon) Export(ctx context.Context, ref string, begin func() io.Writer) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	if c.record().State.Running() {
		root, err := d.openOwn(c)
		if err != nil {
			return err
		}
		err = errors.Join(root.Shifted(c.record().IDs).PackAll(begin()), root.Close())
		d.tell(c, events.ActionExport)
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.awaitLeft()
	mounts, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Mounts(d.request(ctx), c.id)
	if err != nil {
		return err
	}
	root, err := rootfs.Mount(d.dir(c.id), func(dir string) error { return rootfs.MountAll(mounts, dir) })
	if err != nil {
		return err
	}
	err = errors.Join(root.Shifted(c.record().IDs).PackAll(begin()), root.Close())
	d.tell(c, events.ActionExport)
	return err
}

// ours are the mount points that a start makes in a container's files. In dockerd's
// they are below the container's own layer, and so no change.
var ours = map[string]bool{"/dev": true, "/dev/console": true, "/dev/pts": true, "/dev/shm": true, "/dev/mqueue": true, "/etc": true, "/etc/hostname": true, "/etc/hosts": true,
	"/etc/resolv.conf": true, "/proc": true, "/sys": true, "/sbin": true, "/sbin/docker-init": true}

// Changes tells what a container has changed of its image.
func (d *Daemon) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	c, err := d.find(ref)
	if err != nil {
		return nil, err
	}
	mounts, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Mounts(d.request(ctx), c.id)
	if err != nil {
		return nil, err
	}
	upper := upperDir(mounts)
	var lower []string
	for _, m := range mounts {
		for _, o := range m.Options {
			if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
				lower = strings.Split(v, ":")
			}
		}
	}
	if upper == "" {
		return nil, errs.New(errs.NotImplemented, "the snapshotter %s does not tell what has changed", d.engine.Snapshotter)
	}
	all, err := rootfs.Changes(ctx, upper, lower)
	if err != nil {
		return nil, err
	}
	return withoutOurs(all), nil
}

// withoutOurs leaves out what a start has made, and directories that only that has changed.
func withoutOurs(all []container.FilesystemChange) []container.FilesystemChange {
	out := []container.FilesystemChange{}
	for i, ch := range all {
		if ours[ch.Path] && (ch.Kind == container.ChangeAdd || !othersBelow(all[i+1:], ch.Path)) {
			continue
		}
		out = append(out, ch)
	}
	return out
}

func othersBelow(rest []container.FilesystemChange, dir string) bool {
	for _, ch := range rest {
		if !ours[ch.Path] && strings.HasPrefix(ch.Path, dir+"/") {
			return true
		}
	}
	return false
}
