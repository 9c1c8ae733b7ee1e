package identity

import (
	"context"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// held is an assignment as a list shows it, with what it was derived from.
type held struct {
	directory.Assignment
	viaGroup, viaProject, viaDomain, viaRole string
}

// assignmentQuery is what GET /role_assignments asks for.
type assignmentQuery struct {
	user, group, role, project, domain string
	system, effective, names, subtree  bool
	inherited                          *bool
}

func (r *request) assignmentQuery() (*assignmentQuery, error) {
	v := r.Query()
	q := &assignmentQuery{user: v.Get("user.id"), group: v.Get("group.id"), role: v.Get("role.id"),
		project: v.Get("scope.project.id"), domain: v.Get("scope.domain.id"), system: v.Get("scope.system") != "",
		effective: queryTrue(v, "effective"), names: queryTrue(v, "include_names"), subtree: queryTrue(v, "include_subtree")}
	if v.Has("scope.OS-INHERIT:inherited_to") {
		b := v.Get("scope.OS-INHERIT:inherited_to") == "projects"
		q.inherited = &b
	}
	switch {
	case q.domain != "" && q.project != "":
		return nil, errs.Invalidf("Specify a domain or project, not both")
	case q.domain != "" && q.system:
		return nil, errs.Invalidf("Specify system or domain, not both")
	case q.project != "" && q.system:
		return nil, errs.Invalidf("Specify system or project, not both")
	case q.user != "" && q.group != "":
		return nil, errs.Invalidf("Specify a user or group, not both")
	case q.effective && q.group != "":
		return nil, errs.Invalidf("Combining effective and group filter will always result in an empty list.")
	case q.effective && q.inherited != nil && *q.inherited && q.domain != "":
		return nil, errs.Invalidf("Combining effective, domain and inherited filters will always result in an empty list.")
	case q.subtree && q.project == "":
		return nil, errs.Invalidf("scope.project.id must be specified if include_subtree is also specified")
	}
	return q, nil
}

// targetAssignments is the domain of the token, or of the project whose tree is listed.
func targetAssignments(r *request, t policy.Target) {
	if r.Creds.DomainID != "" {
		t["target.domain_id"] = r.Creds.DomainID
	}
	if queryTrue(r.Query(), "include_subtree") {
		if p, err := r.m.dir.Projects.Get(r.Query().Get("scope.project.id")); err == nil {
			t["target.domain_id"] = p.DomainID
		}
	}
}

func (m *mount) listAssignments(_ context.Context, r *request) (*rest.Response, error) {
	rule := "identity:list_role_assignments"
	if queryTrue(r.Query(), "include_subtree") {
		rule = "identity:list_role_assignments_for_tree"
	}
	if err := r.judge(rule, targetAssignments); err != nil {
		return nil, err
	}
	q, err := r.assignmentQuery()
	if err != nil {
		return nil, err
	}
	views := []object{}
	for _, h := range m.assignments(q) {
		if r.Creds.DomainID == "" || m.inDomain(&h, r.Creds.DomainID) {
			views = append(views, r.assignmentView(&h, q.names))
		}
	}
	return rest.JSON(http.StatusOK, object{"role_assignments": views,
		"links": object{"self": r.selfQuery(), "previous": nil, "next": nil}}), nil
}

func (s *Service) inDomain(h *held, domain string) bool {
	if h.DomainID == domain {
		return true
	}
	p, err := s.dir.Projects.Get(h.ProjectID)
	return err == nil && p.DomainID == domain
}

// assignments derives and filters (keystone/assignment/core.py, list_role_assignments).
func (s *Service) assignments(q *assignmentQuery) []held {
	projects := []string{q.project}
	if q.subtree {
		for _, p := range s.dir.Descendants(q.project) {
			projects = append(projects, p.ID)
		}
	}
	var out []held
	for _, a := range s.candidates(q) {
		if q.inherited != nil && a.Inherited != *q.inherited {
			continue
		}
		list := []held{{Assignment: *a}}
		if q.effective {
			list = s.effective(list)
		}
		for _, h := range list {
			if h.System && q.effective && !q.system {
				continue // upstream tells system roles apart from effective ones
			}
			if (q.user == "" || h.UserID == q.user) && (q.group == "" || h.GroupID == q.group) && (q.role == "" || h.RoleID == q.role) &&
				(q.project == "" || slices.Contains(projects, h.ProjectID)) && (q.domain == "" || h.DomainID == q.domain) && (!q.system || h.System) {
				out = append(out, h)
			}
		}
	}
	return out
}

// candidates are the records from which an answer can come.
func (s *Service) candidates(q *assignmentQuery) []*directory.Assignment {
	by := func(index string, values ...string) (out []*directory.Assignment) {
		for _, v := range values {
			out = append(out, s.dir.Assignments.By(index, v)...)
		}
		return out
	}
	switch {
	case q.user != "":
		actors := []string{"u:" + q.user}
		if q.effective {
			for _, g := range s.dir.GroupsOf(q.user) {
				actors = append(actors, "g:"+g)
			}
		}
		return by("actor", actors...)
	case q.group != "":
		return by("actor", "g:"+q.group)
	case q.system:
		return by("target", "s:all")
	}
	return s.dir.Assignments.All()
}

// effective replaces groups by their members, inheritance by the projects below, and
// adds what is implied; domain roles fall away.
func (s *Service) effective(list []held) []held {
	list = expand(list, func(h held) []held {
		if h.GroupID == "" {
			return []held{h}
		}
		var out []held
		for _, mb := range s.dir.Members.By("group", h.GroupID) {
			x := h
			x.UserID, x.GroupID, x.viaGroup = mb.UserID, "", h.GroupID
			out = append(out, x)
		}
		return out
	})
	list = expand(list, func(h held) []held {
		if !h.Inherited {
			return []held{h}
		}
		var out []held
		for _, p := range s.dir.Descendants(h.ProjectID + h.DomainID) {
			x := h
			x.viaProject, x.viaDomain = h.ProjectID, h.DomainID
			x.ProjectID, x.DomainID, x.Inherited = p.ID, "", false
			out = append(out, x)
		}
		return out
	})
	list = expand(list, func(h held) []held {
		out := []held{h}
		for i := 0; i < len(out); i++ {
			for _, im := range s.dir.Implied.By("prior", out[i].RoleID) {
				if slices.ContainsFunc(out, func(x held) bool { return x.RoleID == im.Role }) {
					continue
				}
				x := h
				x.viaRole, x.RoleID = out[i].RoleID, im.Role
				out = append(out, x)
			}
		}
		return out
	})
	return slices.DeleteFunc(list, func(h held) bool {
		x, err := s.dir.Roles.Get(h.RoleID)
		return err != nil || x.DomainID != ""
	})
}

func expand(list []held, fn func(held) []held) (out []held) {
	for _, h := range list {
		out = append(out, fn(h)...)
	}
	return out
}

// named is an id, with name and domain when they are asked for.
func (s *Service) named(id, name, domainID string, names bool) object {
	v := object{"id": id}
	if names {
		v["name"] = name
		if d, err := s.dir.Projects.Get(domainID); err == nil {
			v["domain"] = idName(d.ID, d.Name)
		}
	}
	return v
}

// assignmentView shows an assignment and the addresses of the records that it comes from
// (keystone/api/role_assignments.py, _format_entity).
func (r *request) assignmentView(h *held, names bool) object {
	s, v, links, scope := r.m.Service, object{}, object{}, object{}
	path := ""
	switch {
	case h.System:
		scope["system"], path = object{"all": true}, "/system"
	case h.DomainID != "":
		d, _ := s.dir.Projects.Get(h.DomainID)
		scope["domain"], path = s.named(h.DomainID, nameOf(d), "", names), "/domains/"+h.DomainID
	default:
		p, _ := s.dir.Projects.Get(h.ProjectID)
		domain := ""
		if p != nil {
			domain = p.Domain()
		}
		scope["project"], path = s.named(h.ProjectID, nameOf(p), domain, names), "/projects/"+h.ProjectID
	}
	inherited := h.Inherited
	if h.viaDomain != "" {
		inherited, path = true, "/domains/"+h.viaDomain
	} else if h.viaProject != "" {
		inherited, path = true, "/projects/"+h.viaProject
	}
	if h.UserID != "" {
		name, domain := "", ""
		if u, err := s.dir.Users.Get(h.UserID); err == nil {
			name, domain = u.Name, u.DomainID
		}
		v["user"] = s.named(h.UserID, name, domain, names)
	} else {
		name, domain := "", ""
		if g, err := s.dir.Groups.Get(h.GroupID); err == nil {
			name, domain = g.Name, g.DomainID
		}
		v["group"] = s.named(h.GroupID, name, domain, names)
	}
	switch {
	case h.viaGroup != "":
		links["membership"] = r.self("/groups/" + h.viaGroup + "/users/" + h.UserID)
		path += "/groups/" + h.viaGroup
	case h.UserID != "":
		path += "/users/" + h.UserID
	default:
		path += "/groups/" + h.GroupID
	}
	v["role"] = r.roleOf(h.RoleID, names)
	if h.viaRole != "" {
		path += "/roles/" + h.viaRole
		links["prior_role"] = r.self("/prior_role/" + h.RoleID + "/implies/" + h.viaRole)
	} else {
		path += "/roles/" + h.RoleID
	}
	if inherited {
		scope["OS-INHERIT:inherited_to"] = "projects"
		path = "/OS-INHERIT" + path + "/inherited_to_projects"
	}
	links["assignment"] = r.self(path)
	v["scope"], v["links"] = scope, links
	return v
}

func nameOf(p *directory.Project) string {
	if p == nil {
		return ""
	}
	return p.Name
}

func (r *request) roleOf(id string, names bool) object {
	x, err := r.m.dir.Roles.Get(id)
	if err != nil {
		return object{"id": id}
	}
	return r.m.named(id, x.Name, x.DomainID, names)
}
