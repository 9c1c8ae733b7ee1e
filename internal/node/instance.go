package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// memory is what the agent remembers of an instance, in its directory.
type memory struct {
	Gen       int64  `json:"gen"`
	RebootSeq int64  `json:"reboot_seq"`
	BootID    string `json:"boot_id"`
	// Disks are the files of the disks that were begun here, and Volumes what was
	// attached, without keys: what is to be removed when it is wanted no more.
	Disks   []string               `json:"disks,omitempty"`
	Volumes []nodeapi.VolumeSource `json:"volumes,omitempty"`
}

const memoryFile = "agent.json"

// ensureTimeout bounds one try to bring an instance to its wanted state.
const ensureTimeout = 4 * time.Minute

// reconcile brings one instance to what is wanted and reports.
func (a *Agent) reconcile(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	inst, synced := a.want(id)
	if inst == nil {
		if !synced || a.templates.isMaking(id) {
			return nil
		}
		return a.discard(ctx, id)
	}
	if inst.Deleted {
		if err := a.remove(ctx, id, inst); err != nil {
			return err
		}
		return a.Control.Report(ctx, nodeapi.InstanceStatus{ID: id, Node: a.ID, Gen: inst.Gen, Power: nodeapi.PowerStopped, Gone: true, Since: time.Now().UTC()})
	}
	return a.converge(ctx, inst)
}

// discard removes what nobody wants here. What a server left may still be there when the
// same one is to come again: it is gone before room is made, and not after.
func (a *Agent) discard(ctx context.Context, id string) error {
	defer a.moves.Lock(id)()
	if _, err := a.Machines.State(id); gone(err) {
		return nil
	}
	if inst, _ := a.want(id); inst != nil {
		return nil // by now it is: it is queued
	}
	if mv, err := a.Machines.Move(id); mv.Role == hypervisor.MoveIn || err != nil && !gone(err) {
		return err // it is on its way here
	}
	a.Log.Info("removing an instance that nobody wants", "server", id)
	return a.remove(ctx, id, nil)
}

// converge acts when the wanted generation is new or the machine was restarted,
// and otherwise only tells what is.
func (a *Agent) converge(ctx context.Context, inst *nodeapi.Instance) error {
	mem, err := a.recall(inst.ID)
	if err != nil {
		return err
	}
	switch mv, err := a.Machines.Move(inst.ID); {
	case err != nil && !gone(err):
		return err
	case mv.Role == hypervisor.MoveOut && mv.Phase == nodeapi.MoveDone:
		return nil // it is another node's, which tells how it is
	case mv.Role == hypervisor.MoveIn:
		if mem, err = a.takeOver(ctx, inst, mem); err != nil {
			return fmt.Errorf("taking over server %s: %w", inst.ID, err)
		}
	}
	if may, err := a.leased(ctx, inst); err != nil || !may {
		return err
	}
	lost, err := a.lost(inst)
	if err != nil {
		return err
	}
	if mem.Gen == inst.Gen && mem.BootID == a.bootID && !lost {
		if err := a.retry(ctx, inst); err != nil {
			return err
		}
		return a.report(ctx, inst, mem, nil)
	}
	failure := a.ensure(ctx, inst, mem)
	if failure == nil {
		mem, failure = a.sweep(ctx, inst)
	}
	if failure != nil && ctx.Err() != nil {
		return failure // not the instance's fault
	}
	if now, _ := a.want(inst.ID); now != inst {
		return nil // something newer is wanted: it is queued already
	}
	if failure == nil {
		mem.Gen, mem.RebootSeq, mem.BootID = inst.Gen, inst.Reboot.Seq, a.bootID
		if err := a.remember(inst.ID, mem); err != nil {
			return err
		}
	} else {
		a.Log.Error("instance cannot be brought to its wanted state", "server", inst.ID, "err", failure)
	}
	return a.report(ctx, inst, mem, failure)
}

func (a *Agent) report(ctx context.Context, inst *nodeapi.Instance, mem memory, failure error) error {
	s := nodeapi.InstanceStatus{ID: inst.ID, Node: a.ID, Gen: inst.Gen, RebootSeq: mem.RebootSeq, Since: time.Now().UTC()}
	if a.Leases != nil {
		_, s.Leased = a.Leases.Until(inst.ID)
	}
	power, err := a.Machines.State(inst.ID)
	if err != nil && !gone(err) {
		return err
	}
	if s.Power = power; gone(err) {
		s.Power = nodeapi.PowerStopped
	}
	if failure != nil {
		s.Fault = failure.Error()
	}
	return a.Control.Report(ctx, s)
}

// ensure makes the machine as wanted.
func (a *Agent) ensure(ctx context.Context, inst *nodeapi.Instance, mem memory) error {
	power, err := a.Machines.State(inst.ID)
	if err != nil && !gone(err) {
		return err
	}
	fresh := mem.Gen == 0
	switch inst.Power {
	case nodeapi.PowerStopped:
		if fresh {
			return nil
		}
		grace := a.Grace
		if inst.Abrupt {
			grace = 0
		}
		if err := a.Machines.Stop(ctx, inst.ID, grace); err != nil {
			return err
		}
		return errors.Join(a.makeLocal(ctx, inst), a.unplugPorts(ctx, inst))
	case nodeapi.PowerPaused:
		if power != nodeapi.PowerPaused {
			if err := a.start(ctx, inst, power); err != nil {
				return err
			}
		}
		if err := a.adjust(ctx, inst); err != nil {
			return err
		}
		return a.Machines.Pause(ctx, inst.ID)
	case nodeapi.PowerSuspended:
		if power == nodeapi.PowerSuspended {
			return nil
		}
		return a.Machines.Suspend(ctx, inst.ID)
	case nodeapi.PowerRunning:
		if err := a.run(ctx, inst, mem, power); err != nil {
			return err
		}
		return a.adjust(ctx, inst)
	}
	return errs.Invalidf("power state %q cannot be wanted", inst.Power)
}

// run gets the machine running, with the reboot that is asked for.
func (a *Agent) run(ctx context.Context, inst *nodeapi.Instance, mem memory, power nodeapi.Power) error {
	switch asked := inst.Reboot.Seq > mem.RebootSeq; {
	case asked && inst.Reboot.Hard && power != nodeapi.PowerStopped:
		// A machine of its own, as upstream's (nova/virt/libvirt/driver.py, _hard_reboot):
		// a reset while the firmware has just begun can leave a guest that never boots.
		if err := a.Machines.Stop(ctx, inst.ID, 0); err != nil && !gone(err) {
			return err
		}
		power = nodeapi.PowerStopped
	case asked && power == nodeapi.PowerRunning:
		return a.Machines.Reboot(ctx, inst.ID, a.Grace)
	}
	return a.start(ctx, inst, power)
}

// start gets the machine running from whatever it is now.
func (a *Agent) start(ctx context.Context, inst *nodeapi.Instance, power nodeapi.Power) (err error) {
	switch power {
	case nodeapi.PowerRunning:
		return nil
	case nodeapi.PowerPaused:
		return a.Machines.Resume(ctx, inst.ID)
	}
	if err := a.mayStart(inst); err != nil {
		return err
	}
	if power != nodeapi.PowerSuspended && a.startClone(ctx, inst) {
		return nil
	}
	var taps []*os.File
	defer func() {
		for _, t := range taps {
			err = errors.Join(err, t.Close())
		}
	}()
	var spec hypervisor.Spec
	if power == nodeapi.PowerSuspended { // which goes on with what it had
		spec, err = a.Machines.Spec(inst.ID)
	} else if err = a.unplugPorts(ctx, inst); err == nil {
		spec, err = a.prepare(ctx, inst)
	}
	if err != nil {
		return err
	}
	for _, n := range spec.NICs {
		tap, err := a.Plane.Tap(ctx, n.ID)
		if err != nil {
			return fmt.Errorf("plugging port %s: %w", n.ID, err)
		}
		taps = append(taps, tap)
	}
	if power == nodeapi.PowerSuspended {
		disks, err := a.reattach(ctx, inst, &spec)
		if err != nil {
			return err
		}
		return a.Machines.Restore(ctx, inst.ID, taps, disks)
	}
	return a.Machines.Start(ctx, spec, taps)
}

// remove leaves no trace of the instance; ports are known from inst or from its last spec.
func (a *Agent) remove(ctx context.Context, id string, inst *nodeapi.Instance) error {
	ports := map[string]bool{}
	if spec, err := a.Machines.Spec(id); err == nil {
		for _, n := range spec.NICs {
			ports[n.ID] = true
		}
	}
	if inst != nil {
		for _, n := range inst.NICs {
			ports[n.PortID] = true
		}
	}
	if err := a.letGo(ctx, id); err != nil {
		return err
	}
	if err := a.Machines.Remove(ctx, id); err != nil && !gone(err) {
		return err
	}
	if a.Leases != nil {
		if err := a.Leases.Drop(id); err != nil {
			return err
		}
	}
	for p := range ports {
		if err := a.Plane.Unplug(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// letGo ends the machine and detaches its volumes.
func (a *Agent) letGo(ctx context.Context, id string) error {
	if _, err := a.Machines.State(id); gone(err) {
		return nil
	}
	mem, err := a.recall(id)
	if err != nil || len(mem.Volumes) == 0 {
		return err
	}
	if err := a.Machines.Stop(ctx, id, 0); err != nil && !gone(err) {
		return err
	}
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return err
	}
	_, err = a.detach(ctx, dir, mem.Volumes, nil)
	return err
}

// reattach gets the volumes of a suspended machine ready.
func (a *Agent) reattach(ctx context.Context, inst *nodeapi.Instance, spec *hypervisor.Spec) ([]hypervisor.Disk, error) {
	var out []hypervisor.Disk
	for i := range inst.Disks {
		if d := &inst.Disks[i]; d.Role == roleVolume && slices.ContainsFunc(spec.Disks, func(has hypervisor.Disk) bool { return has.Name() == diskID(d) }) {
			disk, err := a.prepareDisk(ctx, inst, i)
			if err != nil {
				return nil, err
			}
			out = append(out, disk)
		}
	}
	return out, nil
}

// note changes what is remembered of an instance, when change says so.
func (a *Agent) note(id string, change func(*memory) bool) error {
	mem, err := a.recall(id)
	if err != nil || !change(&mem) {
		return err
	}
	return a.remember(id, mem)
}

func (a *Agent) recall(id string) (memory, error) {
	var m memory
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return m, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	} else if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%s of instance %s: %w", memoryFile, id, err)
	}
	return m, nil
}

// remember replaces the file atomically.
func (a *Agent) remember(id string, m memory) error {
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, memoryFile+".new")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, memoryFile))
}
