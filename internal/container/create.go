package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/namesgenerator"
	"github.com/opencontainers/image-spec/identity"

	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/container/health"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Create makes a container from an image. It does not run yet.
func (d *Daemon) Create(ctx context.Context, name string, req container.CreateRequest) (id string, warnings []string, err error) {
	return d.create(ctx, name, req, nil)
}

// create makes one; of is what is wanted for a project.
func (d *Daemon) create(ctx context.Context, name string, req container.CreateRequest, of *nodeapi.Container) (id string, warnings []string, err error) {
	if req.Config == nil {
		return "", nil, errs.Invalidf("Config cannot be empty in order to create a container")
	}
	if name != "" && !nameRE.MatchString(strings.TrimPrefix(name, "/")) {
		return "", nil, errs.Invalidf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	ctx = d.request(ctx)
	from := req.Config.Image
	if of != nil {
		from = of.Image.Digest
	}
	img, err := d.image(ctx, from)
	if err != nil {
		return "", nil, err
	}
	r := Record{ID: newID(), Name: strings.TrimPrefix(name, "/"), Created: time.Now().UTC(), Image: img.ID, ImageName: img.names[0], Config: req.Config, HostConfig: req.HostConfig,
		State: State{Status: container.StateCreated}}
	r.Manifest = d.ownPart(ctx, img)
	if of != nil {
		r.ID, r.Project, r.Ports, r.Volumes = of.ID, true, of.Ports, withoutKeys(of.Volumes)
	}
	if err := merge(r.Config, img.config.Config); err != nil {
		return "", nil, err
	}
	if warnings, err = d.settle(&r); err != nil {
		return "", nil, err
	}
	if r.Links, err = d.wantedLinks(r); err != nil {
		return "", nil, err
	}
	if r.Links != nil { // it has them from now on
		r.HostConfig.Links = nil
	}
	d.linked.CompareAndSwap(false, len(r.Links) > 0)
	if r.Endpoints, err = d.wantedEndpoints(r, req.NetworkingConfig); err != nil {
		if errs.Is(err, errs.NotFound) { // clients would take 404 for a missing image
			err = errs.Invalidf("%s", err)
		}
		return "", nil, err
	}
	c := newLive(r)
	c.op.Lock()
	defer c.op.Unlock()
	if err := d.register(c); err != nil {
		return "", nil, err
	}
	if of != nil {
		err = d.mountVolumes(ctx, c.id, of.Volumes)
	}
	if err == nil {
		err = d.make(ctx, c, img)
	}
	if err != nil {
		return "", nil, errors.Join(err, d.unmake(c))
	}
	d.tell(c, events.ActionCreate)
	return c.id, warnings, nil
}

// merge fills what the request leaves open from the image.
func merge(c *container.Config, img imageConfig) error {
	if len(c.Entrypoint) == 0 {
		if c.Entrypoint == nil && len(c.Cmd) == 0 {
			c.Cmd = img.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = img.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // how clients say: none
		c.Entrypoint = nil
	}
	if len(c.Entrypoint)+len(c.Cmd) == 0 {
		return errs.Invalidf("no command specified")
	}
	if c.User == "" {
		c.User = img.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
		return errs.Invalidf("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if _, err := parseSignal(c.StopSignal); c.StopSignal != "" && err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range c.Env {
		key, _, _ := strings.Cut(e, "=")
		if key == "" {
			return errs.Invalidf("invalid environment variable: %s", e)
		}
		have[key] = true
	}
	var env []string
	for _, e := range img.Env {
		if key, _, _ := strings.Cut(e, "="); !have[key] {
			env = append(env, e)
		}
	}
	c.Env = append(slices.Clone(c.Env), env...)
	c.Healthcheck = health.Merge(c.Healthcheck, img.Healthcheck)
	if err := health.Check(c.Healthcheck); err != nil {
		return err
	}
	c.Labels = over(img.Labels, c.Labels)
	for v := range img.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	return mergePorts(c, img)
}

// over is a with b's entries over it.
func over(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// register takes the name.
func (d *Daemon) register(c *live) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := 0; c.rec.Name == ""; i++ {
		if name := namesgenerator.GetRandomName(i); d.byName[name] == nil {
			c.rec.Name = name
		}
	}
	if other := d.byName[c.rec.Name]; other != nil {
		return errs.Conflictf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+c.rec.Name, other.id)
	}
	d.byID[c.id], d.byName[c.rec.Name] = c, c
	return nil
}

// make makes what stands behind a container: volumes, files, containerd's part.
func (d *Daemon) make(ctx context.Context, c *live, img *Image) error {
	if err := d.makeLog(c.id); err != nil {
		return err
	}
	r := c.record()
	mounts, fresh, err := d.mountPoints(ctx, r)
	if err != nil {
		return err
	}
	argv := append(slices.Clone([]string(r.Config.Entrypoint)), r.Config.Cmd...)
	if err := d.change(c, func(r *Record) { r.Mounts, r.Path, r.Args = mounts, argv[0], argv[1:] }); err != nil {
		return err
	}
	if err := d.viewImages(ctx, c.record()); err != nil {
		return err
	}
	if err := d.makeFiles(ctx, c.record(), img); err != nil {
		return fmt.Errorf("making the container: %w", err)
	}
	return d.fillVolumes(ctx, c.record(), fresh)
}

// makeFiles makes containerd's container and its files. The container is first, and
// names the files: so they need no lease until something refers to them, which would be
// two transactions more. The specification is left to the start, since it names
// namespaces that are made then.
func (d *Daemon) makeFiles(ctx context.Context, r Record, img *Image) error {
	uid, gid := r.root()
	opts, err := typeurl.MarshalAny(&options.Options{BinaryName: engine.Runtime, Root: filepath.Join(runDir(d.cfg.Name), "runc"), IoUid: uint32(uid), IoGid: uint32(gid)})
	if err != nil {
		return err
	}
	layers, err := img.image.RootFS(ctx)
	if err != nil {
		return err
	}
	_, err = d.engine.Client.ContainerService().Create(ctx, containers.Container{ID: r.ID, Image: img.image.Name(), Runtime: containers.RuntimeInfo{Name: d.engine.Shim, Options: opts},
		Snapshotter: d.engine.Snapshotter, SnapshotKey: r.ID, SandboxID: engine.Shared})
	if err != nil {
		return err
	}
	_, err = d.engine.Client.SnapshotService(d.engine.Snapshotter).Prepare(ctx, r.ID, identity.ChainID(layers).String(), r.IDs.Snapshot()...)
	return err
}

// unmake removes every trace of a container that does not run.
func (d *Daemon) unmake(c *live) error {
	r := c.record()
	if err := errors.Join(d.unplug(r), d.unmountImages(r), d.releaseVolumes(r), d.unmakeFiles(r)); err != nil {
		return err
	}
	if err := d.dropRecord(c.id); err != nil {
		return err
	}
	d.forget(c, r.Name)
	return nil
}

// unmakeFiles removes containerd's container, its files and ours, and lets go of volumes.
func (d *Daemon) unmakeFiles(r Record) error {
	ctx := d.rest()
	cc, err := d.engine.Client.LoadContainer(ctx, r.ID)
	if err == nil {
		err = cc.Delete(ctx, client.WithSnapshotCleanup)
	}
	return errors.Join(d.dropViews(ctx, r), d.unmountVolumes(r), ignoreMissing(err), d.removeFiles(r.ID))
}

// forget makes a container unknown, and its name free.
func (d *Daemon) forget(c *live, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byID, c.id)
	if d.byName[name] == c {
		delete(d.byName, name)
	}
}

// wantedEndpoints are the networks that a new container will be on.
func (d *Daemon) wantedEndpoints(r Record, n *network.NetworkingConfig) (map[string]*Endpoint, error) {
	mode := r.HostConfig.NetworkMode
	if len(r.Ports) > 0 {
		return nil, nil
	}
	if mode.IsContainer() {
		return nil, nil
	}
	main, err := d.findNetwork(string(mode))
	if errs.Is(err, errs.NotFound) { // as dockerd: it need not be there before the start
		return map[string]*Endpoint{string(mode): {Network: string(mode)}}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]*Endpoint{main.Name: {Network: main.ID}}
	if n == nil {
		n = &network.NetworkingConfig{}
	}
	for name, s := range n.EndpointsConfig {
		if name == network.NetworkDefault { // what clients call the bridge
			name = bridgeNetwork
		}
		net, err := d.findNetwork(name)
		if err != nil {
			return nil, err
		}
		if net.ID != main.ID && (!net.wired() || !main.wired()) {
			return nil, errs.Invalidf("container sharing network namespace with another container or host cannot be connected to any other network")
		}
		e := &Endpoint{Network: net.ID}
		if err := e.want(net, s); err != nil {
			return nil, err
		}
		out[net.Name] = e
	}
	if e := out[main.Name]; e.MAC == "" {
		e.MAC = macOf(r.Config)
	}
	return out, nil
}
