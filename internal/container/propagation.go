package container

import (
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/errs"
)

// propagate sees to it that mounts below a volume reach the container and, if it is
// shared, the machine: the machine must have it shared, and runc must not cut it off.
// Source: moby, daemon/oci_linux.go, withMounts.
func propagate(linux *specs.Linux, points []container.MountPoint) error {
	for _, p := range points {
		switch p.Propagation {
		case mount.PropagationShared, mount.PropagationRShared:
			if point, optional := mountOf(p.Source); !strings.HasPrefix(optional, "shared:") {
				return errs.Invalidf("path %s is mounted on %s but it is not a shared mount", p.Source, point)
			}
			linux.RootfsPropagation = string(mount.PropagationShared)
		case mount.PropagationSlave, mount.PropagationRSlave:
			if point, optional := mountOf(p.Source); !strings.HasPrefix(optional, "shared:") && !strings.HasPrefix(optional, "master:") {
				return errs.Invalidf("path %s is mounted on %s but it is not a shared or slave mount", p.Source, point)
			}
			if linux.RootfsPropagation == "" {
				linux.RootfsPropagation = string(mount.PropagationRSlave)
			}
		}
	}
	return nil
}

// mountOf is the mount that a path is on: where it is, and its propagation as in
// proc_pid_mountinfo(5), "" for a private one.
func mountOf(path string) (point, optional string) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "", ""
	}
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(point) { // a later one covers an earlier one
			point, optional = m.Mountpoint, m.Optional
		}
	}
	return point, optional
}
