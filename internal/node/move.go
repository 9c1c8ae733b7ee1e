package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// own tells whether the disk's content is the instance's own, and nobody else's.
func own(d *nodeapi.Disk) bool {
	return d.Role != roleVolume && (d.ImageID == "" || d.Format != "iso")
}

// movable refuses servers that have what cannot be moved.
func (a *Agent) movable(inst *nodeapi.Instance) error {
	if len(inst.Kept) > 0 {
		return errs.Conflictf("server %s keeps disks of a resize or a rescue: end that before it is moved", inst.ID)
	}
	for i := range inst.Disks {
		d := &inst.Disks[i]
		if d.CopyFrom != "" {
			return errs.Conflictf("disk %s of server %s is not made yet", d.Name, inst.ID)
		}
	}
	return nil
}

// ReceiveMove implements nodes.Mover.
func (a *Agent) ReceiveMove(ctx context.Context, inst nodeapi.Instance, live bool) (*nodeapi.MoveTarget, error) {
	if a.Addr == "" {
		return nil, errs.New(errs.NotImplemented, "node %s has no address for moves", a.ID)
	}
	if running := inst.Power == nodeapi.PowerRunning || inst.Power == nodeapi.PowerPaused; running != live || inst.Deleted {
		return nil, errs.Conflictf("server %s is to be %s: it cannot be moved so", inst.ID, inst.Power)
	}
	if err := a.movable(&inst); err != nil {
		return nil, err
	}
	defer a.moves.Lock(inst.ID)()
	if err := a.vacate(ctx, inst.ID); err != nil {
		return nil, err
	}
	spec, err := a.prepare(ctx, &inst)
	if gone(err) {
		return nil, errs.Conflictf("server %s is made of what is there no more: %w", inst.ID, err)
	}
	if err != nil {
		return nil, err
	}
	to := hypervisor.Arrival{Spec: spec, Power: inst.Power, Addr: a.Addr, Taps: map[string]*os.File{}}
	defer func() {
		for _, t := range to.Taps {
			t.Close()
		}
	}()
	for i := range inst.Disks {
		if d := &inst.Disks[i]; own(d) {
			to.Own = append(to.Own, d.Name)
		}
	}
	mv, err := a.Machines.Move(inst.ID)
	if err != nil && !gone(err) {
		return nil, err
	}
	for _, n := range spec.NICs {
		if !live || mv.Role == hypervisor.MoveIn { // whose machine has them, or had
			break
		}
		tap, err := a.Plane.TapAhead(ctx, n.ID)
		if err != nil {
			return nil, fmt.Errorf("making room for port %s: %w", n.ID, err)
		}
		to.Taps[n.ID] = tap
	}
	return a.Machines.Receive(ctx, to)
}

// hearing is how long it may take until this node hears what the control plane, which
// asks for a move, knows already: that the server is on another node.
const hearing = 5 * time.Second

// vacate has what the server left here be gone before it comes. moves is locked.
func (a *Agent) vacate(ctx context.Context, id string) error {
	soon, cancel := context.WithTimeout(ctx, hearing)
	defer cancel()
	if err := wait.Until(soon, "the server to be wanted elsewhere", 10*time.Millisecond, func(context.Context) (bool, error) {
		wanted, _ := a.want(id)
		return wanted == nil, nil
	}); err != nil {
		return errs.Conflictf("server %s is on node %s already", id, a.ID)
	}
	if mv, err := a.Machines.Move(id); mv.Role == hypervisor.MoveIn || err != nil && !gone(err) {
		return err // it is on its way here
	}
	if _, err := a.Machines.State(id); gone(err) {
		return nil
	}
	a.Log.Info("removing what a server left that comes again", "server", id)
	return a.remove(ctx, id, nil)
}

// SendMove implements nodes.Mover.
func (a *Agent) SendMove(ctx context.Context, id string, to nodeapi.MoveTarget, live bool) error {
	inst, _ := a.want(id)
	if inst == nil {
		return errs.NotFoundf("server %s is not on node %s", id, a.ID)
	}
	defer a.moves.Lock(id)()
	if mv, err := a.Machines.Move(id); err != nil && !gone(err) || mv.Role == hypervisor.MoveOut {
		return err
	}
	if err := a.movable(inst); err != nil {
		return err
	}
	dir, err := a.Machines.Dir(id)
	if err != nil {
		return err
	}
	out := hypervisor.Departure{To: to, Live: live}
	for i := range inst.Disks {
		d := &inst.Disks[i]
		if !own(d) {
			continue
		}
		format, err := blockdev.DiskFormat(dir, d.Name)
		if notThere(err) {
			continue // it was never started: the other node makes the same
		}
		if err != nil {
			return err
		}
		out.Disks = append(out.Disks, hypervisor.Outgoing{Disk: hypervisor.Disk{ID: d.Name, File: d.Name, Format: string(format)}, Top: a.sameBase(ctx, dir, d)})
	}
	return a.Machines.Send(ctx, id, out)
}

// sameBase tells whether the disk is based on the image as it is kept here, as the
// other node's will be. A clone's is not, and one whose image is kept anew may not be.
func (a *Agent) sameBase(ctx context.Context, dir string, d *nodeapi.Disk) bool {
	if d.ImageID == "" {
		return false
	}
	base, err := a.cache.base(ctx, d.ImageID)
	if err != nil {
		return false
	}
	has, err := os.Stat(filepath.Join(dir, d.Name+".base"))
	if err != nil {
		return false
	}
	is, err := os.Stat(base.Path)
	return err == nil && os.SameFile(has, is)
}

// MoveProgress implements nodes.Mover.
func (a *Agent) MoveProgress(_ context.Context, id string) (nodeapi.MoveProgress, error) {
	mv, err := a.Machines.Move(id)
	if mv.Role == hypervisor.MoveIn {
		mv.MoveProgress = nodeapi.MoveProgress{}
	}
	return mv.MoveProgress, err
}

// ForceMove implements nodes.Mover.
func (a *Agent) ForceMove(ctx context.Context, id string) error {
	return a.Machines.ForceMove(ctx, id)
}

// EndMove implements nodes.Mover.
func (a *Agent) EndMove(ctx context.Context, id string) error {
	defer a.moves.Lock(id)()
	inst, synced := a.want(id)
	if err := a.Machines.EndMove(ctx, id); err != nil {
		return err
	}
	if inst == nil && synced {
		if _, err := a.Machines.State(id); err == nil {
			return a.remove(ctx, id, nil)
		}
	}
	a.loop.Add(id)
	return nil
}

// takeOver makes a server that came from another node one that this node brought
// to where it is: what else is wanted of it is done as for any other.
func (a *Agent) takeOver(ctx context.Context, inst *nodeapi.Instance, mem memory) (memory, error) {
	if err := a.Machines.Arrive(ctx, inst.ID); err != nil {
		return mem, err
	}
	mem.Gen, mem.RebootSeq, mem.BootID = max(inst.Gen-1, 1), inst.Reboot.Seq, a.bootID
	return mem, a.remember(inst.ID, mem)
}
