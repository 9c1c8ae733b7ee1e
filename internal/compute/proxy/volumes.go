package proxy

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Volumes is what this API needs of the volume service.
type Volumes interface {
	// Volumes and Snapshots list the caller's project's, newest first.
	Volumes(ctx context.Context, r *rest.Request) ([]Volume, error)
	Volume(ctx context.Context, r *rest.Request, id string) (*Volume, error)
	CreateVolume(ctx context.Context, r *rest.Request, n Volume) (*Volume, error)
	DeleteVolume(ctx context.Context, r *rest.Request, id string) error
	Snapshots(ctx context.Context, r *rest.Request) ([]Snapshot, error)
	Snapshot(ctx context.Context, r *rest.Request, id string) (*Snapshot, error)
	// CreateSnapshot makes one, inUse: also of a volume in use.
	CreateSnapshot(ctx context.Context, r *rest.Request, n Snapshot, inUse bool) (*Snapshot, error)
	DeleteSnapshot(ctx context.Context, r *rest.Request, id string) error
}

// Volume is what compute shows of a volume, or wants of a new one.
type Volume struct {
	ID, Status, Zone, Type string
	Name, Description      *string
	SizeGiB                int
	SnapshotID             string
	Metadata               map[string]string
	Created                time.Time
	Server, Device         string // that has it, "" for none
}

// Snapshot is the same of a snapshot.
type Snapshot struct {
	ID, VolumeID, Status string
	Name, Description    *string
	SizeGiB              int
	Created              time.Time
}

// VolumeProxy shows the volume service's volumes and snapshots.
type VolumeProxy struct{ Volumes Volumes }

// Routes are the proxy's rows of the compute API.
func (p *VolumeProxy) Routes() []rest.Route {
	const vol, snap, rule = "/os-volumes", "/os-snapshots", "os_compute_api:os-volumes:"
	row := func(method, path, policy string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: path, Policy: rule + policy, Max: lastProxy, Body: body, Handle: h}
	}
	// As nova/api/openstack/compute/schemas/volumes.py.
	create := loose("volume", `{"type":"object","properties":{"volume_type":{"type":"string"},"metadata":{"type":"object","additionalProperties":{"type":"string"}},"snapshot_id":{"type":"string"},`+
		`"size":{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":1},"availability_zone":{"type":"string"},"display_name":{"type":"string"},"display_description":{"type":"string"}},"required":["size"],"additionalProperties":false}`)
	snapshot := loose("snapshot", `{"type":"object","properties":{"volume_id":{"type":"string"},"force":`+wire.Bool+`,"display_name":{"type":"string"},"display_description":{"type":"string"}},"required":["volume_id"],"additionalProperties":false}`)
	return []rest.Route{
		row("GET", vol, "list", nil, p.list), row("GET", vol+"/detail", "detail", nil, p.list), row("POST", vol, "create", create, p.create),
		row("GET", vol+"/{id}", "show", nil, p.show), row("DELETE", vol+"/{id}", "delete", nil, p.delete),
		row("GET", snap, "snapshots:list", nil, p.listSnapshots), row("GET", snap+"/detail", "snapshots:detail", nil, p.listSnapshots),
		row("POST", snap, "snapshots:create", snapshot, p.createSnapshot),
		row("GET", snap+"/{id}", "snapshots:show", nil, p.showSnapshot), row("DELETE", snap+"/{id}", "snapshots:delete", nil, p.deleteSnapshot),
	}
}

const created = "2006-01-02T15:04:05.000000"

func (v *Volume) view() map[string]any {
	attached := map[string]any{}
	if v.Server != "" {
		attached = map[string]any{"id": v.ID, "volumeId": v.ID, "serverId": v.Server}
		if v.Device != "" {
			attached["device"] = v.Device
		}
	}
	meta := v.Metadata
	if meta == nil {
		meta = map[string]string{}
	}
	return map[string]any{"id": v.ID, "status": v.Status, "size": v.SizeGiB, "availabilityZone": v.Zone, "createdAt": v.Created.UTC().Format(created),
		"attachments": []any{attached}, "displayName": v.Name, "displayDescription": v.Description, "volumeType": wire.OrNull(v.Type),
		"snapshotId": wire.OrNull(v.SnapshotID), "metadata": meta}
}

func (p *VolumeProxy) list(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	list, err := p.Volumes.Volumes(ctx, r)
	if err != nil {
		return nil, err
	}
	if list, err = wire.Window(r, list); err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i := range list {
		views[i] = list[i].view()
	}
	return rest.JSON(200, map[string]any{"volumes": views}), nil
}

func (p *VolumeProxy) show(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := p.Volumes.Volume(ctx, r, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"volume": v.view()}), nil
}

func (p *VolumeProxy) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Volume struct {
			Type        string            `json:"volume_type"`
			Metadata    map[string]string `json:"metadata"`
			Snapshot    string            `json:"snapshot_id"`
			Size        any               `json:"size"`
			Zone        string            `json:"availability_zone"`
			Name        *string           `json:"display_name"`
			Description *string           `json:"display_description"`
		} `json:"volume"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Volume
	size := wire.Number(in.Size)
	if size < 1 {
		return nil, errs.Invalidf("Invalid input received: '%s' is no size of a volume in GiB", wire.Text(in.Size))
	}
	v, err := p.Volumes.CreateVolume(ctx, r, Volume{Name: in.Name, Description: in.Description, SizeGiB: size, Type: in.Type, Zone: in.Zone, SnapshotID: in.Snapshot, Metadata: in.Metadata})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"volume": v.view()}).With("Location", r.Base()+"/compute/v2.1/os-volumes/"+v.ID), nil
}

func (p *VolumeProxy) delete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	return rest.Empty(202), p.Volumes.DeleteVolume(ctx, r, r.Path("id"))
}

func (x *Snapshot) view() map[string]any {
	return map[string]any{"id": x.ID, "volumeId": x.VolumeID, "status": x.Status, "size": x.SizeGiB, "createdAt": x.Created.UTC().Format(created),
		"displayName": x.Name, "displayDescription": x.Description}
}

func (p *VolumeProxy) listSnapshots(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	list, err := p.Volumes.Snapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	if list, err = wire.Window(r, list); err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i := range list {
		views[i] = list[i].view()
	}
	return rest.JSON(200, map[string]any{"snapshots": views}), nil
}

func (p *VolumeProxy) showSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := p.Volumes.Snapshot(ctx, r, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"snapshot": x.view()}), nil
}

func (p *VolumeProxy) createSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Snapshot struct {
			Volume      string  `json:"volume_id"`
			Force       any     `json:"force"`
			Name        *string `json:"display_name"`
			Description *string `json:"display_description"`
		} `json:"snapshot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Snapshot
	x, err := p.Volumes.CreateSnapshot(ctx, r, Snapshot{VolumeID: in.Volume, Name: in.Name, Description: in.Description}, wire.Truthy(in.Force))
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"snapshot": x.view()}), nil
}

func (p *VolumeProxy) deleteSnapshot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	return rest.Empty(202), p.Volumes.DeleteSnapshot(ctx, r, r.Path("id"))
}
