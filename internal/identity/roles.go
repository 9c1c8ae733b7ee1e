package identity

import (
	"context"
	"net/http"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) roleView(x *directory.Role) object {
	v := object{"id": x.ID, "name": x.Name, "domain_id": orNull(x.DomainID), "description": nil,
		"options": optionsView(x.Options), "links": r.links("/roles/" + x.ID)}
	if x.Description != nil {
		v["description"] = *x.Description
	}
	return withExtra(v, x.Extra)
}

func (s *Service) role(id string) (*directory.Role, error) {
	x, err := s.dir.Roles.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find role: %s.", id)
	}
	return x, nil
}

func targetRole(r *request, t policy.Target) {
	if x, err := r.m.role(r.Path("role_id")); err == nil {
		t["target.role.id"], t["target.role.name"], t["target.role.domain_id"] = x.ID, x.Name, x.DomainID
	}
}

// judgeRole enforces the rule of global or of domain roles ("get" and "_role" make
// identity:get_role or identity:get_domain_role) and returns the role of the path.
func (r *request) judgeRole(verb string) (*directory.Role, error) {
	x, err := r.m.role(r.Path("role_id"))
	rule := "identity:" + verb + "_role"
	if err == nil && x.DomainID != "" {
		rule = "identity:" + verb + "_domain_role"
	}
	r.params = []string{"role_id"}
	if jerr := r.judge(rule, targetRole); jerr != nil {
		return nil, jerr
	}
	return x, err
}

func (m *mount) listRoles(_ context.Context, r *request) (*rest.Response, error) {
	domain := r.Query().Get("domain_id")
	rule := "identity:list_roles"
	if domain != "" {
		rule = "identity:list_domain_roles"
	}
	if err := r.judge(rule, nil); err != nil {
		return nil, err
	}
	var views []object
	for _, x := range m.dir.Roles.By("domain", domain) {
		views = append(views, r.roleView(x))
	}
	return r.list("roles", views, "name", "id")
}

func (m *mount) showRole(_ context.Context, r *request) (*rest.Response, error) {
	x, err := r.judgeRole("get")
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"role": r.roleView(x)}), nil
}

func (m *mount) createRole(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("role")
	if err != nil {
		return nil, err
	}
	x := &directory.Role{ID: directory.NewID(), Name: strings.TrimSpace(b.text("name")), DomainID: b.text("domain_id"),
		Description: b.optional("description"), Options: b.options(nil)}
	x.Extra = b.extra(nil)
	rule := "identity:create_role"
	if x.DomainID != "" {
		rule = "identity:create_domain_role"
	}
	if err := r.judge(rule, nil); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if x.DomainID != "" {
			if d, err := m.dir.Projects.TxGet(tx, x.DomainID); err != nil || !d.IsDomain {
				return errs.NotFoundf("Could not find domain: %s.", x.DomainID)
			}
		}
		return m.dir.Roles.TxCreate(tx, x)
	})
	if err != nil {
		return nil, m.nameConflict(err, "role", x.Name)
	}
	return rest.JSON(http.StatusCreated, object{"role": r.roleView(x)}), nil
}

func (m *mount) updateRole(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := r.judgeRole("update")
	if err != nil {
		return nil, err
	}
	b, err := r.ref("role")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(x.ID); err != nil {
		return nil, err
	}
	if err := immutable(x.Options, "role", x.ID, b); err != nil {
		return nil, err
	}
	if d, ok := b["domain_id"]; ok && d != orNull(x.DomainID) {
		return nil, errs.Invalidf("Domain ID of a role cannot be changed.")
	}
	delete(b, "domain_id")
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		x, err = m.dir.Roles.TxUpdate(tx, r.Path("role_id"), func(x *directory.Role) error {
			b := cloneRef(b)
			if b.has("name") {
				x.Name = strings.TrimSpace(b.text("name"))
			}
			if b.has("description") {
				x.Description = b.optional("description")
			}
			x.Options = b.options(x.Options)
			x.Extra = b.extra(x.Extra)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, m.nameConflict(err, "role", r.Path("role_id"))
	}
	return rest.JSON(http.StatusOK, object{"role": r.roleView(x)}), nil
}

func (m *mount) deleteRole(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := r.judgeRole("delete")
	if err != nil {
		return nil, err
	}
	if err := immutable(x.Options, "role", x.ID, nil); err != nil {
		return nil, err
	}
	if err := m.dir.DeleteRole(ctx, x.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// roleRef is a role as inference rules show it.
func (r *request) roleRef(x *directory.Role) object {
	v := object{"id": x.ID, "name": x.Name, "links": r.links("/roles/" + x.ID)}
	if x.DomainID != "" {
		v["domain_id"] = x.DomainID
	}
	return v
}

// inferences lists what a role implies directly.
func (r *request) inferences(prior *directory.Role) object {
	implies := []object{}
	for _, im := range r.m.dir.Implied.By("prior", prior.ID) {
		if x, err := r.m.dir.Roles.Get(im.Role); err == nil {
			implies = append(implies, r.roleRef(x))
		}
	}
	return object{"prior_role": r.roleRef(prior), "implies": implies}
}

func (m *mount) listImplied(_ context.Context, r *request) (*rest.Response, error) {
	prior, err := m.role(r.Path("prior_role_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"role_inference": r.inferences(prior),
		"links": r.links("/roles/" + prior.ID + "/implies")}), nil
}

// listInferences is GET /role_inferences: every rule there is.
func (m *mount) listInferences(_ context.Context, r *request) (*rest.Response, error) {
	out := []object{}
	for _, x := range m.dir.Roles.All() {
		if m.dir.Implied.Count("prior", x.ID) > 0 {
			out = append(out, r.inferences(x))
		}
	}
	return rest.JSON(http.StatusOK, object{"role_inferences": out}), nil
}

// implied finds the two roles of a path.
func (r *request) implied() (prior, implied *directory.Role, err error) {
	if prior, err = r.m.role(r.Path("prior_role_id")); err != nil {
		return nil, nil, err
	}
	implied, err = r.m.role(r.Path("implied_role_id"))
	return prior, implied, err
}

func (m *mount) impliedAnswer(r *request, status int, prior, implied *directory.Role) *rest.Response {
	return rest.JSON(status, object{"role_inference": object{"prior_role": r.roleRef(prior), "implies": r.roleRef(implied)},
		"links": r.links("/roles/" + prior.ID + "/implies/" + implied.ID)})
}

// createImplied refuses that anything implies admin ([assignment]
// prohibited_implied_role). Circles are harmless, as upstream has it.
func (m *mount) createImplied(ctx context.Context, r *request) (*rest.Response, error) {
	prior, implied, err := r.implied()
	if err != nil {
		return nil, err
	}
	if implied.Name == "admin" {
		return nil, errs.Forbiddenf("%s cannot be an implied roles.", implied.ID)
	}
	if prior.DomainID == "" && implied.DomainID != "" {
		return nil, errs.Forbiddenf("Global role cannot imply a domain-specific role")
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		for _, id := range []string{prior.ID, implied.ID} {
			if _, err := m.dir.Roles.TxGet(tx, id); err != nil {
				return err
			}
		}
		return m.dir.Implied.TxPut(tx, &directory.Implied{Prior: prior.ID, Role: implied.ID})
	})
	if err != nil {
		return nil, err
	}
	return m.impliedAnswer(r, http.StatusCreated, prior, implied), nil
}

func (r *request) findImplied() (*directory.Role, *directory.Role, string, error) {
	prior, implied, err := r.implied()
	if err != nil {
		return nil, nil, "", err
	}
	id := (&directory.Implied{Prior: prior.ID, Role: implied.ID}).ID()
	if _, err := r.m.dir.Implied.Get(id); err != nil {
		return nil, nil, "", errs.NotFoundf("%s does not imply %s", prior.ID, implied.ID)
	}
	return prior, implied, id, nil
}

func (m *mount) showImplied(_ context.Context, r *request) (*rest.Response, error) {
	prior, implied, _, err := r.findImplied()
	if err != nil {
		return nil, err
	}
	return m.impliedAnswer(r, http.StatusOK, prior, implied), nil
}

func (m *mount) deleteImplied(ctx context.Context, r *request) (*rest.Response, error) {
	_, _, id, err := r.findImplied()
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Implied.TxDelete(tx, id) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// headImplied answers 204, as keystone's HEAD does.
func (m *mount) headImplied(_ context.Context, r *request) (*rest.Response, error) {
	if _, _, _, err := r.findImplied(); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
