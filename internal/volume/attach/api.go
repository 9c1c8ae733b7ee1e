package attach

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Routes are this package's part of the API: the attachments and the older actions.
func (s *Service) Routes() []rest.Route {
	create := `"instance_uuid":` + wire.OptUUID + `,"connector":` + wire.PlainObject + `,"volume_uuid":` + wire.UUID
	moded := create + `,"mode":{"enum":["rw","ro"]}`
	const volume = `"volume_uuid"`
	return append([]rest.Route{
		{Method: "GET", Path: "/attachments", Policy: "volume:get_all_attachments", Min: rest.V(3, 27), Handle: s.list(false)},
		{Method: "GET", Path: "/attachments/detail", Policy: "volume:get_all_attachments", Min: rest.V(3, 27), Handle: s.list(true)},
		{Method: "POST", Path: "/attachments", Policy: "volume:attachment_create", Min: rest.V(3, 27), Handle: s.create, Body: []rest.Schema{
			wire.BodyIn(rest.V(3, 27), rest.V(3, 53), "attachment", wire.Object(create, volume, "true")), wire.BodyIn(rest.V(3, 54), rest.Version{}, "attachment", wire.Object(moded, volume, "true"))}},
		{Method: "GET", Path: "/attachments/{id}", Policy: "volume:get_all_attachments", Min: rest.V(3, 27), Handle: s.show},
		{Method: "PUT", Path: "/attachments/{id}", Policy: "volume:attachment_update", Min: rest.V(3, 27), Handle: s.update,
			Body: wire.Body("attachment", wire.Object(`"connector":{"type":"object","minProperties":1}`, `"connector"`, "false"))},
		{Method: "DELETE", Path: "/attachments/{id}", Policy: "volume:attachment_delete", Min: rest.V(3, 27), Handle: s.remove},
		{Method: "POST", Path: "/attachments/{id}/action", Action: "os-complete", Policy: "volume:attachment_complete", Min: rest.V(3, 44), Handle: s.complete},
	}, s.actionRoutes()...)
}

func (s *Service) view(a *block.Attachment, detail bool) map[string]any {
	v := map[string]any{"id": a.ID, "status": a.Status, "instance": wire.Null(a.Server), "volume_id": a.VolumeID}
	if !detail {
		return v
	}
	v["attached_at"], v["detached_at"], v["attach_mode"], v["connection_info"] = "", "", a.Mode, map[string]any{}
	if !a.AttachedAt.IsZero() {
		v["attached_at"] = wire.Stamp(a.AttachedAt)
	}
	if a.Connector != nil {
		info := s.connection(a.VolumeID, a.Mode)
		info["attachment_id"] = a.ID
		v["connection_info"] = info
	}
	return v
}

// connection is what a consumer learns of where a volume is; the key of an
// encrypted one is never part of it.
func (s *Service) connection(volume, mode string) map[string]any {
	v, err := s.Volumes.Get(volume)
	if err != nil {
		return map[string]any{}
	}
	return map[string]any{"driver_volume_type": v.Driver, "volume_id": v.ID, "access_mode": mode, "encrypted": v.Cipher, "qos_specs": nil, "discard": true,
		"node": v.Node, "pool": v.Pool, "multiattach": v.Multiattach}
}

func (s *Service) find(r *rest.Request) (*block.Attachment, error) {
	a, err := s.Attachments.Get(r.Path("id"))
	if err != nil || !(r.Creds.Admin() || r.Creds.ProjectID == a.ProjectID) {
		return nil, notFound(r.Path("id"))
	}
	return a, r.Enforce(policy.Target{"project_id": a.ProjectID})
}

func (s *Service) list(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		all := s.Attachments.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			all = s.Attachments.All()
		}
		var found []*block.Attachment
		for _, a := range all {
			fields := map[string]string{"volume_id": a.VolumeID, "instance_id": a.Server, "status": string(a.Status), "attach_status": string(a.Status)}
			ok := true
			for k, v := range fields {
				ok = ok && (q.Filters.Get(k) == "" || q.Filters.Get(k) == v)
			}
			if ok {
				found = append(found, a)
			}
		}
		page, err := wire.Cut(q, found, "Volume attachment", func(a *block.Attachment) string { return a.ID }, wire.Keys[*block.Attachment]{
			"id": func(a *block.Attachment) string { return a.ID }, "created_at": func(a *block.Attachment) string { return fmt.Sprint(wire.Stamp(a.Created)) },
			"status": func(a *block.Attachment) string { return string(a.Status) }, "volume_id": func(a *block.Attachment) string { return a.VolumeID }})
		if err != nil {
			return nil, err
		}
		out := []any{}
		for _, a := range page {
			out = append(out, s.view(a, detail))
		}
		return rest.JSON(200, map[string]any{"attachments": out}), nil
	}
}

func (s *Service) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	a, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"attachment": s.view(a, true)}), nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Attachment struct {
			Server    *string        `json:"instance_uuid"`
			Volume    string         `json:"volume_uuid"`
			Connector map[string]any `json:"connector"`
			Mode      string         `json:"mode"`
		} `json:"attachment"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Attachment
	v, err := s.FindVolume(r.Creds, in.Volume)
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(v.Target()); err != nil {
		return nil, err
	}
	if v.Multiattach && v.Status == block.InUse && v.Bootable {
		if err := r.EnforceRule("volume:multiattach_bootable_volume", v.Target()); err != nil {
			return nil, err
		}
	}
	mode := "null"
	if in.Mode != "" && r.AtLeast(3, 54) {
		mode = in.Mode
	}
	a, err := s.Reserve(ctx, Claim{ID: uuid.NewString(), VolumeID: v.ID, Server: wire.Text(in.Server), Mode: mode})
	if err == nil && len(in.Connector) > 0 {
		a, err = s.connect(ctx, a.ID, in.Connector)
	}
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"attachment": s.view(a, true)}), nil
}

func (s *Service) connect(ctx context.Context, id string, connector map[string]any) (*block.Attachment, error) {
	text := func(k string) string { v, _ := connector[k].(string); return v }
	return s.Connect(ctx, id, text("host"), text("mountpoint"), text("mode"), connector)
}

func (s *Service) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Attachment struct {
			Connector map[string]any `json:"connector"`
		} `json:"attachment"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	a, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if a, err = s.connect(ctx, a.ID, b.Attachment.Connector); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"attachment": s.view(a, true)}), nil
}

// ours refuses to end what the compute service attached: the server would go on
// writing (CVE-2023-2088).
func ours(a *block.Attachment) error {
	if a.Compute {
		return errs.Conflictf("Detach volume from instance %s using the Compute API", a.Server)
	}
	if a.Container {
		return errs.Conflictf("Volume %s is mounted by containers: it is detached when they are removed", a.VolumeID)
	}
	return nil
}

func (s *Service) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	a, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if err := ours(a); err != nil {
		return nil, err
	}
	if err := s.Release(ctx, a.ID, nil); err != nil {
		return nil, err
	}
	out := []any{}
	for _, o := range s.others(a.VolumeID, a.ID) {
		out = append(out, s.view(o, false))
	}
	return rest.JSON(200, map[string]any{"attachments": out}), nil
}

func (s *Service) complete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	a, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), s.Complete(ctx, a.ID)
}
