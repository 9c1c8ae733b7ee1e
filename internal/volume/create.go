package volume

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/voltype"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// order is a volume that somebody wants.
type order struct {
	ID                string
	Name, Description *string
	SizeGiB           int
	Type, Zone        string
	Near, Group       string
	Image, Snapshot   string
	Source, Backup    string
	Metadata          map[string]string
	image             *Image
	snapshot          *block.Snapshot
	source            *block.Volume // the volume itself, or the snapshot's
	backup            *block.Backup
	volType           *voltype.Type
	requestID         string
}

type createBody struct {
	Volume struct {
		Name         *string           `json:"name"`
		Description  *string           `json:"description"`
		DisplayName  *string           `json:"display_name"`
		DisplayDesc  *string           `json:"display_description"`
		Size         any               `json:"size"`
		Type         *string           `json:"volume_type"`
		Metadata     map[string]string `json:"metadata"`
		Snapshot     *string           `json:"snapshot_id"`
		Source       *string           `json:"source_volid"`
		Backup       *string           `json:"backup_id"`
		Group        *string           `json:"group_id"`
		CGroup       *string           `json:"consistencygroup_id"`
		Zone         *string           `json:"availability_zone"`
		ImageRef     *string           `json:"imageRef"`
		ImageID      *string           `json:"image_id"`
		Multiattach  any               `json:"multiattach"`
		SourceOfRepl *string           `json:"source_replica"`
	} `json:"volume"`
}

func (s *Service) createVolume(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b createBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Volume
	if in.Multiattach != nil && wire.Truthy(in.Multiattach) {
		return nil, errs.Invalidf("multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. " +
			"Contact your administrator to create a multiattach enabled volume type and use it to create multiattach volumes.")
	}
	o := &order{ID: uuid.NewString(), Name: wire.Trim(cmp.Or(in.Name, in.DisplayName)), Description: wire.Trim(cmp.Or(in.Description, in.DisplayDesc)),
		Type: wire.Text(in.Type), Zone: wire.Text(in.Zone), Group: cmp.Or(wire.Text(in.Group), wire.Text(in.CGroup)), Snapshot: wire.Text(in.Snapshot), Source: wire.Text(in.Source), Metadata: in.Metadata, requestID: r.ID}
	if in.Size != nil {
		if o.SizeGiB = wire.Number(in.Size); o.SizeGiB <= 0 {
			return nil, badSize(in.Size)
		}
	}
	if r.AtLeast(3, 47) {
		o.Backup = wire.Text(in.Backup)
	}
	ref := wire.Text(in.ImageRef)
	if in.ImageID != nil {
		ref = wire.Text(in.ImageID)
	}
	if ref != "" {
		if err := r.EnforceRule("volume:create_from_image", r.Own()); err != nil {
			return nil, err
		}
		var err error
		if o.Image, err = s.imageNamed(ctx, r.Creds, ref); err != nil {
			return nil, err
		}
	}
	v, err := s.order(ctx, r.Creds, o)
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"volume": s.view(r, v)}), nil
}

func badSize(size any) error {
	return wire.InvalidInput("Invalid volume size provided for create request: %v (size argument must be an integer (or string representation of an integer) and greater than zero).", size)
}

// imageNamed takes an image's id, its address or its name.
func (s *Service) imageNamed(ctx context.Context, c *policy.Credentials, ref string) (string, error) {
	id := ref[lastSlash(ref):]
	if _, err := uuid.Parse(id); err == nil {
		return id, nil
	}
	id, err := s.images.Named(ctx, c, ref)
	if err != nil {
		return "", errs.Invalidf("Invalid image identifier or unable to access requested image.")
	}
	return id, nil
}

func lastSlash(s string) int {
	for i := len(s); i > 0; i-- {
		if s[i-1] == '/' {
			return i
		}
	}
	return 0
}

// order accepts a new volume: the record and the saga that makes it.
func (s *Service) order(ctx context.Context, c *policy.Credentials, o *order) (*block.Volume, error) {
	v, err := s.prepare(ctx, c, o, s.findSource, s.findType, s.checkGroup, s.checkSize)
	if err != nil {
		return nil, err
	}
	return v, s.Ledger.Do(ctx, func(tx *store.Tx) error { return s.put(tx, c, o, v) })
}

type check func(context.Context, *policy.Credentials, *order) error

// prepare checks an order and gives the record that it leads to.
func (s *Service) prepare(ctx context.Context, c *policy.Credentials, o *order, checks ...check) (*block.Volume, error) {
	for _, fits := range checks {
		if err := fits(ctx, c, o); err != nil {
			return nil, err
		}
	}
	if o.Zone == "" {
		o.Zone = block.Zone
	}
	if o.Zone != block.Zone {
		return nil, errs.Invalidf("Availability zone '%s' is invalid.", o.Zone)
	}
	if err := s.Quotas.Size(c.ProjectID, o.SizeGiB); err != nil {
		return nil, err
	}
	return o.record(c)
}

// put writes a new volume and begins its saga, in the ledger.
func (s *Service) put(tx *store.Tx, c *policy.Credentials, o *order, v *block.Volume) error {
	if v.GroupID != "" {
		if err := s.groups.Joins(tx, v); err != nil {
			return err
		}
	}
	if err := s.Charge(tx, c.ProjectID, s.VolumeCost(v.TypeID, v.SizeGiB)); err != nil {
		return err
	}
	if err := s.Volumes.TxCreate(tx, v); err != nil {
		return err
	}
	if o.backup != nil {
		if err := s.claimBackup(tx, o.backup.ID, v.ID); err != nil {
			return err
		}
	}
	return s.Begin(tx, o.requestID, c, sagaCreate, "create", v.ID, nil)
}

// claimBackup marks the backup that a new volume is restored from.
func (s *Service) claimBackup(tx *store.Tx, backup, volume string) error {
	_, err := s.Backups.TxUpdate(tx, backup, func(b *block.Backup) error {
		if b.Status != block.Available {
			return errs.Invalidf("Invalid backup: Backup status must be available")
		}
		b.Status, b.RestoreTo = block.Restoring, volume
		return nil
	})
	return err
}

// findSource looks at what the volume is to be made from.
func (s *Service) findSource(ctx context.Context, c *policy.Credentials, o *order) (err error) {
	given := 0
	for _, id := range []string{o.Image, o.Snapshot, o.Source, o.Backup} {
		if id != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return wire.InvalidInput("May specify only one of snapshot, source volume, backup or imageRef")
	case o.Snapshot != "":
		if o.snapshot, err = s.FindSnapshot(c, o.Snapshot); err != nil {
			return err
		}
		if o.snapshot.Status != block.Available {
			return wire.InvalidSnapshot("Originating snapshot status must be one of 'available' values")
		}
		o.source, err = s.Volumes.Get(o.snapshot.VolumeID)
		return err
	case o.Source != "":
		if o.source, err = s.FindVolume(c, o.Source); err != nil {
			return err
		}
		if !o.source.In(block.Available, block.InUse) {
			return wire.InvalidVolume("Unable to create a volume from an originating source volume when its status is not one of 'available, in-use' values")
		}
	case o.Backup != "":
		if o.backup, err = s.Backups.Get(o.Backup); err != nil || !(c.Admin() || c.ProjectID == o.backup.ProjectID) {
			return wire.NotFound("Backup", o.Backup)
		}
		if o.backup.Status != block.Available {
			return errs.Invalidf("Invalid backup: Backup status must be available")
		}
	case o.Image != "":
		return s.findImage(ctx, c, o)
	}
	return nil
}

func (s *Service) findImage(ctx context.Context, c *policy.Credentials, o *order) (err error) {
	o.image, err = s.images.Image(ctx, c, o.Image)
	if errs.Is(err, errs.NotFound) {
		return wire.NotFound("Image", o.Image)
	} else if err != nil {
		return err
	}
	if o.image.Status != "active" {
		return wire.InvalidInput("Image %s is not active.", o.Image)
	}
	return nil
}

// findType is the type asked for, the source's, the image's, or the default.
func (s *Service) findType(_ context.Context, c *policy.Credentials, o *order) (err error) {
	name := o.Type
	if name == "" && o.image != nil {
		name = o.image.Properties["cinder_img_volume_type"]
	}
	switch {
	case name != "":
		o.volType, err = s.Types.Find(c, name)
	case o.source != nil:
		o.volType, err = s.Types.Get(o.source.TypeID)
	default:
		if o.backup != nil { // its type may be gone since
			o.volType, err = s.Types.Get(o.backup.TypeID)
		}
		if o.volType == nil {
			o.volType, err = s.Types.Of(c.ProjectID)
		}
	}
	if err != nil {
		return err
	}
	if o.source != nil && o.volType.ID != o.source.TypeID {
		if (o.volType.Encryption != nil) != o.source.Cipher {
			return wire.InvalidInput("Invalid volume_type provided: %s (requested type is not compatible; either match source volume, or omit type argument).", o.volType.ID)
		}
	}
	if o.backup != nil && len(o.backup.Key) > 0 && o.volType.Encryption == nil {
		return wire.InvalidInput("Volumes of type %s are not encrypted, and the backup is of an encrypted volume.", o.volType.Name)
	}
	if e := o.volType.Encryption; e != nil && !e.Supported() {
		return wire.InvalidInput("Volumes of type %s cannot be encrypted: its provider %s at the %s is not supported, use luks at the front-end", o.volType.Name, e.Provider, e.Location)
	}
	return nil
}

const gib = 1 << 30

// checkSize settles the size and compares it with the source's.
func (s *Service) checkSize(_ context.Context, _ *policy.Credentials, o *order) error {
	switch {
	case o.snapshot != nil:
		o.SizeGiB = cmp.Or(o.SizeGiB, o.snapshot.SizeGiB)
		if o.SizeGiB < o.snapshot.SizeGiB {
			return wire.InvalidInput("Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", o.SizeGiB, o.snapshot.SizeGiB)
		}
	case o.source != nil:
		o.SizeGiB = cmp.Or(o.SizeGiB, o.source.SizeGiB)
		if o.SizeGiB < o.source.SizeGiB {
			return wire.InvalidInput("Volume size '%dGB' cannot be smaller than original volume size %dGB. They must be >= original volume size.", o.SizeGiB, o.source.SizeGiB)
		}
	case o.backup != nil:
		o.SizeGiB = cmp.Or(o.SizeGiB, o.backup.SizeGiB)
		if o.SizeGiB < o.backup.SizeGiB {
			return wire.InvalidInput("Volume size %dGB cannot be smaller than the backup size %dGB. It must be >= backup size.", o.SizeGiB, o.backup.SizeGiB)
		}
	}
	if o.SizeGiB <= 0 {
		return wire.InvalidInput("Volume size 'None' must be an integer and greater than 0")
	}
	if o.image != nil {
		return o.image.fits(o.SizeGiB)
	}
	return nil
}

// fits tells whether the image's disk fits in a volume of the size.
func (i *Image) fits(sizeGiB int) error {
	if n := int((max(i.Size, i.Virtual) + gib - 1) / gib); n > sizeGiB {
		return wire.InvalidInput("Size of specified image %dGB is larger than volume size %dGB.", n, sizeGiB)
	}
	if i.MinDisk > sizeGiB {
		return wire.InvalidInput("Volume size %dGB cannot be smaller than the image minDisk size %dGB.", sizeGiB, i.MinDisk)
	}
	return nil
}

// record is the new volume as the request leaves it.
func (o *order) record(c *policy.Credentials) (*block.Volume, error) {
	v := &block.Volume{ID: o.ID, Name: o.Name, Description: o.Description, ProjectID: c.ProjectID, UserID: c.UserID, SizeGiB: o.SizeGiB, Status: block.Creating,
		AZ: o.Zone, Near: o.Near, TypeID: o.volType.ID, SnapshotID: o.Snapshot, SourceID: o.Source, ImageID: o.Image, BackupID: o.Backup, GroupID: o.Group, Metadata: o.Metadata,
		Multiattach: o.volType.Multiattach(), Created: wire.Now()}
	if o.source != nil {
		v.Bootable, v.ImageMetadata = o.source.Bootable, maps.Clone(o.source.ImageMetadata)
	}
	if o.backup != nil {
		v.Bootable, v.ImageMetadata = o.backup.Bootable, maps.Clone(o.backup.ImageMeta)
		if v.Metadata == nil {
			v.Metadata = maps.Clone(o.backup.VolumeMeta)
		}
	}
	if o.image != nil {
		v.ImageMetadata = o.image.metadata()
	}
	if o.volType.Encryption != nil {
		return v, encrypt(v)
	}
	return v, nil
}

// encrypt gives the volume a key of its own.
func encrypt(v *block.Volume) error {
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	v.Cipher, v.Key, v.KeyID = true, []byte(hex.EncodeToString(raw)), uuid.NewString()
	return nil
}
