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

func (r *request) projectView(p *directory.Project) object {
	return withExtra(object{"id": p.ID, "name": p.Name, "description": p.Description, "enabled": p.Enabled,
		"is_domain": p.IsDomain, "domain_id": orNull(p.DomainID), "parent_id": orNull(p.ParentID), "tags": tagsView(p),
		"options": optionsView(p.Options), "links": r.links("/projects/" + p.ID)}, p.Extra)
}

func (s *Service) project(id string) (*directory.Project, error) {
	p, err := s.dir.Projects.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find project: %s.", id)
	}
	return p, nil
}

func targetProject(r *request, t policy.Target) {
	if p, err := r.m.project(r.Path("project_id")); err == nil {
		t["target.project.id"], t["target.project.domain_id"] = p.ID, p.DomainID
	}
}

// targetNewProject is the project as the body asks for it.
func targetNewProject(r *request, t policy.Target) {
	if b, err := r.ref("project"); err == nil {
		t["target.project.domain_id"] = b.text("domain_id")
	}
}

// listProjects is GET /projects: domains only when is_domain asks for them.
func (m *mount) listProjects(_ context.Context, r *request) (*rest.Response, error) {
	q := r.Query()
	kind := "project"
	if queryTrue(q, "is_domain") {
		kind = "domain"
	}
	var views []object
	for _, p := range m.dir.Projects.By("kind", kind) {
		if r.Creds.DomainID != "" && r.Creds.DomainID != p.DomainID || !tagged(p, q.Get) {
			continue
		}
		views = append(views, r.projectView(p))
	}
	return r.list("projects", views, "domain_id", "enabled", "name", "parent_id", "id")
}

// tagged judges tags, tags-any, not-tags and not-tags-any.
func tagged(p *directory.Project, q func(string) string) bool {
	has := func(t string) bool { return slices.Contains(p.Tags, t) }
	split := func(key string) []string {
		return strings.FieldsFunc(q(key), func(r rune) bool { return r == ',' })
	}
	all := func(list []string) bool {
		return !slices.ContainsFunc(list, func(t string) bool { return !has(t) })
	}
	if l := split("tags"); len(l) > 0 && !all(l) {
		return false
	}
	if l := split("tags-any"); len(l) > 0 && !slices.ContainsFunc(l, has) {
		return false
	}
	if l := split("not-tags"); len(l) > 0 && all(l) {
		return false
	}
	l := split("not-tags-any")
	return len(l) == 0 || !slices.ContainsFunc(l, has)
}

func (m *mount) showProject(_ context.Context, r *request) (*rest.Response, error) {
	p, err := m.project(r.Path("project_id"))
	if err != nil {
		return nil, err
	}
	view := r.projectView(p)
	if err := r.addHierarchy(view, p); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"project": view}), nil
}

// addHierarchy adds parents and subtree as the query asks. Lists hold what the
// caller has a role on; ids hold everything.
func (r *request) addHierarchy(view object, p *directory.Project) error {
	q, d := r.Query(), r.m.dir
	asked := func(key string) bool { return queryTrue(q, key) }
	if asked("parents_as_list") && asked("parents_as_ids") {
		return errs.Invalidf("Cannot use parents_as_list and parents_as_ids query params at the same time.")
	}
	if asked("subtree_as_list") && asked("subtree_as_ids") {
		return errs.Invalidf("Cannot use subtree_as_list and subtree_as_ids query params at the same time.")
	}
	switch {
	case asked("parents_as_list"):
		view["parents"] = r.mine(d.Ancestors(p))
	case asked("parents_as_ids"):
		var up any
		above := d.Ancestors(p)
		for i := len(above) - 1; i >= 0; i-- {
			up = object{above[i].ID: up}
		}
		view["parents"] = up
	}
	switch {
	case asked("subtree_as_list"):
		view["subtree"] = r.mine(d.Descendants(p.ID))
	case asked("subtree_as_ids"):
		view["subtree"] = subtreeIDs(d, p.ID)
	}
	return nil
}

func subtreeIDs(d *directory.Directory, id string) any {
	out := object{}
	for _, c := range d.Projects.By("parent", id) {
		out[c.ID] = subtreeIDs(d, c.ID)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// mine are the projects among list on which the caller has a role.
func (r *request) mine(list []*directory.Project) []object {
	own := map[string]bool{}
	for _, p := range r.m.dir.ProjectsOf(r.Creds.UserID) {
		own[p.ID] = true
	}
	out := []object{}
	for _, p := range list {
		if own[p.ID] {
			out = append(out, object{"project": r.projectView(p)})
		}
	}
	return out
}

func (m *mount) createProject(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("project")
	if err != nil {
		return nil, err
	}
	p := &directory.Project{ID: directory.NewID(), Name: strings.TrimSpace(b.text("name")), Description: b.text("description"),
		Enabled: b.flag("enabled", true), IsDomain: b.flag("is_domain", false), DomainID: b.text("domain_id"),
		ParentID: b.text("parent_id"), Options: b.options(nil)}
	if p.Tags, err = checkTags(b.texts("tags")); err != nil {
		return nil, err
	}
	p.Extra = b.extra(nil)
	if err := m.placeProject(r, p); err != nil {
		return nil, err
	}
	if err := m.createProjectRecord(ctx, p); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"project": r.projectView(p)}), nil
}

// placeProject settles domain and parent of a new project and checks the
// hierarchy (keystone/resource/core.py, _enforce_project_constraints).
func (m *mount) placeProject(r *request, p *directory.Project) error {
	if p.IsDomain {
		if p.ParentID != "" || p.DomainID != "" {
			return errs.Invalidf("only root projects are allowed to act as domains.")
		}
		return nil
	}
	if p.DomainID == "" {
		if p.DomainID = r.callersDomain(); p.DomainID == "" {
			return errs.Invalidf("The domain of the project must be given.")
		}
		if p.ParentID != "" {
			if up, err := m.dir.Projects.Get(p.ParentID); err == nil {
				p.DomainID = up.Domain()
			}
		}
	}
	if p.ParentID == "" {
		p.ParentID = p.DomainID
	}
	if _, err := m.domain(p.DomainID); err != nil {
		return errs.Invalidf("Could not find domain: %s.", p.DomainID)
	}
	parent, err := m.dir.Projects.Get(p.ParentID)
	if err != nil {
		return errs.Invalidf("Could not find project: %s.", p.ParentID)
	}
	if parent.Domain() != p.DomainID {
		return errs.Invalidf("Cannot create project, since it specifies its domain_id %s, but specifies a parent in a different domain (%s).", p.DomainID, parent.Domain())
	}
	above := append(m.dir.Ancestors(parent), parent)
	for _, up := range above {
		if !up.Enabled {
			return errs.Invalidf("cannot create a project in a branch containing a disabled project: %s", up.ID)
		}
	}
	if len(above) > directory.MaxDepth {
		return errs.Forbiddenf("Max hierarchy depth reached for %s branch.", p.ParentID)
	}
	return nil
}

// callersDomain is where things go that a request puts into no domain
// (keystone/server/flask/common.py, _normalize_domain_id).
func (r *request) callersDomain() string {
	switch c := r.Creds; {
	case c.DomainID != "":
		return c.DomainID
	case c.ProjectDomainID != "":
		return c.ProjectDomainID
	}
	return DefaultDomain
}

func (m *mount) updateProject(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := m.project(r.Path("project_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("project")
	if err != nil {
		return nil, err
	}
	if p, err = m.updateProjectRecord(ctx, p, b); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"project": r.projectView(p)}), nil
}

// updateProjectRecord changes a project or a domain (keystone/resource/core.py, _update_project).
func (s *Service) updateProjectRecord(ctx context.Context, old *directory.Project, b ref) (p *directory.Project, err error) {
	kind := "project"
	if old.IsDomain {
		kind = "domain"
	}
	if err := b.matchID(old.ID); err != nil {
		return nil, err
	}
	if err := immutable(old.Options, kind, old.ID, b); err != nil {
		return nil, err
	}
	err = s.dir.Write(ctx, func(tx *store.Tx) error {
		p, err = s.dir.Projects.TxUpdate(tx, old.ID, func(p *directory.Project) error {
			return s.changeProject(p, cloneRef(b))
		})
		return err
	})
	return p, s.nameConflict(err, kind, old.Name)
}

func cloneRef(b ref) ref {
	out := make(ref, len(b))
	for k, v := range b {
		out[k] = v
	}
	return out
}

func (s *Service) changeProject(p *directory.Project, b ref) error {
	if v, ok := b["domain_id"]; ok && v != orNull(p.DomainID) {
		return errs.Invalidf("Cannot change Domain ID.")
	}
	if v, ok := b["parent_id"]; ok && v != orNull(p.ParentID) {
		return errs.Forbiddenf("Update of `parent_id` is not allowed.")
	}
	if v, ok := b["is_domain"].(bool); ok && v != p.IsDomain {
		return errs.Invalidf("Update of `is_domain` is not allowed.")
	}
	for _, k := range []string{"domain_id", "parent_id", "is_domain"} {
		delete(b, k)
	}
	if b.has("name") {
		p.Name = strings.TrimSpace(b.text("name"))
	}
	if b.has("description") {
		p.Description = b.text("description")
	}
	if b.has("tags") {
		var err error
		if p.Tags, err = checkTags(b.texts("tags")); err != nil {
			return err
		}
	}
	if enabled := b.flag("enabled", p.Enabled); enabled != p.Enabled {
		if err := s.mayEnable(p, enabled); err != nil {
			return err
		}
		p.Enabled = enabled
	}
	p.Options = b.options(p.Options)
	p.Extra = b.extra(p.Extra)
	return nil
}

// mayEnable keeps a hierarchy consistent: nothing enabled below what is disabled.
func (s *Service) mayEnable(p *directory.Project, enabled bool) error {
	if enabled {
		for _, up := range s.dir.Ancestors(p) {
			if !up.Enabled {
				return errs.Forbiddenf("Cannot enable project %s since it has disabled parents", p.ID)
			}
		}
		return nil
	}
	if p.IsDomain {
		return nil
	}
	for _, c := range s.dir.Descendants(p.ID) {
		if c.Enabled {
			return errs.Forbiddenf("Cannot disable project %s since its subtree contains enabled projects.", p.ID)
		}
	}
	return nil
}

func (m *mount) deleteProject(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := m.project(r.Path("project_id"))
	if err != nil {
		return nil, err
	}
	if err := immutable(p.Options, "project", p.ID, nil); err != nil {
		return nil, err
	}
	switch {
	case p.IsDomain:
		err = m.dir.DeleteDomain(ctx, p.ID)
	case len(m.dir.Projects.By("parent", p.ID)) > 0:
		err = errs.Forbiddenf("Cannot delete the project %s since it is not a leaf in the hierarchy. Use the cascade option if you want to delete a whole subtree.", p.ID)
	default:
		err = m.dir.DeleteProjects(ctx, p.ID)
	}
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
