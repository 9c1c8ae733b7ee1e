package container

import (
	"context"
	"errors"

	"github.com/containerd/containerd/v2/client"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/strata-cloud/strata/internal/errs"
)

// Update changes the limits and the restart policy of a container, at once if it runs.
func (d *Daemon) Update(ctx context.Context, ref string, u container.UpdateConfig) (warnings []string, err error) {
	c, done, err := d.locked(ref)
	if err != nil {
		return nil, err
	}
	defer done()
	r := c.record()
	if r.Removing {
		return nil, errs.Conflictf("Cannot update container %s: container is marked for removal", c.id)
	}
	h := *r.HostConfig
	if err := updateResources(&h.Resources, u.Resources); err != nil {
		return nil, errs.Conflictf("Cannot update container %s: %s", c.id, err)
	}
	if p := u.RestartPolicy; p.Name != "" {
		if err := container.ValidateRestartPolicy(p); err != nil {
			return nil, errs.Invalidf("%s", err)
		}
		if h.AutoRemove && !p.IsNone() {
			return nil, errs.Conflictf("Cannot update container %s: Restart policy cannot be updated because AutoRemove is enabled for the container", c.id)
		}
		h.RestartPolicy = p
	}
	if warnings, err = settleResources(&h); err != nil {
		return nil, err
	}
	if task, err := c.running(); err == nil {
		if err := task.Update(d.work(), client.WithResources(limits(&h))); err != nil {
			return nil, errors.Join(errs.New(errs.Internal, "Cannot update container %s: %s", c.id, err), ignoreMissing(task.Update(d.work(), client.WithResources(limits(r.HostConfig)))))
		}
	}
	if err := d.change(c, func(r *Record) { r.HostConfig = &h }); err != nil {
		return nil, err
	}
	d.tell(c, events.ActionUpdate)
	return list(warnings), nil
}

// updateResources sets what is wanted, as far as it goes together with what is set.
func updateResources(is *container.Resources, want container.Resources) error {
	switch {
	case want.NanoCPUs > 0 && is.CPUPeriod > 0:
		return errs.Conflictf("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case want.NanoCPUs > 0 && is.CPUQuota > 0:
		return errs.Conflictf("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case want.CPUPeriod > 0 && is.NanoCPUs > 0:
		return errs.Conflictf("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case want.CPUQuota > 0 && is.NanoCPUs > 0:
		return errs.Conflictf("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case want.Memory > 0 && want.MemorySwap == 0 && is.MemorySwap > 0 && want.Memory > is.MemorySwap:
		return errs.Conflictf("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	take(&is.BlkioWeight, want.BlkioWeight)
	take(&is.CPUShares, want.CPUShares)
	take(&is.NanoCPUs, want.NanoCPUs)
	take(&is.CPUPeriod, want.CPUPeriod)
	take(&is.CPUQuota, want.CPUQuota)
	take(&is.CpusetCpus, want.CpusetCpus)
	take(&is.CpusetMems, want.CpusetMems)
	take(&is.Memory, want.Memory)
	take(&is.MemorySwap, want.MemorySwap)
	take(&is.MemoryReservation, want.MemoryReservation)
	take(&is.PidsLimit, want.PidsLimit)
	return nil
}

// take takes a value that is given.
func take[T comparable](to *T, v T) {
	var none T
	if v != none {
		*to = v
	}
}
