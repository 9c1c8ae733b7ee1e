package identity

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// grantRoutes are the assignments of roles: to users and groups, on projects, domains
// and the system, each directly or (OS-INHERIT) for the projects below.
func (m *mount) grantRoutes() []rest.Route {
	var routes []rest.Route
	add := func(method, path, rule string, h handler) {
		routes = append(routes, m.route(method, path, "identity:"+rule, targetGrant, nil, h))
	}
	for _, actor := range []string{"user", "group"} {
		for _, target := range []string{"project", "domain"} {
			base := "/" + target + "s/{" + target + "_id}/" + actor + "s/{" + actor + "_id}/roles"
			for _, form := range [][2]string{{"", ""}, {"/OS-INHERIT", "/inherited_to_projects"}} {
				list, one := form[0]+base+form[1], form[0]+base+"/{role_id}"+form[1]
				add("GET", list, "list_grants", m.listGrants)
				add("GET", one, "check_grant", m.checkGrant)
				add("PUT", one, "create_grant", m.createGrant)
				add("DELETE", one, "revoke_grant", m.revokeGrant)
			}
		}
		base := "/system/" + actor + "s/{" + actor + "_id}/roles"
		add("GET", base, "list_system_grants_for_"+actor, m.listGrants)
		add("GET", base+"/{role_id}", "check_system_grant_for_"+actor, m.checkGrant)
		add("PUT", base+"/{role_id}", "create_system_grant_for_"+actor, m.createGrant)
		add("DELETE", base+"/{role_id}", "revoke_system_grant_for_"+actor, m.revokeGrant)
	}
	return routes
}

// targetGrant tells everybody what is missing, but for taking a grant away from
// whom there is no more.
func targetGrant(r *request, t policy.Target) {
	a := r.grant()
	if a.RoleID != "" {
		_, r.gone = r.m.role(a.RoleID)
	}
	if r.gone == nil {
		r.gone = r.m.checkTarget(a)
	}
	if r.gone == nil && r.HTTP.Method != http.MethodDelete {
		r.gone = r.m.checkActor(a)
	}
	has := func(p string) bool { return slices.Contains(r.params, p) }
	if has("user_id") {
		targetUser(r, t)
	}
	if has("group_id") {
		targetGroup(r, t)
	}
	if has("domain_id") {
		targetDomain(r, t)
	}
	if has("project_id") {
		targetProject(r, t)
	}
	if has("role_id") {
		targetRole(r, t)
	}
}

// grant is the assignment that the path names; the role is "" in lists.
func (r *request) grant() *directory.Assignment {
	return &directory.Assignment{UserID: r.Path("user_id"), GroupID: r.Path("group_id"), ProjectID: r.Path("project_id"),
		DomainID: r.Path("domain_id"), System: strings.HasPrefix(r.selfPath(), "/system/"), RoleID: r.Path("role_id"),
		Inherited: strings.HasSuffix(r.selfPath(), "/inherited_to_projects")}
}

// checkTarget finds where the grant is.
func (s *Service) checkTarget(a *directory.Assignment) (err error) {
	switch {
	case a.ProjectID != "":
		_, err = s.project(a.ProjectID)
	case a.DomainID != "":
		_, err = s.domain(a.DomainID)
	}
	return err
}

// checkActor finds whom the grant is for.
func (s *Service) checkActor(a *directory.Assignment) (err error) {
	if a.UserID != "" {
		_, err = s.user(a.UserID)
	} else {
		_, err = s.group(a.GroupID)
	}
	return err
}

func (m *mount) listGrants(_ context.Context, r *request) (*rest.Response, error) {
	a := r.grant()
	if err := m.checkTarget(a); err != nil {
		return nil, err
	}
	if err := m.checkActor(a); err != nil {
		return nil, err
	}
	var views []object
	for _, g := range m.dir.Assignments.By("grant", a.Actor()+"@"+a.Target()) {
		if g.Inherited != a.Inherited {
			continue
		}
		if x, err := m.dir.Roles.Get(g.RoleID); err == nil {
			views = append(views, r.roleView(x))
		}
	}
	return r.list("roles", views, "name")
}

// findGrant is the 404 that says what is missing.
func (m *mount) findGrant(r *request) (*directory.Assignment, error) {
	a := r.grant()
	if _, err := m.role(a.RoleID); err != nil {
		return nil, err
	}
	if err := m.checkTarget(a); err != nil {
		return nil, err
	}
	found, err := m.dir.Assignments.Get(a.ID())
	if err != nil {
		return nil, errs.NotFoundf("Could not find role assignment with role: %s.", a.RoleID)
	}
	return found, nil
}

func (m *mount) checkGrant(_ context.Context, r *request) (*rest.Response, error) {
	if _, err := m.findGrant(r); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// createGrant gives a role; giving it twice is fine. A domain's role stays in its domain.
func (m *mount) createGrant(ctx context.Context, r *request) (*rest.Response, error) {
	a := r.grant()
	role, err := m.role(a.RoleID)
	if err != nil {
		return nil, err
	}
	if err := m.checkTarget(a); err != nil {
		return nil, err
	}
	if err := m.checkActor(a); err != nil {
		return nil, err
	}
	if role.DomainID != "" {
		if a.System {
			return nil, errs.Invalidf("Role %s is a domain-specific role. Unable to use a domain-specific role in a system assignment.", role.ID)
		}
		if p, err := m.dir.Projects.Get(a.ProjectID + a.DomainID); err == nil && p.Domain() != role.DomainID {
			return nil, errs.Forbiddenf("Project %s must be in the same domain as the role %s being assigned.", p.ID, role.ID)
		}
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if err := m.holdGrant(tx, a); err != nil {
			return err
		}
		return m.dir.Assignments.TxPut(tx, a)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// holdGrant makes the transaction fail when a part of the grant goes away meanwhile.
func (m *mount) holdGrant(tx *store.Tx, a *directory.Assignment) error {
	_, err := m.dir.Roles.TxGet(tx, a.RoleID)
	if err == nil && a.UserID != "" {
		_, err = m.dir.Users.TxGet(tx, a.UserID)
	}
	if err == nil && a.GroupID != "" {
		_, err = m.dir.Groups.TxGet(tx, a.GroupID)
	}
	if id := a.ProjectID + a.DomainID; err == nil && id != "" {
		_, err = m.dir.Projects.TxGet(tx, id)
	}
	return err
}

// revokeGrant takes a role away. Application credentials of the user on that
// project go with it, as upstream has it since they were bound to the role.
func (m *mount) revokeGrant(ctx context.Context, r *request) (*rest.Response, error) {
	a, err := m.findGrant(r)
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if a.UserID != "" && a.ProjectID != "" {
			for _, c := range m.dir.AppCreds.TxBy(tx, "user", a.UserID) {
				if c.ProjectID == a.ProjectID {
					if err := m.dir.AppCreds.TxDelete(tx, c.ID); err != nil {
						return err
					}
				}
			}
		}
		return m.dir.Assignments.TxDelete(tx, a.ID())
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
