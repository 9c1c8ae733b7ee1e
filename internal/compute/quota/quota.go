// Package quota is the limits of what projects and users may hold of the compute
// service, and the APIs that show and change them (os-quota-sets,
// os-quota-class-sets, limits).
//
// Usage is never stored: whoever owns the records counts them.
package quota

import (
	"context"

	"maps"

	"github.com/strata-cloud/strata/internal/store"
)

// defaultLimits are upstream's (nova/conf/quota.py); -1 is unlimited. RAM is in MiB.
var defaultLimits = map[string]int{
	"instances": 10, "cores": 20, "ram": 50 * 1024, "metadata_items": 128, "key_pairs": 100,
	"server_groups": 10, "server_group_members": 10, "injected_files": 5, "injected_file_content_bytes": 10 * 1024, "injected_file_path_bytes": 255,
	"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1,
}

// classDefault is the id under which the default class's limits are kept; no project has it.
const classDefault = "class:default"

// Quota are overrides of the default limits: a project's, those of one of its
// users ("PROJECT/USER"), or a class's ("class:NAME").
type Quota struct {
	ProjectID string         `json:"project_id"`
	Limits    map[string]int `json:"limits"`
}

// Quotas is the limits' owner.
type Quotas struct {
	db      *store.DB
	records *store.Collection[Quota]
	used    func(project, user string) map[string]int
	// knownProject refuses ids that are no project's.
	knownProject func(ctx context.Context, id string) error
}

// New registers the collection: call it before db.Start. used counts, by resource,
// what a project or (unless "") one user of it holds now.
func New(db *store.DB, used func(project, user string) map[string]int, knownProject func(ctx context.Context, id string) error) *Quotas {
	return &Quotas{db: db, used: used, knownProject: knownProject, records: store.Register(db, store.Schema[Quota]{Service: "compute", Kind: "quota", Version: 1,
		ID: func(q *Quota) string { return q.ProjectID }})}
}

// Limits are the project's own limits over the default class's.
func (q *Quotas) Limits(projectID string) map[string]int { return q.layered(classDefault, projectID) }

// UserLimits are the user's own limits over the project's.
func (q *Quotas) UserLimits(projectID, userID string) map[string]int {
	return q.layered(classDefault, projectID, userQuota(projectID, userID))
}

func userQuota(projectID, userID string) string { return projectID + "/" + userID }

func (q *Quotas) layered(ids ...string) map[string]int {
	out := maps.Clone(defaultLimits)
	for _, id := range ids {
		if rec, err := q.records.Get(id); err == nil {
			maps.Copy(out, rec.Limits)
		}
	}
	return out
}
