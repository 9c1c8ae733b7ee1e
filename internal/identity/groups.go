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

func (r *request) groupView(g *directory.Group) object {
	return withExtra(object{"id": g.ID, "name": g.Name, "domain_id": g.DomainID, "description": g.Description,
		"links": r.links("/groups/" + g.ID)}, g.Extra)
}

func (s *Service) group(id string) (*directory.Group, error) {
	g, err := s.dir.Groups.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find group: %s.", id)
	}
	return g, nil
}

func targetGroup(r *request, t policy.Target) {
	if g, err := r.m.group(r.Path("group_id")); err == nil {
		t["target.group.id"], t["target.group.domain_id"] = g.ID, g.DomainID
	}
}

func targetGroupAndUser(r *request, t policy.Target) {
	targetGroup(r, t)
	targetUser(r, t)
}

// targetListGroups is the token's domain, as keystone/api/groups.py has it.
func targetListGroups(r *request, t policy.Target) {
	if r.Creds.DomainID != "" {
		t["target.group.domain_id"] = r.Creds.DomainID
	}
}

func (m *mount) listGroups(_ context.Context, r *request) (*rest.Response, error) {
	all := m.dir.Groups.All
	if d := r.listed(); d != "" {
		all = func() []*directory.Group { return m.dir.Groups.By("domain", d) }
	}
	var views []object
	for _, g := range all() {
		views = append(views, r.groupView(g))
	}
	return r.list("groups", views, "domain_id", "name", "id")
}

func (m *mount) showGroup(_ context.Context, r *request) (*rest.Response, error) {
	g, err := m.group(r.Path("group_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"group": r.groupView(g)}), nil
}

func (m *mount) createGroup(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("group")
	if err != nil {
		return nil, err
	}
	g := &directory.Group{ID: directory.NewID(), Name: strings.TrimSpace(b.text("name")), DomainID: r.domainOr(b.text("domain_id")),
		Description: b.text("description")}
	g.Extra = b.extra(nil)
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if d, err := m.dir.Projects.TxGet(tx, g.DomainID); err != nil || !d.IsDomain {
			return errs.NotFoundf("Could not find domain: %s.", g.DomainID)
		}
		return m.dir.Groups.TxCreate(tx, g)
	})
	if err != nil {
		return nil, m.nameConflict(err, "group", g.Name)
	}
	return rest.JSON(http.StatusCreated, object{"group": r.groupView(g)}), nil
}

func (m *mount) updateGroup(ctx context.Context, r *request) (*rest.Response, error) {
	g, err := m.group(r.Path("group_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("group")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(g.ID); err != nil {
		return nil, err
	}
	if d, ok := b["domain_id"]; ok && d != g.DomainID {
		return nil, errs.Invalidf("Cannot change Domain ID.")
	}
	delete(b, "domain_id")
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		g, err = m.dir.Groups.TxUpdate(tx, r.Path("group_id"), func(g *directory.Group) error {
			b := cloneRef(b)
			if b.has("name") {
				g.Name = strings.TrimSpace(b.text("name"))
			}
			if b.has("description") {
				g.Description = b.text("description")
			}
			g.Extra = b.extra(g.Extra)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, m.nameConflict(err, "group", r.Path("group_id"))
	}
	return rest.JSON(http.StatusOK, object{"group": r.groupView(g)}), nil
}

func (m *mount) deleteGroup(ctx context.Context, r *request) (*rest.Response, error) {
	g, err := m.group(r.Path("group_id"))
	if err != nil {
		return nil, err
	}
	if err := m.dir.DeleteGroup(ctx, g.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) listGroupUsers(_ context.Context, r *request) (*rest.Response, error) {
	g, err := m.group(r.Path("group_id"))
	if err != nil {
		return nil, err
	}
	var views []object
	for _, mb := range m.dir.Members.By("group", g.ID) {
		if u, err := m.dir.Users.Get(mb.UserID); err == nil && (r.Creds.DomainID == "" || r.Creds.DomainID == u.DomainID) {
			views = append(views, r.userView(u))
		}
	}
	return r.list("users", views, "domain_id", "enabled", "name")
}

// memberOf finds group and user of a membership's path.
func (r *request) memberOf() (*directory.Member, error) {
	g, err := r.m.group(r.Path("group_id"))
	if err != nil {
		return nil, err
	}
	u, err := r.m.user(r.Path("user_id"))
	if err != nil {
		return nil, err
	}
	return &directory.Member{GroupID: g.ID, UserID: u.ID, Since: r.m.now().UTC()}, nil
}

func (m *mount) addMember(ctx context.Context, r *request) (*rest.Response, error) {
	mb, err := r.memberOf()
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if _, err := m.dir.Groups.TxGet(tx, mb.GroupID); err != nil { // neither goes away meanwhile
			return err
		}
		if _, err := m.dir.Users.TxGet(tx, mb.UserID); err != nil {
			return err
		}
		return m.dir.Members.TxPut(tx, mb)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) checkMember(_ context.Context, r *request) (*rest.Response, error) {
	mb, err := r.memberOf()
	if err != nil {
		return nil, err
	}
	if _, err := m.dir.Members.Get(mb.ID()); err != nil {
		return nil, errs.NotFoundf("User '%s' not found in group '%s'", mb.UserID, mb.GroupID)
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) removeMember(ctx context.Context, r *request) (*rest.Response, error) {
	if _, err := m.checkMember(ctx, r); err != nil {
		return nil, err
	}
	id := (&directory.Member{GroupID: r.Path("group_id"), UserID: r.Path("user_id")}).ID()
	err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Members.TxDelete(tx, id) })
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
