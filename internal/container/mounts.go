package container

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/strata-cloud/strata/internal/errs"
)

// wanted is a mount that a client asked for.
type wanted struct {
	point  container.MountPoint
	tmpfs  []string // options
	noCopy bool
	asked  bool // by the client, not by the image
	labels map[string]string
	opts   map[string]string

	subpath string // of an image
}

// wantedMounts reads all the ways in which a client can ask for one.
func wantedMounts(c *container.Config, h *container.HostConfig) ([]wanted, error) {
	var out []wanted
	for _, b := range h.Binds {
		w, err := parseBind(b)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	for _, m := range h.Mounts {
		w, err := parseMount(m)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	for dst, o := range h.Tmpfs {
		w := wanted{point: container.MountPoint{Type: mount.TypeTmpfs, Destination: filepath.Clean(dst), RW: true}, tmpfs: []string{"nosuid", "nodev", "noexec"}}
		if o != "" {
			w.tmpfs = append(w.tmpfs, strings.Split(o, ",")...)
		}
		out = append(out, w)
	}
	seen := map[string]bool{}
	for _, w := range out {
		dst := w.point.Destination
		if !filepath.IsAbs(dst) {
			return nil, errs.Invalidf("invalid mount path: '%s' mount path must be absolute", dst)
		}
		if dst == "/" {
			return nil, errs.Invalidf("invalid specification: destination can't be '/'")
		}
		if seen[dst] {
			return nil, errs.Invalidf("Duplicate mount point: %s", dst)
		}
		seen[dst] = true
	}
	for i := range out {
		out[i].asked = true
	}
	for dst := range c.Volumes {
		if dst = filepath.Clean(dst); !seen[dst] && filepath.IsAbs(dst) && dst != "/" {
			out = append(out, wanted{point: container.MountPoint{Type: mount.TypeVolume, Destination: dst, RW: true}})
		}
	}
	slices.SortStableFunc(out, func(a, b wanted) int { return strings.Compare(a.point.Destination, b.point.Destination) })
	return out, nil
}

// parseBind reads SOURCE:DESTINATION[:OPTIONS], where the source is a path or a volume's name.
func parseBind(b string) (wanted, error) {
	parts := strings.Split(b, ":")
	bad := errs.Invalidf("invalid volume specification: '%s'", b)
	if len(parts) < 1 || len(parts) > 3 || parts[0] == "" {
		return wanted{}, bad
	}
	w := wanted{point: container.MountPoint{Type: mount.TypeVolume, RW: true}}
	if len(parts) == 1 {
		w.point.Destination = filepath.Clean(parts[0])
		return w, nil
	}
	w.point.Destination = filepath.Clean(parts[1])
	if strings.HasPrefix(parts[0], "/") {
		w.point.Type, w.point.Source, w.point.Propagation = mount.TypeBind, filepath.Clean(parts[0]), mount.PropagationRPrivate
	} else if w.point.Name = parts[0]; !nameRE.MatchString(parts[0]) {
		return wanted{}, badVolumeName(parts[0])
	}
	if len(parts) < 3 {
		return w, nil
	}
	w.point.Mode = parts[2]
	for o := range strings.SplitSeq(parts[2], ",") {
		switch p := mount.Propagation(o); {
		case o == "ro":
			w.point.RW = false
		case o == "rw", o == "z", o == "Z", o == "cached", o == "consistent", o == "delegated":
		case o == "nocopy":
			w.noCopy = true
		case slices.Contains(mount.Propagations, p):
			w.point.Propagation = p
		default:
			return wanted{}, errs.Invalidf("invalid mode: %s", parts[2])
		}
	}
	return w, nil
}

func badVolumeName(name string) error {
	return errs.Invalidf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
}

// parseMount reads a mount that is given field by field.
func parseMount(m mount.Mount) (wanted, error) {
	w := wanted{point: container.MountPoint{Type: m.Type, Source: m.Source, Destination: filepath.Clean(m.Target), RW: !m.ReadOnly}}
	if m.Target == "" {
		return w, errs.Invalidf("invalid mount config for type %q: field Target must not be empty", m.Type)
	}
	parse := map[mount.Type]func(mount.Mount, *wanted) error{mount.TypeBind: parseBindMount, mount.TypeVolume: parseVolumeMount, mount.TypeTmpfs: parseTmpfsMount, mount.TypeImage: parseImageMount}[m.Type]
	if parse == nil {
		return w, errs.Invalidf("mount type unknown: %q", m.Type)
	}
	err := parse(m, &w)
	return w, err
}

func parseBindMount(m mount.Mount, w *wanted) error {
	w.point.Propagation = mount.PropagationRPrivate
	if m.BindOptions != nil && m.BindOptions.Propagation != "" {
		w.point.Propagation = m.BindOptions.Propagation
	}
	if !filepath.IsAbs(m.Source) {
		return errs.Invalidf("invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	if _, err := os.Stat(m.Source); err != nil && (m.BindOptions == nil || !m.BindOptions.CreateMountpoint) {
		return errs.Invalidf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
	}
	return nil
}

func parseVolumeMount(m mount.Mount, w *wanted) error {
	w.point.Name, w.point.Source = m.Source, ""
	if m.Source != "" && !nameRE.MatchString(m.Source) {
		return badVolumeName(m.Source)
	}
	o := m.VolumeOptions
	if o == nil {
		return nil
	}
	w.noCopy, w.labels = o.NoCopy, o.Labels
	if o.Subpath != "" {
		return errs.Invalidf("a part of a volume (subpath) is not supported by this engine")
	}
	if o.DriverConfig != nil {
		if o.DriverConfig.Name != "" && o.DriverConfig.Name != "local" {
			return errs.Invalidf("the volume driver %s is not supported by this engine", o.DriverConfig.Name)
		}
		w.opts = o.DriverConfig.Options
	}
	return nil
}

func parseTmpfsMount(m mount.Mount, w *wanted) error {
	w.point.Source, w.tmpfs = "", []string{"nosuid", "nodev", "noexec"}
	o := m.TmpfsOptions
	if o == nil {
		return nil
	}
	if o.SizeBytes > 0 {
		w.tmpfs = append(w.tmpfs, fmt.Sprintf("size=%d", o.SizeBytes))
	}
	if o.Mode != 0 {
		w.tmpfs = append(w.tmpfs, fmt.Sprintf("mode=%o", o.Mode))
	}
	if len(o.Options) > 0 {
		return errs.Invalidf("further options of a tmpfs are not supported by this engine")
	}
	return nil
}
