// Package group is groups of volumes and the snapshots of all volumes of a group:
// their records, and the sagas that place groups, fill them from others, and make
// and drop their snapshots.
//
// A group's life, as status: creating -> available -> deleting -> gone; creating,
// deleting -> error -> deleting. A group snapshot's: creating -> available ->
// deleting -> gone; creating -> error.
//
// Invariants: the volumes of a group are its project's, of its volume types and in
// its back end; a volume of a group goes only with the group; a group that has
// snapshots, or that another is being filled from, stays.
//
// Crash story: a request writes the group, the volumes or snapshots that it is to
// have, and their sagas in one transaction. The group's own saga makes nothing that
// theirs do not make or undo: it waits for them. Snapshots of a group are made and
// dropped by its saga, by ids that the request chose.
package group

import (
	"context"
	"fmt"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/grouptype"
	"github.com/strata-cloud/strata/internal/volume/pool"
)

// The kinds of sagas.
const (
	sagaCreate = "volume.group.create"
	sagaCopy   = "volume.group.copy"
	sagaDelete = "volume.group.delete"
	sagaSnap   = "volume.group_snapshot.create"
	sagaDrop   = "volume.group_snapshot.delete"
)

// Copy is a volume of a new group that is made from one of another group.
type Copy struct{ Group, Request, Snapshot, Source string }

// Volumes makes and removes the volumes of groups.
type Volumes interface {
	// Copy checks a copy and gives what writes it, in a transaction of the ledger.
	Copy(ctx context.Context, c *policy.Credentials, w Copy) (func(tx *store.Tx) error, error)
	// Discard begins the removal of a volume, whatever is being done with it, in
	// the caller's transaction.
	Discard(tx *store.Tx, requestID string, c *policy.Credentials, id string) error
}

// Service is the groups.
type Service struct {
	*block.Core
	types   *grouptype.Types
	pools   *pool.Pools
	volumes Volumes
}

// New registers the sagas.
func New(core *block.Core, pools *pool.Pools, volumes Volumes) *Service {
	s := &Service{Core: core, pools: pools, volumes: volumes,
		types: grouptype.New(core.DB, func(tx *store.Tx, id string) int { return core.Groups.TxCount(tx, "type", id) })}
	type step = saga.Step[block.Job]
	define := func(kind string, insist bool, failed func(context.Context, *block.Job, error) error, steps ...step) {
		saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: kind, Insist: insist, Failed: failed, Steps: steps})
	}
	define(sagaCreate, false, s.failed, step{Name: "place group", Do: s.place}, step{Name: "group ready", Do: s.ready})
	define(sagaCopy, false, s.failed, step{Name: "await volumes", Do: s.filled}, step{Name: "group ready", Do: s.ready})
	define(sagaDelete, true, nil, step{Name: "await removal", Do: s.emptied}, step{Name: "forget group", Do: s.forget})
	define(sagaSnap, false, s.snapFailed, step{Name: "make snapshots", Do: s.snap, Undo: s.unsnap}, step{Name: "snapshots ready", Do: s.snapped})
	define(sagaDrop, true, nil, step{Name: "drop snapshots", Do: s.unsnap}, step{Name: "forget snapshots", Do: s.forgetSnaps})
	return s
}

// set changes a group, unless it is gone or on its way.
func (s *Service) set(ctx context.Context, id string, fn func(*block.Group)) error {
	_, err := s.Groups.Update(ctx, id, func(g *block.Group) error {
		if g.Status != block.Deleting {
			fn(g)
		}
		return nil
	})
	return ignoreAbsent(err)
}

func ignoreAbsent(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// place chooses the group's back end. A repeated run keeps the first choice.
func (s *Service) place(ctx context.Context, j *block.Job) error {
	g, err := s.Groups.Get(j.Volume)
	if err != nil || g.Backend != "" {
		return err
	}
	backend, err := s.pools.ChooseBackend(ctx, g.VolumeTypes)
	if err != nil {
		return err
	}
	return s.set(ctx, g.ID, func(g *block.Group) { g.Backend = backend })
}

func (s *Service) ready(ctx context.Context, j *block.Job) error {
	return s.set(ctx, j.Volume, func(g *block.Group) {
		if g.Status == block.Creating {
			g.Status = block.Available
		}
	})
}

func (s *Service) failed(ctx context.Context, j *block.Job, cause error) error {
	s.Log.Warn("a group of volumes could not be made", "group", j.Volume, "err", cause)
	return s.set(ctx, j.Volume, func(g *block.Group) { g.Status = block.Errored })
}

// Backend is the group's back end: it waits until a new group has one.
func (s *Service) Backend(ctx context.Context, id string) (string, error) {
	changed := s.DB.Notify(ctx, "volume/group")
	for {
		g, err := s.Groups.Get(id)
		switch {
		case err != nil:
			return "", err
		case g.Backend != "":
			return g.Backend, nil
		case g.Status != block.Creating:
			return "", errs.New(errs.NoCapacity, "group %s has no back end", id)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the back end of group %s: %w", id, context.Cause(ctx))
		case <-changed:
		}
	}
}

// await waits until the group's volumes are as done says.
func (s *Service) await(ctx context.Context, id string, done func([]*block.Volume) (bool, error)) error {
	changed := s.DB.Notify(ctx, "volume/volume")
	for {
		if ok, err := done(s.Volumes.By("group", id)); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the volumes of group %s: %w", id, context.Cause(ctx))
		case <-changed:
		}
	}
}

// filled waits until the volumes of a new group are made.
func (s *Service) filled(ctx context.Context, j *block.Job) error {
	return s.await(ctx, j.Volume, func(list []*block.Volume) (bool, error) {
		for _, v := range list {
			if v.In(block.Errored, block.Deleting, block.ErrorDeleting) {
				return false, errs.New(errs.Internal, "volume %s did not become ready: it is %s", v.ID, v.Status)
			}
			if v.Status == block.Creating {
				return false, nil
			}
		}
		return true, nil
	})
}

// emptied waits until the volumes are gone. One that stays puts the group in error.
func (s *Service) emptied(ctx context.Context, j *block.Job) error {
	return s.await(ctx, j.Volume, func(list []*block.Volume) (bool, error) {
		if len(list) == 0 {
			return true, nil
		}
		for _, v := range list {
			if v.Status == block.Deleting {
				return false, nil
			}
		}
		j.Stop = true
		_, err := s.Groups.Update(ctx, j.Volume, func(g *block.Group) error { g.Status = block.Errored; return nil })
		return true, ignoreAbsent(err)
	})
}

func (s *Service) forget(ctx context.Context, j *block.Job) error {
	if j.Stop {
		return nil
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.Sagas.Forget(tx, j.Volume); err != nil {
			return err
		}
		return ignoreAbsent(s.Groups.TxDelete(tx, j.Volume))
	})
}
