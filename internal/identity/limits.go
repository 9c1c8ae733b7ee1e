package identity

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) registeredView(l *directory.RegisteredLimit) object {
	v := object{"id": l.ID, "service_id": l.ServiceID, "region_id": orNull(l.RegionID), "resource_name": l.ResourceName,
		"default_limit": l.DefaultLimit, "description": nil, "links": r.links("/registered_limits/" + l.ID)}
	if l.Description != nil {
		v["description"] = *l.Description
	}
	return v
}

func (s *Service) registered(id string) (*directory.RegisteredLimit, error) {
	l, err := s.dir.RegLimits.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find registered limit for %s.", id)
	}
	return l, nil
}

func (m *mount) listRegistered(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, l := range m.dir.RegLimits.All() {
		views = append(views, r.registeredView(l))
	}
	return r.list("registered_limits", views, "service_id", "region_id", "resource_name")
}

func (m *mount) showRegistered(_ context.Context, r *request) (*rest.Response, error) {
	l, err := m.registered(r.Path("registered_limit_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"registered_limit": r.registeredView(l)}), nil
}

// number takes an integer; the schema has made sure that it is one.
func (b ref) number(key string, absent int) int {
	n, ok := b[key].(float64)
	delete(b, key)
	if !ok {
		return absent
	}
	return int(n)
}

func (m *mount) applyRegistered(tx *store.Tx, l *directory.RegisteredLimit, b ref) error {
	for key, field := range map[string]*string{"service_id": &l.ServiceID, "region_id": &l.RegionID, "resource_name": &l.ResourceName} {
		if b.has(key) {
			*field = b.text(key)
		}
	}
	l.DefaultLimit = b.number("default_limit", l.DefaultLimit)
	if b.has("description") {
		l.Description = b.optional("description")
	}
	if _, err := m.dir.Services.TxGet(tx, l.ServiceID); err != nil {
		return errs.Invalidf("Expecting to find service_id in registered_limit.")
	}
	if l.RegionID != "" {
		if _, err := m.dir.Regions.TxGet(tx, l.RegionID); err != nil {
			return errs.Invalidf("Expecting to find region_id in registered_limit.")
		}
	}
	return nil
}

// createRegistered makes all limits of the body or none.
func (m *mount) createRegistered(ctx context.Context, r *request) (*rest.Response, error) {
	var body struct {
		Limits []ref `json:"registered_limits"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	var views []object
	err := m.dir.Write(ctx, func(tx *store.Tx) error {
		views = nil
		for _, b := range body.Limits {
			l := &directory.RegisteredLimit{ID: directory.NewID()}
			if err := m.applyRegistered(tx, l, cloneRef(b)); err != nil {
				return err
			}
			if err := m.dir.RegLimits.TxCreate(tx, l); err != nil {
				return err
			}
			views = append(views, r.registeredView(l))
		}
		return nil
	})
	if err != nil {
		return nil, m.nameConflict(err, "registered_limit", "resource_name")
	}
	return rest.JSON(http.StatusCreated, object{"registered_limits": views}), nil
}

// inUse refuses what would strand the limits that override l.
func (m *mount) inUse(tx *store.Tx, id string) error {
	if m.dir.Limits.TxCount(tx, "registered", id) > 0 {
		return errs.Forbiddenf("Unable to update or delete registered limit %s because there are project limits associated with it.", id)
	}
	return nil
}

func (m *mount) updateRegistered(ctx context.Context, r *request) (*rest.Response, error) {
	l, err := m.registered(r.Path("registered_limit_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("registered_limit")
	if err != nil {
		return nil, err
	}
	moves := b.has("service_id") || b.has("region_id") || b.has("resource_name")
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if moves {
			if err := m.inUse(tx, l.ID); err != nil {
				return err
			}
		}
		l, err = m.dir.RegLimits.TxUpdate(tx, r.Path("registered_limit_id"), func(l *directory.RegisteredLimit) error {
			return m.applyRegistered(tx, l, cloneRef(b))
		})
		return err
	})
	if err != nil {
		return nil, m.nameConflict(err, "registered_limit", "resource_name")
	}
	return rest.JSON(http.StatusOK, object{"registered_limit": r.registeredView(l)}), nil
}

func (m *mount) deleteRegistered(ctx context.Context, r *request) (*rest.Response, error) {
	l, err := m.registered(r.Path("registered_limit_id"))
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if err := m.inUse(tx, l.ID); err != nil {
			return err
		}
		return m.dir.RegLimits.TxDelete(tx, l.ID)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (r *request) limitView(l *directory.Limit) object {
	v := object{"id": l.ID, "project_id": orNull(l.ProjectID), "domain_id": orNull(l.DomainID), "resource_limit": l.ResourceLimit,
		"description": nil, "links": r.links("/limits/" + l.ID)}
	if reg, err := r.m.dir.RegLimits.Get(l.RegisteredID); err == nil {
		v["service_id"], v["region_id"], v["resource_name"] = reg.ServiceID, orNull(reg.RegionID), reg.ResourceName
	}
	if l.Description != nil {
		v["description"] = *l.Description
	}
	return v
}

func (s *Service) limit(id string) (*directory.Limit, error) {
	l, err := s.dir.Limits.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find limit for %s.", id)
	}
	return l, nil
}

func targetLimit(r *request, t policy.Target) {
	l, err := r.m.limit(r.Path("limit_id"))
	if err != nil {
		return
	}
	if l.DomainID != "" {
		t["target.limit.domain.id"] = l.DomainID
		return
	}
	t["target.limit.project_id"] = l.ProjectID
	if p, err := r.m.dir.Projects.Get(l.ProjectID); err == nil {
		t["target.limit.project.domain_id"] = p.DomainID
	}
}

// mayList is whose limits a token sees: all of them, those of its domain, or its own.
func (r *request) mayList(l *directory.Limit) bool {
	c := r.Creds
	switch {
	case c.System || c.Admin() || c.HasRole("service"):
		return true
	case c.DomainID != "":
		p, err := r.m.dir.Projects.Get(l.ProjectID)
		return l.DomainID == c.DomainID || err == nil && p.DomainID == c.DomainID
	}
	return c.ProjectID != "" && l.ProjectID == c.ProjectID
}

func (m *mount) listLimits(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, l := range m.dir.Limits.All() {
		if r.mayList(l) {
			views = append(views, r.limitView(l))
		}
	}
	return r.list("limits", views, "service_id", "region_id", "resource_name", "project_id", "domain_id")
}

func (m *mount) showLimit(_ context.Context, r *request) (*rest.Response, error) {
	l, err := m.limit(r.Path("limit_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"limit": r.limitView(l)}), nil
}

// limitModel is GET /limits/model: the flat model, upstream's default.
func (m *mount) limitModel(context.Context, *request) (*rest.Response, error) {
	return rest.JSON(http.StatusOK, object{"model": object{"name": "flat",
		"description": "Limit enforcement and validation does not take project hierarchy into consideration."}}), nil
}

func (m *mount) createLimits(ctx context.Context, r *request) (*rest.Response, error) {
	var body struct {
		Limits []ref `json:"limits"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	var made []*directory.Limit
	err := m.dir.Write(ctx, func(tx *store.Tx) error {
		made = nil
		for _, b := range body.Limits {
			l, err := m.txLimit(tx, cloneRef(b))
			if err != nil {
				return err
			}
			made = append(made, l)
		}
		return nil
	})
	if err != nil {
		return nil, m.nameConflict(err, "limit", "resource_name")
	}
	views := make([]object, len(made))
	for i, l := range made {
		views[i] = r.limitView(l)
	}
	return rest.JSON(http.StatusCreated, object{"limits": views}), nil
}

// txLimit makes a limit, which must override a registered one.
func (m *mount) txLimit(tx *store.Tx, b ref) (*directory.Limit, error) {
	l := &directory.Limit{ID: directory.NewID(), ProjectID: b.text("project_id"), DomainID: b.text("domain_id"),
		ResourceLimit: b.number("resource_limit", 0), Description: b.optional("description")}
	if (l.ProjectID == "") == (l.DomainID == "") {
		return nil, errs.Invalidf("A limit needs either project_id or domain_id.")
	}
	p, err := m.dir.Projects.TxGet(tx, l.ProjectID+l.DomainID)
	if err != nil || l.DomainID != "" && !p.IsDomain {
		return nil, errs.Invalidf("Could not find project or domain: %s.", l.ProjectID+l.DomainID)
	}
	if p.IsDomain { // a domain named as a project is a domain
		l.ProjectID, l.DomainID = "", p.ID
	}
	key := b.text("service_id") + "\x00" + b.text("region_id") + "\x00" + b.text("resource_name")
	reg, ok := m.dir.RegLimits.TxUnique(tx, "resource", key)
	if !ok {
		return nil, errs.Forbiddenf("Unable to create a limit that has no corresponding registered limit.")
	}
	l.RegisteredID = reg.ID
	return l, m.dir.Limits.TxCreate(tx, l)
}

func (m *mount) updateLimit(ctx context.Context, r *request) (*rest.Response, error) {
	l, err := m.limit(r.Path("limit_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("limit")
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		l, err = m.dir.Limits.TxUpdate(tx, r.Path("limit_id"), func(l *directory.Limit) error {
			b := cloneRef(b)
			l.ResourceLimit = b.number("resource_limit", l.ResourceLimit)
			if b.has("description") {
				l.Description = b.optional("description")
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"limit": r.limitView(l)}), nil
}

func (m *mount) deleteLimit(ctx context.Context, r *request) (*rest.Response, error) {
	l, err := m.limit(r.Path("limit_id"))
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Limits.TxDelete(tx, l.ID) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
