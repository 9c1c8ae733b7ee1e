package migration

import (
	"context"
	"slices"
	"strconv"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// liveRoutes show a server's live migrations while they are under way
// (nova/api/openstack/compute/server_migrations.py).
func (s *Migrations) liveRoutes() []rest.Route {
	const at, rule = "/servers/{id}/migrations", "os_compute_api:servers:migrations:"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "index", Min: rest.V(2, 23), Handle: s.listLive},
		{Method: "GET", Path: at + "/{migration}", Policy: rule + "show", Min: rest.V(2, 23), Handle: s.showLive},
	}
}

// inProgress are the states that upstream's list has (nova/db/main/api.py,
// migration_get_in_progress_by_instance).
var inProgress = []string{Queued, Preparing, Running, PostMigrating}

// Find gives a server's migration by the number that users know it by. NotFound
// is said in upstream's words (nova/exception.py, MigrationNotFoundForInstance).
func (s *Migrations) Find(server, number string) (*Migration, error) {
	for _, m := range s.records.By("server", server) {
		if strconv.Itoa(numberOf(m.ID)) == number {
			return m, nil
		}
	}
	return nil, errs.NotFoundf("Migration %s not found for instance %s", number, server)
}

func (s *Migrations) listLive(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := s.server(r); err != nil {
		return nil, err
	}
	views := []any{}
	for _, m := range s.records.By("server", r.Path("id")) {
		if m.Kind == Live && slices.Contains(inProgress, m.Status) {
			views = append(views, m.liveView(r))
		}
	}
	return rest.JSON(200, map[string]any{"migrations": views}), nil
}

func (s *Migrations) showLive(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := s.server(r); err != nil {
		return nil, err
	}
	id, server := r.Path("migration"), r.Path("id")
	m, err := s.Find(server, id)
	switch {
	case err != nil:
		return nil, errs.NotFoundf("In-progress live migration %s is not found for server %s.", id, server)
	case m.Kind != Live:
		return nil, errs.NotFoundf("Migration %s for server %s is not live-migration.", id, server)
	case !slices.Contains(inProgress, m.Status):
		return nil, errs.NotFoundf("Live migration %s for server %s is not in progress.", id, server)
	}
	return rest.JSON(200, map[string]any{"migration": m.liveView(r)}), nil
}

func (m *Migration) liveView(r *rest.Request) map[string]any {
	v := map[string]any{"id": numberOf(m.ID), "server_uuid": m.Server, "status": m.Status, "source_compute": m.Source, "source_node": m.Source,
		"dest_compute": wire.OrNull(m.Target), "dest_node": wire.OrNull(m.Target), "dest_host": nil,
		"created_at": m.Created.Format(stamp), "updated_at": m.Updated.Format(stamp),
		"memory_total_bytes": nil, "memory_processed_bytes": nil, "memory_remaining_bytes": nil,
		"disk_total_bytes": nil, "disk_processed_bytes": nil, "disk_remaining_bytes": nil}
	if p := m.Progress; p != nil {
		v["memory_total_bytes"], v["memory_processed_bytes"], v["memory_remaining_bytes"] = p.MemoryTotal, p.MemoryProcessed, p.MemoryRemaining
		v["disk_total_bytes"], v["disk_processed_bytes"], v["disk_remaining_bytes"] = p.DiskTotal, p.DiskProcessed, p.DiskRemaining
	}
	if r.AtLeast(2, 59) {
		v["uuid"] = m.ID
	}
	if r.AtLeast(2, 80) {
		v["user_id"], v["project_id"] = m.UserID, m.ProjectID
	}
	return v
}
