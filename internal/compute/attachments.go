package compute

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) volumeRoutes() []rest.Route {
	if s.Volumes == nil {
		return nil
	}
	const at, one, rule = "/servers/{id}/os-volume_attachments", "/servers/{id}/os-volume_attachments/{volume}", "os_compute_api:os-volumes-attachments:"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "index", Query: attachmentQuery(), Handle: s.listAttachments},
		{Method: "POST", Path: at, Policy: rule + "create", Body: attachSchemas(), Handle: s.attachVolume},
		{Method: "GET", Path: one, Policy: rule + "show", Handle: s.showAttachment},
		{Method: "PUT", Path: one, Policy: rule + "update", Body: attachmentUpdateSchemas(), Handle: s.updateAttachment},
		{Method: "DELETE", Path: one, Policy: rule + "delete", Handle: s.detachVolume},
	}
}

// attachmentQuery: unknown keys are refused from 2.75 on.
func attachmentQuery() []rest.Schema {
	const number = `{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}}`
	return []rest.Schema{
		rest.SchemaIn(rest.V(2, 1), rest.V(2, 74), `{"type":"object","properties":{"limit":`+number+`,"offset":`+number+`}}`),
		rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"limit":`+number+`,"offset":`+number+`},"additionalProperties":false}`),
	}
}

const devicePath = `{"type":["string","null"],"minLength":1,"maxLength":255,"pattern":"(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$"}`

func attachSchemas() []rest.Schema {
	base := `"volumeId":` + uuidSchema + `,"device":` + devicePath
	wrap := func(lo, hi rest.Version, fields string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"volumeAttachment":{"type":"object","properties":{`+fields+`},"required":["volumeId"],"additionalProperties":false}},"required":["volumeAttachment"],"additionalProperties":false}`)
	}
	return []rest.Schema{wrap(rest.V(2, 1), rest.V(2, 48), base), wrap(rest.V(2, 49), rest.V(2, 78), base+`,"tag":`+tagSchema),
		wrap(rest.V(2, 79), rest.Version{}, base+`,"tag":`+tagSchema+`,"delete_on_termination":`+wire.Bool)}
}

func attachmentUpdateSchemas() []rest.Schema {
	wrap := func(lo, hi rest.Version, fields string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"volumeAttachment":{"type":"object","properties":{"volumeId":`+uuidSchema+fields+`},"required":["volumeId"],"additionalProperties":false}},"required":["volumeAttachment"],"additionalProperties":false}`)
	}
	return []rest.Schema{wrap(rest.V(2, 1), rest.V(2, 84), ""),
		wrap(rest.V(2, 85), rest.Version{}, `,"device":`+devicePath+`,"tag":{"type":["string","null"],"minLength":1,"maxLength":60,"pattern":"^[^,/]*$"},"delete_on_termination":`+wire.Bool+`,"serverId":`+uuidSchema+`,"id":`+uuidSchema)}
}

// attachedView is os-extended-volumes:volumes_attached.
func attachedView(r *rest.Request, v *Server) []any {
	out := []any{}
	for _, d := range v.volumes() {
		e := map[string]any{"id": d.VolumeID}
		if r.AtLeast(2, 3) {
			e["delete_on_termination"] = d.DeleteToo
		}
		out = append(out, e)
	}
	return out
}

func attachmentView(r *rest.Request, v *Server, d *Device) map[string]any {
	view := map[string]any{"volumeId": d.VolumeID, "serverId": v.ID, "device": d.Name}
	if r.AtLeast(2, 70) {
		view["tag"] = wire.OrNull(d.Tag)
	}
	if r.AtLeast(2, 79) {
		view["delete_on_termination"] = d.DeleteToo
	}
	if r.AtLeast(2, 89) {
		view["attachment_id"], view["bdm_uuid"] = d.ID, d.ID
	} else {
		view["id"] = d.VolumeID
	}
	return view
}

func (s *Service) listAttachments(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	list, q := v.volumes(), r.Query()
	list = list[min(len(list), wire.Number(q.Get("offset"))):]
	if q.Get("limit") != "" {
		list = list[:min(len(list), wire.Number(q.Get("limit")))]
	}
	views := []any{}
	for i := range list {
		views = append(views, attachmentView(r, v, &list[i]))
	}
	return rest.JSON(200, map[string]any{"volumeAttachments": views}), nil
}

func notAttached(v *Server, volume string) error {
	return errs.NotFoundf("Instance %s is not attached to volume %s", v.ID, volume)
}

func (s *Service) showAttachment(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	d := v.device(r.Path("volume"))
	if d == nil || d.State == "" {
		return nil, notAttached(v, r.Path("volume"))
	}
	return rest.JSON(200, map[string]any{"volumeAttachment": attachmentView(r, v, d)}), nil
}

// withVolumesChanged are the states in which volumes come and go (nova/compute/api.py, attach_volume).
func withVolumesChanged(r *rest.Request) []VMState {
	states := []VMState{Active, Paused, Stopped, Resized}
	if r.AtLeast(2, 20) {
		states = append(states, ShelvedOffloaded)
	}
	return states
}

// attachVolume gives the server a volume. The device's name is ours to choose, as
// with upstream's libvirt driver: a name that was asked for is not honoured.
func (s *Service) attachVolume(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Attachment struct {
			Volume    string `json:"volumeId"`
			Tag       string `json:"tag"`
			DeleteToo any    `json:"delete_on_termination"`
		} `json:"volumeAttachment"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Attachment
	vol, err := s.mayAttach(ctx, r, v, in.Volume)
	if err != nil {
		return nil, err
	}
	d := Device{ID: uuid.NewString(), VolumeID: vol.ID, Owner: vol.ProjectID, Boot: -1, Tag: in.Tag, DeleteToo: wire.Truthy(in.DeleteToo)}
	if err := s.beginAttach(ctx, r.ID, r.Creds, v.ID, &d, withVolumesChanged(r)); err != nil {
		return nil, err
	}
	if err := s.awaitReserved(ctx, v.ID, vol.ID); err != nil {
		return nil, err
	}
	view := attachmentView(r, v, &d)
	view["id"] = vol.ID
	delete(view, "attachment_id")
	delete(view, "bdm_uuid")
	return rest.JSON(200, map[string]any{"volumeAttachment": view}), nil
}

// beginAttach has the server begin to get a device, which is named.
func (s *Service) beginAttach(ctx context.Context, request string, c *policy.Credentials, server string, d *Device, in []VMState) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, server, func(v *Server) error {
			if err := v.allows("attach_volume", in, nil); err != nil {
				return err
			}
			if v.device(d.VolumeID) != nil {
				return errs.Invalidf("Invalid volume: Volume %s is already attached to instance %s", d.VolumeID, v.ID)
			}
			v.Devices, v.Updated = append(v.Devices, *d), wire.Now()
			if !v.nameDevices() {
				return errs.Forbiddenf("The maximum allowed number of disk devices (26) to attach to a single instance has been exceeded.")
			}
			d.Name = v.Devices[len(v.Devices)-1].Name
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, request, c, sagaAttach, "attach_volume", v, deviceArgs{d.ID})
	})
}

// mayAttach finds the volume and checks what needs no lock; the saga finds out the rest.
func (s *Service) mayAttach(ctx context.Context, r *rest.Request, v *Server, id string) (*Volume, error) {
	vol, err := s.Volumes.Volume(ctx, r.Creds, id)
	if err != nil {
		return nil, errs.NotFoundf("Volume %s could not be found.", id)
	}
	if err := v.allows("attach_volume", withVolumesChanged(r), nil); err != nil {
		return nil, err
	}
	if vol.Multiattach && !r.AtLeast(2, 60) {
		return nil, errs.Invalidf("Multiattach volumes are only supported starting with compute API version 2.60.")
	}
	return vol, attachable(vol)
}

// reserveWait bounds the wait of a request for its saga's first step.
const reserveWait = 10 * time.Second

// awaitReserved waits until nobody else can take the volume, so that who asks next
// sees it reserved.
func (s *Service) awaitReserved(ctx context.Context, server, volume string) error {
	ctx, cancel := context.WithTimeout(ctx, reserveWait)
	defer cancel()
	err := s.awaitServer(ctx, server, func(v *Server) (bool, error) {
		d := v.device(volume)
		if d == nil {
			return false, errs.Invalidf("Invalid volume: Volume %s could not be reserved.", volume)
		}
		return d.State != "", nil
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil // it goes on without us
	}
	return err
}

// awaitServer looks at a server at each change until it is as wanted.
func (s *Service) awaitServer(ctx context.Context, id string, look func(*Server) (done bool, err error)) error {
	changed := s.DB.Notify(ctx, "compute/server")
	for {
		v, err := s.servers.Get(id)
		if err != nil {
			return err
		}
		if done, err := look(v); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// updateAttachment changes what happens to the volume when the server goes (2.85).
// To swap volumes is for migrations of the volume service, of which there are none.
func (s *Service) updateAttachment(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Attachment struct {
			Volume    string           `json:"volumeId"`
			ID        *string          `json:"id"`
			Server    *string          `json:"serverId"`
			Device    *string          `json:"device"`
			Tag       optional[string] `json:"tag"`
			DeleteToo any              `json:"delete_on_termination"`
		} `json:"volumeAttachment"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in, id := b.Attachment, r.Path("volume")
	if !r.AtLeast(2, 85) || in.Volume != id {
		if err := r.EnforceRule("os_compute_api:os-volumes-attachments:swap", target(v)); err != nil {
			return nil, err
		}
		if v.device(id) == nil {
			return nil, notAttached(v, id)
		}
		// An unknown one is a bad request here (nova/api/openstack/compute/volumes.py, _update_volume_swap).
		if _, err := s.Volumes.Volume(ctx, r.Creds, in.Volume); errs.Is(err, errs.NotFound) {
			return nil, errs.Invalidf("Volume %s could not be found.", in.Volume)
		} else if err != nil {
			return nil, err
		}
		return nil, errs.Conflictf("volume %s is not migrating; this API should only be called by Cinder", id)
	}
	_, err = s.servers.Update(ctx, v.ID, func(v *Server) error {
		d := v.device(id)
		switch {
		case d == nil || d.State == "":
			return notAttached(v, id)
		case in.ID != nil && *in.ID != id:
			return errs.Invalidf("The id property is not mutable")
		case in.Server != nil && *in.Server != v.ID:
			return errs.Invalidf("The serverId property is not mutable")
		case in.Device != nil && *in.Device != d.Name:
			return errs.Invalidf("The device property is not mutable")
		case in.Tag.Set && (in.Tag.Value == nil && d.Tag != "" || in.Tag.Value != nil && *in.Tag.Value != d.Tag):
			return errs.Invalidf("The tag property is not mutable")
		case in.DeleteToo != nil:
			d.DeleteToo = wire.Truthy(in.DeleteToo)
		}
		return nil
	})
	return rest.Empty(202), err
}

func (s *Service) detachVolume(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	id := r.Path("volume")
	if v.device(id) == nil {
		return nil, notAttached(v, id)
	}
	return rest.Empty(202), s.beginDetach(ctx, r.ID, r.Creds, v.ID, id, withVolumesChanged(r))
}

// beginDetach has the server begin to lose a volume.
func (s *Service) beginDetach(ctx context.Context, request string, c *policy.Credentials, server, volume string, in []VMState) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		var dev string
		v, err := s.servers.TxUpdate(tx, server, func(v *Server) error {
			d := v.device(volume)
			if d == nil {
				return notAttached(v, volume)
			}
			if d.Boot == 0 {
				return errs.Forbiddenf("Cannot detach a root device volume")
			}
			if err := v.allows("detach_volume", in, nil); err != nil {
				return err
			}
			if d.State != DeviceAttached {
				return errs.Invalidf("Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
			}
			dev, d.State, v.Updated = d.ID, DeviceDetaching, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, request, c, sagaDetach, "detach_volume", v, deviceArgs{dev})
	})
}
