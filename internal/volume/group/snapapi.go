package group

import (
	"context"
	"net/url"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) snapshotRoutes() []rest.Route {
	create := wire.Body("group_snapshot", wire.Object(naming+`,"group_id":`+wire.UUID, `"group_id"`, "false"))
	const all, one = "/group_snapshots", "/group_snapshots/{id}"
	since := rest.V(3, 14)
	return []rest.Route{
		{Method: "GET", Path: all, Policy: "group:get_all_group_snapshots", Min: since, Handle: s.listSnapshots(false)},
		{Method: "GET", Path: all + "/detail", Policy: "group:get_all_group_snapshots", Min: since, Handle: s.listSnapshots(true)},
		{Method: "POST", Path: all, Policy: "group:create_group_snapshot", Min: since, Body: create, Handle: s.createSnapshot},
		{Method: "GET", Path: one, Policy: "group:get_group_snapshot", Min: since, Handle: s.showSnapshot},
		{Method: "DELETE", Path: one, Policy: "group:delete_group_snapshot", Min: since, Handle: s.deleteSnapshot},
		{Method: "POST", Path: one + "/action", Action: "reset_status", Policy: "group:reset_group_snapshot_status", Min: rest.V(3, 19), Body: resetBody(), Handle: s.resetSnapshot},
	}
}

func (s *Service) snapshotOf(r *rest.Request) (*block.GroupSnapshot, error) {
	x, err := s.FindGroupSnapshot(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return x, r.Enforce(x.Target())
}

// snapView is a group snapshot in full (cinder/api/v3/views/group_snapshots.py).
func snapView(r *rest.Request, x *block.GroupSnapshot) map[string]any {
	v := map[string]any{"id": x.ID, "group_id": x.GroupID, "group_type_id": x.TypeID, "status": x.Status, "created_at": wire.Stamp(x.Created), "name": x.Name, "description": x.Description}
	if r.AtLeast(3, 58) && r.Allows("group:group_snapshot_project_attribute", r.Own()) {
		v["project_id"] = x.ProjectID
	}
	return v
}

func snapKeys() wire.Keys[*block.GroupSnapshot] {
	type snap = *block.GroupSnapshot
	return wire.Keys[snap]{"id": func(x snap) string { return x.ID }, "name": func(x snap) string { return text(x.Name) }, "description": func(x snap) string { return text(x.Description) },
		"status": func(x snap) string { return string(x.Status) }, "group_id": func(x snap) string { return x.GroupID }, "group_type_id": func(x snap) string { return x.TypeID },
		"project_id": func(x snap) string { return x.ProjectID }, "user_id": func(x snap) string { return x.UserID },
		"created_at": func(x snap) string { return x.Created.Format(sortTime) }, "updated_at": func(x snap) string { return x.Updated.Format(sortTime) }}
}

func (s *Service) listSnapshots(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		if !r.AtLeast(3, 29) { // before, nothing is selected
			q.AllProjects, q.Filters = false, url.Values{}
		}
		all := s.GroupSnapshots.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			all = s.GroupSnapshots.All()
		}
		var found []*block.GroupSnapshot
		for _, x := range all {
			ok, err := matches(r, q, x, snapKeys(), "name", "status", "group_id")
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, x)
			}
		}
		page, err := wire.Cut(q, found, "GroupSnapshot", func(x *block.GroupSnapshot) string { return x.ID }, snapKeys())
		if err != nil {
			return nil, err
		}
		var views []any
		last := ""
		for _, x := range page {
			v := map[string]any{"id": x.ID, "name": x.Name}
			if detail {
				v = snapView(r, x)
			}
			views, last = append(views, v), x.ID
		}
		return wire.GroupListing(r, q, "group_snapshots", detail, views, last), nil
	}
}

func (s *Service) createSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Snapshot struct {
			Group       string  `json:"group_id"`
			Name        *string `json:"name"`
			Description *string `json:"description"`
		} `json:"group_snapshot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	g, err := s.FindGroup(r.Creds, b.Snapshot.Group)
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(g.Target()); err != nil {
		return nil, err
	}
	x, err := s.snapshot(ctx, r.Creds, snapOrder{ID: newID(), Group: g.ID, Request: r.ID, Name: b.Snapshot.Name, Description: b.Snapshot.Description})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"group_snapshot": map[string]any{"id": x.ID, "name": x.Name, "group_type_id": x.TypeID}}), nil
}

func (s *Service) showSnapshot(_ context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.snapshotOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"group_snapshot": snapView(r, x)}), nil
}

func (s *Service) deleteSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.snapshotOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.removeSnapshot(ctx, r.Creds, r.ID, x.ID)
}

func (s *Service) resetSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	status, err := declared(r, "Group snapshot")
	if err != nil {
		return nil, err
	}
	x, err := s.snapshotOf(r)
	if err != nil {
		return nil, err
	}
	_, err = s.GroupSnapshots.Update(ctx, x.ID, func(x *block.GroupSnapshot) error { x.Status, x.Updated = status, wire.Now(); return nil })
	if errs.Is(err, errs.NotFound) {
		return nil, wire.NotFound("GroupSnapshot", x.ID)
	}
	return rest.Empty(202), err
}
