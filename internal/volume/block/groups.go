package block

import (
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Group is the record of volumes that are worked on together. All are in one back end.
type Group struct {
	ID          string    `json:"id"`
	Name        *string   `json:"name,omitempty"`
	Description *string   `json:"description,omitempty"`
	ProjectID   string    `json:"project_id"`
	UserID      string    `json:"user_id"`
	Status      Status    `json:"status"`
	AZ          string    `json:"az"`
	TypeID      string    `json:"type_id"`               // of the group
	VolumeTypes []string  `json:"volume_types"`          // that its volumes may have
	Backend     string    `json:"backend,omitempty"`     // NODE@BACKEND; "": not placed
	SnapshotID  string    `json:"snapshot_id,omitempty"` // group snapshot made from
	SourceID    string    `json:"source_id,omitempty"`   // group made from
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated,omitzero"`
}

// Target is what policies judge a group by.
func (g *Group) Target() policy.Target {
	return policy.Target{"project_id": g.ProjectID, "user_id": g.UserID}
}

// Takes tells whether volumes of the type may be in the group.
func (g *Group) Takes(typeID string) bool { return slices.Contains(g.VolumeTypes, typeID) }

// GroupSnapshot is the record of snapshots of all volumes of a group.
type GroupSnapshot struct {
	ID          string    `json:"id"`
	GroupID     string    `json:"group_id"`
	TypeID      string    `json:"type_id"` // of the group
	Name        *string   `json:"name,omitempty"`
	Description *string   `json:"description,omitempty"`
	ProjectID   string    `json:"project_id"`
	UserID      string    `json:"user_id"`
	Status      Status    `json:"status"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated,omitzero"`
}

// Target is what policies judge a group snapshot by.
func (g *GroupSnapshot) Target() policy.Target {
	return policy.Target{"project_id": g.ProjectID, "user_id": g.UserID}
}

// FindGroup is FindVolume for a group.
func (c *Core) FindGroup(who *policy.Credentials, id string) (*Group, error) {
	g, err := c.Groups.Get(id)
	if err != nil || !(who.Admin() || who.ProjectID == g.ProjectID) {
		return nil, wire.NotFound("Group", id)
	}
	return g, nil
}

// FindGroupSnapshot is FindVolume for a group snapshot.
func (c *Core) FindGroupSnapshot(who *policy.Credentials, id string) (*GroupSnapshot, error) {
	g, err := c.GroupSnapshots.Get(id)
	if err != nil || !(who.Admin() || who.ProjectID == g.ProjectID) {
		return nil, wire.NotFound("GroupSnapshot", id)
	}
	return g, nil
}

func registerGroups(db *store.DB) *store.Collection[Group] {
	return store.Register(db, store.Schema[Group]{Service: "volume", Kind: "group", Version: 1,
		ID: func(g *Group) string { return g.ID },
		Index: map[string]func(*Group) []string{
			"project":     func(g *Group) []string { return one(g.ProjectID) },
			"type":        func(g *Group) []string { return one(g.TypeID) },
			"volume_type": func(g *Group) []string { return g.VolumeTypes },
			"snapshot":    func(g *Group) []string { return one(g.SnapshotID) },
			"source":      func(g *Group) []string { return one(g.SourceID) },
		}})
}

func registerGroupSnapshots(db *store.DB) *store.Collection[GroupSnapshot] {
	return store.Register(db, store.Schema[GroupSnapshot]{Service: "volume", Kind: "group_snapshot", Version: 1,
		ID: func(g *GroupSnapshot) string { return g.ID },
		Index: map[string]func(*GroupSnapshot) []string{
			"project": func(g *GroupSnapshot) []string { return one(g.ProjectID) },
			"group":   func(g *GroupSnapshot) []string { return one(g.GroupID) },
		}})
}
