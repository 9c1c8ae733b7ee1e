package attach

import (
	"context"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) actionRoutes() []rest.Route {
	act := func(key, rule string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: "POST", Path: "/volumes/{id}/action", Action: key, Policy: rule, Body: body, Handle: h}
	}
	const rule = "volume_extension:volume_actions:"
	attachBody := wire.Body("os-attach", wire.Object(`"instance_uuid":`+wire.OptUUID+`,"mountpoint":{"type":"string","minLength":1,"maxLength":255},"host_name":{"type":"string","maxLength":255},"mode":{"enum":["rw","ro"]}`, `"mountpoint"`, "false"))
	connector := func(key string) []rest.Schema {
		return wire.Body(key, wire.Object(`"connector":`+wire.PlainObject, `"connector"`, "false"))
	}
	detach := wire.Object(`"attachment_id":`+wire.OptUUID+`,"connector":`+wire.PlainObject, "", "false")
	return []rest.Route{
		act("os-attach", rule+"attach", attachBody, s.attach),
		act("os-detach", rule+"detach", wire.Body("os-detach", detach), s.detach("os-detach", false)),
		act("os-force_detach", "volume_extension:volume_admin_actions:force_detach", wire.Body("os-force_detach", detach), s.detach("os-force_detach", true)),
		act("os-reserve", rule+"reserve", nil, s.move(block.Attaching, "Volume status must be available to reserve, but the status is %s.", block.Available)),
		act("os-unreserve", rule+"unreserve", nil, s.settle(block.Attaching)),
		act("os-begin_detaching", rule+"begin_detaching", nil, s.move(block.Detaching, "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.", block.InUse)),
		act("os-roll_detaching", rule+"roll_detaching", nil, s.settle(block.Detaching)),
		act("os-initialize_connection", rule+"initialize_connection", connector("os-initialize_connection"), s.initialize),
		act("os-terminate_connection", rule+"terminate_connection", connector("os-terminate_connection"), s.settle(block.Attaching)),
	}
}

// move takes the volume from one status to another.
func (s *Service) move(to block.Status, refusal string, from block.Status) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		v, err := s.VolumeOf(r)
		if err != nil {
			return nil, err
		}
		_, err = s.Update(ctx, v.ID, func(v *block.Volume) error {
			if v.Status != from && !(to == block.Attaching && v.Multiattach && v.Status == block.InUse) {
				if to == block.Attaching {
					return wire.InvalidVolume(refusal, v.Status)
				}
				return errs.Invalidf("Invalid volume: %s", refusal)
			}
			v.Status = to
			return nil
		})
		return rest.Empty(202), err
	}
}

// settle takes the volume back from a status to what its attachments make.
func (s *Service) settle(from block.Status) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		v, err := s.VolumeOf(r)
		if err != nil {
			return nil, err
		}
		return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error {
			now, err := s.Volumes.TxGet(tx, v.ID)
			if err != nil || now.Status != from {
				return nil
			}
			return s.rest(tx, v.ID)
		})
	}
}

func (s *Service) attach(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Attach struct {
			Server *string `json:"instance_uuid"`
			Host   string  `json:"host_name"`
			Mount  string  `json:"mountpoint"`
			Mode   string  `json:"mode"`
		} `json:"os-attach"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	in := b.Attach
	if in.Mode == "" {
		in.Mode = "rw"
	}
	a := &block.Attachment{ID: uuid.NewString(), VolumeID: v.ID, ProjectID: v.ProjectID, Server: wire.Text(in.Server), Host: in.Host, Mountpoint: in.Mount, Mode: in.Mode,
		Status: block.AttachAttached, AttachedAt: wire.Now(), Created: wire.Now()}
	return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.TxUpdate(tx, a.VolumeID, func(v *block.Volume) error {
			if v.ReadOnly == nil {
				v.ReadOnly = new(bool)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !v.In(block.Available, block.Attaching) && !(v.Multiattach && v.Status == block.InUse) {
			return errs.Invalidf("Error attaching volume - InvalidVolume: Invalid volume: volume status must be available or attaching or in-use")
		}
		if *v.ReadOnly && in.Mode != "ro" {
			return errs.Invalidf("Invalid attaching mode '%s' for volume %s.", in.Mode, v.ID)
		}
		if err := s.Attachments.TxCreate(tx, a); err != nil {
			return err
		}
		return s.rest(tx, v.ID)
	})
}

// detach ends an attachment: the one named, or the only one there is.
func (s *Service) detach(key string, force bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b map[string]struct {
			ID *string `json:"attachment_id"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		v, err := s.VolumeOf(r)
		if err != nil {
			return nil, err
		}
		list, id := s.Attachments.By("volume", v.ID), wire.Text(b[key].ID)
		if id == "" && len(list) > 1 {
			return nil, wire.InvalidVolume("Detach volume failed: More than one attachment, but no attachment_id provided.")
		}
		for _, a := range list {
			if id != "" && a.ID != id {
				continue
			}
			if !force {
				if err := ours(a); err != nil {
					return nil, err
				}
			}
			return rest.Empty(202), s.Release(ctx, a.ID, nil)
		}
		if id != "" {
			return nil, errs.Invalidf("Error detaching volume - VolumeAttachmentNotFound: Volume attachment could not be found with filter: attachment_id = %s.", id)
		}
		return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error { return s.rest(tx, v.ID) })
	}
}

func (s *Service) initialize(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	mode := "rw"
	if v.ReadOnly != nil && *v.ReadOnly {
		mode = "ro"
	}
	data := s.connection(v.ID, mode)
	kind := data["driver_volume_type"]
	delete(data, "driver_volume_type")
	return rest.JSON(200, map[string]any{"connection_info": map[string]any{"driver_volume_type": kind, "data": data}}), nil
}
