package container

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// cloudDriver is what a volume of block storage is called the driver of.
const cloudDriver = "strata"

// unmountPatience bounds the wait for the last writes to a volume.
const unmountPatience = 45 * time.Second

// withoutKeys is what is kept of volumes: how they are reached is not ours to keep.
func withoutKeys(list []nodeapi.ContainerVolume) []nodeapi.ContainerVolume {
	out := slices.Clone(list)
	for i := range out {
		out[i].Remote = nil
	}
	return out
}

// volume gives the volume of block storage that a request names by its id; nil: it is none.
func (r *Record) volume(id string) *nodeapi.ContainerVolume {
	if i := slices.IndexFunc(r.Volumes, func(v nodeapi.ContainerVolume) bool { return v.ID == id }); id != "" && i >= 0 {
		return &r.Volumes[i]
	}
	return nil
}

// mountVolumes has a container's volumes of block storage mounted.
func (d *Daemon) mountVolumes(ctx context.Context, id string, list []nodeapi.ContainerVolume) error {
	for _, v := range list {
		if _, err := d.cfg.Cloud.MountVolume(ctx, id, v); err != nil {
			return err
		}
	}
	return nil
}

// unmountVolumes is the end of mountVolumes. A volume is still mounted if another
// container has it.
func (d *Daemon) unmountVolumes(r Record) error {
	ctx, cancel := context.WithTimeout(d.ctx, unmountPatience)
	defer cancel()
	var all []error
	for _, v := range r.Volumes {
		all = append(all, d.cfg.Cloud.UnmountVolume(ctx, r.ID, v.ID))
	}
	return errors.Join(all...)
}

// cloudPoint makes a mount one of a volume of block storage, which is there.
func (d *Daemon) cloudPoint(ctx context.Context, id string, v nodeapi.ContainerVolume, p container.MountPoint) (container.MountPoint, error) {
	v.Remote = nil
	path, err := d.cfg.Cloud.MountVolume(ctx, id, v)
	p.Source, p.Driver, p.RW = path, cloudDriver, p.RW && !v.ReadOnly
	return p, err
}
