package group

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/snapshot"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// snapOrder is snapshots of a group that somebody wants.
type snapOrder struct {
	ID, Group, Request string
	Name, Description  *string
}

// snapshot accepts snapshots of all volumes of a group, in use or not.
func (s *Service) snapshot(ctx context.Context, who *policy.Credentials, o snapOrder) (out *block.GroupSnapshot, err error) {
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		g, err := s.Groups.TxGet(tx, o.Group)
		switch {
		case err != nil:
			return wire.NotFound("Group", o.Group)
		case g.Status == block.Deleting:
			return wire.InvalidGroup("group %s is being deleted.", g.ID)
		}
		if err := s.Thawed(tx, g.Backend); err != nil {
			return err
		}
		out = &block.GroupSnapshot{ID: o.ID, GroupID: g.ID, TypeID: g.TypeID, Name: o.Name, Description: o.Description, ProjectID: who.ProjectID, UserID: who.UserID,
			Status: block.Creating, Created: wire.Now()}
		if err := s.GroupSnapshots.TxCreate(tx, out); err != nil {
			return err
		}
		more := map[string]int{}
		for _, v := range s.Volumes.TxBy(tx, "group", g.ID) {
			if err := snapshot.Fit(v, true); err != nil {
				return err
			}
			for k, n := range s.SnapshotCost(v.TypeID, v.SizeGiB) {
				more[k] += n
			}
		}
		if err := s.Charge(tx, who.ProjectID, more); err != nil {
			return err
		}
		for _, v := range s.Volumes.TxBy(tx, "group", g.ID) {
			x := snapshot.Record(v, who, snapshot.Order{ID: newID(), Name: o.Name, Description: o.Description})
			x.GroupSnapshotID = out.ID
			if err := s.Snapshots.TxCreate(tx, x); err != nil {
				return err
			}
		}
		return s.Begin(tx, o.Request, who, sagaSnap, "snapshot group", out.ID, nil)
	})
	return out, err
}

// removeSnapshot begins the removal of a group snapshot and its snapshots.
func (s *Service) removeSnapshot(ctx context.Context, who *policy.Credentials, request, id string) error {
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		gs, err := s.GroupSnapshots.TxGet(tx, id)
		if err != nil {
			return wire.NotFound("GroupSnapshot", id)
		}
		if g, err := s.Groups.TxGet(tx, gs.GroupID); err == nil {
			if err := s.Thawed(tx, g.Backend); err != nil {
				return err
			}
		}
		if gs.Status != block.Available && gs.Status != block.Errored || slices.ContainsFunc(s.Groups.TxBy(tx, "snapshot", id), isCreating) {
			return errs.Invalidf("Invalid GroupSnapshot: GroupSnapshot status must be available or error, and no Group can be currently using it as source for its creation.")
		}
		if err := s.Sagas.CancelAll(tx, id); err != nil {
			return err
		}
		if _, err := s.GroupSnapshots.TxUpdate(tx, id, func(x *block.GroupSnapshot) error { x.Status = block.Deleting; return nil }); err != nil {
			return err
		}
		for _, x := range s.Snapshots.TxBy(tx, "group", id) {
			if _, err := s.Snapshots.TxUpdate(tx, x.ID, func(x *block.Snapshot) error { x.Status = block.Deleting; return nil }); err != nil {
				return err
			}
		}
		return s.Begin(tx, request, who, sagaDrop, "delete group snapshot", id, nil)
	})
}

// snap makes the snapshots: at one moment, as far as the node can, if the group's
// type asks for it, and one after another otherwise.
func (s *Service) snap(ctx context.Context, j *block.Job) error {
	gs, err := s.GroupSnapshots.Get(j.Volume)
	if err != nil {
		return err
	}
	byNode := map[string][]nodeapi.VolumeSnapshot{}
	for _, x := range s.Snapshots.By("group", gs.ID) {
		v, err := s.Volumes.Get(x.VolumeID)
		if err != nil {
			return err
		}
		byNode[v.Node] = append(byNode[v.Node], nodeapi.VolumeSnapshot{Volume: v.Ref(), Name: x.OnNode()})
	}
	for node, list := range byNode { // one: a group is in one back end
		st, err := s.Nodes.Storage(node)
		if err != nil {
			return err
		}
		if s.types.IsConsistent(gs.TypeID) {
			if err := st.EnsureSnapshots(ctx, list); err != nil {
				return err
			}
			continue
		}
		for _, x := range list {
			if err := st.EnsureSnapshot(ctx, x.Volume, x.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// unsnap drops the snapshots from the node.
func (s *Service) unsnap(ctx context.Context, j *block.Job) error {
	for _, x := range s.Snapshots.By("group", j.Volume) {
		v, err := s.Volumes.Get(x.VolumeID)
		if err != nil {
			continue
		}
		st, err := s.Storage(v)
		if err == nil {
			err = st.DeleteSnapshot(ctx, v.Ref(), x.OnNode())
		}
		if err := ignoreAbsent(err); err != nil {
			return err
		}
	}
	return nil
}

// settle ends the making of snapshots.
func (s *Service) settle(ctx context.Context, id string, end block.Status, progress string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		gs, err := s.GroupSnapshots.TxGet(tx, id)
		if err != nil || gs.Status == block.Deleting {
			return ignoreAbsent(err)
		}
		for _, x := range s.Snapshots.TxBy(tx, "group", id) {
			if _, err := s.Snapshots.TxUpdate(tx, x.ID, func(x *block.Snapshot) error { x.Status, x.Progress = end, progress; return nil }); err != nil {
				return err
			}
		}
		_, err = s.GroupSnapshots.TxUpdate(tx, id, func(x *block.GroupSnapshot) error { x.Status, x.Updated = end, wire.Now(); return nil })
		return err
	})
}

func (s *Service) snapped(ctx context.Context, j *block.Job) error {
	return s.settle(ctx, j.Volume, block.Available, "100%")
}

func (s *Service) snapFailed(ctx context.Context, j *block.Job, cause error) error {
	s.Log.Warn("snapshots of a group could not be made", "group_snapshot", j.Volume, "err", cause)
	return s.settle(ctx, j.Volume, block.Errored, "0%")
}

func (s *Service) forgetSnaps(ctx context.Context, j *block.Job) error {
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		for _, x := range s.Snapshots.TxBy(tx, "group", j.Volume) {
			if err := s.Snapshots.TxDelete(tx, x.ID); err != nil {
				return err
			}
		}
		if err := s.Sagas.Forget(tx, j.Volume); err != nil {
			return err
		}
		return ignoreAbsent(s.GroupSnapshots.TxDelete(tx, j.Volume))
	})
}
