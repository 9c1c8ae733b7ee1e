package placement

import "github.com/strata-cloud/strata/internal/policy"

// Policies are upstream's names and defaults (placement/policies/). Upstream's
// "admin_or_service_api" is written out: other services have rules of that name.
func Policies() []policy.Rule {
	const adminOrService = "role:admin or role:service"
	rules := []policy.Rule{
		{Name: "placement:usages", Check: adminOrService + " or (role:reader and project_id:%(project_id)s)"},
		{Name: "placement:reshaper:reshape", Check: "role:service"},
	}
	for group, verbs := range map[string][]string{
		"resource_providers":             {"list", "create", "show", "update", "delete", "usages"},
		"resource_providers:inventories": {"list", "create", "show", "update", "delete"},
		"resource_providers:aggregates":  {"list", "update"},
		"resource_providers:traits":      {"list", "update", "delete"},
		"resource_providers:allocations": {"list"},
		"resource_classes":               {"list", "create", "show", "update", "delete"},
		"traits":                         {"list", "show", "update", "delete"},
		"allocations":                    {"list", "manage", "update", "delete"},
		"allocation_candidates":          {"list"},
	} {
		for _, v := range verbs {
			rules = append(rules, policy.Rule{Name: "placement:" + group + ":" + v, Check: adminOrService})
		}
	}
	return rules
}
