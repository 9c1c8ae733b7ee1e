package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

var (
	proxiedQuotas  = []string{"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}
	injectedQuotas = []string{"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}
	groupQuotas    = []string{"server_groups", "server_group_members"}
)

// quotaKeys are the resources that a version knows, without more.
func quotaKeys(proxiedUntil, injectedUntil int, v rest.Version, without ...string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(defaultLimits)) {
		switch {
		case slices.Contains(proxiedQuotas, k) && v.Minor > proxiedUntil, slices.Contains(injectedQuotas, k) && v.Minor > injectedUntil, slices.Contains(without, k):
		default:
			out = append(out, k)
		}
	}
	return out
}

// quotaSetKeys: network's resources went with 2.36, injected files with 2.57.
func quotaSetKeys(v rest.Version) []string { return quotaKeys(35, 56, v) }

// quotaClassKeys: 2.50 took network's resources and brought the server groups', 2.57 took the injected files.
func quotaClassKeys(v rest.Version) []string {
	if v.Minor < 50 {
		return quotaKeys(49, 56, v, groupQuotas...)
	}
	return quotaKeys(49, 56, v)
}

// quotaSchemas is one schema per version at which the keys change.
func quotaSchemas(name, more string, keys func(rest.Version) []string, cuts ...int) []rest.Schema {
	const value = `{"type":["integer","string"],"pattern":"^-?[0-9]+$","minimum":-1,"maximum":2147483647}`
	var out []rest.Schema
	for i, lo := range cuts {
		hi := rest.Version{}
		if i+1 < len(cuts) {
			hi = rest.V(2, cuts[i+1]-1)
		}
		var props []string
		for _, k := range keys(rest.V(2, lo)) {
			props = append(props, `"`+k+`":`+value)
		}
		out = append(out, rest.SchemaIn(rest.V(2, lo), hi, `{"type":"object","properties":{"`+name+`":{"type":"object","properties":{`+
			strings.Join(props, ",")+more+`},"additionalProperties":false}},"required":["`+name+`"],"additionalProperties":false}`))
	}
	return out
}

// Routes are the quotas' rows of the compute API.
func (q *Quotas) Routes() []rest.Route {
	const at, rule = "/os-quota-sets/{project}", "os_compute_api:os-quota-sets:"
	const class, classRule = "/os-quota-class-sets/{id}", "os_compute_api:os-quota-class-sets:"
	query := []rest.Schema{rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"user_id":{}},"additionalProperties":false}`)}
	classBody := quotaSchemas("quota_class_set", "", quotaClassKeys, 1, 50, 57)
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "show", Query: query, Handle: q.showQuotas(false)},
		{Method: "GET", Path: at + "/detail", Policy: rule + "detail", Query: query, Handle: q.showQuotas(true)},
		{Method: "GET", Path: at + "/defaults", Policy: rule + "defaults", Handle: q.defaultQuotas},
		{Method: "PUT", Path: at, Policy: rule + "update", Query: query, Body: quotaSchemas("quota_set", `,"force":`+wire.Bool, quotaSetKeys, 1, 36, 57), Handle: q.updateQuotas},
		{Method: "DELETE", Path: at, Policy: rule + "delete", Query: query, Handle: q.deleteQuotas},
		{Method: "GET", Path: class, Policy: classRule + "show", Handle: q.showQuotaClass},
		{Method: "PUT", Path: class, Policy: classRule + "update", Body: classBody, Handle: q.updateQuotaClass},
		{Method: "GET", Path: "/limits", Policy: "os_compute_api:limits", Handle: q.showLimits, Query: []rest.Schema{
			rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"tenant_id":{},"reserved":{}},"additionalProperties":false}`)}},
	}
}

// project is the project of the path, if the caller may know its quota.
func (q *Quotas) project(ctx context.Context, r *rest.Request) (string, error) {
	id := r.Path("project")
	if err := r.Enforce(policy.Target{"project_id": id}); err != nil {
		return "", err
	}
	return id, q.knownProject(ctx, id)
}

func (q *Quotas) limitsFor(r *rest.Request, project string) map[string]int {
	if u := r.Query().Get("user_id"); u != "" {
		return q.UserLimits(project, u)
	}
	return q.Limits(project)
}

func pickQuotas(keys []string, limits map[string]int) map[string]any {
	out := make(map[string]any, len(keys)+1)
	for _, k := range keys {
		out[k] = limits[k]
	}
	return out
}

func (q *Quotas) showQuotas(detail bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		id, err := q.project(ctx, r)
		if err != nil {
			return nil, err
		}
		keys, lim := quotaSetKeys(r.Version), q.limitsFor(r, id)
		out := pickQuotas(keys, lim)
		if detail {
			used := q.used(id, r.Query().Get("user_id"))
			for _, k := range keys {
				out[k] = map[string]int{"limit": lim[k], "in_use": used[k], "reserved": 0}
			}
		}
		out["id"] = id
		return rest.JSON(200, map[string]any{"quota_set": out}), nil
	}
}

func (q *Quotas) defaultQuotas(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, err := q.project(ctx, r)
	if err != nil {
		return nil, err
	}
	out := pickQuotas(quotaSetKeys(r.Version), q.layered(classDefault))
	out["id"] = id
	return rest.JSON(200, map[string]any{"quota_set": out}), nil
}

// quotaValues reads the numbers of a body that the schema has vouched for.
func quotaValues(in map[string]any) (map[string]int, error) {
	out := map[string]int{}
	for k, v := range in {
		if k == "force" {
			continue
		}
		text := fmt.Sprint(v)
		if f, ok := v.(float64); ok {
			text = strconv.FormatFloat(f, 'f', -1, 64)
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < -1 || n > 0x7fffffff {
			return nil, errs.Invalidf("Invalid input for field/attribute %s. Value: %s.", k, text)
		}
		out[k] = n
	}
	return out, nil
}

func (q *Quotas) updateQuotas(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, err := q.project(ctx, r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Set map[string]any `json:"quota_set"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	values, err := quotaValues(b.Set)
	if err != nil {
		return nil, err
	}
	user, key := r.Query().Get("user_id"), id
	if user != "" {
		key = userQuota(id, user)
	}
	if !wire.Truthy(b.Set["force"]) {
		if err := q.check(id, user, values); err != nil {
			return nil, err
		}
	}
	if err := q.Set(ctx, key, values); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"quota_set": pickQuotas(quotaSetKeys(r.Version), q.limitsFor(r, id))}), nil
}

// checkQuotas refuses limits below what is used, and a user's above the project's.
func (q *Quotas) check(project, user string, values map[string]int) error {
	used, most := q.used(project, user), q.Limits(project)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		n := values[k]
		if n >= 0 && n < used[k] {
			return errs.Invalidf("Quota limit %d for %s must be greater than or equal to already used and reserved %d.", n, k, used[k])
		}
		if user != "" && most[k] >= 0 && (n < 0 || n > most[k]) {
			return errs.Invalidf("Quota limit %d for %s must be less than or equal to %d.", n, k, most[k])
		}
	}
	return nil
}

// Set changes limits of a project or of whatever else key stands for (see Quota).
func (q *Quotas) Set(ctx context.Context, key string, values map[string]int) error {
	return q.db.Txn(ctx, func(tx *store.Tx) error {
		rec := Quota{ProjectID: key, Limits: map[string]int{}}
		if have, err := q.records.TxGet(tx, key); err == nil {
			maps.Copy(rec.Limits, have.Limits)
		} else if !errs.Is(err, errs.NotFound) {
			return err
		}
		maps.Copy(rec.Limits, values)
		return q.records.TxPut(tx, &rec)
	})
}

func (q *Quotas) deleteQuotas(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key := r.Path("project")
	if err := r.Enforce(policy.Target{"project_id": key}); err != nil {
		return nil, err
	}
	if u := r.Query().Get("user_id"); u != "" {
		key = userQuota(key, u)
	}
	if err := q.records.Delete(ctx, key); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return rest.Empty(202), nil
}

func (q *Quotas) showQuotaClass(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("id")
	out := pickQuotas(quotaClassKeys(r.Version), q.layered(classDefault, "class:"+id))
	out["id"] = id
	return rest.JSON(200, map[string]any{"quota_class_set": out}), nil
}

func (q *Quotas) updateQuotaClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Set map[string]any `json:"quota_class_set"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	values, err := quotaValues(b.Set)
	if err != nil {
		return nil, err
	}
	key := "class:" + r.Path("id")
	if err := q.Set(ctx, key, values); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"quota_class_set": pickQuotas(quotaClassKeys(r.Version), q.layered(classDefault, key))}), nil
}

// limitNames are the names that "absolute" limits go by (nova/api/openstack/compute/views/limits.py).
var limitNames = map[string][]string{
	"ram": {"maxTotalRAMSize"}, "instances": {"maxTotalInstances"}, "cores": {"maxTotalCores"}, "key_pairs": {"maxTotalKeypairs"},
	"metadata_items": {"maxServerMeta", "maxImageMeta"}, "server_groups": {"maxServerGroups"}, "server_group_members": {"maxServerGroupMembers"},
	"floating_ips": {"maxTotalFloatingIps"}, "security_groups": {"maxSecurityGroups"}, "security_group_rules": {"maxSecurityGroupRules"},
	"injected_files": {"maxPersonality"}, "injected_file_content_bytes": {"maxPersonalitySize"},
}

var usedNames = map[string]string{"ram": "totalRAMUsed", "cores": "totalCoresUsed", "instances": "totalInstancesUsed", "server_groups": "totalServerGroupsUsed",
	"floating_ips": "totalFloatingIpsUsed", "security_groups": "totalSecurityGroupsUsed"}

func (q *Quotas) showLimits(_ context.Context, r *rest.Request) (*rest.Response, error) {
	project := r.Creds.ProjectID
	if r.Query().Has("tenant_id") {
		project = r.Query().Get("tenant_id")
		if err := r.EnforceRule("os_compute_api:limits:other_project", r.Own()); err != nil {
			return nil, err
		}
	}
	lim, used, out := q.Limits(project), q.used(project, ""), map[string]int{}
	for _, k := range quotaSetKeys(r.Version) {
		for _, name := range limitNames[k] {
			if name != "maxImageMeta" || !r.AtLeast(2, 39) {
				out[name] = lim[k]
			}
		}
		if name := usedNames[k]; name != "" {
			out[name] = used[k]
		}
	}
	return rest.JSON(200, map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": out}}), nil
}
