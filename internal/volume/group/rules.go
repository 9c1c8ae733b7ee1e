package group

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// order is a group that somebody wants.
type order struct {
	ID, Request       string
	Name, Description *string
	Type, Zone        string
	VolumeTypes       []string // ids or names
	Snapshot, Source  string   // what it is filled from
}

func (o *order) record(who *policy.Credentials) *block.Group {
	return &block.Group{ID: o.ID, Name: o.Name, Description: o.Description, ProjectID: who.ProjectID, UserID: who.UserID, Status: block.Creating,
		AZ: block.Zone, SnapshotID: o.Snapshot, SourceID: o.Source, Created: wire.Now()}
}

// create accepts an empty group.
func (s *Service) create(ctx context.Context, who *policy.Credentials, o *order) (*block.Group, error) {
	g := o.record(who)
	for _, which := range o.VolumeTypes {
		t, err := s.Types.Find(who, strings.TrimSpace(which))
		if err != nil {
			return nil, err
		}
		if !g.Takes(t.ID) {
			g.VolumeTypes = append(g.VolumeTypes, t.ID)
		}
	}
	t, err := s.types.Find(who, o.Type)
	if err != nil {
		return nil, err
	}
	g.TypeID = t.ID
	if o.Zone != "" && o.Zone != block.Zone {
		return nil, wire.InvalidInput("Availability zone '%s' is invalid.", o.Zone)
	}
	return g, s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.put(tx, who, g); err != nil {
			return err
		}
		return s.Begin(tx, o.Request, who, sagaCreate, "create group", g.ID, nil)
	})
}

// put writes a new group.
func (s *Service) put(tx *store.Tx, who *policy.Credentials, g *block.Group) error {
	if err := s.types.Holds(tx, g.TypeID); err != nil {
		return err
	}
	if err := s.Charge(tx, who.ProjectID, map[string]int{"groups": 1}); err != nil {
		return err
	}
	return s.Groups.TxCreate(tx, g)
}

// copy accepts a group that is filled from another or from its snapshot. Upstream
// answers 400 to a quota too (cinder/api/v3/groups.py, create_from_src).
func (s *Service) copy(ctx context.Context, who *policy.Credentials, o *order) (*block.Group, error) {
	g, writes, err := s.plan(ctx, who, o)
	if err != nil {
		return nil, badSource(err)
	}
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.sourceStays(tx, o, g.Backend); err != nil {
			return err
		}
		if err := s.put(tx, who, g); err != nil {
			return err
		}
		for _, write := range writes {
			if err := write(tx); err != nil {
				return err
			}
		}
		return s.Begin(tx, o.Request, who, sagaCopy, "create group", g.ID, nil)
	})
	return g, badSource(err)
}

func badSource(err error) error {
	if errs.Is(err, errs.QuotaExceeded) {
		return errs.Invalidf("%v", err)
	}
	return err
}

// plan finds the volumes of a group that is filled from another.
func (s *Service) plan(ctx context.Context, who *policy.Credentials, o *order) (*block.Group, []func(*store.Tx) error, error) {
	g, of := o.record(who), o.Source
	if o.Snapshot != "" {
		gs, err := s.FindGroupSnapshot(who, o.Snapshot)
		if err != nil {
			return nil, nil, err
		}
		of = gs.GroupID
	}
	source, err := s.FindGroup(who, of)
	if err != nil {
		return nil, nil, err
	}
	g.TypeID, g.VolumeTypes, g.AZ, g.Backend = source.TypeID, slices.Clone(source.VolumeTypes), source.AZ, source.Backend
	copies, err := s.copies(g)
	if err != nil {
		return nil, nil, err
	}
	var writes []func(*store.Tx) error
	for _, c := range copies {
		c.Group, c.Request = g.ID, o.Request
		write, err := s.volumes.Copy(ctx, who, c)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, write)
	}
	return g, writes, nil
}

// copies are what a new group is filled with.
func (s *Service) copies(g *block.Group) (out []Copy, err error) {
	if g.SnapshotID != "" {
		for _, x := range s.Snapshots.By("group", g.SnapshotID) {
			out = append(out, Copy{Snapshot: x.ID})
		}
		if len(out) == 0 {
			return nil, wire.InvalidGroup("Group snapshot is empty. No group will be created.")
		}
		return out, nil
	}
	for _, v := range s.Volumes.By("group", g.SourceID) {
		if v.Status != block.Available {
			return nil, wire.InvalidVolume("Volume %s of group %s must be available, but is %s.", v.ID, g.SourceID, v.Status)
		}
		out = append(out, Copy{Source: v.ID})
	}
	if len(out) == 0 {
		return nil, wire.InvalidGroup("Source Group is empty. No group will be created.")
	}
	return out, nil
}

// sourceStays makes sure that what a group is filled from is not on its way: from
// here on it is kept by the group that is creating.
func (s *Service) sourceStays(tx *store.Tx, o *order, backend string) error {
	if err := s.Thawed(tx, backend); err != nil {
		return err
	}
	if o.Snapshot != "" {
		if x, err := s.GroupSnapshots.TxGet(tx, o.Snapshot); err != nil || x.Status == block.Deleting {
			return wire.NotFound("GroupSnapshot", o.Snapshot)
		}
		return nil
	}
	if g, err := s.Groups.TxGet(tx, o.Source); err != nil || g.Status == block.Deleting {
		return wire.NotFound("Group", o.Source)
	}
	return nil
}

// Joins makes sure, in the caller's transaction, that a new volume may be in the group.
func (s *Service) Joins(tx *store.Tx, v *block.Volume) error {
	g, err := s.Groups.TxGet(tx, v.GroupID)
	switch {
	case err != nil:
		return wire.NotFound("Group", v.GroupID)
	case g.Status != block.Available && g.Status != block.Creating:
		return wire.InvalidGroup("group %s status must be available or creating, but is %s.", g.ID, g.Status)
	}
	return nil
}

// remove begins the removal of a group, with its volumes if so asked
// (cinder/group/api.py, delete).
func (s *Service) remove(ctx context.Context, who *policy.Credentials, request, id string, withVolumes bool) error {
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		g, err := s.Groups.TxGet(tx, id)
		if err != nil {
			return wire.NotFound("Group", id)
		}
		if g.Status == block.Deleting && s.Sagas.Busy(id) && withVolumes {
			return nil
		}
		if err := s.Thawed(tx, g.Backend); err != nil {
			return err
		}
		members := s.Volumes.TxBy(tx, "group", id)
		if err := s.mayGo(tx, g, members, withVolumes); err != nil {
			return err
		}
		for _, v := range members {
			if err := s.volumes.Discard(tx, request, who, v.ID); err != nil {
				return err
			}
		}
		if err := s.Sagas.CancelAll(tx, id); err != nil {
			return err
		}
		if _, err := s.Groups.TxUpdate(tx, id, func(g *block.Group) error { g.Status = block.Deleting; return nil }); err != nil {
			return err
		}
		return s.Begin(tx, request, who, sagaDelete, "delete group", id, nil)
	})
}

func (s *Service) mayGo(tx *store.Tx, g *block.Group, members []*block.Volume, withVolumes bool) error {
	switch {
	case !withVolumes && g.Backend != "" && g.Status != block.Available && g.Status != block.Errored:
		return wire.InvalidGroup("Group status must be available or error, but current status is: %s", g.Status)
	case s.GroupSnapshots.TxCount(tx, "group", g.ID) > 0:
		return wire.InvalidGroup("Group has existing snapshots.")
	case len(members) > 0 && !withVolumes:
		return wire.InvalidGroup("Group %s still contains volumes. The delete-volumes flag is required to delete it.", g.ID)
	case slices.ContainsFunc(s.Groups.TxBy(tx, "source", g.ID), isCreating):
		return wire.InvalidGroup("Cannot delete group %s: it is the source of a group that is being created.", g.ID)
	}
	for _, v := range members {
		for _, a := range s.Attachments.TxBy(tx, "volume", v.ID) {
			if a.Status == block.AttachAttached || a.Status == block.AttachDetaching {
				return wire.InvalidGroup("Volume in group %s is attached. Need to detach first.", g.ID)
			}
		}
		if len(s.Snapshots.TxBy(tx, "volume", v.ID)) > 0 {
			return wire.InvalidGroup("Volume in group still has dependent snapshots.")
		}
	}
	return nil
}

func isCreating(g *block.Group) bool { return g.Status == block.Creating }

// changes are what an update does to a group.
type changes struct {
	Name, Description *string
	Add, Remove       []string
}

// update changes a group's name and which volumes it has (cinder/group/api.py, update).
func (s *Service) update(ctx context.Context, id string, c changes) error {
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		g, err := s.Groups.TxGet(tx, id)
		if err != nil {
			return wire.NotFound("Group", id)
		}
		for _, v := range c.Add {
			if slices.Contains(c.Remove, v) {
				return wire.InvalidVolume("UUIDs ['%s'] are in both add and remove volume list.", v)
			}
		}
		moves, err := s.moves(tx, g, c)
		if err != nil {
			return err
		}
		named := c.Name != nil && (g.Name == nil || *c.Name != *g.Name) || c.Description != nil && (g.Description == nil || *c.Description != *g.Description)
		switch {
		case !named && len(moves) == 0:
			return wire.InvalidGroup("Cannot update group %s because no valid name, description, add_volumes, or remove_volumes were provided.", id)
		case len(moves) > 0 && g.Status != block.Available:
			return wire.InvalidGroup("Group status must be available.")
		}
		for volume, to := range moves {
			if _, err := s.TxUpdate(tx, volume, func(v *block.Volume) error { v.GroupID = to; return nil }); err != nil {
				return err
			}
		}
		_, err = s.Groups.TxUpdate(tx, id, func(g *block.Group) error {
			if g.Updated = wire.Now(); c.Name != nil {
				g.Name = c.Name
			}
			if c.Description != nil {
				g.Description = c.Description
			}
			return nil
		})
		return err
	})
}

// moves gives the group that each volume of an update is in afterwards.
func (s *Service) moves(tx *store.Tx, g *block.Group, c changes) (map[string]string, error) {
	out := map[string]string{}
	for _, id := range c.Remove {
		v, err := s.Volumes.TxGet(tx, id)
		switch {
		case err != nil || v.GroupID != g.ID:
			return nil, wire.InvalidVolume("Cannot remove volume %s from group %s because it is not in the group.", id, g.ID)
		case !v.In(block.Available, block.InUse, block.Errored, block.ErrorDeleting):
			return nil, wire.InvalidVolume("Cannot remove volume %s from group %s because volume is in an invalid state: %s.", id, g.ID, v.Status)
		}
		out[id] = ""
	}
	for _, id := range c.Add {
		v, err := s.Volumes.TxGet(tx, id)
		why := ""
		switch {
		case err != nil:
			why = "volume cannot be found."
		case v.GroupID == g.ID:
			continue
		case v.ProjectID != g.ProjectID:
			why = "they belong to different projects."
		case v.GroupID != "":
			why = "it is already in group " + v.GroupID + "."
		case !g.Takes(v.TypeID):
			why = "volume type " + v.TypeID + " is not supported by the group."
		case !v.In(block.Available, block.InUse):
			why = "volume is in an invalid state: " + string(v.Status) + "."
		case block.BackendOf(v.Host()) != g.Backend:
			return nil, wire.InvalidVolume("Volume is not local to this node.")
		}
		if why != "" {
			return nil, wire.InvalidVolume("Cannot add volume %s to group %s because %s", id, g.ID, why)
		}
		out[id] = g.ID
	}
	return out, nil
}

func newID() string { return uuid.NewString() }
