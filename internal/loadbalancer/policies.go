package loadbalancer

import "github.com/strata-cloud/strata/internal/policy"

// Policies are upstream's names and defaults (octavia/policies/), with the roles of
// keystone_default_roles.py.
func Policies() []policy.Rule {
	const (
		api    = "os_load-balancer_api:"
		read   = "rule:load-balancer:read"
		global = "rule:load-balancer:read-global"
		write  = "rule:load-balancer:write"
		admin  = "rule:load-balancer:admin"
	)
	rules := []policy.Rule{
		{Name: "context_is_admin", Check: "role:admin"},
		{Name: "project-member", Check: "role:member and project_id:%(project_id)s"},
		{Name: "project-reader", Check: "role:reader and project_id:%(project_id)s"},
		{Name: "load-balancer:admin", Check: "role:admin"},
		{Name: "load-balancer:global_observer", Check: "role:admin"},
		{Name: "load-balancer:member_and_owner", Check: "rule:project-member"},
		{Name: "load-balancer:observer_and_owner", Check: "rule:project-reader"},
		{Name: "load-balancer:quota-admin", Check: "role:admin"},
		{Name: "load-balancer:read", Check: "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or rule:load-balancer:member_and_owner or rule:load-balancer:admin"},
		{Name: "load-balancer:read-global", Check: "rule:load-balancer:global_observer or rule:load-balancer:admin"},
		{Name: "load-balancer:write", Check: "rule:load-balancer:member_and_owner or rule:load-balancer:admin"},
		{Name: "load-balancer:read-quota", Check: "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or rule:load-balancer:member_and_owner or rule:load-balancer:quota-admin or rule:load-balancer:admin"},
		{Name: "load-balancer:read-quota-global", Check: "rule:load-balancer:global_observer or rule:load-balancer:quota-admin or rule:load-balancer:admin"},
		{Name: "load-balancer:write-quota", Check: "rule:load-balancer:quota-admin or rule:load-balancer:admin"},
	}
	add := func(check string, names ...string) {
		for _, n := range names {
			rules = append(rules, policy.Rule{Name: api + n, Check: check})
		}
	}
	for _, kind := range []string{"loadbalancer", "listener", "pool", "healthmonitor"} {
		add(read, kind+":get_all", kind+":get_one")
		add(global, kind+":get_all-global")
		add(write, kind+":post", kind+":put", kind+":delete")
	}
	add(read, "loadbalancer:get_stats", "loadbalancer:get_status", "listener:get_stats", "member:get_all", "member:get_one",
		"provider:get_all", "flavor:get_all", "flavor:get_one", "availability-zone:get_all", "availability-zone:get_one")
	add(write, "member:post", "member:put", "member:delete", "loadbalancer:post:vip_sg_ids")
	add(admin, "loadbalancer:put_failover")
	add("rule:load-balancer:read-quota", "quota:get_all", "quota:get_one", "quota:get_defaults")
	add("rule:load-balancer:read-quota-global", "quota:get_all-global")
	add("rule:load-balancer:write-quota", "quota:put", "quota:delete")
	return rules
}
