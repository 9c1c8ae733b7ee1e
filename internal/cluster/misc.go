package cluster

import (
	"context"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// defaultLimit is how many clusters a project may have of which nobody says another number
// (magnum/conf/quota.py, max_clusters_per_project).
const defaultLimit = 20

// clusterResource is the only resource with a quota.
const clusterResource = "Cluster"

// limit is how many clusters a project may have.
func (s *Service) limit(tx *store.Tx, project string) int {
	if q, err := s.quotas.TxGet(tx, project); err == nil {
		return q.HardLimit
	}
	return defaultLimit
}

func (q *Quota) view() map[string]any {
	return map[string]any{"id": q.Number, "project_id": q.Project, "resource": clusterResource, "hard_limit": q.HardLimit, "created_at": stamp(q.Created), "updated_at": stampOf(q.Updated)}
}

func (q *Quota) field(key string) (string, bool) { return sortKey(q.view(), key) }

func (s *Service) listQuotas(_ context.Context, r *rest.Request) (*rest.Response, error) {
	all, err := boolOf("all_tenants", queryOr(r, "all_tenants"))
	if err != nil {
		return nil, err
	}
	var list []*Quota
	for _, q := range s.quotas.All() {
		if all && r.Creds.Admin() || q.Project == r.Creds.ProjectID {
			list = append(list, q)
		}
	}
	return listing(r, "quotas", "/quotas", list, func(q *Quota) string { return strconv.Itoa(q.Number) }, (*Quota).field, func(q *Quota) any { return q.view() })
}

func queryOr(r *rest.Request, key string) any {
	if v := r.Query().Get(key); v != "" {
		return v
	}
	return nil
}

// quotaPath reads which quota is meant.
func quotaPath(r *rest.Request) (project string, err error) {
	if r.Path("resource") != clusterResource {
		return "", errs.NotFoundf("Quota could not be found: there is none of %s", r.Path("resource"))
	}
	return r.Path("project"), nil
}

func (s *Service) showQuota(_ context.Context, r *rest.Request) (*rest.Response, error) {
	project, err := quotaPath(r)
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(policy.Target{"project_id": project}); err != nil {
		return nil, err
	}
	q, err := s.quotas.Get(project)
	if err != nil {
		return rest.JSON(200, map[string]any{"project_id": project, "hard_limit": defaultLimit}), nil
	}
	return rest.JSON(200, q.view()), nil
}

// wantedQuota reads a body. Its limit is 1 where it names none, as upstream's.
func wantedQuota(r *rest.Request) (project string, limit int, err error) {
	b := struct {
		Project string `json:"project_id"`
		Limit   int    `json:"hard_limit"`
	}{Limit: 1}
	err = read(r.Body(), &b)
	return b.Project, b.Limit, err
}

func (s *Service) createQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	project, limit, err := wantedQuota(r)
	if err != nil {
		return nil, err
	}
	if project == "" {
		return nil, errs.Invalidf("Must provide a valid project ID.")
	}
	if !s.Resources.HasProject(ctx, project) {
		return nil, errs.NotFoundf("The project_id %s could not be found.", project)
	}
	q := &Quota{Project: project, HardLimit: limit, Created: now()}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.quotas.TxGet(tx, project); err == nil {
			return errs.Conflictf("Quota for project %s already exists for resource %s.", project, clusterResource)
		}
		q.Number = 1
		for _, x := range s.quotas.All() {
			q.Number = max(q.Number, x.Number+1)
		}
		return s.quotas.TxCreate(tx, q)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, q.view()), nil
}

func (s *Service) updateQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	project, err := quotaPath(r)
	if err != nil {
		return nil, err
	}
	_, limit, err := wantedQuota(r)
	if err != nil {
		return nil, err
	}
	q, err := s.quotas.Update(ctx, project, func(q *Quota) error { q.HardLimit, q.Updated = limit, ptr(now()); return nil })
	if err != nil {
		return nil, noQuota(err, project)
	}
	return rest.JSON(202, q.view()), nil
}

func (s *Service) deleteQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	project, err := quotaPath(r)
	if err != nil {
		return nil, err
	}
	if err := s.quotas.Delete(ctx, project); err != nil {
		return nil, noQuota(err, project)
	}
	return rest.Empty(204), nil
}

func noQuota(err error, project string) error {
	if errs.Is(err, errs.NotFound) {
		return errs.NotFoundf("Quota could not be found: project_id %s resource %s.", project, clusterResource)
	}
	return err
}

// stats counts clusters and their nodes (magnum/api/controllers/v1/stats.py).
func (s *Service) stats(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if kind := r.Query().Get("type"); kind != "" && strings.ToLower(kind) != "cluster" {
		return nil, errs.Invalidf("Invalid stats type. Allowed values are 'cluster'")
	}
	project := r.Query().Get("project_id")
	if !r.Creds.Admin() {
		if project != "" && project != r.Creds.ProjectID {
			return nil, errs.Forbiddenf("Not authorized.")
		}
		project = r.Creds.ProjectID
	}
	list := s.clusters.All()
	if project != "" {
		list = s.clusters.By("project", project)
	}
	nodes := 0
	for _, c := range list {
		workers, masters, _ := s.counts(c)
		nodes += workers + masters
	}
	return rest.JSON(200, map[string]int{"clusters": len(list), "nodes": nodes}), nil
}

// services lists the control members, each as upstream's conductor.
func (s *Service) services(_ context.Context, r *rest.Request) (*rest.Response, error) {
	list := []any{}
	for i, m := range s.Pool.Members() {
		state := "up"
		if _, err := s.Nodes.Conn(m); err != nil {
			state = "down"
		}
		list = append(list, map[string]any{"id": i + 1, "host": m, "binary": "magnum-conductor", "state": state, "disabled": false, "disabled_reason": nil})
	}
	return rest.JSON(200, map[string]any{"mservices": list}), nil
}
