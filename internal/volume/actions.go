package volume

import (
	"context"
	"errors"
	"maps"
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

func (s *Service) actionRoutes() []rest.Route {
	act := func(key, rule string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: "POST", Path: "/volumes/{id}/action", Action: key, Policy: rule, Body: body, Handle: h}
	}
	since := func(minor int, r rest.Route) rest.Route { r.Min = rest.V(3, minor); return r }
	one := func(key, field, schema string) []rest.Schema {
		return wire.Body(key, wire.Object(`"`+field+`":`+schema, `"`+field+`"`, "false"))
	}
	const admin, meta = "volume_extension:volume_admin_actions:", "volume_extension:volume_image_metadata:"
	upload := `"image_name":{"type":"string","minLength":1,"maxLength":255},"force":` + wire.Bool + `,"disk_format":{"enum":["raw","vmdk","vdi","qcow2","vhd","vhdx","ploop"]},"container_format":{"type":"string","maxLength":255}`
	uploadNew := upload + `,"visibility":{"enum":["community","public","private","shared"]},"protected":` + wire.Bool
	return []rest.Route{
		act("os-extend", "volume:extend", one("os-extend", "new_size", wire.Size), s.extend),
		act("os-retype", "volume:retype", wire.Body("os-retype", wire.Object(`"new_type":{"type":"string"},"migration_policy":{"type":["string","null"],"enum":["on-demand","never",null]}`, `"new_type"`, "false")), s.retype),
		act("os-update_readonly_flag", "volume:update_readonly_flag", one("os-update_readonly_flag", "readonly", wire.Bool), s.setReadonly),
		act("os-set_bootable", "volume:update", one("os-set_bootable", "bootable", wire.Bool), s.setBootable),
		act("os-reset_status", admin+"reset_status", wire.Body("os-reset_status", `{"type":"object","minProperties":1,"properties":{"status":{"type":["string","null"]},"attach_status":{"type":["string","null"],"enum":["attached","detached",null]},"migration_status":{"type":["string","null"]}},"additionalProperties":false}`), s.resetStatus),
		act("os-force_delete", admin+"force_delete", nil, s.forceDelete),
		act("os-volume_upload_image", "volume_extension:volume_actions:upload_image", []rest.Schema{
			wire.BodyIn(rest.V(3, 0), rest.V(3, 0), "os-volume_upload_image", wire.Object(upload, `"image_name"`, "false")),
			wire.BodyIn(rest.V(3, 1), rest.Version{}, "os-volume_upload_image", wire.Object(uploadNew, `"image_name"`, "false"))}, s.upload),
		act("os-set_image_metadata", meta+"set", one("os-set_image_metadata", "metadata", wire.Specs), s.setImageMetadata),
		act("os-unset_image_metadata", meta+"remove", one("os-unset_image_metadata", "key", `{"type":"string","minLength":1,"maxLength":255}`), s.unsetImageMetadata),
		act("os-show_image_metadata", meta+"show", nil, s.showImageMetadata),
		since(40, act("revert", "volume:revert_to_snapshot", one("revert", "snapshot_id", wire.UUID), s.revert)),
		since(68, act("os-reimage", "volume:reimage", wire.Body("os-reimage", wire.Object(`"image_id":`+wire.UUID+`,"reimage_reserved":`+wire.Bool, `"image_id"`, "false")), s.reimage)),
	}
}

// argsOf reads the arguments of an action.
func argsOf(r *rest.Request) (map[string]any, error) {
	var b map[string]map[string]any
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	return b[r.Route.Action], nil
}

// begin changes the volume of the path and begins a saga, in the service's ledger.
func (s *Service) begin(ctx context.Context, r *rest.Request, kind, action string, args any, fn func(*store.Tx, *block.Volume) error) error {
	v, err := s.VolumeOf(r)
	if err != nil {
		return err
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error { return fn(tx, v) }); err != nil || kind == "" {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, kind, action, v.ID, args)
	})
}

func (s *Service) extend(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	size := wire.Number(in["new_size"])
	expected := block.Available
	if v.Status == block.InUse && r.AtLeast(3, 42) {
		expected = block.InUse
		if err := r.EnforceRule("volume:extend_attached_volume", v.Target()); err != nil {
			return nil, err
		}
	}
	return rest.Empty(202), s.extendTo(ctx, r.Creds, r.ID, v, size, expected)
}

// extendTo begins to make a volume larger that is in the expected state.
func (s *Service) extendTo(ctx context.Context, who *policy.Credentials, request string, v *block.Volume, size int, expected block.Status) error {
	if err := s.Quotas.Size(v.ProjectID, size); err != nil {
		return err
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		_, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error {
			if size <= v.SizeGiB {
				return wire.InvalidInput("New size for extend must be greater than current size. (current: %d, extended: %d).", v.SizeGiB, size)
			}
			if v.Status != expected {
				return wire.InvalidVolume("Volume %s status must be '%s' to extend, currently %s.", v.ID, expected, v.Status)
			}
			if err := s.Charge(tx, v.ProjectID, s.GrowCost(v.TypeID, size-v.SizeGiB)); err != nil {
				return err
			}
			v.Status, v.SizeGiB = block.Extending, size
			return nil
		})
		if err != nil {
			return err
		}
		return s.Begin(tx, request, who, sagaExtend, "extend", v.ID, extendArgs{v.SizeGiB, size})
	})
}

// retype changes the type of a volume: at once where it is, or with a migration
// policy of on-demand by moving it or changing its encryption.
func (s *Service) retype(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	name, _ := in["new_type"].(string)
	t, err := s.Types.Find(r.Creds, name)
	if err != nil {
		return nil, wire.InvalidInput("Invalid volume_type passed: %s.", name)
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	more := map[string]int{"volumes_" + t.Name: 1, "gigabytes_" + t.Name: v.SizeGiB}
	move := (t.Encryption != nil) != v.Cipher || s.staysPut(ctx, v, t.ID) != nil
	if move && in["migration_policy"] == "on-demand" && v.TypeID != t.ID && v.Node != "" {
		to, err := s.retypeTo(ctx, v, t)
		if err != nil {
			return nil, err
		}
		return rest.Empty(202), s.move(ctx, r, "retype", to, block.Retyping, more)
	}
	return rest.Empty(202), s.begin(ctx, r, "", "retype", nil, func(tx *store.Tx, v *block.Volume) error {
		switch {
		case !v.In(block.Available, block.InUse) || v.GroupID != "":
			return wire.InvalidVolume("Volume %s status must be available or in-use, must not be migrating, have snapshots, be replicated, be part of a group and destination type has to be different from the origin type", v.ID)
		case v.TypeID == t.ID:
			return wire.InvalidInput("New volume_type same as original: %s.", t.Name)
		case (t.Encryption != nil) != v.Cipher:
			return wire.InvalidVolume("Retype requires migration, to change the encryption: use the migration policy on-demand.")
		case t.Multiattach() != v.Multiattach && v.Status == block.InUse:
			return wire.InvalidInput("Retype requires volume to be available to change multiattach.")
		}
		if err := s.staysPut(ctx, v, t.ID); err != nil {
			return err
		}
		if err := s.Charge(tx, v.ProjectID, more); err != nil {
			return err
		}
		v.TypeID, v.Multiattach = t.ID, t.Multiattach()
		return nil
	})
}

// staysPut tells whether the volume's pool has what another type asks for.
func (s *Service) staysPut(ctx context.Context, v *block.Volume, typeID string) error {
	t, err := s.Types.Get(typeID)
	if err != nil {
		return err
	}
	for _, p := range s.pools.All(ctx) {
		if p.Name() == v.Host() && p.Suits(t) {
			return nil
		}
	}
	return wire.InvalidVolume("Retype requires migration: the pool %s does not have what type %s asks for; use the migration policy on-demand.", v.Host(), t.Name)
}

func (s *Service) setReadonly(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	on := wire.Truthy(in["readonly"])
	return rest.Empty(202), s.begin(ctx, r, "", "", nil, func(_ *store.Tx, v *block.Volume) error {
		if v.Status != block.Available {
			return wire.InvalidVolume("Volume %s status must be available to update readonly flag, but current status is: %s.", v.ID, v.Status)
		}
		v.ReadOnly = &on
		return nil
	})
}

func (s *Service) setBootable(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(200), s.begin(ctx, r, "", "", nil, func(_ *store.Tx, v *block.Volume) error {
		v.Bootable = wire.Truthy(in["bootable"])
		return nil
	})
}

// resettable are the states that an administrator may declare (cinder/api/schemas/admin_actions.py).
var resettable = []string{"creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use", "detaching", "maintenance", "reserved"}

func (s *Service) resetStatus(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	word := func(k string) string { v, _ := in[k].(string); return strings.ToLower(v) }
	status, attach, migration := word("status"), word("attach_status"), word("migration_status")
	if status != "" && !slices.Contains(resettable, status) {
		return nil, errs.Invalidf("Invalid input for field/attribute status. Value: %s. It is not one of %s", status, strings.Join(resettable, ", "))
	}
	if slices.Contains([]string{"deleting", "error_deleting", "detaching"}, status) {
		return nil, errs.Invalidf("Cannot reset-state to %s", status)
	}
	return rest.Empty(202), s.begin(ctx, r, "", "", nil, func(tx *store.Tx, v *block.Volume) error {
		list := s.Attachments.TxBy(tx, "volume", v.ID)
		if status == "in-use" && len(list) == 0 {
			return errs.Invalidf("Cannot reset-state to in-use because volume does not have any attachments.")
		}
		if status != "" {
			v.Status = block.Status(status)
		}
		if in["migration_status"] != nil {
			v.MigrationStatus = strings.ReplaceAll(migration, "none", "")
		}
		for _, a := range list {
			if attach != "detached" {
				break
			}
			if err := s.Attachments.TxDelete(tx, a.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) upload(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	word := func(k, other string) string {
		if t, _ := in[k].(string); t != "" {
			return t
		}
		return other
	}
	img := NewImage{ID: uuid.NewString(), Name: word("image_name", ""), Format: word("disk_format", "raw"), Container: word("container_format", "bare"), ProjectID: v.ProjectID,
		Visibility: word("visibility", "private"), Protected: in["protected"] != nil && wire.Truthy(in["protected"]), MinDisk: v.SizeGiB, Properties: map[string]string{}}
	if img.Visibility == "public" {
		if err := r.EnforceRule("volume_extension:volume_actions:upload_public", v.Target()); err != nil {
			return nil, err
		}
	}
	if v.Cipher {
		return nil, errs.Invalidf("An encrypted volume cannot be uploaded as an image: the image service does not keep its key.")
	}
	for k, val := range v.ImageMetadata {
		if !slices.Contains([]string{"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}, k) {
			img.Properties[k] = val
		}
	}
	may := []block.Status{block.Available}
	if in["force"] != nil && wire.Truthy(in["force"]) {
		may = append(may, block.InUse)
	}
	// The answer names the image, so the record must be there by then.
	if err := s.images.EnsureImage(ctx, img); err != nil {
		return nil, err
	}
	err = s.begin(ctx, r, sagaUpload, "upload", img, func(_ *store.Tx, v *block.Volume) error {
		if !v.In(may...) {
			return wire.InvalidVolume("Volume %s status must be %s", v.ID, block.Words(may...))
		}
		v.Status, v.Previous = block.Uploading, v.Status
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.images.Discard(ctx, img.ID))
	}
	out := map[string]any{"id": v.ID, "updated_at": wire.Stamp(wire.Now()), "status": "uploading", "display_description": v.Description, "size": v.SizeGiB,
		"volume_type": map[string]any{"id": v.TypeID, "name": s.Types.Name(v.TypeID)}, "image_id": img.ID, "container_format": img.Container, "disk_format": img.Format, "image_name": img.Name}
	if r.AtLeast(3, 1) {
		out["visibility"], out["protected"] = img.Visibility, img.Protected
	}
	return rest.JSON(202, map[string]any{"os-volume_upload_image": out}), nil
}

func (s *Service) setImageMetadata(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	now := map[string]string{}
	err := s.begin(ctx, r, "", "", nil, func(_ *store.Tx, v *block.Volume) error {
		now = maps.Clone(wire.Map(v.ImageMetadata))
		maps.Copy(now, b[r.Route.Action].Metadata)
		v.ImageMetadata = now
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"metadata": now}), nil
}

func (s *Service) unsetImageMetadata(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	key, _ := in["key"].(string)
	return rest.Empty(200), s.begin(ctx, r, "", "", nil, func(_ *store.Tx, v *block.Volume) error {
		if _, ok := v.ImageMetadata[key]; !ok {
			return errs.NotFoundf("Metadata item was not found")
		}
		delete(v.ImageMetadata, key)
		return nil
	})
}

func (s *Service) showImageMetadata(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"metadata": wire.Map(v.ImageMetadata)}), nil
}

// revert gives a volume the content of its latest snapshot (3.40).
func (s *Service) revert(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	id, _ := in["snapshot_id"].(string)
	return rest.Empty(202), s.begin(ctx, r, sagaRevert, "revert", revertArgs{id}, func(tx *store.Tx, v *block.Volume) error {
		list := s.Snapshots.TxBy(tx, "volume", v.ID)
		if len(list) == 0 {
			return errs.Invalidf("Volume %s doesn't have any snapshots.", v.ID)
		}
		last := slices.MaxFunc(list, func(a, b *block.Snapshot) int { return a.Created.Compare(b.Created) })
		switch {
		case last.ID != id:
			return errs.Invalidf("Specified snapshot %s is None or not the latest one of volume %s.", id, v.ID)
		case last.SizeGiB != v.SizeGiB:
			return errs.Invalidf("Can't revert volume %s to its latest snapshot %s. The volume size must be equal to the snapshot size.", v.ID, id)
		case v.Status != block.Available:
			return errs.Conflictf("Invalid volume: Can't revert volume %s to its latest snapshot %s. Volume's status must be 'available'.", v.ID, id)
		case last.Status != block.Available:
			return errs.Conflictf("Invalid snapshot: Can't revert volume %s to its latest snapshot %s. Snapshot's status must be 'available'.", v.ID, id)
		}
		v.Status = block.Reverting
		_, err := s.Snapshots.TxUpdate(tx, id, func(x *block.Snapshot) error { x.Status = block.Restoring; return nil })
		return err
	})
}

// reimage writes another image over a volume (3.68).
func (s *Service) reimage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	id, _ := in["image_id"].(string)
	img, err := s.images.Image(ctx, r.Creds, id)
	if err != nil {
		return nil, wire.NotFound("Image", id)
	}
	if img.Status != "active" {
		return nil, wire.InvalidInput("Image %s is not active.", id)
	}
	may := []block.Status{block.Available, block.Errored}
	if in["reimage_reserved"] != nil && wire.Truthy(in["reimage_reserved"]) {
		if err := r.EnforceRule("volume:reimage_reserved", r.Own()); err != nil {
			return nil, err
		}
		may = append(may, block.Reserved)
	}
	return rest.Empty(202), s.begin(ctx, r, sagaReimage, "reimage", nil, func(tx *store.Tx, v *block.Volume) error {
		if !v.In(may...) || v.Node == "" {
			return errs.Conflictf("Invalid volume: volume %s status must be %s to reimage, but it is %s", v.ID, block.Words(may...), v.Status)
		}
		if len(s.Snapshots.TxBy(tx, "volume", v.ID)) > 0 {
			return errs.Conflictf("Invalid volume: volume %s has snapshots", v.ID)
		}
		if err := img.fits(v.SizeGiB); err != nil {
			return err
		}
		v.Status, v.ImageID, v.SourceID, v.SnapshotID, v.BackupID, v.ImageMetadata = block.Downloading, id, "", "", "", img.metadata()
		return nil
	})
}
