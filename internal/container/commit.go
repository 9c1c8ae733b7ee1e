package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
)

// CommitOptions are what docker commit says of an image.
type CommitOptions struct {
	Repo, Tag       string
	Comment, Author string
	NoPause         bool
	Config          *container.Config // nil: the container's
	Changes         []string
}

// Commit makes an image of what a container has written.
func (d *Daemon) Commit(ctx context.Context, ref string, o CommitOptions) (id string, err error) {
	ctx = d.request(ctx)
	c, err := d.find(ref)
	if err != nil {
		return "", err
	}
	name := ""
	if o.Repo != "" {
		if name, err = tagged(o.Repo, o.Tag); err != nil {
			return "", err
		}
	}
	r := c.record()
	if r.Removing {
		return "", errs.Conflictf("You cannot commit container %s which is being removed", r.ID)
	}
	base, err := d.image(ctx, r.Image)
	if err != nil {
		return "", fmt.Errorf("the container's image: %w", err)
	}
	cfg, err := committed(r, o)
	if err != nil {
		return "", err
	}
	if !o.NoPause && r.State.Status == container.StateRunning {
		if err := d.Pause(r.ID); err != nil && !errs.Is(err, errs.Conflict) { // it has just ended
			return "", err
		} else if err == nil {
			defer func() { err = errors.Join(err, d.Unpause(r.ID)) }()
		}
	}
	target, err := d.commit(ctx, r, base, cfg, o, name)
	if err != nil {
		return "", err
	}
	d.tellCommit(c, target.Digest.String(), familiar(name), o.Comment)
	return target.Digest.String(), nil
}

func (d *Daemon) tellCommit(c *live, id, name, comment string) {
	d.Events.send(events.ContainerEventType, events.ActionCommit, c.id, map[string]string{"comment": comment, "imageID": id, "imageRef": name, "name": c.record().Name})
}

// commit writes the layer, the image over it, and its name.
func (d *Daemon) commit(ctx context.Context, r Record, base *Image, config imageConfig, o CommitOptions, name string) (target ocispec.Descriptor, err error) {
	ctx, done, err := d.engine.Client.WithLease(ctx)
	if err != nil {
		return target, err
	}
	defer func() { err = errors.Join(err, done(ctx)) }()
	manifest, err := images.Manifest(ctx, base.image.ContentStore(), base.Descriptor(), platforms.Default())
	if err != nil {
		return target, err
	}
	layer, diffID, err := d.written(ctx, r)
	if err != nil {
		return target, fmt.Errorf("reading what the container has written: %w", err)
	}
	now := time.Now().UTC()
	cfg := dockerspec.DockerOCIImage{Image: base.config.Image, Config: config}
	cfg.Created = &now
	if o.Author != "" {
		cfg.Author = o.Author
	}
	cfg.History = append(slices.Clone(cfg.History), ocispec.History{Created: &now, CreatedBy: strings.Join(r.Config.Cmd, " "), Author: cfg.Author, Comment: o.Comment, EmptyLayer: diffID == ""})
	layers := manifest.Layers
	if diffID != "" {
		cfg.RootFS.DiffIDs = append(slices.Clone(cfg.RootFS.DiffIDs), diffID)
		layers = append(slices.Clone(layers), layer)
	}
	if target, err = d.writeImage(ctx, cfg, layers); err != nil {
		return target, err
	}
	if name == "" {
		name = dangling + target.Digest.String()
	}
	if err := client.NewImage(d.engine.Client, images.Image{Name: name, Target: target}).Unpack(ctx, d.engine.Snapshotter); err != nil {
		return target, err
	}
	return target, d.nameBuilt(ctx, name, target)
}

// written makes a layer of what a container has written; without a digest when that is
// nothing.
func (d *Daemon) written(ctx context.Context, r Record) (ocispec.Descriptor, digest.Digest, error) {
	layer, err := d.diff(ctx, r)
	if err != nil {
		return layer, "", err
	}
	cs := d.engine.Client.ContentStore()
	ra, err := cs.ReaderAt(ctx, layer)
	if err != nil {
		return layer, "", err
	}
	defer ra.Close()
	plain, err := compression.DecompressStream(content.NewReader(ra))
	if err != nil {
		return layer, "", err
	}
	defer plain.Close()
	if _, err := tar.NewReader(plain).Next(); errors.Is(err, io.EOF) {
		return layer, "", nil
	} else if err != nil {
		return layer, "", err
	}
	info, err := cs.Info(ctx, layer.Digest)
	if err != nil {
		return layer, "", err
	}
	diffID, err := digest.Parse(info.Labels[labels.LabelUncompressed])
	return layer, diffID, err
}

// diff makes a layer of what a container has written, with the owners that it sees itself.
func (d *Daemon) diff(ctx context.Context, r Record) (layer ocispec.Descriptor, err error) {
	sn := d.engine.Client.SnapshotService(d.engine.Snapshotter)
	if r.IDs == nil {
		return rootfs.CreateDiff(ctx, r.ID, sn, d.engine.Client.DiffService())
	}
	info, err := sn.Stat(ctx, r.ID)
	if err != nil {
		return layer, err
	}
	key := r.ID + "-below-" + newID()[:12]
	lower, err := sn.View(ctx, key, info.Parent)
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, sn.Remove(ctx, key)) }()
	mounts, err := sn.Mounts(ctx, r.ID)
	if err != nil {
		return layer, err
	}
	back := mount.Mount{Type: "bind", Source: upperDir(mounts), Options: append([]string{"rbind"}, r.IDs.Unshifted()...)}
	err = mount.WithTempMount(ctx, lower, func(below string) error {
		return mount.WithTempMount(ctx, []mount.Mount{back}, func(own string) error {
			// Not with all the layers below, whose paths get short only if they begin alike.
			all := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + own + ":" + below}}
			layer, err = d.engine.Client.DiffService().Compare(ctx, lower, []mount.Mount{all})
			return err
		})
	})
	return layer, err
}

// upperDir is where a container's own files are; "": the snapshotter does not keep them apart.
func upperDir(mounts []mount.Mount) string {
	for _, m := range mounts {
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir
			}
		}
	}
	return ""
}

// committed is the configuration of an image made of a container: what the request
// says, changed as it says, and for the rest the container's own.
func committed(r Record, o CommitOptions) (imageConfig, error) {
	own := ofContainer(r.Config)
	c := own
	if o.Config != nil {
		c = ofContainer(o.Config)
	}
	c.Env, c.Labels, c.Volumes, c.ExposedPorts = slices.Clone(c.Env), maps.Clone(c.Labels), maps.Clone(c.Volumes), maps.Clone(c.ExposedPorts)
	for _, change := range o.Changes {
		if err := applyChange(&c, change); err != nil {
			return c, err
		}
	}
	if o.Config != nil {
		fill(&c, own)
	}
	return c, nil
}

// fill completes a configuration with another (moby's daemon/commit.go: merge).
func fill(c *imageConfig, with imageConfig) {
	if c.User == "" {
		c.User = with.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = with.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = with.StopSignal
	}
	if c.Healthcheck == nil {
		c.Healthcheck = with.Healthcheck
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = with.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = with.Entrypoint
		}
	}
	for _, e := range with.Env {
		key, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(c.Env, func(have string) bool { return strings.HasPrefix(have, key+"=") }) {
			c.Env = append(c.Env, e)
		}
	}
	c.Labels = over(with.Labels, c.Labels)
	for v := range with.Volumes {
		c.Volumes = set(c.Volumes, v)
	}
	for p := range with.ExposedPorts {
		c.ExposedPorts = set(c.ExposedPorts, p)
	}
}

// ofContainer is what of a container's configuration an image can have.
func ofContainer(c *container.Config) imageConfig {
	out := imageConfig{ImageConfig: ocispec.ImageConfig{User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal}}
	for p := range c.ExposedPorts {
		out.ExposedPorts = set(out.ExposedPorts, string(p))
	}
	out.OnBuild, out.Shell = c.OnBuild, c.Shell
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &dockerspec.HealthcheckConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return out
}
