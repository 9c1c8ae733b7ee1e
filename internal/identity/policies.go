package identity

import "github.com/strata-cloud/strata/internal/policy"

// Policies are upstream's rules with their secure-RBAC defaults
// (keystone/common/policies), of the routes that exist here.
func Policies() []policy.Rule {
	var all []policy.Rule
	for _, group := range [][]policy.Rule{basePolicies(), principalPolicies(), resourcePolicies(), grantPolicies(),
		catalogPolicies(), delegationPolicies(), tokenPolicies()} {
		all = append(all, group...)
	}
	return all
}

// Expressions that many rules share.
const (
	admin         = "rule:admin_required"
	adminOrReader = "rule:admin_required or (role:reader and system_scope:all)"
)

func basePolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "admin_required", Check: "role:admin or is_admin:1"},
		{Name: "service_role", Check: "role:service"},
		{Name: "service_or_admin", Check: "rule:admin_required or rule:service_role"},
		{Name: "owner", Check: "user_id:%(user_id)s"},
		{Name: "admin_or_owner", Check: "rule:admin_required or rule:owner"},
		{Name: "token_subject", Check: "user_id:%(target.token.user_id)s"},
		{Name: "admin_or_token_subject", Check: "rule:admin_required or rule:token_subject"},
		{Name: "service_admin_or_token_subject", Check: "rule:service_or_admin or rule:token_subject"},
		{Name: "domain_managed_target_role", Check: "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s"},
	}
}

func principalPolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_user", Check: "(rule:admin_required) or " +
			"(role:reader and system_scope:all) or " +
			"(role:reader and token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"},
		{Name: "identity:list_users", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)"},
		{Name: "identity:create_user", Check: "(rule:admin_required) or (role:manager and token.domain.id:%(target.user.domain_id)s)"},
		{Name: "identity:update_user", Check: "(rule:admin_required) or (role:manager and token.domain.id:%(target.user.domain_id)s)"},
		{Name: "identity:delete_user", Check: "(rule:admin_required) or (role:manager and token.domain.id:%(target.user.domain_id)s)"},
		{Name: "identity:get_group", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:list_groups", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:list_groups_for_user", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s"},
		{Name: "identity:create_group", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:update_group", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:delete_group", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:list_users_in_group", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s)"},
		{Name: "identity:remove_user_from_group", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"},
		{Name: "identity:check_user_in_group", Check: "(rule:admin_required) or " +
			"(role:reader and system_scope:all) or " +
			"(role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"},
		{Name: "identity:add_user_to_group", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"},
	}
}

func resourcePolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_domain", Check: "rule:admin_required or (role:reader and system_scope:all) or token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s"},
		{Name: "identity:list_domains", Check: "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain.id)s)"},
		{Name: "identity:create_domain", Check: admin},
		{Name: "identity:update_domain", Check: admin},
		{Name: "identity:delete_domain", Check: admin},
		{Name: "identity:get_project", Check: "(rule:admin_required) or " +
			"(role:reader and system_scope:all) or " +
			"(role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s"},
		{Name: "identity:list_projects", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)"},
		{Name: "identity:list_user_projects", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"},
		{Name: "identity:create_project", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:update_project", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:delete_project", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:list_project_tags", Check: "(rule:admin_required) or " +
			"(role:reader and system_scope:all) or " +
			"(role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s"},
		{Name: "identity:get_project_tag", Check: "(rule:admin_required) or " +
			"(role:reader and system_scope:all) or " +
			"(role:reader and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s"},
		{Name: "identity:update_project_tags", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:create_project_tag", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:delete_project_tags", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:delete_project_tag", Check: "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"},
		{Name: "identity:get_limit_model", Check: ""},
		{Name: "identity:get_limit", Check: "rule:admin_required or " +
			"(role:reader and system_scope:all) or " +
			"(domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) or " +
			"(project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)"},
		{Name: "identity:list_limits", Check: ""},
		{Name: "identity:create_limits", Check: admin},
		{Name: "identity:update_limit", Check: admin},
		{Name: "identity:delete_limit", Check: admin},
		{Name: "identity:get_registered_limit", Check: ""},
		{Name: "identity:list_registered_limits", Check: ""},
		{Name: "identity:create_registered_limits", Check: admin},
		{Name: "identity:update_registered_limit", Check: admin},
		{Name: "identity:delete_registered_limit", Check: admin},
	}
}

func grantPolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_role", Check: "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and rule:domain_managed_target_role)"},
		{Name: "identity:list_roles", Check: "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and not domain_id:None)"},
		{Name: "identity:create_role", Check: admin},
		{Name: "identity:update_role", Check: admin},
		{Name: "identity:delete_role", Check: admin},
		{Name: "identity:get_domain_role", Check: adminOrReader},
		{Name: "identity:list_domain_roles", Check: adminOrReader},
		{Name: "identity:create_domain_role", Check: admin},
		{Name: "identity:update_domain_role", Check: admin},
		{Name: "identity:delete_domain_role", Check: admin},
		{Name: "identity:get_implied_role", Check: adminOrReader},
		{Name: "identity:list_implied_roles", Check: adminOrReader},
		{Name: "identity:create_implied_role", Check: admin},
		{Name: "identity:delete_implied_role", Check: admin},
		{Name: "identity:list_role_inference_rules", Check: adminOrReader},
		{Name: "identity:check_implied_role", Check: adminOrReader},
		{Name: "identity:check_grant", Check: "(rule:admin_required) or " +
			"((role:reader and system_scope:all) or " +
			"((role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s))"},
		{Name: "identity:list_grants", Check: "(rule:admin_required) or " +
			"((role:reader and system_scope:all) or " +
			"(role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s))"},
		{Name: "identity:create_grant", Check: "(rule:admin_required) or " +
			"((role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s) or " +
			"((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role"},
		{Name: "identity:revoke_grant", Check: "(rule:admin_required) or " +
			"((role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s) or " +
			"((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
			"(role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
			"(role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role"},
		{Name: "identity:list_system_grants_for_user", Check: adminOrReader},
		{Name: "identity:check_system_grant_for_user", Check: adminOrReader},
		{Name: "identity:create_system_grant_for_user", Check: admin},
		{Name: "identity:revoke_system_grant_for_user", Check: admin},
		{Name: "identity:list_system_grants_for_group", Check: adminOrReader},
		{Name: "identity:check_system_grant_for_group", Check: adminOrReader},
		{Name: "identity:create_system_grant_for_group", Check: admin},
		{Name: "identity:revoke_system_grant_for_group", Check: admin},
		{Name: "identity:list_role_assignments", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)"},
		{Name: "identity:list_role_assignments_for_tree", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)"},
	}
}

func catalogPolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_region", Check: ""},
		{Name: "identity:list_regions", Check: ""},
		{Name: "identity:create_region", Check: admin},
		{Name: "identity:update_region", Check: admin},
		{Name: "identity:delete_region", Check: admin},
		{Name: "identity:get_service", Check: adminOrReader},
		{Name: "identity:list_services", Check: adminOrReader},
		{Name: "identity:create_service", Check: admin},
		{Name: "identity:update_service", Check: admin},
		{Name: "identity:delete_service", Check: admin},
		{Name: "identity:get_endpoint", Check: adminOrReader},
		{Name: "identity:list_endpoints", Check: adminOrReader},
		{Name: "identity:create_endpoint", Check: admin},
		{Name: "identity:update_endpoint", Check: admin},
		{Name: "identity:delete_endpoint", Check: admin},
		{Name: "identity:create_endpoint_group", Check: admin},
		{Name: "identity:list_endpoint_groups", Check: adminOrReader},
		{Name: "identity:get_endpoint_group", Check: adminOrReader},
		{Name: "identity:update_endpoint_group", Check: admin},
		{Name: "identity:delete_endpoint_group", Check: admin},
		{Name: "identity:list_projects_associated_with_endpoint_group", Check: adminOrReader},
		{Name: "identity:list_endpoints_associated_with_endpoint_group", Check: adminOrReader},
		{Name: "identity:get_endpoint_group_in_project", Check: adminOrReader},
		{Name: "identity:list_endpoint_groups_for_project", Check: adminOrReader},
		{Name: "identity:add_endpoint_group_to_project", Check: admin},
		{Name: "identity:remove_endpoint_group_from_project", Check: admin},
		{Name: "identity:get_policy", Check: adminOrReader},
		{Name: "identity:list_policies", Check: adminOrReader},
		{Name: "identity:create_policy", Check: admin},
		{Name: "identity:update_policy", Check: admin},
		{Name: "identity:delete_policy", Check: admin},
		{Name: "identity:list_projects_for_endpoint", Check: adminOrReader},
		{Name: "identity:add_endpoint_to_project", Check: admin},
		{Name: "identity:check_endpoint_in_project", Check: adminOrReader},
		{Name: "identity:list_endpoints_for_project", Check: adminOrReader},
		{Name: "identity:remove_endpoint_from_project", Check: admin},
	}
}

func delegationPolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_application_credential", Check: "(rule:admin_required) or (role:reader and system_scope:all) or rule:owner"},
		{Name: "identity:list_application_credentials", Check: "(rule:admin_required) or (role:reader and system_scope:all) or rule:owner"},
		{Name: "identity:create_application_credential", Check: "user_id:%(user_id)s"},
		{Name: "identity:delete_application_credential", Check: "rule:admin_or_owner"},
		{Name: "identity:get_access_rule", Check: "(role:reader and system_scope:all) or user_id:%(target.user.id)s"},
		{Name: "identity:list_access_rules", Check: "(role:reader and system_scope:all) or user_id:%(target.user.id)s"},
		{Name: "identity:delete_access_rule", Check: "(role:admin and system_scope:all) or user_id:%(target.user.id)s"},
		{Name: "identity:get_credential", Check: "(rule:admin_required) or (role:reader and system_scope:all) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:list_credentials", Check: "(rule:admin_required) or (role:reader and system_scope:all) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:create_credential", Check: "(rule:admin_required) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:update_credential", Check: "(rule:admin_required) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:delete_credential", Check: "(rule:admin_required) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:ec2_get_credential", Check: "(rule:admin_required) or (role:reader and system_scope:all) or user_id:%(target.credential.user_id)s"},
		{Name: "identity:ec2_list_credentials", Check: "(rule:admin_required) or (role:reader and system_scope:all) or rule:owner"},
		{Name: "identity:ec2_create_credential", Check: "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)"},
		{Name: "identity:ec2_delete_credential", Check: "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)"},
		{Name: "identity:create_trust", Check: "user_id:%(target.trust.trustor_user_id)s"},
		{Name: "identity:list_trusts", Check: adminOrReader},
		{Name: "identity:list_trusts_for_trustor", Check: "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s)"},
		{Name: "identity:list_trusts_for_trustee", Check: "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustee_user_id)s)"},
		{Name: "identity:list_roles_for_trust", Check: "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)"},
		{Name: "identity:get_role_for_trust", Check: "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)"},
		{Name: "identity:delete_trust", Check: "rule:admin_required or user_id:%(target.trust.trustor_user_id)s"},
		{Name: "identity:get_trust", Check: "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)"},
	}
}

func tokenPolicies() []policy.Rule {
	return []policy.Rule{
		{Name: "identity:get_auth_catalog", Check: ""},
		{Name: "identity:get_auth_projects", Check: ""},
		{Name: "identity:get_auth_domains", Check: ""},
		{Name: "identity:get_auth_system", Check: ""},
		{Name: "identity:check_token", Check: "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject"},
		{Name: "identity:validate_token", Check: "rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject"},
		{Name: "identity:revoke_token", Check: "rule:admin_required or rule:token_subject"},
		{Name: "identity:ec2tokens_validate", Check: "rule:service_or_admin"},
		{Name: "identity:s3tokens_validate", Check: "rule:service_or_admin"},
		{Name: "identity:list_revoke_events", Check: "rule:service_or_admin"},
	}
}
