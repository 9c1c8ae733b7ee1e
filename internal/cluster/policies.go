package cluster

import "github.com/strata-cloud/strata/internal/policy"

// Policies are upstream's names and defaults (magnum/common/policies). The names of rules
// that other services have as well, such as project_member, are written out.
func Policies() []policy.Rule {
	const (
		admin      = "role:admin"
		member     = "role:admin or (role:member and project_id:%(project_id)s)"
		reader     = "role:admin or (role:reader and project_id:%(project_id)s)"
		memberUser = "role:admin or (role:member and project_id:%(project_id)s and user_id:%(user_id)s)"
		readerUser = "role:admin or (role:reader and project_id:%(project_id)s and user_id:%(user_id)s)"
	)
	var rules []policy.Rule
	for check, names := range map[string][]string{
		reader: {"cluster:detail", "cluster:get", "cluster:get_all", "clustertemplate:detail", "clustertemplate:get", "clustertemplate:get_all",
			"nodegroup:get", "nodegroup:get_all", "quota:get", "stats:get_all"},
		member: {"cluster:create", "cluster:delete", "cluster:update", "cluster:resize", "cluster:upgrade", "clustertemplate:create", "clustertemplate:delete", "clustertemplate:update",
			"nodegroup:create", "nodegroup:delete", "nodegroup:update"},
		memberUser: {"certificate:create"},
		readerUser: {"certificate:get"},
		admin:      {"clustertemplate:publish", "magnum-service:get_all", "quota:create", "quota:delete", "quota:get_all", "quota:update"},
	} {
		for _, name := range names {
			rules = append(rules, policy.Rule{Name: name, Check: check})
		}
	}
	return rules
}
