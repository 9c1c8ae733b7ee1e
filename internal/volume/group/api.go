package group

import (
	"context"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

const naming = `"name":` + wire.Name + `,"description":` + wire.Name

// Routes are this package's part of the API.
func (s *Service) Routes() []rest.Route {
	create := wire.Body("group", wire.Object(naming+`,"group_type":`+wire.SomeName+`,"volume_types":{"type":"array","minItems":1,"uniqueItems":true,"items":{"type":"string","maxLength":255}},"availability_zone":`+wire.Zone, `"group_type","volume_types"`, "false"))
	copied := wire.Body("create-from-src", `{"type":"object","properties":{`+naming+`,"source_group_id":`+wire.UUID+`,"group_snapshot_id":`+wire.UUID+`},"additionalProperties":false,"oneOf":[{"required":["group_snapshot_id"]},{"required":["source_group_id"]}]}`)
	update := wire.Body("group", `{"type":"object","minProperties":1,"properties":{`+naming+`,"add_volumes":`+wire.Name+`,"remove_volumes":`+wire.Name+`},"additionalProperties":false}`)
	const one, act = "/groups/{id}", "/groups/{id}/action"
	since := rest.V(3, 13)
	return slices.Concat(s.snapshotRoutes(), s.types.Routes(), []rest.Route{
		{Method: "GET", Path: "/groups", Policy: "group:get_all", Min: since, Handle: s.list(false)},
		{Method: "GET", Path: "/groups/detail", Policy: "group:get_all", Min: since, Handle: s.list(true)},
		{Method: "POST", Path: "/groups", Policy: "group:create", Min: since, Body: create, Handle: s.createGroup},
		{Method: "POST", Path: "/groups/action", Action: "create-from-src", Policy: "group:create", Min: rest.V(3, 14), Body: copied, Handle: s.copyGroup},
		{Method: "GET", Path: one, Policy: "group:get", Min: since, Handle: s.show},
		{Method: "PUT", Path: one, Policy: "group:update", Min: since, Body: update, Handle: s.updateGroup},
		{Method: "POST", Path: act, Action: "delete", Policy: "group:delete", Min: since, Body: wire.Body("delete", wire.Object(`"delete-volumes":`+wire.Bool, "", "false")), Handle: s.deleteGroup},
		{Method: "POST", Path: act, Action: "reset_status", Policy: "group:reset_status", Min: rest.V(3, 20), Body: resetBody(), Handle: s.resetGroup},
	})
}

func resetBody() []rest.Schema {
	return wire.Body("reset_status", wire.Object(`"status":{"type":"string"}`, `"status"`, "false"))
}

func (s *Service) groupOf(r *rest.Request) (*block.Group, error) {
	g, err := s.FindGroup(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return g, r.Enforce(g.Target())
}

// summary is a group as a create answers (cinder/api/v3/views/groups.py).
func summary(g *block.Group) map[string]any { return map[string]any{"id": g.ID, "name": g.Name} }

func (s *Service) detail(r *rest.Request, g *block.Group) (map[string]any, error) {
	v := map[string]any{"id": g.ID, "status": g.Status, "availability_zone": g.AZ, "created_at": wire.Stamp(g.Created), "name": g.Name, "description": g.Description,
		"group_type": g.TypeID, "volume_types": g.VolumeTypes}
	if r.AtLeast(3, 14) {
		v["group_snapshot_id"], v["source_group_id"] = wire.Null(g.SnapshotID), wire.Null(g.SourceID)
	}
	if r.AtLeast(3, 25) {
		with, err := wire.Flag("list_volume", r.Query().Get("list_volume"))
		if err != nil {
			return nil, err
		}
		if with {
			ids := []string{}
			for _, x := range s.Volumes.By("group", g.ID) {
				ids = append(ids, x.ID)
			}
			v["volumes"] = ids
		}
	}
	if r.AtLeast(3, 38) {
		v["replication_status"] = "disabled"
	}
	if r.AtLeast(3, 58) && r.Allows("group:group_project_attribute", r.Own()) {
		v["project_id"] = g.ProjectID
	}
	return v, nil
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

const sortTime = "2006-01-02T15:04:05.000000"

func groupKeys() wire.Keys[*block.Group] {
	type grp = *block.Group
	return wire.Keys[grp]{"id": func(g grp) string { return g.ID }, "name": func(g grp) string { return text(g.Name) }, "description": func(g grp) string { return text(g.Description) },
		"status": func(g grp) string { return string(g.Status) }, "availability_zone": func(g grp) string { return g.AZ }, "group_type_id": func(g grp) string { return g.TypeID },
		"project_id": func(g grp) string { return g.ProjectID }, "user_id": func(g grp) string { return g.UserID }, "host": func(g grp) string { return g.Backend },
		"group_snapshot_id": func(g grp) string { return g.SnapshotID }, "source_group_id": func(g grp) string { return g.SourceID },
		"created_at": func(g grp) string { return g.Created.Format(sortTime) }, "updated_at": func(g grp) string { return g.Updated.Format(sortTime) }}
}

// matches tells whether a record is what a list asks for; users may select by some
// keys only (cinder's resource_filters.json). What no record has selects nothing.
func matches[T any](r *rest.Request, q *wire.Query, x T, keys wire.Keys[T], users ...string) (bool, error) {
	for key := range q.Filters {
		name, like := strings.CutSuffix(key, "~")
		if key == "list_volume" || like && !r.AtLeast(3, 34) {
			continue
		}
		if r.AtLeast(3, 31) && !r.Creds.Admin() && !slices.Contains(users, name) {
			return false, errs.Invalidf("Invalid filters %s are found in query options.", key)
		}
		get, val := keys[name], q.Filters.Get(key)
		if get == nil || !like && get(x) != val || like && !strings.Contains(get(x), val) {
			return false, nil
		}
	}
	return true, nil
}

func (s *Service) list(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		all := s.Groups.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			all = s.Groups.All()
		}
		var found []*block.Group
		for _, g := range all {
			ok, err := matches(r, q, g, groupKeys(), "name")
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, g)
			}
		}
		page, err := wire.Cut(q, found, "Group", func(g *block.Group) string { return g.ID }, groupKeys())
		if err != nil {
			return nil, err
		}
		var views []any
		last := ""
		for _, g := range page {
			v := summary(g)
			if detail {
				if v, err = s.detail(r, g); err != nil {
					return nil, err
				}
			}
			views, last = append(views, v), g.ID
		}
		return wire.GroupListing(r, q, "groups", detail, views, last), nil
	}
}

func (s *Service) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	v, err := s.detail(r, g)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"group": v}), nil
}

func (s *Service) createGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Group struct {
			Name        *string  `json:"name"`
			Description *string  `json:"description"`
			Type        *string  `json:"group_type"`
			VolumeTypes []string `json:"volume_types"`
			Zone        *string  `json:"availability_zone"`
		} `json:"group"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Group
	g, err := s.create(ctx, r.Creds, &order{ID: newID(), Request: r.ID, Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), Type: wire.Text(in.Type),
		Zone: wire.Text(in.Zone), VolumeTypes: in.VolumeTypes})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"group": summary(g)}), nil
}

func (s *Service) copyGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Copy struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			Source      *string `json:"source_group_id"`
			Snapshot    *string `json:"group_snapshot_id"`
		} `json:"create-from-src"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Copy
	g, err := s.copy(ctx, r.Creds, &order{ID: newID(), Request: r.ID, Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), Source: wire.Text(in.Source), Snapshot: wire.Text(in.Snapshot)})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"group": summary(g)}), nil
}

func ids(list *string) []string {
	return strings.FieldsFunc(text(list), func(c rune) bool { return c == ',' || c == ' ' })
}

func (s *Service) updateGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Group struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			Add         *string `json:"add_volumes"`
			Remove      *string `json:"remove_volumes"`
		} `json:"group"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	in := b.Group
	return rest.Empty(202), s.update(ctx, g.ID, changes{Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), Add: ids(in.Add), Remove: ids(in.Remove)})
}

func (s *Service) deleteGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Delete struct {
			Volumes any `json:"delete-volumes"`
		} `json:"delete"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.remove(ctx, r.Creds, r.ID, g.ID, b.Delete.Volumes != nil && wire.Truthy(b.Delete.Volumes))
}

// resettable are the states that an administrator may declare, of groups and of
// their snapshots (cinder/api/validation/validators.py).
var resettable = []string{"error", "available", "creating", "deleting", "deleted", "updating", "error_deleting"}

// declared reads the status that an administrator declares.
func declared(r *rest.Request, noun string) (block.Status, error) {
	var b struct {
		Reset struct {
			Status string `json:"status"`
		} `json:"reset_status"`
	}
	if err := r.Decode(&b); err != nil {
		return "", err
	}
	status := strings.ToLower(b.Reset.Status)
	if !slices.Contains(resettable, status) {
		return "", errs.Invalidf("%s status: %s is invalid, valid statuses are: %s.", noun, b.Reset.Status, strings.Join(resettable, ", "))
	}
	return block.Status(status), nil
}

func (s *Service) resetGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	status, err := declared(r, "Group")
	if err != nil {
		return nil, err
	}
	g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	_, err = s.Groups.Update(ctx, g.ID, func(g *block.Group) error { g.Status, g.Updated = status, wire.Now(); return nil })
	if errs.Is(err, errs.NotFound) {
		return nil, wire.NotFound("Group", g.ID)
	}
	return rest.Empty(202), err
}
