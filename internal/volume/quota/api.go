package quota

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Routes are this package's part of the API.
func (q *Quotas) Routes() []rest.Route {
	// Which keys there are depends on the types: values and check look at them.
	open := func(key string) []rest.Schema { return wire.Body(key, `{"type":"object"}`) }
	const at, class = "/os-quota-sets/{project}", "/os-quota-class-sets/{id}"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: "volume_extension:quotas:show", Handle: q.show},
		{Method: "GET", Path: at + "/defaults", Policy: "volume_extension:quotas:show", Handle: q.showDefaults},
		{Method: "PUT", Path: at, Policy: "volume_extension:quotas:update", Body: open("quota_set"), Handle: q.update},
		{Method: "DELETE", Path: at, Policy: "volume_extension:quotas:delete", Handle: q.remove},
		{Method: "GET", Path: class, Policy: "volume_extension:quota_classes:get", Handle: q.showClass},
		{Method: "PUT", Path: class, Policy: "volume_extension:quota_classes:update", Body: open("quota_class_set"), Handle: q.updateClass},
		{Method: "GET", Path: "/limits", Policy: "limits_extension:used_limits", Handle: q.showLimits},
	}
}

func (q *Quotas) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("project")
	if err := r.Enforce(policy.Target{"project_id": id}); err != nil {
		return nil, err
	}
	usage, err := wire.Flag("usage", r.Query().Get("usage"))
	if err != nil {
		return nil, err
	}
	out := map[string]any{"id": id}
	used := q.usage(id)
	for k, v := range q.Of(id) {
		if usage {
			out[k] = map[string]int{"limit": v, "in_use": used[k], "reserved": 0}
		} else {
			out[k] = v
		}
	}
	return rest.JSON(200, map[string]any{"quota_set": out}), nil
}

func (q *Quotas) showDefaults(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("project")
	if err := r.Enforce(policy.Target{"project_id": id}); err != nil {
		return nil, err
	}
	return named("quota_set", id, q.layered(classDefault)), nil
}

func named(key, id string, limits map[string]int) *rest.Response {
	out := map[string]any{"id": id}
	for k, v := range limits {
		out[k] = v
	}
	return rest.JSON(200, map[string]any{key: out})
}

// values reads the limits of a body (cinder/api/schemas/quotas.py).
func values(in map[string]any) (map[string]int, error) {
	out := map[string]int{}
	for k, v := range in {
		if slices.Contains([]string{"tenant_id", "force", "class_name", "id"}, k) {
			continue
		}
		n := wire.Number(v)
		_, isText := v.(string)
		_, isNumber := v.(float64)
		if !isText && !isNumber || n == 0 && v != 0.0 && v != "0" || n < -1 || n > 0x7fffffff {
			return nil, errs.Invalidf("Invalid input for field/attribute %s. Value: %v. It must be an integer of at least -1.", k, v)
		}
		out[k] = n
	}
	return out, nil
}

// check refuses resources that there are not and limits below what is used.
func (q *Quotas) check(known, used, in map[string]int) error {
	for _, k := range slices.Sorted(maps.Keys(in)) {
		if _, ok := known[k]; !ok {
			return errs.Invalidf("Bad key(s) in quota set: %s", k)
		}
		if k != "per_volume_gigabytes" && in[k] >= 0 && in[k] < used[k] {
			return errs.Invalidf("Quota %s limit must be equal or greater than existing resources. Current usage is %d and the requested limit is %d.", k, used[k], in[k])
		}
	}
	return nil
}

func (q *Quotas) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("project")
	var b struct {
		Set map[string]any `json:"quota_set"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in, err := values(b.Set)
	if err != nil {
		return nil, err
	}
	if err := q.check(q.Of(id), q.usage(id), in); err != nil {
		return nil, err
	}
	if err := q.put(ctx, id, in); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"quota_set": q.Of(id)}), nil
}

func (q *Quotas) put(ctx context.Context, id string, in map[string]int) error {
	return q.db.Txn(ctx, func(tx *store.Tx) error {
		l := Limits{ID: id, Values: map[string]int{}}
		if have, err := q.limits.TxGet(tx, id); err == nil {
			maps.Copy(l.Values, have.Values)
		} else if !errs.Is(err, errs.NotFound) {
			return err
		}
		maps.Copy(l.Values, in)
		return q.limits.TxPut(tx, &l)
	})
}

func (q *Quotas) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	err := q.limits.Delete(ctx, r.Path("project"))
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return rest.Empty(200), err
}

func (q *Quotas) showClass(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("id")
	return named("quota_class_set", id, q.layered(classDefault, "class:"+id)), nil
}

func (q *Quotas) updateClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key := "class:" + r.Path("id")
	var b struct {
		Set map[string]any `json:"quota_class_set"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in, err := values(b.Set)
	if err != nil {
		return nil, err
	}
	if err := q.check(q.Of(""), nil, in); err != nil {
		return nil, err
	}
	if err := q.put(ctx, key, in); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"quota_class_set": q.layered(classDefault, key)}), nil
}

// limitNames are what absolute limits and usages go by (cinder/api/views/limits.py, contrib/used_limits.py).
var limitNames = map[string][2]string{
	"volumes": {"maxTotalVolumes", "totalVolumesUsed"}, "gigabytes": {"maxTotalVolumeGigabytes", "totalGigabytesUsed"},
	"snapshots": {"maxTotalSnapshots", "totalSnapshotsUsed"}, "backups": {"maxTotalBackups", "totalBackupsUsed"},
	"backup_gigabytes": {"maxTotalBackupGigabytes", "totalBackupGigabytesUsed"},
}

func (q *Quotas) showLimits(_ context.Context, r *rest.Request) (*rest.Response, error) {
	project := r.Creds.ProjectID
	if r.AtLeast(3, 39) && r.Creds.Admin() {
		for _, k := range []string{"tenant_id", "project_id"} {
			if p := r.Query().Get(k); p != "" {
				project = p
			}
		}
	}
	limits, used, out := q.Of(project), q.usage(project), map[string]int{}
	for k, names := range limitNames {
		out[names[0]], out[names[1]] = limits[k], used[k]
	}
	return rest.JSON(200, map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": out}}), nil
}
