package volume

import (
	"context"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// FromBackup accepts a new volume that a backup is restored to.
func (s *Service) FromBackup(ctx context.Context, c *policy.Credentials, request, backup, name string) (*block.Volume, error) {
	return s.order(ctx, c, &order{ID: uuid.NewString(), Name: &name, Backup: backup, requestID: request})
}

func (s *Service) miscRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/volumes/{id}/encryption", Policy: "volume_extension:volume_encryption_metadata", Handle: s.showEncryption},
		{Method: "GET", Path: "/volumes/{id}/encryption/{key}", Policy: "volume_extension:volume_encryption_metadata", Handle: s.showEncryption},
		{Method: "GET", Path: "/extensions", Policy: "volume_extension:list_extensions", Handle: s.listExtensions},
		{Method: "GET", Path: "/resource_filters", Policy: "volume:get_all", Min: rest.V(3, 33), Handle: s.listFilters},
	}
}

// showEncryption tells how a volume is encrypted, never with which key
// (cinder/api/contrib/volume_encryption_metadata.py).
func (s *Service) showEncryption(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"encryption_key_id": wire.Null(v.KeyID)}
	if t, err := s.Types.Get(v.TypeID); err == nil && v.Cipher && t.Encryption != nil {
		out["control_location"], out["cipher"], out["provider"], out["key_size"] = t.Encryption.Location, wire.Null(t.Encryption.Cipher), t.Encryption.Provider, t.Encryption.KeySize
	}
	if key := r.Path("key"); key != "" {
		return rest.JSON(200, map[string]any{key: out[key]}), nil
	}
	return rest.JSON(200, out), nil
}

// extensions are upstream's names of what this API has.
var extensions = [][2]string{{"os-admin-actions", "AdminActions"}, {"os-availability-zone", "AvailabilityZones"}, {"backups", "Backups"}, {"capabilities", "Capabilities"},
	{"os-extended-snapshot-attributes", "ExtendedSnapshotAttributes"}, {"os-hosts", "Hosts"}, {"os-snapshot-manage", "SnapshotManage"}, {"os-snapshot-unmanage", "SnapshotUnmanage"}, {"os-volume-manage", "VolumeManage"}, {"os-volume-unmanage", "VolumeUnmanage"}, {"qos-specs", "Qos_specs_manage"}, {"os-quota-sets", "Quotas"},
	{"os-quota-class-sets", "QuotaClasses"}, {"scheduler-stats", "Scheduler_stats"}, {"os-services", "Services"}, {"os-types-extra-specs", "TypesExtraSpecs"},
	{"os-types-manage", "TypesManage"}, {"os-used-limits", "UsedLimits"}, {"os-volume-actions", "VolumeActions"}, {"os-volume-encryption-metadata", "VolumeEncryptionMetadata"},
	{"os-vol-host-attr", "VolumeHostAttribute"}, {"os-vol-image-meta", "VolumeImageMetadata"}, {"os-vol-mig-status-attr", "VolumeMigStatusAttribute"},
	{"os-vol-tenant-attr", "VolumeTenantAttribute"}, {"os-volume-transfer", "VolumeTransfer"}, {"os-volume-type-access", "VolumeTypeAccess"}, {"encryption", "VolumeTypeEncryption"}}

func (s *Service) listExtensions(context.Context, *rest.Request) (*rest.Response, error) {
	out := []any{}
	for _, e := range extensions {
		out = append(out, map[string]any{"alias": e[0], "name": e[1], "description": e[1], "updated": "2013-01-01T00:00:00+00:00", "links": []any{}})
	}
	return rest.JSON(200, map[string]any{"extensions": out}), nil
}

func (s *Service) listFilters(_ context.Context, r *rest.Request) (*rest.Response, error) {
	all := []struct {
		name    string
		filters []string
	}{
		{"volume", userFilters}, {"backup", []string{"name", "status", "volume_id"}}, {"snapshot", []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"}},
		{"group", []string{"name"}}, {"group_snapshot", []string{"name", "status", "group_id"}}, {"attachment", []string{"volume_id", "status", "instance_id", "attach_status"}}, {"message", []string{"resource_uuid", "resource_type", "event_id", "request_id", "message_level"}},
		{"pool", []string{"name"}}, {"volume_type", []string{"is_public"}},
	}
	out := []any{}
	for _, f := range all {
		if want := r.Query().Get("resource"); want == "" || want == f.name {
			out = append(out, map[string]any{"resource": f.name, "filters": f.filters})
		}
	}
	return rest.JSON(200, map[string]any{"resource_filters": out}), nil
}
