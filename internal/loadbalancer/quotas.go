package loadbalancer

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// unlimited is upstream's default of every quota.
const unlimited = -1

// maxMembers is how many members a load balancer can have whatever the quota is: its record
// is one value of the store.
const maxMembers = 2000

// counted are what quotas are of, each with its name in messages.
func counted() map[string]string {
	return map[string]string{"loadbalancer": "Load Balancer", "listener": "Listener", "pool": "Pool", "member": "Member", "healthmonitor": "Health Monitor", "l7policy": "L7Policy", "l7rule": "L7Rule"}
}

func (s *Service) limits(tx *store.Tx, project string) map[string]int {
	out := map[string]int{}
	for name := range counted() {
		out[name] = unlimited
	}
	var q *Quota
	var err error
	if tx != nil {
		q, err = s.quotas.TxGet(tx, project)
	} else {
		q, err = s.quotas.Get(project)
	}
	if err == nil {
		maps.Copy(out, q.Limits)
	}
	return out
}

func (s *Service) fits(tx *store.Tx, project, kind string, will int) error {
	if limit := s.limits(tx, project)[kind]; limit >= 0 && will > limit {
		return overQuota(counted()[kind])
	}
	return nil
}

// fits holds what the project will have of a kind of children to its quota. The load
// balancer itself counts as it will be.
func (e *edit) fits(kind string) error {
	count := func(lb *LoadBalancer) int {
		switch kind {
		case "listener":
			return len(lb.Listeners)
		case "pool":
			return len(lb.Pools)
		case "healthmonitor":
			return len(lb.monitors())
		}
		n := 0
		for _, p := range lb.Pools {
			n += len(p.Members)
		}
		return n
	}
	will := count(e.lb)
	if kind == "member" && will > maxMembers {
		return overQuota(counted()[kind])
	}
	for _, lb := range e.s.lbs.TxBy(e.tx, "project", e.lb.ProjectID) {
		if lb.ID != e.lb.ID {
			will += count(lb)
		}
	}
	return e.s.fits(e.tx, e.lb.ProjectID, kind, will)
}

func quotaView(limits map[string]int) view {
	v := view{}
	for name, n := range limits {
		v[name] = n
	}
	v["load_balancer"], v["health_monitor"] = limits["loadbalancer"], limits["healthmonitor"] // misspelt, for older clients
	return v
}

func (s *Service) listQuotas(_ context.Context, r *rest.Request) (*rest.Response, error) {
	project, err := scope(r, r.Route.Policy)
	if err != nil {
		return nil, err
	}
	all := s.quotas.All()
	out := []any{}
	for _, q := range all {
		if project == "" || q.ID == project {
			v := quotaView(s.limits(nil, q.ID))
			v["project_id"], v["tenant_id"] = q.ID, q.ID
			out = append(out, v)
		}
	}
	return rest.JSON(200, view{"quotas": out, "quotas_links": []any{}}), nil
}

func (s *Service) showQuota(defaults bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		project := r.Path("project_id")
		if err := judge(r, r.Route.Policy, project); err != nil {
			return nil, err
		}
		if defaults {
			project = ""
		}
		return rest.JSON(200, view{"quota": quotaView(s.limits(nil, project))}), nil
	}
}

// defaultQuota is GET /quotas/defaults, for the caller's project.
func (s *Service) defaultQuota(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := judge(r, r.Route.Policy, r.Creds.ProjectID); err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"quota": quotaView(s.limits(nil, ""))}), nil
}

func (s *Service) setQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	project := r.Path("project_id")
	if err := judge(r, r.Route.Policy, project); err != nil {
		return nil, err
	}
	raw, err := body(r, "quota")
	if err != nil {
		return nil, err
	}
	given := map[string]int{}
	var fields []field[map[string]int]
	for _, name := range append(slices.Collect(maps.Keys(counted())), "load_balancer", "health_monitor") {
		to := map[string]string{"load_balancer": "loadbalancer", "health_monitor": "healthmonitor"}[name]
		if to == "" {
			to = name
		}
		n := 0
		f := number(name, unlimited, maxCount, unlimited, func(*map[string]int) *int { return &n })
		set := f.set
		f.set = func(x *map[string]int, v any) error {
			err := set(x, v)
			(*x)[to] = n
			return err
		}
		f.reset = func(x *map[string]int) { (*x)[to] = unlimited }
		fields = append(fields, f)
	}
	if err := read(fields, raw, inPut, &given); err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		now := Quota{ID: project, Limits: maps.Clone(given)}
		if old, err := s.quotas.TxGet(tx, project); err == nil {
			now.Limits = maps.Clone(old.Limits)
			maps.Copy(now.Limits, given)
		}
		return s.quotas.TxPut(tx, &now)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, view{"quota": quotaView(s.limits(nil, project))}), nil
}

func (s *Service) resetQuota(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	project := r.Path("project_id")
	if err := judge(r, r.Route.Policy, project); err != nil {
		return nil, err
	}
	err := s.ledger.Do(ctx, func(tx *store.Tx) error { return s.quotas.TxDelete(tx, project) })
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return rest.Empty(202), nil
}
