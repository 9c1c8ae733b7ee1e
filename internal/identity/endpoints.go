package identity

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) endpointView(x *directory.Endpoint) object {
	return withExtra(object{"id": x.ID, "service_id": x.ServiceID, "region_id": orNull(x.RegionID), "region": orNull(x.RegionID),
		"interface": x.Interface, "url": x.URL, "enabled": x.Enabled, "links": r.links("/endpoints/" + x.ID)}, x.Extra)
}

func (s *Service) endpoint(id string) (*directory.Endpoint, error) {
	x, err := s.dir.Endpoints.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find endpoint: %s.", id)
	}
	return x, nil
}

func (m *mount) listEndpoints(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, x := range m.dir.Endpoints.All() {
		views = append(views, r.endpointView(x))
	}
	return r.list("endpoints", views, "interface", "service_id", "region_id")
}

func (m *mount) showEndpoint(_ context.Context, r *request) (*rest.Response, error) {
	x, err := m.endpoint(r.Path("endpoint_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"endpoint": r.endpointView(x)}), nil
}

// applyEndpoint changes x and makes the region that "region", the attribute of old, names.
func (m *mount) applyEndpoint(tx *store.Tx, x *directory.Endpoint, b ref) error {
	if b.has("service_id") {
		x.ServiceID = b.text("service_id")
	}
	if _, err := m.dir.Services.TxGet(tx, x.ServiceID); err != nil {
		return errs.Invalidf("Could not find service: %s.", x.ServiceID)
	}
	if b.has("url") {
		x.URL = b.text("url")
		if err := directory.CheckURL(x.URL); err != nil {
			return err
		}
	}
	if b.has("interface") {
		x.Interface = b.text("interface")
	}
	x.Enabled = b.flag("enabled", x.Enabled)
	legacy := b.has("region") && !b.has("region_id")
	if legacy {
		x.RegionID = b.text("region")
	} else if b.has("region_id") {
		x.RegionID = b.text("region_id")
	}
	delete(b, "region")
	if x.RegionID != "" {
		if _, err := m.dir.Regions.TxGet(tx, x.RegionID); err != nil {
			if !legacy {
				return errs.Invalidf("Could not find region: %s.", x.RegionID)
			}
			if err := m.dir.Regions.TxCreate(tx, &directory.Region{ID: x.RegionID}); err != nil {
				return err
			}
		}
	}
	x.Extra = b.extra(x.Extra)
	return nil
}

func (m *mount) createEndpoint(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("endpoint")
	if err != nil {
		return nil, err
	}
	var x *directory.Endpoint
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		x = &directory.Endpoint{ID: directory.NewID(), Enabled: true}
		if err := m.applyEndpoint(tx, x, cloneRef(b)); err != nil {
			return err
		}
		return m.dir.Endpoints.TxCreate(tx, x)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"endpoint": r.endpointView(x)}), nil
}

func (m *mount) updateEndpoint(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.endpoint(r.Path("endpoint_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("endpoint")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(x.ID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		x, err = m.dir.Endpoints.TxUpdate(tx, r.Path("endpoint_id"), func(x *directory.Endpoint) error {
			return m.applyEndpoint(tx, x, cloneRef(b))
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"endpoint": r.endpointView(x)}), nil
}

func (m *mount) deleteEndpoint(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := m.endpoint(r.Path("endpoint_id"))
	if err != nil {
		return nil, err
	}
	if err := m.dir.DeleteEndpoint(ctx, x.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
