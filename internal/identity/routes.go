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
	for _, group := range [][]rest.Route{m.authRoutes(), m.resourceRoutes()} {
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
