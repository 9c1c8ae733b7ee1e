package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/continuity/fs"
	"github.com/docker/docker/api/types/container"
	mountapi "github.com/docker/docker/api/types/mount"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// An image that a container mounts (type=image) is a view of its layers, made with the
// container and mounted while that runs. The Source of its mount point is the image's id,
// and a path in it.

// parseImageMount reads one.
func parseImageMount(m mountapi.Mount, w *wanted) error {
	if m.Source == "" {
		return errs.Invalidf("invalid mount config for type %q: field Source must not be empty", m.Type)
	}
	w.point.RW, w.point.Propagation = false, mountapi.PropagationRPrivate
	if o := m.ImageOptions; o != nil && o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return errs.Invalidf("invalid mount config for type %q: subpath must be a relative path within the volume", m.Type)
		}
		w.subpath = filepath.Clean(o.Subpath)
	}
	return nil
}

// pointAtImage finds the image of a mount.
func (d *Daemon) pointAtImage(p *container.MountPoint, subpath string) error {
	i, err := d.image(d.work(), p.Source)
	if errs.Is(err, errs.NotFound) { // clients would take 404 for the container's own
		return errs.Invalidf("%s", err)
	}
	if err != nil {
		return err
	}
	p.Name, p.Source = p.Source, filepath.Join(i.ID, subpath)
	return nil
}

// mountsImage tells whether a container mounts an image.
func (r Record) mountsImage(id string) bool {
	for _, p := range r.Mounts {
		if of, _, _ := strings.Cut(p.Source, "/"); p.Type == mountapi.TypeImage && of == id {
			return true
		}
	}
	return false
}

// uses tells whether a container needs an image.
func (r Record) uses(id string) bool { return r.Image == id || r.mountsImage(id) }

func viewKey(id string, n int) string { return id + "-image-" + strconv.Itoa(n) }

func (d *Daemon) imagesDir(id string) string { return filepath.Join(d.dir(id), "images") }

// eachImage calls f with the image mounts of a container, by their number.
func (r Record) eachImage(f func(n int, image, subpath string) error) error {
	var all []error
	for n, p := range r.Mounts {
		if p.Type == mountapi.TypeImage {
			of, subpath, _ := strings.Cut(p.Source, "/")
			all = append(all, f(n, of, subpath))
		}
	}
	return errors.Join(all...)
}

// viewImages makes the views of a container that is being made.
func (d *Daemon) viewImages(ctx context.Context, r Record) error {
	return r.eachImage(func(n int, image, _ string) error {
		i, err := d.image(ctx, image)
		if err != nil {
			return err
		}
		if err := i.image.Unpack(ctx, d.engine.Snapshotter); err != nil {
			return fmt.Errorf("unpacking %s: %w", short(i.ID), err)
		}
		diffs, err := i.image.RootFS(ctx)
		if err != nil {
			return err
		}
		opts := append(r.IDs.Snapshot(), snapshots.WithLabels(map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}))
		_, err = d.engine.Client.SnapshotService(d.engine.Snapshotter).View(ctx, viewKey(r.ID, n), identity.ChainID(diffs).String(), opts...)
		return err
	})
}

// dropViews removes them.
func (d *Daemon) dropViews(ctx context.Context, r Record) error {
	return r.eachImage(func(n int, _, _ string) error {
		return ignoreMissing(d.engine.Client.SnapshotService(d.engine.Snapshotter).Remove(ctx, viewKey(r.ID, n)))
	})
}

// mountImages mounts the views of a container that is about to start.
func (d *Daemon) mountImages(ctx context.Context, r Record) error {
	return r.eachImage(func(n int, _, _ string) error {
		mounts, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Mounts(ctx, viewKey(r.ID, n))
		if err != nil {
			return err
		}
		dir := filepath.Join(d.imagesDir(r.ID), strconv.Itoa(n))
		if err := errors.Join(mount.UnmountAll(dir, unix.MNT_DETACH), os.MkdirAll(dir, 0o711)); err != nil {
			return err
		}
		return mount.All(r.shown(mounts), dir)
	})
}

// unmountImages takes them away.
func (d *Daemon) unmountImages(r Record) error {
	return r.eachImage(func(n int, _, _ string) error {
		return mount.UnmountAll(filepath.Join(d.imagesDir(r.ID), strconv.Itoa(n)), unix.MNT_DETACH)
	})
}

// imageSource is the path that a container's nth mount shows.
func (d *Daemon) imageSource(r Record, n int) (string, error) {
	_, subpath, _ := strings.Cut(r.Mounts[n].Source, "/")
	return fs.RootPath(filepath.Join(d.imagesDir(r.ID), strconv.Itoa(n)), subpath)
}
