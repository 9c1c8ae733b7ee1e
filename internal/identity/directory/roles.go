package directory

import (
	"slices"
	"strings"
)

// Scope is where roles count. The zero Scope is unscoped.
type Scope struct {
	System    bool
	DomainID  string
	ProjectID string
}

// GroupsOf lists the groups of a user.
func (d *Directory) GroupsOf(userID string) []string {
	var out []string
	for _, m := range d.Members.By("user", userID) {
		out = append(out, m.GroupID)
	}
	return out
}

// actorsOf is the user and its groups as assignments name them.
func (d *Directory) actorsOf(userID string) []string {
	out := []string{"u:" + userID}
	for _, g := range d.GroupsOf(userID) {
		out = append(out, "g:"+g)
	}
	return out
}

// Ancestors lists the projects above p, nearest first, the domain last.
func (d *Directory) Ancestors(p *Project) []*Project {
	var out []*Project
	for p.ParentID != "" && len(out) < MaxDepth+1 {
		up, err := d.Projects.Get(p.ParentID)
		if err != nil {
			return out
		}
		out = append(out, up)
		p = up
	}
	return out
}

// Descendants lists the projects below p, parents before children.
func (d *Directory) Descendants(id string) []*Project {
	var out []*Project
	for _, c := range d.Projects.By("parent", id) {
		out = append(out, c)
		out = append(out, d.Descendants(c.ID)...)
	}
	return out
}

// AssignedRoles lists the roles that a user has in a scope, by itself, by groups and by
// inheritance, before implication.
func (d *Directory) AssignedRoles(userID string, s Scope) []string {
	var direct string
	var above []string
	switch {
	case s.System:
		direct = "s:all"
	case s.DomainID != "":
		direct = "d:" + s.DomainID
	case s.ProjectID != "":
		p, err := d.Projects.Get(s.ProjectID)
		if err != nil {
			return nil
		}
		direct = "p:" + p.ID
		for _, up := range d.Ancestors(p) {
			if up.IsDomain {
				above = append(above, "d:"+up.ID)
			}
			above = append(above, "p:"+up.ID)
		}
	default:
		return nil
	}
	var out []string
	for _, actor := range d.actorsOf(userID) {
		out = d.granted(out, actor, direct, false)
		for _, t := range above {
			out = d.granted(out, actor, t, true)
		}
	}
	return out
}

func (d *Directory) granted(out []string, actor, target string, inherited bool) []string {
	for _, a := range d.Assignments.By("grant", actor+"@"+target) {
		if a.Inherited == inherited && !slices.Contains(out, a.RoleID) {
			out = append(out, a.RoleID)
		}
	}
	return out
}

// Expand adds the roles that the given ones imply, each once.
func (d *Directory) Expand(roleIDs []string) []string {
	out := slices.Clone(roleIDs)
	for i := 0; i < len(out); i++ {
		for _, im := range d.Implied.By("prior", out[i]) {
			if !slices.Contains(out, im.Role) {
				out = append(out, im.Role)
			}
		}
	}
	return out
}

// EffectiveRoles lists the roles that a token of that scope carries, by name:
// implied ones included, domain roles left out.
func (d *Directory) EffectiveRoles(userID string, s Scope) []*Role {
	return d.Visible(d.Expand(d.AssignedRoles(userID, s)))
}

// Visible resolves ids to roles, leaving out domain roles and what is gone.
func (d *Directory) Visible(ids []string) []*Role {
	var out []*Role
	for _, id := range ids {
		if r, err := d.Roles.Get(id); err == nil && r.DomainID == "" {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *Role) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// ProjectsOf lists the projects on which a user has a role.
func (d *Directory) ProjectsOf(userID string) []*Project {
	seen := map[string]bool{}
	var out []*Project
	add := func(p *Project) {
		if !p.IsDomain && !seen[p.ID] {
			seen[p.ID] = true
			out = append(out, p)
		}
	}
	for _, actor := range d.actorsOf(userID) {
		for _, a := range d.Assignments.By("actor", actor) {
			switch {
			case a.Inherited && (a.ProjectID != "" || a.DomainID != ""):
				for _, p := range d.Descendants(a.ProjectID + a.DomainID) {
					add(p)
				}
			case a.ProjectID != "":
				if p, err := d.Projects.Get(a.ProjectID); err == nil {
					add(p)
				}
			}
		}
	}
	return out
}

// DomainsOf lists the domains on which a user has a role.
func (d *Directory) DomainsOf(userID string) []*Project {
	seen := map[string]bool{}
	var out []*Project
	for _, actor := range d.actorsOf(userID) {
		for _, a := range d.Assignments.By("actor", actor) {
			if a.DomainID == "" || a.Inherited || seen[a.DomainID] {
				continue
			}
			seen[a.DomainID] = true
			if p, err := d.Projects.Get(a.DomainID); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// MaxDepth is keystone's max_project_tree_depth, the domain not counted.
const MaxDepth = 5
