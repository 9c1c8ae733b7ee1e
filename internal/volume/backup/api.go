package backup

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Routes are this package's part of the API.
func (s *Service) Routes() []rest.Route {
	fields := `"volume_id":` + wire.UUID + `,"container":` + wire.Name + `,"description":` + wire.Name + `,"incremental":` + wire.Bool + `,"force":` + wire.Bool + `,"name":` + wire.Name + `,"snapshot_id":` + wire.OptUUID
	body := func(lo, hi rest.Version, fields string) rest.Schema {
		return wire.BodyIn(lo, hi, "backup", wire.Object(fields, `"volume_id"`, "false"))
	}
	meta := fields + `,"metadata":` + wire.OptSpecs
	create := []rest.Schema{body(rest.V(3, 0), rest.V(3, 42), fields), body(rest.V(3, 43), rest.V(3, 50), meta), body(rest.V(3, 51), rest.Version{}, meta+`,"availability_zone":`+wire.Zone)}
	change := `"name":` + wire.Name + `,"description":` + wire.Name
	update := []rest.Schema{wire.BodyIn(rest.V(3, 9), rest.V(3, 42), "backup", `{"type":"object","minProperties":1,"properties":{`+change+`},"additionalProperties":false}`),
		wire.BodyIn(rest.V(3, 43), rest.Version{}, "backup", `{"type":"object","minProperties":1,"properties":{`+change+`,"metadata":`+wire.Specs+`},"additionalProperties":false}`)}
	reset := wire.Body("os-reset_status", wire.Object(`"status":{"type":"string","enum":["available","error"]}`, `"status"`, "false"))
	record := wire.Body("backup-record", wire.Object(`"backup_service":{"type":"string","minLength":1,"maxLength":255},"backup_url":{"type":"string","minLength":1}`, `"backup_service","backup_url"`, "false"))
	const one = "/backups/{id}"
	return []rest.Route{
		{Method: "GET", Path: "/backups", Policy: "backup:get_all", Handle: s.list(false)},
		{Method: "GET", Path: "/backups/detail", Policy: "backup:get_all", Handle: s.list(true)},
		{Method: "POST", Path: "/backups", Policy: "backup:create", Body: create, Handle: s.create},
		{Method: "GET", Path: one, Policy: "backup:get", Handle: s.show},
		{Method: "PUT", Path: one, Policy: "backup:update", Min: rest.V(3, 9), Body: update, Handle: s.update},
		{Method: "DELETE", Path: one, Policy: "backup:delete", Handle: s.remove(false)},
		{Method: "POST", Path: one + "/restore", Policy: "backup:restore", Body: wire.Body("restore", wire.Object(`"name":`+wire.Name+`,"volume_id":`+wire.OptUUID, "", "false")), Handle: s.restore},
		{Method: "GET", Path: one + "/export_record", Policy: "backup:backup-export", Handle: s.export},
		{Method: "POST", Path: "/backups/import_record", Policy: "backup:backup-import", Body: record, Handle: s.importRecord},
		{Method: "POST", Path: one + "/action", Action: "os-reset_status", Policy: "volume_extension:backup_admin_actions:reset_status", Body: reset, Handle: s.reset},
		{Method: "POST", Path: one + "/action", Action: "os-force_delete", Policy: "volume_extension:backup_admin_actions:force_delete", Handle: s.remove(true)},
	}
}

func (s *Service) view(r *rest.Request, b *block.Backup) map[string]any {
	v := map[string]any{"id": b.ID, "status": b.Status, "size": b.SizeGiB, "object_count": b.Objects, "availability_zone": wire.Null(b.AZ), "container": wire.Null(b.Container),
		"created_at": wire.Stamp(b.Created), "updated_at": wire.Stamp(b.Updated), "name": b.Name, "description": b.Description, "fail_reason": wire.Null(b.FailReason), "volume_id": b.VolumeID,
		"links": wire.Links(r, "backups", b.ID), "is_incremental": b.ParentID != "", "has_dependent_backups": s.Backups.Count("parent", b.ID) > 0,
		"snapshot_id": wire.Null(b.SnapshotID), "data_timestamp": wire.Stamp(b.DataTime)}
	if r.AtLeast(3, 18) && r.Allows("backup:backup_project_attribute", policy.Target{"project_id": b.ProjectID}) {
		v["os-backup-project-attr:project_id"] = b.ProjectID
	}
	if r.AtLeast(3, 43) {
		v["metadata"] = wire.Map(b.Metadata)
	}
	if r.AtLeast(3, 56) {
		v["user_id"] = b.UserID
	}
	return v
}

func brief(r *rest.Request, b *block.Backup) map[string]any {
	return map[string]any{"id": b.ID, "name": b.Name, "links": wire.Links(r, "backups", b.ID)}
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (s *Service) list(detail bool) rest.Handler {
	type bk = *block.Backup
	keys := wire.Keys[bk]{"id": func(b bk) string { return b.ID }, "name": func(b bk) string { return text(b.Name) }, "status": func(b bk) string { return string(b.Status) },
		"volume_id": func(b bk) string { return b.VolumeID }, "created_at": func(b bk) string { return b.Created.Format("2006-01-02T15:04:05.000000") },
		"project_id": func(b bk) string { return b.ProjectID }, "container": func(b bk) string { return b.Container }}
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		all := s.Backups.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			all = s.Backups.All()
		}
		found := slices.DeleteFunc(slices.Clone(all), func(b bk) bool {
			for k := range q.Filters {
				name, like := strings.CutSuffix(k, "~")
				if get := keys[name]; get != nil && (!like && get(b) != q.Filters.Get(k) || like && !strings.Contains(get(b), q.Filters.Get(k))) {
					return true
				}
			}
			return false
		})
		total := len(found)
		page, err := wire.Cut(q, found, "Backup", func(b bk) string { return b.ID }, keys)
		if err != nil {
			return nil, err
		}
		var views []any
		last, path := "", "backups"
		if detail {
			path += "/detail"
		}
		for _, b := range page {
			if last = b.ID; detail {
				views = append(views, s.view(r, b))
			} else {
				views = append(views, brief(r, b))
			}
		}
		return wire.Listing(r, q, "backups", path, views, last, total), nil
	}
}

func (s *Service) find(r *rest.Request) (*block.Backup, error) {
	b, err := s.Backups.Get(r.Path("id"))
	if err != nil || !(r.Creds.Admin() || r.Creds.ProjectID == b.ProjectID) {
		return nil, wire.NotFound("Backup", r.Path("id"))
	}
	return b, r.Enforce(policy.Target{"project_id": b.ProjectID})
}

func (s *Service) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	b, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"backup": s.view(r, b)}), nil
}

type createBody struct {
	Backup struct {
		Volume      string            `json:"volume_id"`
		Snapshot    *string           `json:"snapshot_id"`
		Container   *string           `json:"container"`
		Name        *string           `json:"name"`
		Description *string           `json:"description"`
		Incremental any               `json:"incremental"`
		Force       any               `json:"force"`
		Metadata    map[string]string `json:"metadata"`
	} `json:"backup"`
}

func (s *Service) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in createBody
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	v, err := s.FindVolume(r.Creds, in.Backup.Volume)
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(v.Target()); err != nil {
		return nil, err
	}
	b := &block.Backup{ID: uuid.NewString(), Name: wire.Trim(in.Backup.Name), Description: wire.Trim(in.Backup.Description), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID,
		VolumeID: v.ID, SnapshotID: wire.Text(in.Backup.Snapshot), Container: wire.Text(in.Backup.Container), Status: block.Creating, SizeGiB: v.SizeGiB, Node: v.Node, AZ: v.AZ,
		Metadata: in.Backup.Metadata, Bootable: v.Bootable, ImageMeta: v.ImageMetadata, TypeID: v.TypeID, VolumeMeta: v.Metadata, Key: v.Key, Created: wire.Now()}
	b.DataTime = b.Created
	if in.Backup.Incremental != nil && wire.Truthy(in.Backup.Incremental) {
		if b.ParentID = s.latest(b.ProjectID, v.ID); b.ParentID == "" {
			return nil, errs.Invalidf("Invalid backup: No backups available to do an incremental backup.")
		}
	}
	force := in.Backup.Force != nil && wire.Truthy(in.Backup.Force)
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.hold(tx, b, force); err != nil {
			return err
		}
		if err := s.Charge(tx, b.ProjectID, map[string]int{"backups": 1, "backup_gigabytes": b.SizeGiB}); err != nil {
			return err
		}
		if err := s.Backups.TxCreate(tx, b); err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaCreate, "backup", v.ID, args{b.ID, r.ID})
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"backup": brief(r, b)}), nil
}

// latest is the project's newest backup of the volume that another may add to, or "".
func (s *Service) latest(project, volume string) string {
	var best *block.Backup
	for _, b := range s.Backups.By("volume", volume) {
		if b.ProjectID == project && b.Status == block.Available && (best == nil || b.Created.After(best.Created)) {
			best = b
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

// hold marks the volume, or the snapshot, that is backed up.
func (s *Service) hold(tx *store.Tx, b *block.Backup, force bool) error {
	if b.SnapshotID != "" {
		x, err := s.Snapshots.TxGet(tx, b.SnapshotID)
		if err != nil || x.VolumeID != b.VolumeID {
			return wire.NotFound("Snapshot", b.SnapshotID)
		}
		if x.Status != block.Available {
			return wire.InvalidSnapshot(`Snapshot to be backed up must be available, but the current status is "%s".`, x.Status)
		}
		b.DataTime = x.Created
		_, err = s.Snapshots.TxUpdate(tx, x.ID, func(x *block.Snapshot) error { x.Status = block.BackingUp; return nil })
		return err
	}
	_, err := s.TxUpdate(tx, b.VolumeID, func(v *block.Volume) error {
		switch {
		case v.Status == block.InUse && !force:
			return wire.InvalidVolume("Backing up an in-use volume must use the force flag.")
		case !v.In(block.Available, block.InUse):
			return wire.InvalidVolume(`Volume to be backed up must be available or in-use, but the current status is "%s".`, v.Status)
		}
		v.Previous, v.Status = v.Status, block.BackingUp
		return nil
	})
	return err
}

func (s *Service) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in createBody
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	b, err := s.find(r)
	if err != nil {
		return nil, err
	}
	b, err = s.Backups.Update(ctx, b.ID, func(b *block.Backup) error {
		if in.Backup.Name != nil {
			b.Name = wire.Trim(in.Backup.Name)
		}
		if in.Backup.Description != nil {
			b.Description = wire.Trim(in.Backup.Description)
		}
		if in.Backup.Metadata != nil {
			b.Metadata = in.Backup.Metadata
		}
		b.Updated = wire.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"backup": brief(r, b)}), nil
}

func (s *Service) remove(force bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		b, err := s.find(r)
		if err != nil {
			return nil, err
		}
		return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error {
			if len(s.Backups.TxBy(tx, "parent", b.ID)) > 0 {
				return errs.Invalidf("Invalid backup: Incremental backups exist for this backup.")
			}
			_, err := s.Backups.TxUpdate(tx, b.ID, func(b *block.Backup) error {
				if !force && b.Status != block.Available && b.Status != block.Errored {
					return errs.Invalidf("Invalid backup: Backup status must be available or error")
				}
				b.Status = block.Deleting
				return nil
			})
			if err != nil {
				return err
			}
			// The backup is its own resource: its volume may be gone long since.
			return s.Begin(tx, r.ID, r.Creds, sagaDelete, "delete backup", b.ID, args{b.ID, r.ID})
		})
	}
}

func (s *Service) restore(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in struct {
		Restore struct {
			Volume *string `json:"volume_id"`
			Name   *string `json:"name"`
		} `json:"restore"`
	}
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	b, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if b.Status != block.Available {
		return nil, errs.Invalidf("Invalid backup: Backup status must be available")
	}
	var v *block.Volume
	if id := wire.Text(in.Restore.Volume); id != "" {
		v, err = s.over(ctx, r, b, id)
	} else {
		name := wire.Text(in.Restore.Name)
		if name == "" {
			name = "restore_backup_" + b.ID
		}
		v, err = s.maker.FromBackup(ctx, r.Creds, r.ID, b.ID, name)
	}
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"restore": map[string]any{"backup_id": b.ID, "volume_id": v.ID, "volume_name": v.Name}}), nil
}

// over restores a backup over a volume that exists.
func (s *Service) over(ctx context.Context, r *rest.Request, b *block.Backup, id string) (*block.Volume, error) {
	v, err := s.FindVolume(r.Creds, id)
	if err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		_, err := s.TxUpdate(tx, id, func(v *block.Volume) error {
			if v.Status != block.Available {
				return wire.InvalidVolume("Volume to be restored to must be available")
			}
			if len(b.Key) > 0 && !v.Cipher {
				return wire.InvalidVolume("A backup of an encrypted volume is restored to an encrypted volume only.")
			}
			if b.SizeGiB > v.SizeGiB {
				return wire.InvalidVolume("volume size %d is too small to restore backup of size %d.", v.SizeGiB, b.SizeGiB)
			}
			v.Status, v.Bootable = block.RestoringBackup, b.Bootable
			return nil
		})
		if err != nil {
			return err
		}
		_, err = s.Backups.TxUpdate(tx, b.ID, func(b *block.Backup) error {
			if b.Status != block.Available {
				return errs.Invalidf("Invalid backup: Backup status must be available")
			}
			b.Status, b.RestoreTo = block.Restoring, id
			return nil
		})
		if err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaRestore, "restore", id, args{b.ID, r.ID})
	})
	return v, err
}

func (s *Service) reset(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in map[string]struct {
		Status string `json:"status"`
	}
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	b, err := s.find(r)
	if err != nil {
		return nil, err
	}
	_, err = s.Backups.Update(ctx, b.ID, func(b *block.Backup) error {
		b.Status, b.Updated = block.Status(in["os-reset_status"].Status), wire.Now()
		return nil
	})
	return rest.Empty(202), err
}
