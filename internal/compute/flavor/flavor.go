// Package flavor is the sizes that servers come in: flavors, their extra specs
// and the projects that may use a private one (compute API, /flavors).
//
// A server keeps a copy of its flavor, so that deleting a flavor never touches one.
package flavor

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Flavor is a size. Units: MiB for RAM and Swap, GiB for disks.
type Flavor struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description *string           `json:"description,omitempty"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Ephemeral   int               `json:"ephemeral"`
	Swap        int               `json:"swap"`
	RxTx        float64           `json:"rxtx"`
	Public      bool              `json:"public"`
	Disabled    bool              `json:"disabled"`
	ExtraSpecs  map[string]string `json:"extra_specs,omitempty"`
	Projects    []string          `json:"projects,omitempty"` // that may use it when it is not public
	Created     time.Time         `json:"created"`
}

// Flavors is the collection of flavors and its part of the API.
type Flavors struct {
	db  *store.DB
	all *store.Collection[Flavor]
	// knownProject refuses ids that are no project's.
	knownProject func(ctx context.Context, id string) error
}

// New registers the collection: call it before db.Start.
func New(db *store.DB, knownProject func(ctx context.Context, id string) error) *Flavors {
	return &Flavors{db: db, knownProject: knownProject, all: store.Register(db, store.Schema[Flavor]{Service: "compute", Kind: "flavor", Version: 1,
		ID:     func(f *Flavor) string { return f.ID },
		Unique: map[string]func(*Flavor) []string{"name": func(f *Flavor) []string { return []string{f.Name} }}})}
}

// Get gives a flavor, or NotFound.
func (s *Flavors) Get(id string) (*Flavor, error) { return s.all.Get(id) }

// All are the flavors there are.
func (s *Flavors) All() []*Flavor { return s.all.All() }

// Named gives the flavor of the name, or NotFound.
func (s *Flavors) Named(name string) (*Flavor, error) {
	if f, ok := s.all.Unique("name", name); ok {
		return f, nil
	}
	return nil, errs.NotFoundf("no flavor is called %s", name)
}

func specsOf(f map[string]string) map[string]string {
	if f == nil {
		return map[string]string{}
	}
	return f
}

// Seed writes the default flavors into an empty collection.
func (s *Flavors) Seed(ctx context.Context) error {
	return s.db.Txn(ctx, func(tx *store.Tx) error {
		for _, f := range []Flavor{{ID: "42", Name: "m1.nano", VCPUs: 1, RAM: 128, Disk: 1}, {ID: "84", Name: "m1.micro", VCPUs: 1, RAM: 192, Disk: 1},
			{ID: "1", Name: "m1.tiny", VCPUs: 1, RAM: 512, Disk: 1}, {ID: "2", Name: "m1.small", VCPUs: 1, RAM: 2048, Disk: 20}, {ID: "3", Name: "m1.medium", VCPUs: 2, RAM: 4096, Disk: 40}} {
			f.Public, f.RxTx, f.Created = true, 1, wire.Now()
			if err := s.all.TxCreate(tx, &f); err != nil {
				return err
			}
		}
		return nil
	})
}

// Policies are upstream's names and defaults.
func Policies() []policy.Rule {
	rules := []policy.Rule{{Name: "os_compute_api:flavors", Check: "@"},
		{Name: "os_compute_api:os-flavor-extra-specs:index", Check: "rule:project_reader_or_admin"}, {Name: "os_compute_api:os-flavor-extra-specs:show", Check: "rule:project_reader_or_admin"}}
	for _, n := range []string{"os-flavor-manage:create", "os-flavor-manage:update", "os-flavor-manage:delete", "os-flavor-extra-specs:create", "os-flavor-extra-specs:update", "os-flavor-extra-specs:delete",
		"os-flavor-access", "os-flavor-access:add_tenant_access", "os-flavor-access:remove_tenant_access"} {
		rules = append(rules, policy.Rule{Name: "os_compute_api:" + n, Check: "rule:context_is_admin"})
	}
	return rules
}
