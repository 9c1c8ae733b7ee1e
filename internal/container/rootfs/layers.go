package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// MountAll is mount.All for the function that Mount takes. With many layers that changes
// the working directory, on a thread that it makes for it (mountAt) and that is in the
// host's namespace, not in ours; so the paths are short before it sees them.
func MountAll(mounts []mount.Mount, dir string) error {
	for _, m := range mounts {
		if m.Type == "overlay" {
			var err error
			if m.Options, err = near(m.Options, dir); err != nil {
				return err
			}
		}
		if err := m.Mount(dir); err != nil {
			return err
		}
	}
	return unix.Chdir("/")
}

// near changes to the directory of the layers, and gives options that name them from
// there. When layers are shifted, it is mounted so at dir, where it will be covered.
func near(options []string, dir string) ([]string, error) {
	own := map[string]string{}
	left := slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		k, v, _ := strings.Cut(o, "=")
		taken := k == "lowerdir" || k == "uidmap" || k == "gidmap"
		if taken {
			own[k] = v
		}
		return taken
	})
	layers := strings.Split(own["lowerdir"], ":")
	if slices.ContainsFunc(layers, func(l string) bool { return !path.IsAbs(l) }) {
		return options, nil
	}
	above := path.Dir(layers[0])
	for _, l := range layers {
		for !strings.HasPrefix(l, strings.TrimSuffix(above, "/")+"/") {
			above = path.Dir(above)
		}
	}
	for i, l := range layers {
		layers[i] = strings.TrimPrefix(l[len(above):], "/")
	}
	if own["uidmap"] != "" {
		ids, err := mount.GetUsernsFD(own["uidmap"], own["gidmap"])
		if err != nil {
			return nil, err
		}
		defer ids.Close()
		if err := mount.IDMapMountWithAttrs(above, dir, int(ids.Fd()), unix.MOUNT_ATTR_RDONLY, 0); err != nil {
			return nil, fmt.Errorf("shifting %s: %w", above, err)
		}
		above = dir
	}
	return append(left, "lowerdir="+strings.Join(layers, ":")), unix.Chdir(above)
}
