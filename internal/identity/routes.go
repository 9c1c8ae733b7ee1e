package identity

import (
	"github.com/strata-cloud/strata/internal/rest"
)

// APIs are the identity API below /identity/v3 and, for clients of old, below /v3.
func (s *Service) APIs() []*rest.API {
	return []*rest.API{
		s.api("/identity/v3", map[string]rest.Document{"/identity": versions("/identity"), "/identity/v3": oneVersion("/identity/v3")}),
		s.api("/v3", map[string]rest.Document{"/v3": oneVersion("/v3")}),
	}
}

func (s *Service) api(prefix string, discovery map[string]rest.Document) *rest.API {
	m := &mount{s, prefix}
	var routes []rest.Route
	for _, group := range [][]rest.Route{m.authRoutes(), m.resourceRoutes(), m.principalRoutes(), m.roleRoutes(),
		m.grantRoutes(), m.catalogRoutes(), m.delegationRoutes(), m.limitRoutes(), m.filterRoutes()} {
		routes = append(routes, group...)
	}
	return &rest.API{Name: "identity", Prefix: prefix, Family: rest.IdentityFaults(), Routes: routes,
		Discovery: discovery, TargetPolicy: true}
}

func (m *mount) authRoutes() []rest.Route {
	return []rest.Route{
		m.route("POST", "/auth/tokens", "", nil, authSchema(), m.issueToken),
		// showToken judges: the rule depends on the method.
		{Method: "GET", Path: "/auth/tokens", Policy: "identity:validate_token", Handle: m.unjudged(m.showToken)},
		m.route("DELETE", "/auth/tokens", "identity:revoke_token", targetToken, nil, m.revokeToken),
		m.route("GET", "/auth/catalog", "identity:get_auth_catalog", nil, nil, m.authCatalog),
		m.route("GET", "/auth/projects", "identity:get_auth_projects", nil, nil, m.authProjects),
		m.route("GET", "/auth/domains", "identity:get_auth_domains", nil, nil, m.authDomains),
		m.route("GET", "/auth/system", "identity:get_auth_system", nil, nil, m.authSystem),
	}
}

func (m *mount) resourceRoutes() []rest.Route {
	const d, p = "/domains/{domain_id}", "/projects/{project_id}"
	return []rest.Route{
		m.route("GET", "/domains", "identity:list_domains", targetOwnDomain, nil, m.listDomains),
		m.route("POST", "/domains", "identity:create_domain", nil, entity("domain", domainProps(), "name"), m.createDomain),
		m.route("GET", d, "identity:get_domain", targetDomain, nil, m.showDomain),
		m.route("PATCH", d, "identity:update_domain", targetDomain, entity("domain", domainProps()), m.updateDomain),
		m.route("DELETE", d, "identity:delete_domain", targetDomain, nil, m.deleteDomain),

		m.route("GET", "/projects", "identity:list_projects", targetOwnDomain, nil, m.listProjects),
		m.route("POST", "/projects", "identity:create_project", targetNewProject, entity("project", projectProps(), "name"), m.createProject),
		m.route("GET", p, "identity:get_project", targetProject, nil, m.showProject),
		m.route("PATCH", p, "identity:update_project", targetProject, entity("project", projectProps()), m.updateProject),
		m.route("DELETE", p, "identity:delete_project", targetProject, nil, m.deleteProject),
		m.route("GET", p+"/tags", "identity:list_project_tags", targetProject, nil, m.listTags),
		m.route("PUT", p+"/tags", "identity:update_project_tags", targetProject,
			[]rest.Schema{rest.SchemaOf(objectSchema(props{"tags", tagList}, false, []string{"tags"}))}, m.replaceTags),
		m.route("DELETE", p+"/tags", "identity:delete_project_tags", targetProject, nil, m.deleteTags),
		m.route("GET", p+"/tags/{value}", "identity:get_project_tag", targetProject, nil, m.checkTag),
		m.route("PUT", p+"/tags/{value}", "identity:create_project_tag", targetProject, nil, m.addTag),
		m.route("DELETE", p+"/tags/{value}", "identity:delete_project_tag", targetProject, nil, m.deleteTag),
	}
}

func (m *mount) principalRoutes() []rest.Route {
	const u, g = "/users/{user_id}", "/groups/{group_id}"
	return []rest.Route{
		m.route("GET", "/users", "identity:list_users", targetOwnDomain, nil, m.listUsers),
		m.route("POST", "/users", "identity:create_user", targetNew("user"), entity("user", userProps(), "name"), m.createUser),
		m.route("GET", u, "identity:get_user", targetUser, nil, m.showUser),
		m.route("PATCH", u, "identity:update_user", targetUser, entity("user", userProps()), m.updateUser),
		m.route("DELETE", u, "identity:delete_user", targetUser, nil, m.deleteUser),
		m.route("POST", u+"/password", "", nil, passwordSchema(), m.changePassword),
		m.route("GET", u+"/projects", "identity:list_user_projects", targetUser, nil, m.listUserProjects),
		m.route("GET", u+"/groups", "identity:list_groups_for_user", targetUser, nil, m.listUserGroups),

		m.route("GET", "/groups", "identity:list_groups", targetListGroups, nil, m.listGroups),
		m.route("POST", "/groups", "identity:create_group", targetNew("group"), entity("group", groupProps(), "name"), m.createGroup),
		m.route("GET", g, "identity:get_group", targetGroup, nil, m.showGroup),
		m.route("PATCH", g, "identity:update_group", targetGroup, entity("group", groupProps()), m.updateGroup),
		m.route("DELETE", g, "identity:delete_group", targetGroup, nil, m.deleteGroup),
		m.route("GET", g+"/users", "identity:list_users_in_group", targetGroup, nil, m.listGroupUsers),
		m.route("GET", g+u, "identity:check_user_in_group", targetGroupAndUser, nil, m.checkMember),
		m.route("PUT", g+u, "identity:add_user_to_group", targetGroupAndUser, nil, m.addMember),
		m.route("DELETE", g+u, "identity:remove_user_from_group", targetGroupAndUser, nil, m.removeMember),
	}
}

func (m *mount) roleRoutes() []rest.Route {
	const x = "/roles/{role_id}"
	const implies = "/roles/{prior_role_id}/implies"
	return []rest.Route{
		// These judge themselves: global and domain roles have rules of their own.
		{Method: "GET", Path: "/roles", Policy: "identity:list_roles", Handle: m.unjudged(m.listRoles)},
		{Method: "POST", Path: "/roles", Policy: "identity:create_role", Body: entity("role", roleProps(), "name"), Handle: m.unjudged(m.createRole)},
		{Method: "GET", Path: x, Policy: "identity:get_role", Handle: m.unjudged(m.showRole)},
		{Method: "PATCH", Path: x, Policy: "identity:update_role", Body: entity("role", roleProps()), Handle: m.unjudged(m.updateRole)},
		{Method: "DELETE", Path: x, Policy: "identity:delete_role", Handle: m.unjudged(m.deleteRole)},
		{Method: "GET", Path: "/role_assignments", Policy: "identity:list_role_assignments", Handle: m.unjudged(m.listAssignments)},

		m.route("GET", implies, "identity:list_implied_roles", nil, nil, m.listImplied),
		m.route("GET", implies+"/{implied_role_id}", "identity:get_implied_role", nil, nil, m.showImplied),
		m.route("HEAD", implies+"/{implied_role_id}", "identity:check_implied_role", nil, nil, m.headImplied),
		m.route("PUT", implies+"/{implied_role_id}", "identity:create_implied_role", nil, nil, m.createImplied),
		m.route("DELETE", implies+"/{implied_role_id}", "identity:delete_implied_role", nil, nil, m.deleteImplied),
		m.route("GET", "/role_inferences", "identity:list_role_inference_rules", nil, nil, m.listInferences),
	}
}

func (m *mount) catalogRoutes() []rest.Route {
	const s, e, g = "/services/{service_id}", "/endpoints/{endpoint_id}", "/regions/{region_id}"
	return []rest.Route{
		m.route("GET", "/services", "identity:list_services", nil, nil, m.listServices),
		m.route("POST", "/services", "identity:create_service", nil, entity("service", serviceProps(), "type"), m.createService),
		m.route("GET", s, "identity:get_service", nil, nil, m.showService),
		m.route("PATCH", s, "identity:update_service", nil, entity("service", serviceProps()), m.updateService),
		m.route("DELETE", s, "identity:delete_service", nil, nil, m.deleteService),

		m.route("GET", "/endpoints", "identity:list_endpoints", nil, nil, m.listEndpoints),
		m.route("POST", "/endpoints", "identity:create_endpoint", nil, entity("endpoint", endpointProps(), "interface", "service_id", "url"), m.createEndpoint),
		m.route("GET", e, "identity:get_endpoint", nil, nil, m.showEndpoint),
		m.route("PATCH", e, "identity:update_endpoint", nil, entity("endpoint", endpointProps()), m.updateEndpoint),
		m.route("DELETE", e, "identity:delete_endpoint", nil, nil, m.deleteEndpoint),

		m.route("GET", "/regions", "identity:list_regions", nil, nil, m.listRegions),
		m.route("POST", "/regions", "identity:create_region", nil, entity("region", regionProps()), m.createRegion),
		m.route("PUT", g, "identity:create_region", nil, entity("region", regionProps()), m.createRegion),
		m.route("GET", g, "identity:get_region", nil, nil, m.showRegion),
		m.route("PATCH", g, "identity:update_region", nil, entity("region", regionProps()), m.updateRegion),
		m.route("DELETE", g, "identity:delete_region", nil, nil, m.deleteRegion),
	}
}

func (m *mount) delegationRoutes() []rest.Route {
	const u = "/users/{user_id}"
	const a, c, e, t = u + "/application_credentials", "/credentials/{credential_id}", u + "/credentials/OS-EC2", "/OS-TRUST/trusts/{trust_id}"
	return []rest.Route{
		m.route("GET", a, "identity:list_application_credentials", nil, nil, m.listAppCreds),
		m.route("POST", a, "identity:create_application_credential", nil, appCredSchema(), m.createAppCred),
		m.route("GET", a+"/{application_credential_id}", "identity:get_application_credential", targetAppCred, nil, m.showAppCred),
		m.route("DELETE", a+"/{application_credential_id}", "identity:delete_application_credential", targetAppCred, nil, m.deleteAppCred),
		m.route("GET", u+"/access_rules", "identity:list_access_rules", targetUser, nil, m.listAccessRules),
		m.route("GET", u+"/access_rules/{access_rule_id}", "identity:get_access_rule", targetUser, nil, m.showAccessRule),
		m.route("DELETE", u+"/access_rules/{access_rule_id}", "identity:delete_access_rule", targetUser, nil, m.deleteAccessRule),

		{Method: "GET", Path: "/credentials", Policy: "identity:list_credentials", Handle: m.unjudged(m.listCredentials)},
		m.route("POST", "/credentials", "identity:create_credential", targetUsersCredentials, entity("credential", credentialProps(), "blob", "type"), m.createCredential),
		m.route("GET", c, "identity:get_credential", targetCredential, nil, m.showCredential),
		m.route("PATCH", c, "identity:update_credential", targetCredential, entity("credential", credentialProps()), m.updateCredential),
		m.route("DELETE", c, "identity:delete_credential", targetCredential, nil, m.deleteCredential),
		m.route("GET", e, "identity:ec2_list_credentials", nil, nil, m.listEC2),
		m.route("POST", e, "identity:ec2_create_credential", targetUsersCredentials,
			[]rest.Schema{rest.SchemaOf(objectSchema(props{"tenant_id", text}, true, []string{"tenant_id"}))}, m.createEC2),
		m.route("GET", e+"/{credential_id}", "identity:ec2_get_credential", targetCredential, nil, m.showEC2),
		m.route("DELETE", e+"/{credential_id}", "identity:ec2_delete_credential", targetCredential, nil, m.deleteEC2),

		{Method: "GET", Path: "/OS-TRUST/trusts", Policy: "identity:list_trusts", Handle: m.unjudged(m.listTrusts)},
		m.route("POST", "/OS-TRUST/trusts", "identity:create_trust", targetNewTrust, trustSchema(), m.createTrust),
		m.route("GET", t, "identity:get_trust", targetTrust, nil, m.showTrust),
		m.route("DELETE", t, "identity:delete_trust", targetTrust, nil, m.deleteTrust),
		m.route("GET", t+"/roles", "identity:list_roles_for_trust", targetTrust, nil, m.listTrustRoles),
		m.route("GET", t+"/roles/{role_id}", "identity:get_role_for_trust", targetTrust, nil, m.showTrustRole),
	}
}

func (m *mount) limitRoutes() []rest.Route {
	const g, l = "/registered_limits/{registered_limit_id}", "/limits/{limit_id}"
	return []rest.Route{
		m.route("GET", "/registered_limits", "identity:list_registered_limits", nil, nil, m.listRegistered),
		m.route("POST", "/registered_limits", "identity:create_registered_limits", nil, registeredSchema(), m.createRegistered),
		m.route("GET", g, "identity:get_registered_limit", nil, nil, m.showRegistered),
		m.route("PATCH", g, "identity:update_registered_limit", nil, strict("registered_limit", registeredProps()), m.updateRegistered),
		m.route("DELETE", g, "identity:delete_registered_limit", nil, nil, m.deleteRegistered),

		m.route("GET", "/limits", "identity:list_limits", nil, nil, m.listLimits),
		m.route("GET", "/limits/model", "identity:get_limit_model", nil, nil, m.limitModel),
		m.route("POST", "/limits", "identity:create_limits", nil, limitsSchema(), m.createLimits),
		m.route("GET", l, "identity:get_limit", targetLimit, nil, m.showLimit),
		m.route("PATCH", l, "identity:update_limit", nil, strict("limit", props{"resource_limit", limitNumber, "description", textOrNull}), m.updateLimit),
		m.route("DELETE", l, "identity:delete_limit", nil, nil, m.deleteLimit),
	}
}

func (m *mount) filterRoutes() []rest.Route {
	const f = "/OS-EP-FILTER"
	const g, p, x = f + "/endpoint_groups/{endpoint_group_id}", f + "/projects/{project_id}", "/policies/{policy_id}"
	const gp, pe = g + "/projects/{project_id}", p + "/endpoints/{endpoint_id}"
	group := props{"name", name255, "description", textOrNull, "filters", `{"type":"object"}`}
	blob := props{"type", `{"type":"string","maxLength":255}`, "blob", text}
	return []rest.Route{
		m.route("GET", f+"/endpoint_groups", "identity:list_endpoint_groups", nil, nil, m.listEndpointGroups),
		m.route("POST", f+"/endpoint_groups", "identity:create_endpoint_group", nil, entity("endpoint_group", group, "name", "filters"), m.createEndpointGroup),
		m.route("GET", g, "identity:get_endpoint_group", nil, nil, m.showEndpointGroup),
		m.route("PATCH", g, "identity:update_endpoint_group", nil, entity("endpoint_group", group), m.updateEndpointGroup),
		m.route("DELETE", g, "identity:delete_endpoint_group", nil, nil, m.deleteEndpointGroup),
		m.route("GET", g+"/endpoints", "identity:list_endpoints_associated_with_endpoint_group", nil, nil, m.listGroupEndpoints),
		m.route("GET", g+"/projects", "identity:list_projects_associated_with_endpoint_group", nil, nil, m.listLinkedProjects),
		m.route("GET", gp, "identity:get_endpoint_group_in_project", nil, nil, m.checkLink),
		m.route("PUT", gp, "identity:add_endpoint_group_to_project", nil, nil, m.putLink),
		m.route("DELETE", gp, "identity:remove_endpoint_group_from_project", nil, nil, m.deleteLink),
		m.route("GET", p+"/endpoint_groups", "identity:list_endpoint_groups_for_project", nil, nil, m.listProjectGroups),
		m.route("GET", p+"/endpoints", "identity:list_endpoints_for_project", nil, nil, m.listProjectEndpoints),
		m.route("GET", pe, "identity:check_endpoint_in_project", nil, nil, m.checkLink),
		m.route("PUT", pe, "identity:add_endpoint_to_project", nil, nil, m.putLink),
		m.route("DELETE", pe, "identity:remove_endpoint_from_project", nil, nil, m.deleteLink),
		m.route("GET", f+"/endpoints/{endpoint_id}/projects", "identity:list_projects_for_endpoint", nil, nil, m.listLinkedProjects),

		m.route("GET", "/policies", "identity:list_policies", nil, nil, m.listPolicies),
		m.route("POST", "/policies", "identity:create_policy", nil, entity("policy", blob, "blob", "type"), m.createPolicy),
		m.route("GET", x, "identity:get_policy", nil, nil, m.showPolicy),
		m.route("PATCH", x, "identity:update_policy", nil, entity("policy", blob), m.updatePolicy),
		m.route("DELETE", x, "identity:delete_policy", nil, nil, m.deletePolicy),
	}
}
