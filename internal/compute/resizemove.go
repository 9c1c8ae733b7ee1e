package compute

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// claimResize chooses the host, and claims what the server will take there and, by
// the id of the resize, what it took before. A repeated run keeps the host.
func (s *Service) claimResize(ctx context.Context, v *Server) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	hosts := []string{v.Resize.To}
	if v.Resize.To == "" {
		var err error
		if hosts, err = s.resizeHosts(ctx, v); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		err := s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, Holding{v.ID, h, v.resources()}, Holding{v.Resize.ID, v.before(), v.old()})
		if errs.Is(err, errs.NoCapacity) {
			continue
		} else if err != nil {
			return err
		}
		if ok, err := s.aim(ctx, v, h); ok || err != nil {
			return err
		}
		if err := s.claimOld(ctx, v); err != nil {
			return err
		}
	}
	return errNoHost
}

// resizeHosts are where the server may become what it shall be, its own host first.
func (s *Service) resizeHosts(ctx context.Context, v *Server) ([]string, error) {
	will := *v
	will.AskedHost = v.Resize.Asked // where it was forced to at create binds it no more
	var more []hostFilter
	if v.Resize.Away {
		more = append(more, hostFilter{"another host", func(h string) bool { return h != v.Host }})
	}
	hosts, err := s.chooseHosts(ctx, &will, v.resources(), more...)
	if err != nil {
		return nil, err
	}
	if at := slices.Index(hosts, v.Host); at > 0 {
		hosts = append([]string{v.Host}, slices.Delete(hosts, at, at+1)...)
	}
	return hosts, nil
}

// aim writes where the server goes, if its group still allows that.
func (s *Service) aim(ctx context.Context, v *Server, host string) (ok bool, err error) {
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		if ok = s.groupAllows(v, s.membersByHost(v, s.servers.TxBy(tx, "group", v.GroupID)), host); !ok {
			return nil
		}
		if err := s.moves.Aim(tx, v.Resize.ID, host); err != nil {
			return err
		}
		_, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if v.Resize != nil {
				v.Resize.To = host
			}
			return nil
		})
		return err
	})
	return ok, err
}

// before is the host of a resize's old allocation.
func (v *Server) before() string {
	if v.Resize.From == "" { // begun by a version whose servers stayed
		return v.Host
	}
	return v.Resize.From
}

// destination is where a server that is being resized or reverted shall be; "" when it is there.
func (v *Server) destination() string {
	if v.Resize == nil {
		return ""
	}
	to := v.Resize.To
	if v.Resize.Ending {
		to = v.Resize.From
	}
	if to == v.Host {
		return ""
	}
	return to
}

// remakeMove sends the server to its other host. What a revert gives up is kept
// until it is there.
func (s *Service) remakeMove(ctx context.Context, j *job) error {
	v, m, _, err := s.remakeOf(j)
	if err != nil || !m.travels {
		return err
	}
	to := v.destination()
	if to == "" {
		return nil
	}
	if v.Resize.Ending {
		if err := s.reshape(ctx, j); err != nil {
			return err
		}
	}
	if err := s.transfer(ctx, v.ID, to, false, unseen); err != nil {
		return err
	}
	if !v.Resize.Ending {
		if err := s.markMove(ctx, v, migration.PostMigrating); err != nil {
			return err
		}
	}
	j.Gen, err = s.arrive(ctx, v.ID, to, asItLies)
	return err
}

// reshape gives the server, where it is, the disks that it goes back with.
func (s *Service) reshape(ctx context.Context, j *job) error {
	if p, err := s.moveOf(ctx, j.Server); err == nil && p.Phase != nodeapi.MoveIdle {
		return nil // an earlier run came further
	}
	var err error
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		was := *v
		was.Flavor = v.Resize.Flavor // as swap has left it
		if err := s.describe(v, i); err != nil {
			return err
		}
		i.Kept = nil
		for _, d := range was.ownDisks(v.Resize.DiskSet) {
			if v.Resize.DiskSet != v.DiskSet {
				i.Kept = append(i.Kept, d.Name)
			}
		}
		for n := range i.Disks {
			i.Disks[n].CopyFrom = ""
		}
		i.Power = nodeapi.PowerStopped
		return nil
	})
	if err != nil {
		return err
	}
	return s.remakeAwait(ctx, j)
}

func (s *Service) moveOf(ctx context.Context, id string) (nodeapi.MoveProgress, error) {
	inst, err := s.Nodes.Instances.Get(id)
	if err != nil {
		return nodeapi.MoveProgress{}, err
	}
	return s.progress(ctx, id, inst.Node)
}

// remakeUnmove ends a move that has not; one that has is completed, since the node
// that sent the server cannot take it back.
func (s *Service) remakeUnmove(ctx context.Context, j *job) error {
	v, m, _, err := s.remakeOf(j)
	if err != nil || !m.travels {
		return err
	}
	to := v.destination()
	if to == "" {
		return nil
	}
	moved, err := s.endTransfer(ctx, v.ID, to)
	if err != nil || !moved {
		return err
	}
	_, err = s.arrive(ctx, v.ID, to, asItLies)
	return err
}
