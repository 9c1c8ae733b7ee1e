package region

import (
	"context"
	"net"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// containerCloud is what this machine's engine has of the region.
type containerCloud struct {
	hostControl
	plane  *dataplane.Plane
	mounts *fsmount.Manager
}

// PlugPort implements container.Cloud.
func (c containerCloud) PlugPort(ctx context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error {
	return c.plane.Veth(ctx, ns, device, p)
}

// UnplugPort implements container.Cloud. A data plane that does not work yet, or any more,
// loses the device with its namespace.
func (c containerCloud) UnplugPort(ctx context.Context, id string) error {
	if err := c.plane.Unplug(ctx, id); !errs.Is(err, errs.Unavailable) {
		return err
	}
	return nil
}

// MountVolume implements container.Cloud.
func (c containerCloud) MountVolume(ctx context.Context, container string, v nodeapi.ContainerVolume) (string, error) {
	return c.mounts.Ensure(ctx, container, v)
}

// UnmountVolume implements container.Cloud.
func (c containerCloud) UnmountVolume(ctx context.Context, container, volume string) error {
	return c.mounts.Release(ctx, container, volume)
}

// SweepVolumes implements container.Cloud.
func (c containerCloud) SweepVolumes(ctx context.Context, known func(container string) bool) error {
	return c.mounts.Sweep(ctx, known)
}

// noEngine is no NotFound: what is kept on the disk of a machine whose engine does not work
// is not gone.
func noEngine() error {
	return errs.New(errs.Unavailable, "this machine runs no containers now: strata doctor says why")
}

// EnsureContainer implements nodes.Containers.
func (c *containers) EnsureContainer(ctx context.Context, want nodeapi.Container) ([]string, error) {
	if c == nil {
		return nil, noEngine()
	}
	return c.engine.Ensure(ctx, want)
}

// DockerAPI implements nodes.Containers.
func (c *containers) DockerAPI(ctx context.Context) (net.Conn, error) {
	if c == nil {
		return nil, noEngine()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the machine's container engine: %w", err)
	}
	return conn, nil
}
