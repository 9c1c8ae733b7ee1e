package snapshot

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Routes are this package's part of the API.
func (s *Service) Routes() []rest.Route {
	fields := `"name":` + wire.Name + `,"description":` + wire.Name + `,"display_name":` + wire.Name + `,"display_description":` + wire.Name
	create := wire.Body("snapshot", wire.Object(fields+`,"volume_id":{"type":["string","null"],"maxLength":255},"force":{},"metadata":`+wire.OptSpecs, `"volume_id"`, "true"))
	update := wire.Body("snapshot", wire.Object(fields, "", "false"))
	meta, item := wire.Body("metadata", wire.Specs), wire.Body("meta", wire.Specs)
	reset := wire.Body("os-reset_status", wire.Object(`"status":{"type":"string","enum":["available","AVAILABLE","creating","deleting","error","error_deleting"]}`, `"status"`, "false"))
	const one = "/snapshots/{id}"
	return append(s.manageRoutes(), []rest.Route{
		{Method: "GET", Path: "/snapshots", Policy: "volume:get_all_snapshots", Handle: s.list(false)},
		{Method: "GET", Path: "/snapshots/detail", Policy: "volume:get_all_snapshots", Handle: s.list(true)},
		{Method: "POST", Path: "/snapshots", Policy: "volume:create_snapshot", Body: create, Handle: s.create},
		{Method: "GET", Path: one, Policy: "volume:get_snapshot", Handle: s.show},
		{Method: "PUT", Path: one, Policy: "volume:update_snapshot", Body: update, Handle: s.update},
		{Method: "DELETE", Path: one, Policy: "volume:delete_snapshot", Handle: s.remove(false)},
		{Method: "GET", Path: one + "/metadata", Policy: "volume:get_snapshot_metadata", Handle: s.showMetadata},
		{Method: "POST", Path: one + "/metadata", Policy: "volume:update_snapshot_metadata", Body: meta, Handle: s.writeMetadata(false)},
		{Method: "PUT", Path: one + "/metadata", Policy: "volume:update_snapshot_metadata", Body: meta, Handle: s.writeMetadata(true)},
		{Method: "GET", Path: one + "/metadata/{key}", Policy: "volume:get_snapshot_metadata", Handle: s.showItem},
		{Method: "PUT", Path: one + "/metadata/{key}", Policy: "volume:update_snapshot_metadata", Body: item, Handle: s.writeItem},
		{Method: "DELETE", Path: one + "/metadata/{key}", Policy: "volume:delete_snapshot_metadata", Handle: s.deleteItem},
		{Method: "POST", Path: one + "/action", Action: "os-reset_status", Policy: "volume_extension:snapshot_admin_actions:reset_status", Body: reset, Handle: s.reset},
		{Method: "POST", Path: one + "/action", Action: "os-update_snapshot_status", Policy: "volume_extension:snapshot_actions:update_snapshot_status", Handle: s.declare,
			Body: wire.Body("os-update_snapshot_status", wire.Object(`"status":{"type":"string"},"progress":{"type":["string","null"],"pattern":"^[0-9]{1,3}%$"}`, `"status"`, "false"))},
		{Method: "POST", Path: one + "/action", Action: "os-force_delete", Policy: "volume_extension:snapshot_admin_actions:force_delete", Handle: s.remove(true)},
	}...)
}

// view is a snapshot as a create or an update answers (cinder/api/v3/views/snapshots.py).
func (s *Service) view(r *rest.Request, x *block.Snapshot, detail bool) map[string]any {
	v := map[string]any{"id": x.ID, "name": x.Name, "description": x.Description, "created_at": wire.Stamp(x.Created), "updated_at": wire.Stamp(x.Updated),
		"volume_id": x.VolumeID, "status": x.Status, "size": x.SizeGiB, "metadata": wire.Map(x.Metadata)}
	if detail {
		v["os-extended-snapshot-attributes:progress"], v["os-extended-snapshot-attributes:project_id"] = x.Progress, x.ProjectID
	}
	if r.AtLeast(3, 14) {
		v["group_snapshot_id"] = wire.Null(x.GroupSnapshotID)
	}
	if r.AtLeast(3, 41) {
		v["user_id"] = x.UserID
	}
	if r.AtLeast(3, 65) {
		v["consumes_quota"] = true
	}
	return v
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func keys() wire.Keys[*block.Snapshot] {
	type snap = *block.Snapshot
	return wire.Keys[snap]{"id": func(x snap) string { return x.ID }, "name": func(x snap) string { return text(x.Name) }, "display_name": func(x snap) string { return text(x.Name) },
		"status": func(x snap) string { return string(x.Status) }, "volume_id": func(x snap) string { return x.VolumeID }, "project_id": func(x snap) string { return x.ProjectID },
		"size": func(x snap) string { return strconv.Itoa(x.SizeGiB) }, "created_at": func(x snap) string { return x.Created.Format("2006-01-02T15:04:05.000000") },
		"user_id": func(x snap) string { return x.UserID }, "description": func(x snap) string { return text(x.Description) }}
}

func (s *Service) list(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		all := s.Snapshots.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			all = s.Snapshots.All()
		}
		var found []*block.Snapshot
		for _, x := range all {
			ok, err := matches(r, q, x)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, x)
			}
		}
		page, err := wire.Cut(q, found, "Snapshot", func(x *block.Snapshot) string { return x.ID }, keys())
		if err != nil {
			return nil, err
		}
		var views []any
		last, path := "", "snapshots"
		if detail {
			path += "/detail"
		}
		for _, x := range page {
			views, last = append(views, s.view(r, x, detail)), x.ID
		}
		return wire.Listing(r, q, "snapshots", path, views, last, len(found)), nil
	}
}

var userFilters = []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"}

func matches(r *rest.Request, q *wire.Query, x *block.Snapshot) (bool, error) {
	for key := range q.Filters {
		name, like := strings.CutSuffix(key, "~")
		val := q.Filters.Get(key)
		if !r.Creds.Admin() && !slices.Contains(userFilters, name) {
			if r.AtLeast(3, 31) {
				return false, errs.Invalidf("Invalid filters %s are found in query options.", key)
			}
			continue
		}
		switch get := keys()[name]; {
		case name == "metadata" && r.AtLeast(3, 22):
			var want map[string]string
			if json.Unmarshal([]byte(strings.ReplaceAll(val, "'", `"`)), &want) != nil {
				return false, nil
			}
			for k, v := range want {
				if x.Metadata[k] != v {
					return false, nil
				}
			}
		case get == nil:
		case like && !strings.Contains(get(x), val), !like && get(x) != val:
			return false, nil
		}
	}
	return true, nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Snapshot struct {
			Volume      *string           `json:"volume_id"`
			Force       any               `json:"force"`
			Name        *string           `json:"name"`
			Description *string           `json:"description"`
			DisplayName *string           `json:"display_name"`
			Metadata    map[string]string `json:"metadata"`
		} `json:"snapshot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Snapshot
	force := in.Force != nil && wire.Truthy(in.Force)
	if r.AtLeast(3, 66) {
		if in.Force != nil && !force {
			return nil, errs.Invalidf("Since microversion 3.66 the 'force' parameter is invalid for this request.")
		}
		force = true
	}
	v, err := s.FindVolume(r.Creds, wire.Text(in.Volume))
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(v.Target()); err != nil {
		return nil, err
	}
	if in.Name == nil {
		in.Name = in.DisplayName
	}
	x, err := s.Create(ctx, r.Creds, Order{ID: uuid.NewString(), VolumeID: v.ID, Request: r.ID, Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), Metadata: in.Metadata, InUse: force})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"snapshot": s.view(r, x, false)}), nil
}

func (s *Service) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.SnapshotOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"snapshot": s.view(r, x, true)}), nil
}

// change alters the snapshot of the path.
func (s *Service) change(ctx context.Context, r *rest.Request, fn func(*block.Snapshot) error) (*block.Snapshot, error) {
	x, err := s.SnapshotOf(r)
	if err != nil {
		return nil, err
	}
	return s.Snapshots.Update(ctx, x.ID, func(x *block.Snapshot) error {
		x.Updated = wire.Now()
		return fn(x)
	})
}

func (s *Service) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Snapshot struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			DisplayName *string `json:"display_name"`
			DisplayDesc *string `json:"display_description"`
		} `json:"snapshot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	x, err := s.change(ctx, r, func(x *block.Snapshot) error {
		for _, p := range []*string{b.Snapshot.DisplayName, b.Snapshot.Name} {
			if p != nil {
				x.Name = wire.Trim(p)
			}
		}
		for _, p := range []*string{b.Snapshot.DisplayDesc, b.Snapshot.Description} {
			if p != nil {
				x.Description = wire.Trim(p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"snapshot": s.view(r, x, false)}), nil
}

func (s *Service) remove(force bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		x, err := s.SnapshotOf(r)
		if err != nil {
			return nil, err
		}
		return rest.Empty(202), s.Remove(ctx, r.Creds, r.ID, x.ID, force)
	}
}

func (s *Service) reset(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]struct {
		Status string `json:"status"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, r, func(x *block.Snapshot) error {
		x.Status = block.Status(strings.ToLower(b["os-reset_status"].Status))
		return nil
	})
	return rest.Empty(202), err
}

// declare is what drivers outside the service say of a snapshot: it ends what is
// under way (cinder/api/contrib/snapshot_actions.py).
func (s *Service) declare(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]struct {
		Status   string  `json:"status"`
		Progress *string `json:"progress"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b["os-update_snapshot_status"]
	_, err := s.change(ctx, r, func(x *block.Snapshot) error {
		may := map[block.Status][]string{block.Creating: {"creating", "available", "error"}, block.Deleting: {"deleting", "error_deleting"}}[x.Status]
		if len(may) == 0 {
			return errs.Invalidf("Snapshot status %s not allowed for update_snapshot_status", x.Status)
		}
		if !slices.Contains(may, in.Status) {
			return errs.Invalidf("Provided snapshot status %s not allowed for snapshot with status %s.", in.Status, x.Status)
		}
		x.Status = block.Status(in.Status)
		if in.Progress != nil {
			x.Progress = *in.Progress
		}
		return nil
	})
	return rest.Empty(202), err
}

func (s *Service) showMetadata(_ context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.SnapshotOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"metadata": wire.Map(x.Metadata)}), nil
}

func (s *Service) writeMetadata(replace bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Metadata map[string]string `json:"metadata"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		x, err := s.change(ctx, r, func(x *block.Snapshot) error { put(x, b.Metadata, replace); return nil })
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"metadata": wire.Map(x.Metadata)}), nil
	}
}

func (s *Service) showItem(_ context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.SnapshotOf(r)
	if err != nil {
		return nil, err
	}
	val, ok := x.Metadata[r.Path("key")]
	if !ok {
		return nil, errs.NotFoundf("Metadata item was not found")
	}
	return rest.JSON(200, map[string]any{"meta": map[string]string{r.Path("key"): val}}), nil
}

func (s *Service) writeItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Meta map[string]string `json:"meta"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b.Meta[r.Path("key")]; !ok {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if len(b.Meta) > 1 {
		return nil, errs.Invalidf("Request body contains too many items")
	}
	if _, err := s.change(ctx, r, func(x *block.Snapshot) error { put(x, b.Meta, false); return nil }); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"meta": b.Meta}), nil
}

func (s *Service) deleteItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.change(ctx, r, func(x *block.Snapshot) error {
		if _, ok := x.Metadata[r.Path("key")]; !ok {
			return errs.NotFoundf("Metadata item was not found")
		}
		delete(x.Metadata, r.Path("key"))
		return nil
	})
	return rest.Empty(200), err
}

// put adds metadata, or replaces all of it.
func put(x *block.Snapshot, more map[string]string, replace bool) {
	if replace || x.Metadata == nil {
		x.Metadata = map[string]string{}
	}
	maps.Copy(x.Metadata, more)
}
