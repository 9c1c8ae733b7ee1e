package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// unplugTimeout is how long a guest may take to let a device go, as long as
// upstream waits by default (nova's device_detach_attempts and _timeout).
const unplugTimeout = 160 * time.Second

// adjust gives a running machine the volumes and NICs that are wanted, and takes
// the others out. What cannot be plugged waits for the next start.
func (a *Agent) adjust(ctx context.Context, inst *nodeapi.Instance) error {
	power, err := a.Machines.State(inst.ID)
	if err != nil || power != nodeapi.PowerRunning && power != nodeapi.PowerPaused {
		return err // it ended by itself
	}
	spec, err := a.Machines.Spec(inst.ID)
	if err != nil {
		return err
	}
	if err := a.unplugRest(ctx, inst, &spec); err != nil {
		return err
	}
	for i := range inst.Disks {
		if err := a.plugDisk(ctx, inst, i, &spec); err != nil {
			return err
		}
	}
	for _, n := range inst.NICs {
		if err := a.plugNIC(ctx, inst.ID, n, &spec); err != nil {
			return err
		}
	}
	return nil
}

// unplugRest takes out what is wanted no more. It ends early when something
// newer is wanted of the instance, such as its removal.
func (a *Agent) unplugRest(ctx context.Context, inst *nodeapi.Instance, spec *hypervisor.Spec) error {
	ctx, cancel := context.WithTimeout(ctx, unplugTimeout)
	defer cancel()
	defer a.interruptible(inst, cancel)()
	var failed error
	for i := range spec.Disks {
		d := &spec.Disks[i]
		if d.Pluggable && !slices.ContainsFunc(inst.Disks, func(w nodeapi.Disk) bool { return diskID(&w) == d.Name() }) {
			failed = errors.Join(failed, a.Machines.UnplugDisk(ctx, inst.ID, d.Name()))
		}
	}
	for _, n := range spec.NICs {
		if wantsNIC(inst, n.ID) {
			continue
		}
		err := a.Machines.UnplugNIC(ctx, inst.ID, n.ID)
		if err == nil {
			err = a.Plane.Unplug(ctx, n.ID)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func wantsNIC(inst *nodeapi.Instance, port string) bool {
	return slices.ContainsFunc(inst.NICs, func(n nodeapi.NIC) bool { return n.PortID == port })
}

func (a *Agent) plugDisk(ctx context.Context, inst *nodeapi.Instance, i int, spec *hypervisor.Spec) error {
	d := &inst.Disks[i]
	for _, has := range spec.Disks {
		if has.Name() != diskID(d) {
			continue
		}
		if reflect.DeepEqual(has.Limits, d.Limits) {
			return nil
		}
		return a.Machines.LimitDisk(ctx, inst.ID, diskID(d), d.Limits)
	}
	if d.Role != roleVolume {
		return nil
	}
	disk, err := a.prepareDisk(ctx, inst, i)
	if err != nil {
		return err
	}
	return a.Machines.PlugDisk(ctx, inst.ID, disk)
}

func (a *Agent) plugNIC(ctx context.Context, id string, n nodeapi.NIC, spec *hypervisor.Spec) error {
	if slices.ContainsFunc(spec.NICs, func(has hypervisor.NIC) bool { return has.ID == n.PortID }) {
		return nil
	}
	tap, err := a.Plane.Tap(ctx, n.PortID)
	if err != nil {
		return fmt.Errorf("plugging port %s: %w", n.PortID, err)
	}
	defer tap.Close()
	return a.Machines.PlugNIC(ctx, id, machineNIC(n), tap)
}

func machineNIC(n nodeapi.NIC) hypervisor.NIC {
	return hypervisor.NIC{ID: n.PortID, MAC: n.MAC, MTU: n.MTU, Model: n.Model}
}

// unplugPorts removes the taps of ports that left while the machine stood still.
func (a *Agent) unplugPorts(ctx context.Context, inst *nodeapi.Instance) error {
	spec, err := a.Machines.Spec(inst.ID)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range spec.NICs {
		if wantsNIC(inst, n.ID) {
			continue
		}
		if err := a.Plane.Unplug(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// interruptible has cancel called when something else than inst is wanted of
// the instance, until the returned function is called.
func (a *Agent) interruptible(inst *nodeapi.Instance, cancel func()) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waits[inst.ID] = cancel
	if a.wanted[inst.ID] != inst {
		cancel()
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waits, inst.ID)
	}
}
