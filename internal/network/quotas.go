package network

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// defaultLimits are upstream's (neutron/conf/quota.py), -1 is unlimited.
var defaultLimits = map[string]int{"network": 100, "subnet": 100, "port": 500, "router": 10, "floatingip": 50,
	"security_group": 10, "security_group_rule": 100, "subnetpool": -1, "rbac_policy": 10}

func (c *call) limits(project string) map[string]int {
	out := maps.Clone(defaultLimits)
	if q, err := get(c, c.quotas, project); err == nil {
		maps.Copy(out, q.Limits)
	}
	return out
}

// fits checks that the project may have more of a kind. It runs in the ledger,
// which all writers of the counted records go through.
func (c *call) fits(kind, project string, used func() int, more int) error {
	if c.r == nil || kind == "" {
		return nil
	}
	return c.within(kind, project, used, more)
}

// within is fits for what another service makes in the project.
func (c *call) within(kind, project string, used func() int, more int) error {
	if limit := c.limits(project)[kind]; limit >= 0 && used()+more > limit {
		return errs.Coded(errs.QuotaExceeded, "OverQuota", "Quota exceeded for resources: ['%s'].", kind)
	}
	return nil
}

func (c *call) used(project string) map[string]int {
	return map[string]int{"network": c.networks.Count("project", project), "subnet": c.subnets.Count("project", project), "port": c.ports.Count("project", project),
		"router": c.routers.Count("project", project), "floatingip": c.floating.Count("project", project), "security_group": c.groups.Count("project", project),
		"security_group_rule": c.rules.Count("project", project), "subnetpool": c.pools.Count("project", project), "rbac_policy": c.rbacs.Count("project", project)}
}

func (s *Service) quotaRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/quotas", Policy: "get_quota", Handle: s.listQuotas},
		{Method: "GET", Path: "/quotas/tenant", Policy: "get_quota", Handle: s.quotaTenant},
		{Method: "GET", Path: "/quotas/{project}", Policy: "get_quota", Handle: s.showQuota(func(c *call, p string) any { return c.limits(p) })},
		{Method: "GET", Path: "/quotas/{project}/default", Policy: "get_quota", Handle: s.showQuota(func(*call, string) any { return defaultLimits })},
		{Method: "GET", Path: "/quotas/{project}/details", Policy: "get_quota", Handle: s.showQuota(quotaDetails)},
		{Method: "GET", Path: "/quotas/{project}/details.json", Policy: "get_quota", Handle: s.showQuota(quotaDetails)},
		{Method: "PUT", Path: "/quotas/{project}", Policy: "update_quota", Handle: s.updateQuota},
		{Method: "DELETE", Path: "/quotas/{project}", Policy: "delete_quota", Handle: s.deleteQuota},
	}
}

func quotaDetails(c *call, project string) any {
	out := map[string]any{}
	used := c.used(project)
	for k, limit := range c.limits(project) {
		out[k] = map[string]int{"limit": limit, "used": used[k], "reserved": 0}
	}
	return out
}

func (s *Service) listQuotas(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, out := s.look(r), []map[string]any{}
	if err := c.enforce("get_quota", policy.Target{}); err != nil {
		return nil, err
	}
	for _, q := range s.quotas.All() {
		row := map[string]any{"project_id": q.ProjectID, "tenant_id": q.ProjectID}
		for k, v := range c.limits(q.ProjectID) {
			row[k] = v
		}
		out = append(out, row)
	}
	return rest.JSON(http.StatusOK, map[string]any{"quotas": out}), nil
}

// quotaTenant tells whose quotas the caller's requests count against.
func (s *Service) quotaTenant(_ context.Context, r *rest.Request) (*rest.Response, error) {
	return rest.JSON(http.StatusOK, map[string]any{"tenant": map[string]string{"tenant_id": r.Creds.ProjectID}}), nil
}

// showQuota serves a project's own quotas to its members, any to an administrator.
func (s *Service) showQuota(what func(*call, string) any) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		p := r.Path("project")
		if err := s.look(r).enforce("get_quota", policy.Target{"project_id": p, "tenant_id": p}); err != nil {
			return nil, err
		}
		return rest.JSON(http.StatusOK, map[string]any{"quota": what(s.look(r), p)}), nil
	}
}

func (s *Service) updateQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	items, _, err := attr.Decode(r.Body(), "quota", "")
	if err != nil {
		return nil, err
	}
	limits := map[string]int{}
	for _, k := range slices.Sorted(maps.Keys(items[0])) {
		if k == "tenant_id" || k == "project_id" || k == "force" || k == "check_limit" {
			continue
		}
		if _, known := defaultLimits[k]; !known {
			return nil, badRequest("Unrecognized attribute(s) '%s'", k)
		}
		n, err := attr.Int(-1, 1<<31-1)(items[0][k])
		if err != nil {
			return nil, badRequest("Invalid input for %s. Reason: %v.", k, err)
		}
		limits[k] = n.(int)
	}
	project := r.Path("project")
	check := items[0]["check_limit"] == true
	var now map[string]int
	err = s.do(ctx, r, func(c *call) error {
		used := c.used(project)
		for k, n := range limits {
			if check && n >= 0 && used[k] > n {
				return badRequest("Quota limit %d for %s is below the current usage %d", n, k, used[k])
			}
		}
		q := &Quota{ProjectID: project, Limits: map[string]int{}}
		if old, err := get(c, c.quotas, project); err == nil {
			maps.Copy(q.Limits, old.Limits)
		}
		maps.Copy(q.Limits, limits)
		if err := c.quotas.TxPut(c.tx, q); err != nil {
			return err
		}
		now = c.limits(project)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{"quota": now}), nil
}

func (s *Service) deleteQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	p := r.Path("project")
	err := s.do(ctx, r, func(c *call) error {
		if err := c.quotas.TxDelete(c.tx, p); errs.Is(err, errs.NotFound) {
			return errs.Coded(errs.NotFound, "TenantQuotaNotFound", "Quota for tenant %s could not be found.", p)
		} else {
			return err
		}
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
