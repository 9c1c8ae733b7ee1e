package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/container/remote"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Cloud is what the region gives the containers of projects.
type Cloud interface {
	remote.Mirrors
	// OpenBlob gives content of the region's registry, by its digest.
	OpenBlob(ctx context.Context, digest string) (io.ReadCloser, error)
	// PlugPort puts a device for the port into a namespace, UnplugPort takes it away.
	PlugPort(ctx context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error
	UnplugPort(ctx context.Context, id string) error

	// MountVolume has a volume mounted for a container, and gives where, until
	// UnmountVolume; both may be repeated. SweepVolumes unmounts those of containers
	// that are not known.
	MountVolume(ctx context.Context, container string, v nodeapi.ContainerVolume) (path string, err error)
	UnmountVolume(ctx context.Context, container, volume string) error
	SweepVolumes(ctx context.Context, known func(container string) bool) error
}

// Ensure makes a container of a project, or finds that it is there.
func (d *Daemon) Ensure(ctx context.Context, c nodeapi.Container) (warnings []string, err error) {
	if d.cfg.Cloud == nil {
		return nil, errs.New(errs.NotImplemented, "this engine has no containers of projects")
	}
	if len(c.ID) != 64 {
		return nil, errs.Invalidf("%q is no container's id", c.ID)
	}
	if have, err := d.find(c.ID); err == nil && have.id == c.ID {
		if c.Replug {
			return nil, d.replug(have, c.Ports)
		}
		return nil, nil
	}
	if c.Replug {
		return nil, errs.NotFoundf("No such container: %s", c.ID)
	}
	var req container.CreateRequest
	if err := json.Unmarshal(c.Request, &req); err != nil {
		return nil, errs.Invalidf("the container's configuration: %s", err)
	}
	if err := d.fetch(ctx, c.Image); err != nil {
		return nil, err
	}
	_, warnings, err = d.create(ctx, c.Name, req, &c)
	return warnings, err
}

// fetch has an image of the region's registry here.
func (d *Daemon) fetch(ctx context.Context, i nodeapi.ContainerImage) error {
	ctx = d.request(ctx)
	from := cloudRegistry{d.cfg.Cloud, i}
	have, err := d.engine.Client.ImageService().Get(ctx, i.Name)
	if err == nil && have.Target.Digest.String() != i.Digest { // the tag has moved
		if err := d.keepDangling(ctx, have.Name, have.Target); err != nil {
			return err
		}
	}
	_, err = d.engine.Client.Pull(ctx, i.Name, client.WithResolver(from), client.WithPullUnpack, client.WithPullSnapshotter(d.engine.Snapshotter))
	if err != nil {
		return fmt.Errorf("fetching the image %s: %w", familiar(i.Name), err)
	}
	return nil
}

// cloudRegistry is the region's registry as containerd sees it: one image, that is found.
type cloudRegistry struct {
	cloud Cloud
	image nodeapi.ContainerImage
}

var _ remotes.Resolver = cloudRegistry{}

// Resolve implements remotes.Resolver.
func (c cloudRegistry) Resolve(_ context.Context, ref string) (string, ocispec.Descriptor, error) {
	return ref, ocispec.Descriptor{MediaType: c.image.MediaType, Digest: digest.Digest(c.image.Digest), Size: c.image.Size}, nil
}

// Fetcher implements remotes.Resolver. What comes is checked against its digest by who
// writes it.
func (c cloudRegistry) Fetcher(context.Context, string) (remotes.Fetcher, error) {
	return remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return c.cloud.OpenBlob(ctx, desc.Digest.String())
	}), nil
}

// Pusher implements remotes.Resolver.
func (cloudRegistry) Pusher(context.Context, string) (remotes.Pusher, error) {
	return nil, errs.New(errs.NotImplemented, "nodes push nothing")
}

// portPatience bounds how long a start waits for the network to know a port.
const portPatience = 20 * time.Second

// plugPorts gives a container that is about to start its devices.
func (d *Daemon) plugPorts(r Record) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, portPatience)
	defer cancel()
	if err := d.plane.Open(r.ID, nil); err != nil {
		return "", err
	}
	err := d.plane.Do(r.ID, func(ns *netns.NS) error {
		for i, p := range r.Ports {
			if err := d.cfg.Cloud.PlugPort(ctx, ns, portDevice(p, i), p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", errors.Join(err, d.unplugPorts(r))
	}
	return d.shims.Path(d.plane.Path(r.ID)), nil
}

// portDevice is what a port's device is called in its container.
func portDevice(p nodeapi.ContainerPort, i int) string {
	if p.Device != "" {
		return p.Device
	}
	return fmt.Sprintf("eth%d", i)
}

// replug gives a container other ports, also while it runs.
func (d *Daemon) replug(c *live, ports []nodeapi.ContainerPort) error {
	c.op.Lock()
	defer c.op.Unlock()
	before := c.record()
	if len(before.Ports) == 0 {
		return errs.Conflictf("container %s was made without a network", c.id)
	}
	if err := d.change(c, func(r *Record) { r.Ports = ports }); err != nil {
		return err
	}
	if !before.State.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, portPatience)
	defer cancel()
	has := func(list []nodeapi.ContainerPort, id string) bool {
		return slices.ContainsFunc(list, func(p nodeapi.ContainerPort) bool { return p.ID == id })
	}
	for _, p := range before.Ports {
		if !has(ports, p.ID) {
			if err := d.cfg.Cloud.UnplugPort(ctx, p.ID); err != nil {
				return err
			}
		}
	}
	return d.plane.Do(c.id, func(ns *netns.NS) error {
		for i, p := range ports {
			if !has(before.Ports, p.ID) {
				if err := d.cfg.Cloud.PlugPort(ctx, ns, portDevice(p, i), p); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (d *Daemon) unplugPorts(r Record) error {
	var all []error
	for _, p := range r.Ports {
		all = append(all, d.cfg.Cloud.UnplugPort(d.ctx, p.ID))
	}
	return errors.Join(append(all, d.plane.Remove(r.ID))...)
}

// portNames is what resolv.conf says on the region's networks.
func portNames(ports []nodeapi.ContainerPort) (servers, search, options []string) {
	for _, p := range ports {
		for _, a := range p.DNS {
			servers = append(servers, a.String())
		}
		if p.Domain != "" && search == nil {
			search = []string{p.Domain}
		}
	}
	return servers, search, nil
}
