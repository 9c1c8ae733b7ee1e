package migration

import (
	"context"
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// liveRoutes show a server's live migrations while they are under way
// (nova/api/openstack/compute/server_migrations.py). Here no server moves while it
// runs, so that there is never one.
func (s *Migrations) liveRoutes() []rest.Route {
	const at, rule = "/servers/{id}/migrations", "os_compute_api:servers:migrations:"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "index", Min: rest.V(2, 23), Handle: s.listLive},
		{Method: "GET", Path: at + "/{migration}", Policy: rule + "show", Min: rest.V(2, 23), Handle: s.showLive},
	}
}

func (s *Migrations) listLive(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := s.server(r); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"migrations": []any{}}), nil
}

func (s *Migrations) showLive(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := s.server(r); err != nil {
		return nil, err
	}
	id, server := r.Path("migration"), r.Path("id")
	for _, m := range s.records.By("server", server) {
		if strconv.Itoa(number(m.ID)) == id {
			return nil, errs.NotFoundf("Migration %s for server %s is not live-migration.", id, server)
		}
	}
	return nil, errs.NotFoundf("In-progress live migration %s is not found for server %s.", id, server)
}
