// Package grouptype is the types of groups of volumes and their specs, by which
// administrators say what groups there may be.
//
// Invariants: a name is given once; a type that groups have is not deleted.
package grouptype

import (
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Type is the record of a group type.
type Type struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description *string           `json:"description,omitempty"`
	Public      bool              `json:"public"` // others are for administrators
	Specs       map[string]string `json:"specs,omitempty"`
	Created     time.Time         `json:"created"`
}

// Consistent tells whether a snapshot of a group of the type is of one moment.
func (t *Type) Consistent() bool {
	return strings.EqualFold(strings.Join(strings.Fields(t.Specs["consistent_group_snapshot_enabled"]), " "), "<is> True")
}

// Types holds the records.
type Types struct {
	db    *store.DB
	types *store.Collection[Type]
	used  func(tx *store.Tx, typeID string) int // groups of the type
}

// New registers the collection: call it before db.Start. used counts a type's groups.
func New(db *store.DB, used func(tx *store.Tx, typeID string) int) *Types {
	return &Types{db: db, used: used, types: store.Register(db, store.Schema[Type]{Service: "volume", Kind: "group_type", Version: 1,
		ID:     func(t *Type) string { return t.ID },
		Unique: map[string]func(*Type) []string{"name": func(t *Type) []string { return []string{t.Name} }}})}
}

// Get gives a type that the caller may use, by its id.
func (s *Types) Get(c *policy.Credentials, id string) (*Type, error) {
	t, err := s.types.Get(id)
	if err != nil || !t.Public && !c.Admin() {
		return nil, wire.NotFound("Group type", id)
	}
	return t, nil
}

// Find gives a type that the caller may use, by its id or name.
func (s *Types) Find(c *policy.Credentials, which string) (*Type, error) {
	t, err := s.Get(c, which)
	if err == nil {
		return t, nil
	}
	byName, ok := s.types.Unique("name", which)
	switch {
	case ok && (byName.Public || c.Admin()):
		return byName, nil
	case len(which) == 36 && strings.Count(which, "-") == 4:
		return nil, err
	}
	return nil, errs.NotFoundf("Group type with name %s could not be found.", which)
}

// Holds makes sure, in the caller's transaction, that a type is there: it stays
// while the group is that the transaction writes.
func (s *Types) Holds(tx *store.Tx, id string) error {
	if _, err := s.types.TxGet(tx, id); err != nil {
		return wire.NotFound("Group type", id)
	}
	return nil
}

// IsConsistent tells whether groups of the type of that id are snapshotted at one moment.
func (s *Types) IsConsistent(id string) bool {
	t, err := s.types.Get(id)
	return err == nil && t.Consistent()
}
