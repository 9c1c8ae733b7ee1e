package csi

import (
	"context"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
)

// Disks brings volumes that are attached to the machine into the form that pods want. A
// machine of the pool reaches them over the network (Remote); one that is a server finds
// them among its own disks (Attached).
type Disks interface {
	// Ensure has a volume in a form, and gives where: a directory, or a device. It may be repeated.
	Ensure(ctx context.Context, volume string, form fsmount.Form) (path string, err error)
	// Release is the end of that. Absent is fine.
	Release(ctx context.Context, volume string) error
	// Grow has a volume be as large as it is, while it is in use. NotFound: it is not here.
	Grow(ctx context.Context, volume string, size int64) error
	// Clear releases all volumes.
	Clear(ctx context.Context) error
}

// Remote are the volumes of a cluster on a machine of the pool.
type Remote struct {
	Cluster string
	Control Control
	Mounts  *fsmount.Manager
}

var _ Disks = Remote{}

// MostRemote is how many volumes a machine takes: each has two daemons there.
const MostRemote = 100

// Ensure implements Disks.
func (r Remote) Ensure(ctx context.Context, volume string, form fsmount.Form) (string, error) {
	v, err := r.Control.ClusterVolume(ctx, r.Cluster, volume)
	if err != nil {
		return "", err
	}
	return r.Mounts.EnsureAs(ctx, r.Cluster, *v, form)
}

// Release implements Disks.
func (r Remote) Release(ctx context.Context, volume string) error {
	return r.Mounts.Release(ctx, r.Cluster, volume)
}

// Grow implements Disks.
func (r Remote) Grow(ctx context.Context, volume string, size int64) error {
	return r.Mounts.Grow(ctx, volume, size)
}

// Clear implements Disks.
func (r Remote) Clear(ctx context.Context) error {
	return r.Mounts.Sweep(ctx, func(user string) bool { return user != r.Cluster })
}
