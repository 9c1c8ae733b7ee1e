// Package quota is the limits of the volume service: how many volumes, snapshots,
// backups and groups a project may have and of what size, in all and per type.
//
// Only limits are stored. What is used is counted from the records, inside the
// service's ledger, so it cannot drift.
package quota

import (
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// defaults are upstream's (cinder/quota.py); -1 is unlimited, sizes are in GiB.
// A type's own limits are unlimited unless they are set.
var defaults = map[string]int{"volumes": 10, "snapshots": 10, "gigabytes": 1000, "backups": 10, "backup_gigabytes": 1000, "groups": 10, "per_volume_gigabytes": -1}

// classDefault is the id under which the default class's limits are kept; no project has it.
const classDefault = "class:default"

// Limits are overrides: a project's, or a class's ("class:NAME").
type Limits struct {
	ID     string         `json:"id"`
	Values map[string]int `json:"values"`
}

// Quotas holds the limits.
type Quotas struct {
	db     *store.DB
	limits *store.Collection[Limits]
	usage  func(project string) map[string]int
	types  func() []string
}

// New registers the collection: call it before db.Start. usage counts what a
// project has, types lists the volume types' names.
func New(db *store.DB, usage func(project string) map[string]int, types func() []string) *Quotas {
	return &Quotas{db: db, usage: usage, types: types,
		limits: store.Register(db, store.Schema[Limits]{Service: "volume", Kind: "quota", Version: 1, ID: func(l *Limits) string { return l.ID }})}
}

// Of gives a project's limits.
func (q *Quotas) Of(project string) map[string]int { return q.layered(classDefault, project) }

func (q *Quotas) layered(ids ...string) map[string]int {
	out := maps.Clone(defaults)
	for _, t := range q.types() {
		for _, k := range []string{"volumes_", "snapshots_", "gigabytes_"} {
			out[k+t] = -1
		}
	}
	for _, id := range ids {
		if l, err := q.limits.Get(id); err == nil {
			for k, v := range l.Values {
				if _, known := out[k]; known {
					out[k] = v
				}
			}
		}
	}
	return out
}

// Size refuses a volume that is larger than any may be.
func (q *Quotas) Size(project string, gib int) error {
	if most := q.Of(project)["per_volume_gigabytes"]; most >= 0 && gib > most {
		return errs.New(errs.QuotaExceeded, "Requested volume size %dG is larger than maximum allowed limit %dG.", gib, most)
	}
	return nil
}

// Fits refuses what would take the project over a limit. It runs in the ledger;
// used is what the project has now, more what it asks for besides.
func (q *Quotas) Fits(project string, used, more map[string]int) error {
	limits := q.Of(project)
	for _, k := range slices.Sorted(maps.Keys(more)) {
		limit, known := limits[k]
		if !known || limit < 0 || more[k] <= 0 || used[k]+more[k] <= limit {
			continue
		}
		return exceeded(k, limit, used[k], more[k])
	}
	return nil
}

// exceeded says it in upstream's words (cinder/exception.py).
func exceeded(key string, limit, used, asked int) error {
	switch base, _, _ := cutType(key); base {
	case "gigabytes":
		return errs.New(errs.QuotaExceeded, "Requested volume or snapshot exceeds allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.", key, asked, limit, used)
	case "backup_gigabytes":
		return errs.New(errs.QuotaExceeded, "Requested backup exceeds allowed Backup gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.", asked, limit, used)
	case "volumes":
		return errs.New(errs.QuotaExceeded, "Maximum number of volumes allowed (%d) exceeded for quota '%s'.", limit, key)
	default:
		return errs.New(errs.QuotaExceeded, "Maximum number of %s allowed (%d) exceeded", base, limit)
	}
}

// cutType splits "gigabytes_fast" into its resource and its type.
func cutType(key string) (base, name string, ok bool) {
	for _, k := range []string{"volumes", "snapshots", "gigabytes"} {
		if len(key) > len(k)+1 && key[:len(k)+1] == k+"_" {
			return k, key[len(k)+1:], true
		}
	}
	return key, "", false
}
