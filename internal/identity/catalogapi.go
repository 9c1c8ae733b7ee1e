package identity

import (
	"cmp"
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) regionView(x *directory.Region) object {
	return withExtra(object{"id": x.ID, "description": x.Description, "parent_region_id": orNull(x.ParentID),
		"links": r.links("/regions/" + x.ID)}, x.Extra)
}

func (s *Service) region(id string) (*directory.Region, error) {
	x, err := s.dir.Regions.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find region: %s.", id)
	}
	return x, nil
}

func (m *mount) listRegions(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, x := range m.dir.Regions.All() {
		views = append(views, r.regionView(x))
	}
	return r.list("regions", views, "parent_region_id")
}

func (m *mount) showRegion(_ context.Context, r *request) (*rest.Response, error) {
	x, err := m.region(r.Path("region_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"region": r.regionView(x)}), nil
}

// createRegion is POST /regions and PUT /regions/{region_id}: clients may choose the id.
func (m *mount) createRegion(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("region")
	if err != nil {
		return nil, err
	}
	id := b.text("id")
	if path := r.Path("region_id"); path != "" {
		if id != "" && id != path {
			return nil, errs.Invalidf("Conflicting region IDs specified: %q != %q", path, id)
		}
		id = path
	}
	x := &directory.Region{ID: cmp.Or(id, directory.NewID()), Description: b.text("description"), ParentID: b.text("parent_region_id")}
	x.Extra = b.extra(nil)
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if err := m.checkParentRegion(tx, x); err != nil {
			return err
		}
		return m.dir.Regions.TxCreate(tx, x)
	})
	if errs.Is(err, errs.Conflict) {
		return nil, errs.Conflictf("Conflict occurred attempting to store region - Duplicate ID, %s.", x.ID)
	} else if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"region": r.regionView(x)}), nil
}

// checkParentRegion refuses parents that do not exist and circles.
func (m *mount) checkParentRegion(tx *store.Tx, x *directory.Region) error {
	for id, n := x.ParentID, 0; id != ""; n++ {
		if id == x.ID || n > 100 {
			return errs.Invalidf("Region %s cannot be a parent of itself.", x.ID)
		}
		up, err := m.dir.Regions.TxGet(tx, id)
		if err != nil {
			return errs.NotFoundf("Could not find region: %s.", id)
		}
		id = up.ParentID
	}
	return nil
}

func (m *mount) updateRegion(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.region(r.Path("region_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("region")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(x.ID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		x, err = m.dir.Regions.TxUpdate(tx, r.Path("region_id"), func(x *directory.Region) error {
			b := cloneRef(b)
			if b.has("description") {
				x.Description = b.text("description")
			}
			if b.has("parent_region_id") {
				x.ParentID = b.text("parent_region_id")
			}
			x.Extra = b.extra(x.Extra)
			return m.checkParentRegion(tx, x)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"region": r.regionView(x)}), nil
}

// deleteRegion takes the regions below along; one that endpoints name stays.
func (m *mount) deleteRegion(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.region(r.Path("region_id"))
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error { return m.dropRegion(tx, x.ID) })
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) dropRegion(tx *store.Tx, id string) error {
	if m.dir.Endpoints.TxCount(tx, "region", id) > 0 || m.dir.RegLimits.TxCount(tx, "region", id) > 0 {
		return errs.Forbiddenf("Unable to delete region %s because it or its child regions have associated endpoints.", id)
	}
	for _, c := range m.dir.Regions.TxBy(tx, "parent", id) {
		if err := m.dropRegion(tx, c.ID); err != nil {
			return err
		}
	}
	return m.dir.Regions.TxDelete(tx, id)
}

func (r *request) serviceView(x *directory.Service) object {
	v := object{"id": x.ID, "type": x.Type, "enabled": x.Enabled, "links": r.links("/services/" + x.ID)}
	if x.Name != nil {
		v["name"] = *x.Name
	}
	if x.Description != nil {
		v["description"] = *x.Description
	}
	return withExtra(v, x.Extra)
}

func (s *Service) serviceByID(id string) (*directory.Service, error) {
	x, err := s.dir.Services.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find service: %s.", id)
	}
	return x, nil
}

func (m *mount) listServices(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, x := range m.dir.Services.All() {
		views = append(views, r.serviceView(x))
	}
	return r.list("services", views, "type", "name")
}

func (m *mount) showService(_ context.Context, r *request) (*rest.Response, error) {
	x, err := m.serviceByID(r.Path("service_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"service": r.serviceView(x)}), nil
}

func applyService(x *directory.Service, b ref) {
	if b.has("type") {
		x.Type = b.text("type")
	}
	if b.has("name") {
		x.Name = b.optional("name")
	}
	if b.has("description") {
		x.Description = b.optional("description")
	}
	x.Enabled = b.flag("enabled", x.Enabled)
	x.Extra = b.extra(x.Extra)
}

func (m *mount) createService(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("service")
	if err != nil {
		return nil, err
	}
	x := &directory.Service{ID: directory.NewID(), Enabled: true}
	applyService(x, b)
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Services.TxCreate(tx, x) }); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"service": r.serviceView(x)}), nil
}

func (m *mount) updateService(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.serviceByID(r.Path("service_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("service")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(x.ID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		x, err = m.dir.Services.TxUpdate(tx, r.Path("service_id"), func(x *directory.Service) error {
			applyService(x, cloneRef(b))
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"service": r.serviceView(x)}), nil
}

func (m *mount) deleteService(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.serviceByID(r.Path("service_id"))
	if err != nil {
		return nil, err
	}
	if m.dir.RegLimits.Count("service", x.ID) > 0 {
		return nil, errs.Forbiddenf("Unable to delete service %s because registered limits name it.", x.ID)
	}
	if err := m.dir.DeleteService(ctx, x.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
