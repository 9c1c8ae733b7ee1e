package voltype

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// DefaultName is the type that volumes have whose creator named none.
const DefaultName = "__DEFAULT__"

// Type is the record of a volume type.
type Type struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description *string           `json:"description,omitempty"`
	Public      bool              `json:"public"`
	Projects    []string          `json:"projects,omitempty"` // that may use it when it is not public
	Specs       map[string]string `json:"specs,omitempty"`
	QoSID       string            `json:"qos_id,omitempty"`
	Encryption  *Encryption       `json:"encryption,omitempty"`
	Created     time.Time         `json:"created"`
}

// Encryption says how volumes of a type are encrypted.
type Encryption struct {
	ID       string    `json:"id"`
	Provider string    `json:"provider"`
	Cipher   string    `json:"cipher,omitempty"`
	KeySize  int       `json:"key_size,omitempty"` // bits
	Location string    `json:"location"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// QoS is the record of a set of limits that types can be associated with.
type QoS struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Consumer string            `json:"consumer"` // front-end, back-end or both
	Specs    map[string]string `json:"specs,omitempty"`
	Created  time.Time         `json:"created"`
}

// Default is a project's own default type.
type Default struct {
	ProjectID string `json:"project_id"`
	TypeID    string `json:"type_id"`
}

// Types holds the records.
type Types struct {
	db       *store.DB
	types    *store.Collection[Type]
	qos      *store.Collection[QoS]
	defaults *store.Collection[Default]
	used     func(typeID string) int // volumes of the type
	grouped  func(typeID string) int // groups that take volumes of the type
}

// New registers the collections: call it before db.Start. used counts a type's
// volumes, grouped the groups that take such.
func New(db *store.DB, used, grouped func(typeID string) int) *Types {
	return &Types{db: db, used: used, grouped: grouped,
		types: store.Register(db, store.Schema[Type]{Service: "volume", Kind: "type", Version: 1,
			ID:     func(t *Type) string { return t.ID },
			Unique: map[string]func(*Type) []string{"name": func(t *Type) []string { return []string{t.Name} }},
			Index:  map[string]func(*Type) []string{"qos": func(t *Type) []string { return some(t.QoSID) }}}),
		qos: store.Register(db, store.Schema[QoS]{Service: "volume", Kind: "qos", Version: 1,
			ID:     func(q *QoS) string { return q.ID },
			Unique: map[string]func(*QoS) []string{"name": func(q *QoS) []string { return []string{q.Name} }}}),
		defaults: store.Register(db, store.Schema[Default]{Service: "volume", Kind: "default_type", Version: 1,
			ID:    func(d *Default) string { return d.ProjectID },
			Index: map[string]func(*Default) []string{"type": func(d *Default) []string { return []string{d.TypeID} }}}),
	}
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Seed makes the default type: the first start calls it.
func (s *Types) Seed(ctx context.Context) error {
	if _, ok := s.types.Unique("name", DefaultName); ok {
		return nil
	}
	text := "Default Volume Type"
	return s.types.Create(ctx, &Type{ID: newID(), Name: DefaultName, Description: &text, Public: true, Created: wire.Now()})
}

// Get gives a type by its id.
func (s *Types) Get(id string) (*Type, error) {
	t, err := s.types.Get(id)
	if err != nil {
		return nil, wire.NotFound("Volume type", id)
	}
	return t, nil
}

// Name is the type's name, or its id when it is gone.
func (s *Types) Name(id string) string {
	if t, err := s.types.Get(id); err == nil {
		return t.Name
	}
	return id
}

// Names lists all types' names.
func (s *Types) Names() []string {
	var out []string
	for _, t := range s.types.All() {
		out = append(out, t.Name)
	}
	slices.Sort(out)
	return out
}

// Find gives a type that the caller may use, by id or name.
func (s *Types) Find(c *policy.Credentials, which string) (*Type, error) {
	t, err := s.types.Get(which)
	if err != nil {
		byName, ok := s.types.Unique("name", which)
		if !ok {
			return nil, missing(which)
		}
		t = byName
	}
	if !t.visibleTo(c) {
		return nil, missing(which)
	}
	return t, nil
}

// missing has upstream's two texts: an id is not found, and so is a name.
func missing(which string) error {
	if len(which) == 36 && strings.Count(which, "-") == 4 {
		return wire.NotFound("Volume type", which)
	}
	return errs.NotFoundf("Volume type with name %s could not be found.", which)
}

// Of gives the type that a new volume of the project gets when none is named.
func (s *Types) Of(projectID string) (*Type, error) {
	if d, err := s.defaults.Get(projectID); err == nil {
		if t, err := s.types.Get(d.TypeID); err == nil {
			return t, nil
		}
	}
	t, ok := s.types.Unique("name", DefaultName)
	if !ok {
		return nil, errs.New(errs.Internal, "the default volume type %s is gone", DefaultName)
	}
	return t, nil
}

// QoSOf gives the limits that the type is associated with, or nil.
func (s *Types) QoSOf(typeID string) *QoS {
	t, err := s.types.Get(typeID)
	if err != nil || t.QoSID == "" {
		return nil
	}
	q, err := s.qos.Get(t.QoSID)
	if err != nil {
		return nil
	}
	return q
}

func (t *Type) visibleTo(c *policy.Credentials) bool {
	return t.Public || c.Admin() || slices.Contains(t.Projects, c.ProjectID)
}

// Multiattach tells whether several servers may use a volume of the type at once.
func (t *Type) Multiattach() bool {
	return strings.EqualFold(strings.Join(strings.Fields(t.Specs["multiattach"]), " "), "<is> True")
}

// ofPath is the type that the path names, if the caller may see it.
func (s *Types) ofPath(r *rest.Request) (*Type, error) {
	t, err := s.Get(r.Path("type"))
	if err != nil || !t.visibleTo(r.Creds) {
		return nil, wire.NotFound("Volume type", r.Path("type"))
	}
	return t, nil
}

// change alters the type of the path.
func (s *Types) change(ctx context.Context, r *rest.Request, fn func(*Type) error) (*Type, error) {
	if _, err := s.ofPath(r); err != nil {
		return nil, err
	}
	t, err := s.types.Update(ctx, r.Path("type"), fn)
	if errs.Is(err, errs.NotFound) && errs.CodeOf(err) == "" && strings.HasPrefix(err.Error(), "volume type ") {
		return nil, wire.NotFound("Volume type", r.Path("type"))
	}
	return t, err
}
