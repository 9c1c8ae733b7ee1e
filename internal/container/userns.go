package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
)

// A container in a user namespace has its network namespace made together with that
// (netns.EnsureOwned), and both are given to runc. The user namespace has no name: it is
// found by the network namespace, and lives as long. Containers that share namespaces of
// other kinds have one user namespace.

// remaps tells how a new container's users are mapped; nil: they are the host's.
func (d *Daemon) remaps(r *Record) (*idmap.Map, error) {
	h := r.HostConfig
	if d.cfg.Remap == nil || r.Project || h.UsernsMode.IsHost() {
		return nil, nil
	}
	for _, no := range []struct { // moby's daemon/daemon_unix.go: verifyPlatformContainerSettings
		bad  bool
		what string
	}{
		{h.Privileged, "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"},
		{h.NetworkMode.IsHost(), "cannot share the host's network namespace when user namespaces are enabled"},
		{h.PidMode.IsHost(), "cannot share the host PID namespace when user namespaces are enabled"},
	} {
		if no.bad {
			return nil, errs.Invalidf("%s", no.what)
		}
	}
	return d.cfg.Remap, nil
}

// checkRemap refuses what would keep every container from starting.
func (d *Daemon) checkRemap() error {
	m := d.cfg.Remap
	if m == nil {
		return nil
	}
	if d.engine.Snapshotter != "overlayfs" {
		return errs.New(errs.Unavailable, "%s needs overlayfs, which this machine does not mount in %s: leave the flag out", idmap.Flag, d.cfg.Dir)
	}
	tasks := filepath.Dir(d.bundle(""))
	if err := os.MkdirAll(tasks, 0o711); err != nil {
		return err
	}
	return errors.Join(m.Able(d.cfg.Dir), m.Reaches(tasks))
}

// openSpace makes a container's network namespace. With processes or memory of another
// container it is in the user namespace of those, in which alone it has rights over them
// (moby's daemon/oci_linux.go, WithNamespaces).
func (d *Daemon) openSpace(r Record) (err error) {
	owner := r.IDs.Owner()
	for _, with := range []struct{ file, ref string }{{"pid", r.HostConfig.PidMode.Container()}, {"ipc", r.HostConfig.IpcMode.Container()}} {
		if owner == nil || with.ref == "" {
			continue
		}
		other, err := d.find(with.ref)
		if err != nil {
			return err
		}
		if other.record().IDs == nil {
			continue // this one is refused yet
		}
		path, err := d.namespaceOf(with.ref, with.file)
		if err != nil {
			return err
		}
		if owner.Within, err = netns.UserNamespace(path); err != nil {
			return err
		}
		defer owner.Within.Close()
	}
	return d.plane.Open(r.ID, owner)
}

// userNamespace opens the one that a container, whose network namespace is there, is to
// be in; nil: the host's.
func (r Record) userNamespace(network string) (*os.File, error) {
	if r.IDs == nil {
		return nil, nil
	}
	ns, err := netns.UserNamespace(network)
	if err != nil {
		return nil, err
	}
	ours, err := os.Open("/proc/thread-self/ns/user")
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	defer ours.Close()
	if same, err := sameFile(ns, ours); err != nil || same {
		if err == nil {
			err = errs.Conflictf("container %s is in a user namespace and cannot share the network of one in the host's: make it with --userns host", r.ID)
		}
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

func sameFile(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y), err
}

// remapped puts a container into its user namespace; nil is the host's.
func remapped(r Record, ns *os.File) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		if ns == nil {
			return nil
		}
		if err := sameOwner(s, ns); err != nil {
			return err
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())})
		s.Linux.UIDMappings, s.Linux.GIDMappings = r.IDs.Spec()
		bindDevices(s, r.HostConfig.Devices)
		for i, b := range s.Mounts {
			if b.Type != "bind" {
				continue
			}
			keep, err := locked(b.Source)
			if err != nil {
				return err
			}
			s.Mounts[i].Options = append(slices.Clip(b.Options), keep...)
		}
		return nil
	}
}

// bindDevices has those mounted that have another path than on the host: runc makes none
// in a user namespace, and mounts what the host has there.
func bindDevices(s *oci.Spec, devices []container.DeviceMapping) {
	for _, d := range devices {
		to := filepath.Clean(d.PathInContainer)
		if d.PathInContainer == "" || to == filepath.Clean(d.PathOnHost) {
			continue
		}
		s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(made specs.LinuxDevice) bool {
			below, ok := strings.CutPrefix(made.Path, to)
			if ok = ok && (below == "" || below[0] == '/'); ok {
				s.Mounts = append(s.Mounts, bind(filepath.Clean(d.PathOnHost)+below, made.Path, true))
			}
			return ok
		})
	}
}

// sameOwner refuses other containers' namespaces of another user namespace, in which this
// one would have no rights: what it mounts depends on them.
func sameOwner(s *oci.Spec, ns *os.File) error {
	for _, n := range s.Linux.Namespaces {
		if n.Path == "" || n.Type != specs.PIDNamespace && n.Type != specs.IPCNamespace {
			continue
		}
		of, err := netns.UserNamespace(n.Path)
		if err != nil {
			return err
		}
		same, err := sameFile(of, ns)
		of.Close()
		if err != nil {
			return err
		}
		if !same {
			return errs.Conflictf("cannot join the %s namespace of a container in another user namespace: make both with --userns host, or share namespaces of one container only", n.Type)
		}
	}
	return nil
}

// locked are the options of the mount that a path is on which only who has made that may
// take away: a bind mount in a user namespace is refused without them.
func locked(path string) (out []string, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	for _, f := range []struct {
		flag int64
		name string
	}{{unix.ST_RDONLY, "ro"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}, {unix.ST_NOSUID, "nosuid"}, {unix.ST_NOATIME, "noatime"}, {unix.ST_NODIRATIME, "nodiratime"}, {unix.ST_RELATIME, "relatime"}} {
		if int64(st.Flags)&f.flag != 0 {
			out = append(out, f.name)
		}
	}
	return out, nil
}

// root is who is a container's root on the host.
func (r Record) root() (uid, gid int) {
	if r.IDs == nil {
		return 0, 0
	}
	return r.IDs.RootPair()
}

// give gives files to a container's root.
func (r Record) give(paths ...string) error {
	uid, gid := r.root()
	for _, p := range paths {
		if err := os.Chown(p, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// root is who is root, on the host, in containers that do not ask for something else.
func (d *Daemon) root() (uid, gid int) { return Record{IDs: d.cfg.Remap}.root() }

// shown are the mounts of a view of an image, which it takes writable for them to be
// shifted; nothing is written by way of it.
func (r Record) shown(mounts []mount.Mount) []mount.Mount {
	if r.IDs == nil {
		return mounts
	}
	for i, m := range mounts {
		if m.Type == "bind" {
			mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
	return mounts
}
