package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// job is the state of sagas on clusters.
type job struct {
	Cluster string `json:"cluster"`
	Group   string `json:"group,omitempty"`
	// Before are the workers that the group had, which a resize that fails leaves.
	Before []string `json:"before,omitempty"`
	Remove []string `json:"remove,omitempty"` // workers that go first, by id or node

	Template string `json:"template,omitempty"` // of an upgrade
	Control  bool   `json:"control,omitempty"`  // the control plane is upgraded, too
	Target   int    `json:"target,omitempty"`   // generation of the programs
	Batch    int    `json:"batch,omitempty"`    // workers at a time

	Server *ServerKind `json:"server,omitempty"` // what servers are made from after an upgrade

	Move *move `json:"move,omitempty"`
}

// The kinds of sagas.
const (
	sagaCreate    = "cluster.cluster.create"
	sagaDelete    = "cluster.cluster.delete"
	sagaResize    = "cluster.group.resize"
	sagaUpgrade   = "cluster.cluster.upgrade"
	sagaMove      = "cluster.cluster.move"
	sagaDropGroup = "cluster.group.delete"
)

func (s *Service) registerSagas() {
	type step = saga.Step[job]
	define := func(kind string, insist bool, failed func(context.Context, *job, error) error, steps ...step) {
		saga.Register(s.Sagas, saga.Definition[job]{Kind: kind, Insist: insist, Failed: failed, Steps: steps})
	}
	define(sagaCreate, false, s.failed(CreateFailed), step{Name: "network", Do: s.makeNetwork, Undo: s.dropNetwork}, step{Name: "place", Do: s.place, Undo: s.unplace}, step{Name: "gate", Do: s.makeGate}, step{Name: "control", Do: s.awaitCreated},
		step{Name: "workers", Do: s.hireAll, Undo: s.dismissAll}, step{Name: "ready", Do: s.settled(CreateComplete)})
	define(sagaResize, false, s.failed(UpdateFailed), step{Name: "workers", Do: s.converge, Undo: s.dismissNew}, step{Name: "ready", Do: s.settled(UpdateComplete)})
	define(sagaUpgrade, false, s.failed(UpdateFailed), step{Name: "control", Do: s.upgradeControl}, step{Name: "workers", Do: s.upgradeWorkers}, step{Name: "ready", Do: s.upgraded})
	define(sagaMove, false, s.failed(UpdateFailed), step{Name: "seal", Do: s.seal, Undo: s.unseal}, step{Name: "place", Do: s.moveOver, Undo: s.moveBack}, step{Name: "gate", Do: s.makeGate},
		step{Name: "control", Do: s.awaitMoved}, step{Name: "ready", Do: s.settled(UpdateComplete)})
	define(sagaDropGroup, true, nil, step{Name: "workers", Do: s.retire}, step{Name: "forget", Do: s.forgetGroup})
	define(sagaDelete, true, nil, step{Name: "remove", Do: s.removeParts}, step{Name: "network", Do: s.dropNetwork}, step{Name: "forget", Do: s.forget})
}

// look is how often what a saga waits for is looked at, when nothing tells of it.
const look = time.Second

// await waits until something is so.
func (s *Service) await(ctx context.Context, what string, is func() (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := s.DB.Notify(ctx, service+"/report", service+"/cluster", service+"/worker")
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if ok, err := is(); err != nil || ok {
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

// within bounds a step of a create by what its request said.
func within(ctx context.Context, c *Cluster) (context.Context, context.CancelFunc) {
	if c.CreateTimeout == 0 {
		return context.WithCancel(ctx)
	}
	left := time.Until(c.Created.Add(time.Duration(c.CreateTimeout) * time.Minute))
	return context.WithTimeout(ctx, max(left, 0))
}

// place makes the authorities and chooses who hosts the control plane. A repeated run
// keeps both.
func (s *Service) place(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil || c.Address != "" {
		return err
	}
	member, addr, err := s.chooseMember("")
	if err != nil {
		return err
	}
	set, err := authority.New(c.Name)
	if err != nil {
		return err
	}
	_, err = s.clusters.Update(ctx, c.ID, func(c *Cluster) error {
		c.Member, c.Address = member, netip.AddrPortFrom(addr, c.apiPort()).String()
		c.Authorities = &Sealed{*set}
		return nil
	})
	return err
}

// unplace has the control plane removed again.
func (s *Service) unplace(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return ignoreAbsent(err)
	}
	if c.Address != "" {
		if _, err := s.clusters.Update(ctx, c.ID, func(c *Cluster) error { c.Address, c.Authorities = "", nil; return nil }); err != nil {
			return ignoreAbsent(err)
		}
	}
	if err := s.await(ctx, "node "+c.Member+" to remove its part of cluster "+c.ID, func() (bool, error) { return s.absent(c.Member, c.ID), nil }); err != nil {
		return err
	}
	if err := s.dropGate(ctx, c); err != nil {
		return err
	}
	_, err = s.clusters.Update(ctx, c.ID, func(c *Cluster) error { c.Member, c.Gate = "", ""; return nil })
	return ignoreAbsent(err)
}

// absent tells whether a node has nothing of a cluster, or is away: it will remove what it
// has when it is back.
func (s *Service) absent(node, cluster string) bool {
	if _, err := s.Nodes.Conn(node); err != nil {
		return true
	}
	return s.reported(node, cluster) == nil
}

// awaitCreated waits for the control plane.
func (s *Service) awaitCreated(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c)
	defer cancel()
	return s.awaitControl(ctx, c)
}

func (s *Service) awaitControl(ctx context.Context, c *Cluster) error {
	last := "nothing"
	err := s.await(ctx, "the control plane on node "+c.Member, func() (bool, error) {
		ok, err := s.reached(c.Member, c.ID)
		if st := s.reported(c.Member, c.ID); ok && err == nil && st.API != nil {
			last = st.API.Fault
			return st.API.Fault == "", nil
		}
		return false, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w; it says: %s", err, last)
	}
	return err
}

// reached tells whether a node runs its part of a cluster as it is wanted now; a fault is
// the error.
func (s *Service) reached(node, cluster string) (bool, error) {
	st, rev := s.reported(node, cluster), s.wantedRev(node, cluster)
	if st == nil || rev == "" || st.Rev != rev {
		return false, nil
	}
	if st.Fault != "" {
		return false, errs.New(errs.Internal, "node %s: %s", node, st.Fault)
	}
	return true, nil
}

// settled ends a saga that went well.
func (s *Service) settled(st Status) func(context.Context, *job) error {
	return func(ctx context.Context, j *job) error { return s.settle(ctx, j, st, "") }
}

// settle writes how a saga ended, unless the cluster is being deleted. Where a create
// ends all groups do.
func (s *Service) settle(ctx context.Context, j *job, st Status, reason string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		c, err := s.clusters.TxGet(tx, j.Cluster)
		if err != nil || c.Status == DeleteInProgress {
			return ignoreAbsent(err)
		}
		if _, err := s.clusters.TxUpdate(tx, c.ID, func(c *Cluster) error { c.turn(st, reason); return nil }); err != nil {
			return err
		}
		for _, g := range s.groups.TxBy(tx, "cluster", c.ID) {
			own := st
			if g.Status == CreateInProgress && st == UpdateComplete {
				own = CreateComplete
			} else if g.Status == CreateInProgress && st == UpdateFailed {
				own = CreateFailed
			}
			if g.Status != CreateInProgress && g.ID != j.Group || g.Status == DeleteInProgress {
				continue
			}
			if _, err := s.groups.TxUpdate(tx, g.ID, func(g *Group) error { g.turn(own, reason); return nil }); err != nil {
				return err
			}
		}
		return nil
	})
}

// failed ends a saga that unwound. A group says how many workers it has then.
func (s *Service) failed(st Status) func(context.Context, *job, error) error {
	return func(ctx context.Context, j *job, cause error) error {
		if j.Group != "" && st == UpdateFailed {
			_, err := s.groups.Update(ctx, j.Group, func(g *Group) error {
				g.NodeCount = s.workers.Count("group", g.ID)
				return nil
			})
			if ignoreAbsent(err) != nil {
				return err
			}
		}
		return s.settle(ctx, j, st, cause.Error())
	}
}

// removeParts has all nodes let go of a cluster, and gives back the claims. The cluster's
// status has told the nodes.
func (s *Service) removeParts(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return ignoreAbsent(err)
	}
	all := s.workers.By("cluster", c.ID)
	if err := s.removeServers(ctx, c, all); err != nil {
		return err
	}
	for _, w := range all {
		if err := s.await(ctx, "node "+w.Node+" to leave cluster "+c.ID, func() (bool, error) { return s.away(w), nil }); err != nil {
			return err
		}
		if err := s.release(ctx, w); err != nil {
			return err
		}
	}
	return s.await(ctx, "node "+c.Member+" to remove the control plane of cluster "+c.ID, func() (bool, error) { return s.absent(c.Member, c.ID), nil })
}

// release gives back a worker's volumes, claim and ports, and forgets it.
func (s *Service) release(ctx context.Context, w *Worker) error {
	match := everyPort
	if c, err := s.clusters.Get(w.ClusterID); err == nil {
		if err := s.Volumes.LetGo(ctx, c.ProjectID, c.ID, w.Node); err != nil {
			return err
		}
		match = func(id string, _ bool) bool { return id != gateOf(c) }
	}
	if err := s.Networks.DropPorts(ctx, w.ClusterID, w.Node, match); err != nil {
		return err
	}
	if err := s.Placement.Release(ctx, w.ID); err != nil {
		return err
	}
	if w.Server != "" { // a machine of the pool goes on to report
		s.calls.Delete(w.ID)
		return s.DB.Txn(ctx, func(tx *store.Tx) error {
			return errors.Join(ignoreAbsent(s.workers.TxDelete(tx, w.ID)), ignoreAbsent(s.reports.TxDelete(tx, w.Node)))
		})
	}
	return ignoreAbsent(s.workers.Delete(ctx, w.ID))
}

// forget removes the records.
func (s *Service) forget(ctx context.Context, j *job) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		for _, g := range s.groups.TxBy(tx, "cluster", j.Cluster) {
			if err := s.groups.TxDelete(tx, g.ID); err != nil {
				return err
			}
		}
		if err := s.Sagas.Forget(tx, j.Cluster); err != nil {
			return err
		}
		return ignoreAbsent(s.clusters.TxDelete(tx, j.Cluster))
	})
}
