package docker

import "github.com/strata-cloud/strata/internal/policy"

// ServiceType is the service's type in access rules: upstream's (Zun).
const ServiceType = "container"

// Policies are upstream's names where Zun has the operation (zun/common/policies/
// container.py), with the defaults of the other services: readers look, members do.
func Policies() []policy.Rule {
	const own = "project_id:%(project_id)s"
	var out []policy.Rule
	for role, rules := range map[string][]string{
		"reader": {"get_all", "get_one", "logs", "top", "stats"},
		"member": {"create", "delete", "start", "stop", "reboot", "pause", "unpause", "kill", "rename", "attach", "resize", "execute", "get_archive", "put_archive", "network_attach", "network_detach"},
	} {
		for _, r := range rules {
			out = append(out, policy.Rule{Name: "container:" + r, Check: "role:" + role + " and " + own})
		}
	}
	return out
}
