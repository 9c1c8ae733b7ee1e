package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/continuity/fs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	mountapi "github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/moby/sys/user"

	"github.com/strata-cloud/strata/internal/errs"
)

// Volume is what is kept of a volume: a directory that outlives containers.
type Volume struct {
	Name      string
	Created   time.Time
	Labels    map[string]string
	Options   map[string]string `json:",omitempty"` // what is mounted there, and how
	Anonymous bool
}

func (d *Daemon) volumeDir(name string) string {
	return filepath.Join(d.cfg.Dir, "volumes", name, "_data")
}

// CreateVolume makes a volume. One that is there already is given as it is.
func (d *Daemon) CreateVolume(o volume.CreateOptions) (*volume.Volume, error) {
	if o.Driver != "" && o.Driver != "local" {
		return nil, errs.NotFoundf("create %s: error looking up volume plugin %s: plugin %q not found", o.Name, o.Driver, o.Driver)
	}
	if o.ClusterVolumeSpec != nil {
		return nil, errs.Invalidf("volumes of a cluster are not supported by this engine")
	}
	if o.Name != "" && !nameRE.MatchString(o.Name) {
		return nil, badVolumeName(o.Name)
	}
	v, _, err := d.ensureVolume(o.Name, o.Labels, o.DriverOpts)
	if err != nil {
		return nil, err
	}
	return d.volumeView(v), nil
}

// ensureVolume gives the volume with the name and makes it first; "" makes an anonymous one.
func (d *Daemon) ensureVolume(name string, labels, options map[string]string) (v *Volume, made bool, err error) {
	if err := checkVolumeOptions(name, options); err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.vols[name]; v != nil {
		return v, false, nil
	}
	v = &Volume{Name: name, Created: time.Now().UTC(), Labels: over(labels, nil), Options: options}
	if name == "" {
		v.Name, v.Anonymous = newID(), true
		v.Labels["com.docker.volume.anonymous"] = ""
	}
	if err := os.MkdirAll(d.volumeDir(v.Name), 0o755); err != nil {
		return nil, false, err
	}
	uid, gid := d.root()
	if err := os.Chown(d.volumeDir(v.Name), uid, gid); err != nil {
		return nil, false, err
	}
	if err := d.volumes.put(v.Name, v); err != nil {
		return nil, false, err
	}
	d.vols[v.Name] = v
	d.Events.send(events.VolumeEventType, events.ActionCreate, v.Name, map[string]string{"driver": "local"})
	return v, true, nil
}

func (d *Daemon) volumeView(v *Volume) *volume.Volume {
	return &volume.Volume{Name: v.Name, Driver: "local", Mountpoint: d.volumeDir(v.Name), Labels: v.Labels, Options: over(v.Options, nil), Scope: "local", CreatedAt: v.Created.Format(time.RFC3339)}
}

// Volume gives one volume.
func (d *Daemon) Volume(name string) (*volume.Volume, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.vols[name]
	if v == nil {
		return nil, errs.NotFoundf("get %s: no such volume", name)
	}
	return d.volumeView(v), nil
}

// VolumeUse is a volume and the containers that have it.
type VolumeUse struct {
	*volume.Volume
	Users     []string
	Anonymous bool
}

// Volumes lists all, by name.
func (d *Daemon) Volumes() []VolumeUse {
	users := map[string][]string{}
	for _, c := range d.list() {
		for _, m := range c.record().Mounts {
			if m.Type == mountapi.TypeVolume {
				users[m.Name] = append(users[m.Name], c.id)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]VolumeUse, 0, len(d.vols))
	for name, v := range d.vols {
		out = append(out, VolumeUse{d.volumeView(v), users[name], v.Anonymous})
	}
	slices.SortFunc(out, func(a, b VolumeUse) int { return compare(a.Name, b.Name) })
	return out
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// RemoveVolume removes a volume that no container has.
func (d *Daemon) RemoveVolume(name string, force bool) error {
	for _, v := range d.Volumes() {
		if v.Name != name {
			continue
		}
		if len(v.Users) > 0 {
			return errs.Conflictf("remove %s: volume is in use - [%s]", name, v.Users[0])
		}
		return d.dropVolume(name)
	}
	if force {
		return nil
	}
	return errs.NotFoundf("get %s: no such volume", name)
}

func (d *Daemon) dropVolume(name string) error {
	if err := d.endVolume(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.RemoveAll(filepath.Dir(d.volumeDir(name))); err != nil {
		return err
	}
	if err := d.volumes.remove(name); err != nil {
		return err
	}
	delete(d.vols, name)
	delete(d.volumesUp, name)
	d.Events.send(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	return nil
}

// tellMounts tells that a container begins or ends to have its volumes.
func (d *Daemon) tellMounts(r Record, action events.Action) {
	for _, m := range r.Mounts {
		if m.Type != mountapi.TypeVolume {
			continue
		}
		attrs := map[string]string{"driver": "local", "container": r.ID}
		if action == events.ActionMount {
			attrs["destination"], attrs["read/write"], attrs["propagation"] = m.Destination, strconv.FormatBool(m.RW), string(m.Propagation)
		}
		d.Events.send(events.VolumeEventType, action, m.Name, attrs)
	}
}

// mountPoints makes the volumes that a container asks for. fresh are those that
// the image fills: new ones, by where they are mounted.
func (d *Daemon) mountPoints(ctx context.Context, r Record) (points []container.MountPoint, fresh map[string]string, err error) {
	want, err := wantedMounts(r.Config, r.HostConfig)
	if err != nil {
		return nil, nil, err
	}
	fresh = map[string]string{}
	own := map[string]bool{}
	for _, w := range want {
		own[w.point.Destination] = w.asked
	}
	points, err = d.borrowed(r.HostConfig.VolumesFrom, own)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range points {
		own[p.Destination] = true
	}
	for _, w := range want {
		p := w.point
		if !w.asked && own[p.Destination] {
			continue // of the image, but another container's is there
		}
		switch p.Type {
		case mountapi.TypeBind:
			uid, gid := r.root()
			if err := user.MkdirAllAndChown(p.Source, 0o755, uid, gid, user.WithOnlyNew); err != nil && !errors.Is(err, os.ErrExist) {
				if fi, e := os.Stat(p.Source); e != nil || fi.IsDir() {
					return nil, nil, errs.Invalidf("error while creating mount source path '%s': %s", p.Source, err)
				}
			}
		case mountapi.TypeVolume:
			if of := r.volume(p.Name); of != nil {
				if p, err = d.cloudPoint(ctx, r.ID, *of, p); err != nil {
					return nil, nil, err
				}
				if !w.noCopy && !of.ReadOnly {
					fresh[p.Destination] = p.Source
				}
				break
			}
			if r.Project && (len(w.opts) > 0 || p.Name != "") {
				return nil, nil, errs.Invalidf("a volume of the node with a name or options is not for containers of projects")
			}
			v, _, err := d.ensureVolume(p.Name, w.labels, w.opts)
			if err != nil {
				return nil, nil, err
			}
			p.Name, p.Source, p.Driver = v.Name, d.volumeDir(v.Name), "local"
			if p.Mode == "" {
				p.Mode = "z"
			}
			if !w.noCopy {
				fresh[p.Destination] = p.Source
			}
		case mountapi.TypeImage:
			if err := d.pointAtImage(&p, w.subpath); err != nil {
				return nil, nil, err
			}
		}
		points = append(points, p)
	}
	return points, fresh, nil
}

// borrowed are the mounts of other containers, except where the new one has its own.
func (d *Daemon) borrowed(from []string, own map[string]bool) (out []container.MountPoint, err error) {
	for _, f := range from {
		ref, mode, _ := strings.Cut(f, ":")
		if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
			return nil, errs.Invalidf("invalid mode: %s", mode)
		}
		c, err := d.find(ref)
		if err != nil { // not 404: clients would take that for a missing image
			return nil, errs.Invalidf("%s", err)
		}
		for _, p := range c.record().Mounts {
			if p.Type == mountapi.TypeTmpfs || own[p.Destination] {
				continue
			}
			p.RW = p.RW && mode != "ro"
			if mode != "" {
				p.Mode = mode
			}
			out = slices.DeleteFunc(out, func(o container.MountPoint) bool { return o.Destination == p.Destination })
			out = append(out, p)
		}
	}
	return out, nil
}

// fillVolumes copies what the image has at a volume's place into the volume, if
// that is empty.
func (d *Daemon) fillVolumes(ctx context.Context, r Record, fresh map[string]string) error {
	full := func(dir string) bool {
		entries, err := os.ReadDir(dir)
		return err != nil || len(entries) > 0
	}
	maps.DeleteFunc(fresh, func(_, dir string) bool { return full(dir) })
	if len(fresh) == 0 {
		return nil
	}
	return d.withRoot(ctx, r.ID, func(root string) error {
		for dst, dir := range fresh {
			from, err := fs.RootPath(root, dst)
			if err != nil {
				return err
			}
			fi, err := os.Stat(from)
			if err != nil || !fi.IsDir() {
				continue
			}
			here := Record{ID: r.ID, Mounts: slices.DeleteFunc(slices.Clone(r.Mounts), func(p container.MountPoint) bool { return p.Destination != dst })}
			err = d.withVolumes(here, func() error {
				if full(dir) { // now that it is mounted
					return nil
				}
				return fs.CopyDir(dir, from)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// withRoot mounts the files of a container that does not run for the time of f.
func (d *Daemon) withRoot(ctx context.Context, id string, f func(root string) error) error {
	mounts, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Mounts(ctx, id)
	if err != nil {
		return err
	}
	return mount.WithTempMount(ctx, mounts, f)
}
