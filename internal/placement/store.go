package placement

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// Inventory is how much of a resource class a provider has.
type Inventory struct {
	Total    int64   `json:"total"`
	Reserved int64   `json:"reserved"`
	MinUnit  int64   `json:"min_unit"`
	MaxUnit  int64   `json:"max_unit"`
	StepSize int64   `json:"step_size"`
	Ratio    float64 `json:"allocation_ratio"`
}

// maxInt is upstream's largest amount, and the default of max_unit.
const maxInt = 1<<31 - 1

// Capacity is what may be allocated in all.
func (i Inventory) Capacity() int64 { return int64(float64(i.Total-i.Reserved) * i.Ratio) }

// Provider is the record of one resource provider.
type Provider struct {
	UUID        string               `json:"uuid"`
	Name        string               `json:"name"`
	Node        string               `json:"node,omitempty"` // id of the node that it stands for
	Parent      string               `json:"parent,omitempty"`
	Root        string               `json:"root"`
	Generation  int64                `json:"generation"`
	Inventories map[string]Inventory `json:"inventories,omitempty"`
	Used        map[string]int64     `json:"used,omitempty"`
	Traits      []string             `json:"traits,omitempty"` // sorted
	Aggregates  []string             `json:"aggregates,omitempty"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
}

// Consumer is the record of one holder of allocations.
type Consumer struct {
	UUID        string                      `json:"uuid"`
	ProjectID   string                      `json:"project_id"`
	UserID      string                      `json:"user_id"`
	Type        string                      `json:"type,omitempty"`
	Generation  int64                       `json:"generation"`
	Allocations map[string]map[string]int64 `json:"allocations"` // provider -> class -> amount
	Created     time.Time                   `json:"created"`
	Updated     time.Time                   `json:"updated"`
}

// Name is a custom resource class or trait.
type Name struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

type collections struct {
	providers *store.Collection[Provider]
	consumers *store.Collection[Consumer]
	classes   *store.Collection[Name]
	traits    *store.Collection[Name]
}

func register(db *store.DB) collections {
	names := func(kind string) *store.Collection[Name] {
		return store.Register(db, store.Schema[Name]{Service: "placement", Kind: kind, Version: 1, ID: func(n *Name) string { return n.Name }})
	}
	return collections{
		providers: store.Register(db, store.Schema[Provider]{Service: "placement", Kind: "provider", Version: 1,
			ID:     func(p *Provider) string { return p.UUID },
			Unique: map[string]func(*Provider) []string{"name": func(p *Provider) []string { return []string{p.Name} }},
			Index: map[string]func(*Provider) []string{
				"root":   func(p *Provider) []string { return []string{p.Root} },
				"parent": func(p *Provider) []string { return []string{p.Parent} },
				"node": func(p *Provider) []string {
					if p.Node == "" {
						return nil
					}
					return []string{p.Node}
				},
				"class": func(p *Provider) []string { return slices.Collect(maps.Keys(p.Inventories)) },
				"trait": func(p *Provider) []string { return p.Traits },
			}}),
		consumers: store.Register(db, store.Schema[Consumer]{Service: "placement", Kind: "consumer", Version: 1,
			ID: func(c *Consumer) string { return c.UUID },
			Index: map[string]func(*Consumer) []string{
				"provider": func(c *Consumer) []string { return slices.Collect(maps.Keys(c.Allocations)) },
				"project":  func(c *Consumer) []string { return []string{c.ProjectID} },
			}}),
		classes: names("class"), traits: names("trait"),
	}
}

// provider finds a provider; the error is upstream's 404.
func (s *Service) provider(id string) (*Provider, error) {
	p, err := s.providers.Get(normal(id))
	if err != nil {
		return nil, noProvider(id)
	}
	return p, nil
}

func (s *Service) txProvider(tx *store.Tx, id string) (*Provider, error) {
	p, err := s.providers.TxGet(tx, normal(id))
	if err != nil {
		return nil, noProvider(id)
	}
	return p, nil
}

func noProvider(id string) error {
	return errs.Coded(errs.NotFound, "placement.resource_provider.not_found", "No resource provider with uuid %s found", id)
}

// change updates a provider and its generation in the ledger.
func (s *Service) change(tx *store.Tx, id string, fn func(*Provider) error) (*Provider, error) {
	if _, err := s.txProvider(tx, id); err != nil {
		return nil, err
	}
	return s.providers.TxUpdate(tx, normal(id), func(p *Provider) error {
		if err := fn(p); err != nil {
			return err
		}
		p.Generation++
		p.Updated = now()
		return nil
	})
}

// sameGeneration refuses a write that was made from an older view.
func sameGeneration(p *Provider, seen int64) error {
	if p.Generation != seen {
		return concurrent("resource provider generation conflict: the generation is %d, not %d", p.Generation, seen)
	}
	return nil
}

func concurrent(format string, args ...any) error {
	return errs.Coded(errs.Conflict, "placement.concurrent_update", format, args...)
}

// normal writes a UUID with dashes and in lower case; what is none stays as it is.
func normal(id string) string {
	if u, err := uuid.Parse(id); err == nil {
		return u.String()
	}
	return id
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
