package volume

import (
	"maps"

	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// view is a volume as a create or an update answers (cinder/api/v3/views/volumes.py).
func (s *Service) view(r *rest.Request, v *block.Volume) map[string]any {
	bootable := "false"
	if v.Bootable {
		bootable = "true"
	}
	view := map[string]any{
		"id": v.ID, "status": v.Status, "size": v.SizeGiB, "availability_zone": v.AZ, "created_at": wire.Stamp(v.Created), "updated_at": wire.Stamp(v.Updated),
		"name": v.Name, "description": v.Description, "volume_type": s.Types.Name(v.TypeID), "snapshot_id": wire.Null(v.SnapshotID), "source_volid": wire.Null(v.SourceID),
		"metadata": s.metadataView(v), "links": wire.Links(r, "volumes", v.ID), "user_id": v.UserID, "bootable": bootable, "encrypted": v.Cipher,
		"replication_status": nil, "consistencygroup_id": nil, "multiattach": v.Multiattach, "attachments": s.attachmentsView(r, v),
	}
	admin := r.Creds.Admin()
	if admin {
		view["migration_status"] = wire.Null(v.MigrationStatus)
	}
	if r.AtLeast(3, 13) {
		view["group_id"] = wire.Null(v.GroupID)
	}
	if r.AtLeast(3, 21) && admin {
		view["provider_id"] = nil
	}
	if r.AtLeast(3, 48) {
		view["shared_targets"], view["service_uuid"] = false, nil
	}
	if r.AtLeast(3, 61) && admin {
		view["cluster_name"] = nil
	}
	if r.AtLeast(3, 63) {
		view["volume_type_id"] = v.TypeID
	}
	if r.AtLeast(3, 64) && v.KeyID != "" {
		view["encryption_key_id"] = v.KeyID
	}
	if r.AtLeast(3, 65) {
		view["consumes_quota"] = true
	}
	return view
}

// fullView adds what upstream's extensions show of a volume that is read.
func (s *Service) fullView(r *rest.Request, v *block.Volume) map[string]any {
	view, t := s.view(r, v), v.Target()
	if r.Allows("volume_extension:volume_host_attribute", t) {
		view["os-vol-host-attr:host"] = wire.Null(v.Host())
	}
	if r.Allows("volume_extension:volume_tenant_attribute", t) {
		view["os-vol-tenant-attr:tenant_id"] = v.ProjectID
	}
	if r.Allows("volume_extension:volume_mig_status_attribute", t) {
		view["os-vol-mig-status-attr:migstat"], view["os-vol-mig-status-attr:name_id"] = wire.Null(v.MigrationStatus), nil
	}
	if len(v.ImageMetadata) > 0 && r.Allows("volume_extension:volume_image_metadata:show", t) {
		view["volume_image_metadata"] = v.ImageMetadata
	}
	return view
}

// metadataView is the metadata with what users may see of the administrators'.
func (s *Service) metadataView(v *block.Volume) map[string]string {
	if v.ReadOnly == nil {
		return wire.Map(v.Metadata)
	}
	m := maps.Clone(wire.Map(v.Metadata))
	m["readonly"] = "False"
	if *v.ReadOnly {
		m["readonly"] = "True"
	}
	for _, a := range s.Attachments.By("volume", v.ID) {
		if a.Status == block.AttachAttached {
			m["attached_mode"] = a.Mode
		}
	}
	return m
}

func (s *Service) attachmentsView(r *rest.Request, v *block.Volume) []any {
	out := []any{}
	for _, a := range s.Attachments.By("volume", v.ID) {
		if a.Status != block.AttachAttached {
			continue
		}
		view := map[string]any{"id": v.ID, "attachment_id": a.ID, "volume_id": v.ID, "server_id": wire.Null(a.Server), "host_name": nil,
			"device": wire.Null(a.Mountpoint), "attached_at": wire.Stamp(a.AttachedAt)}
		if r.Creds.Admin() {
			view["host_name"] = wire.Null(a.Host)
		}
		out = append(out, view)
	}
	return out
}
