package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// movePoll is how often a move's progress is looked at: between the end of a live
// one and the next look its ports are still bound to the host that it left.
const movePoll = 100 * time.Millisecond

// transfer lets the node that has the server send it to another, as it is, and
// follows until it is there: only the Instance does not say so yet (see arrive).
// A repeated run goes on with the move that the first one began.
func (s *Service) transfer(ctx context.Context, id, to string, live bool, see func(nodeapi.MoveProgress) error) error {
	inst, err := s.Nodes.Instances.Get(id)
	if err != nil {
		return err
	}
	from, err := s.Nodes.Mover(inst.Node)
	if err != nil {
		return err
	}
	switch p, err := from.MoveProgress(ctx, id); {
	case err != nil:
		return err
	case p.Phase == nodeapi.MoveDone:
		return nil
	case p.Phase == nodeapi.MoveIdle:
		if err := s.send(ctx, from, inst, to, live); err != nil {
			return err
		}
	}
	return s.followMove(ctx, id, inst.Node, see)
}

func (s *Service) send(ctx context.Context, from nodes.Mover, inst *nodeapi.Instance, to string, live bool) error {
	dest, err := s.Nodes.Mover(to)
	if err != nil {
		return err
	}
	will := *inst
	will.Node, will.Kept = to, nil
	if will.Disks, err = s.admit(ctx, inst, to); err != nil {
		return err
	}
	target, err := dest.ReceiveMove(ctx, will, live)
	if err != nil {
		return fmt.Errorf("node %s makes no room for the server: %w", to, err)
	}
	return from.SendMove(ctx, inst.ID, *target, live)
}

// admit lets the host to which the server moves reach its volumes, and gives the
// disks as that has them.
func (s *Service) admit(ctx context.Context, inst *nodeapi.Instance, to string) ([]nodeapi.Disk, error) {
	v, err := s.servers.Get(inst.ID)
	if err != nil {
		return nil, err
	}
	disks := slices.Clone(inst.Disks)
	for i := range disks {
		if disks[i].Volume == nil {
			continue
		}
		d := v.device(disks[i].Volume.ID)
		if d == nil {
			return nil, errs.Conflictf("the server has volume %s no more", disks[i].Volume.ID)
		}
		if disks[i].Volume, err = s.Volumes.Admit(ctx, d.ID, to); err != nil {
			return nil, err
		}
	}
	return disks, nil
}

// stayPut has no other host than the server's own reach its volumes, when it does
// not move after all. A volume's node that is away learns of it later.
func (s *Service) stayPut(ctx context.Context, id string) error {
	v, err := s.servers.Get(id)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	for _, d := range v.volumes() {
		if err := s.connect(ctx, v, &d); err != nil {
			s.Log.Warn("a volume is not settled after a move that was not to be", "server", v.ID, "volume", d.VolumeID, "err", err)
		}
	}
	return ctx.Err()
}

// volumesThere refuses to take a server from a host that is down when its volumes are down with it.
func (s *Service) volumesThere(ctx context.Context, v *Server) error {
	for node := range s.keepers(ctx, v) {
		if _, err := s.Nodes.Conn(node); err != nil {
			return errs.New(errs.Unavailable, "a volume of the server is kept on node %s: %w", node, err)
		}
	}
	return nil
}

// reachDisks has the Instance's disks be reached as the server's devices are now.
func reachDisks(v *Server, i *nodeapi.Instance) {
	i.Disks = slices.Clone(i.Disks)
	for n := range i.Disks {
		if src := i.Disks[n].Volume; src != nil {
			if d := v.device(src.ID); d != nil && d.Source != nil {
				i.Disks[n].Volume = d.Source
			}
		}
	}
}

// followMove looks at the progress until the move has ended. A node that does not
// answer, or a move that does not come on, is given BootTimeout.
func (s *Service) followMove(ctx context.Context, id, from string, see func(nodeapi.MoveProgress) error) error {
	var last nodeapi.MoveProgress
	since := time.Now()
	return wait.Until(ctx, "the move of server "+id, movePoll, func(ctx context.Context) (bool, error) {
		p, err := s.progress(ctx, id, from)
		if err == nil && p != last {
			last, since = p, time.Now()
			if err := see(p); err != nil {
				return false, err
			}
		}
		switch late := time.Since(since) > s.BootTimeout; {
		case err != nil && late:
			return false, err
		case err != nil:
			return false, nil
		case p.Phase == nodeapi.MoveFailed:
			return false, errs.New(errs.Internal, "the move to the other host failed: %s", p.Fault)
		case p.Phase == nodeapi.MoveIdle:
			return false, errs.New(errs.Internal, "node %s has given up the move", from)
		case late && p.Phase != nodeapi.MoveDone:
			return false, errs.New(errs.Internal, "the move has not come on for %s", s.BootTimeout)
		}
		return p.Phase == nodeapi.MoveDone, nil
	})
}

func (s *Service) progress(ctx context.Context, id, node string) (nodeapi.MoveProgress, error) {
	m, err := s.Nodes.Mover(node)
	if err != nil {
		return nodeapi.MoveProgress{}, err
	}
	return m.MoveProgress(ctx, id)
}

func unseen(nodeapi.MoveProgress) error { return nil }

// arrive makes the server the other node's: its volumes and ports first, since a
// guest that moved live runs there already, then Instance and record at one moment.
// change may write more into the Instance.
func (s *Service) arrive(ctx context.Context, id, to string, change func(*Server, *nodeapi.Instance) error) (gen int64, err error) {
	v, err := s.servers.Get(id)
	if err != nil {
		return 0, err
	}
	if err := s.bindTo(ctx, v, to); err != nil {
		return 0, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		if _, err := s.servers.TxUpdate(tx, id, func(v *Server) error { v.Host, v.Updated = to, wire.Now(); return nil }); err != nil {
			return err
		}
		gen, err = s.orderTx(tx, id, func(v *Server, i *nodeapi.Instance) error {
			i.Node, i.Kept = to, nil
			reachDisks(v, i)
			return change(v, i)
		})
		return err
	})
	return gen, err
}

func asItLies(*Server, *nodeapi.Instance) error { return nil }

// bindTo binds the server's ports and volumes to a host. A port that was deleted
// since stays so.
func (s *Service) bindTo(ctx context.Context, v *Server, host string) error {
	there := *v
	there.Host = host
	for _, n := range v.NICs {
		if !s.hasPort(v.ID, n.PortID) {
			continue
		}
		if _, err := s.Networks.EnsurePort(ctx, s.portSpec(&there, n)); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	for _, d := range v.volumes() {
		if err := s.connect(ctx, &there, &d); err != nil {
			return err
		}
	}
	return nil
}

// endTransfer undoes a move that has not ended, and tells whether it has: then the
// server is at the other node and arrive is to follow. The sending node is asked
// first, which stops the move. When it is away the receiving one decides: without
// it nothing can end elsewhere.
func (s *Service) endTransfer(ctx context.Context, id, to string) (moved bool, err error) {
	moved, err = s.endSending(ctx, id, to)
	if err == nil && !moved {
		err = s.stayPut(ctx, id)
	}
	return moved, err
}

func (s *Service) endSending(ctx context.Context, id, to string) (moved bool, err error) {
	inst, err := s.Nodes.Instances.Get(id)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if inst.Node == to {
		return true, nil
	}
	from := s.endMove(ctx, id, inst.Node)
	if errs.Is(from, errs.Conflict) {
		return true, nil
	}
	dest := s.endMove(ctx, id, to)
	switch {
	case from == nil && dest == nil:
	case errs.Is(dest, errs.Conflict):
		return true, nil
	case from != nil && dest != nil && !s.abandoned(id):
		return false, from
	default: // whoever is away finds out when it is back that there is no move
		s.Log.Warn("a move ends while a node is away", "server", id, "node", inst.Node, "err", errors.Join(from, dest))
	}
	return false, nil
}

func (s *Service) endMove(ctx context.Context, id, node string) error {
	m, err := s.Nodes.Mover(node)
	if err != nil {
		return err
	}
	return m.EndMove(ctx, id)
}

// abandoned tells whether the server is being deleted or evacuated: nobody waits
// for its node any more.
func (s *Service) abandoned(id string) bool {
	v, err := s.servers.Get(id)
	return err != nil || v.TaskState == Deleting || v.Evacuation != ""
}
