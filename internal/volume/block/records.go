package block

import (
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Status is the state of a volume, a snapshot or a backup.
type Status string

// The states that this version uses.
const (
	Creating         Status = "creating"
	Available        Status = "available"
	Reserved         Status = "reserved"
	Attaching        Status = "attaching"
	Detaching        Status = "detaching"
	InUse            Status = "in-use"
	Downloading      Status = "downloading"
	Uploading        Status = "uploading"
	Extending        Status = "extending"
	Retyping         Status = "retyping"
	Reverting        Status = "reverting"
	BackingUp        Status = "backing-up"
	Restoring        Status = "restoring"
	RestoringBackup  Status = "restoring-backup"
	AwaitingTransfer Status = "awaiting-transfer"
	Deleting         Status = "deleting"
	Errored          Status = "error"
	ErrorExtending   Status = "error_extending"
	ErrorRestoring   Status = "error_restoring"
	ErrorDeleting    Status = "error_deleting"
	Managing         Status = "managing"
	ErrorManaging    Status = "error_managing"
	Unmanaging       Status = "unmanaging"
	Maintenance      Status = "maintenance"
)

// Volume is the record of one volume.
type Volume struct {
	ID              string            `json:"id"`
	Name            *string           `json:"name,omitempty"`
	Description     *string           `json:"description,omitempty"`
	ProjectID       string            `json:"project_id"`
	UserID          string            `json:"user_id"`
	SizeGiB         int               `json:"size_gib"`
	Status          Status            `json:"status"`
	Previous        Status            `json:"previous,omitempty"` // to go back to
	MigrationStatus string            `json:"migration_status,omitempty"`
	AZ              string            `json:"az"`
	Node            string            `json:"node,omitempty"` // that keeps it; "": not placed
	Near            string            `json:"near,omitempty"` // node that was wished for
	Driver          string            `json:"driver,omitempty"`
	Pool            string            `json:"pool,omitempty"`
	TypeID          string            `json:"type_id"`
	SnapshotID      string            `json:"snapshot_id,omitempty"` // made from
	SourceID        string            `json:"source_id,omitempty"`   // volume made from
	ImageID         string            `json:"image_id,omitempty"`    // made from
	BackupID        string            `json:"backup_id,omitempty"`   // made from
	GroupID         string            `json:"group_id,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	ImageMetadata   map[string]string `json:"image_metadata,omitempty"`
	Bootable        bool              `json:"bootable"`
	ReadOnly        *bool             `json:"read_only,omitempty"` // nil: nobody ever said
	Multiattach     bool              `json:"multiattach"`
	Cipher          bool              `json:"cipher,omitempty"` // encrypted
	Key             []byte            `json:"key,omitempty"`    // passphrase; never shown, never logged
	KeyID           string            `json:"key_id,omitempty"` // what users see of the key
	Created         time.Time         `json:"created"`
	Updated         time.Time         `json:"updated,omitzero"`
}

// Snapshot is the record of one snapshot.
type Snapshot struct {
	ID              string            `json:"id"`
	VolumeID        string            `json:"volume_id"`
	Name            *string           `json:"name,omitempty"`
	Description     *string           `json:"description,omitempty"`
	ProjectID       string            `json:"project_id"`
	UserID          string            `json:"user_id"`
	SizeGiB         int               `json:"size_gib"`
	TypeID          string            `json:"type_id"`
	Status          Status            `json:"status"`
	Progress        string            `json:"progress"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	GroupSnapshotID string            `json:"group_snapshot_id,omitempty"`
	NodeName        string            `json:"node_name,omitempty"` // on the node; "": the id
	Created         time.Time         `json:"created"`
	Updated         time.Time         `json:"updated,omitzero"`
}

// OnNode is what the node that keeps the volume calls the snapshot.
func (s *Snapshot) OnNode() string {
	if s.NodeName != "" {
		return s.NodeName
	}
	return s.ID
}

// AttachStatus is the state of an attachment.
type AttachStatus string

// The states of an attachment (cinder/objects/fields.py, VolumeAttachStatus).
const (
	AttachReserved  AttachStatus = "reserved"
	AttachAttaching AttachStatus = "attaching"
	AttachAttached  AttachStatus = "attached"
	AttachDetaching AttachStatus = "detaching"
)

// Attachment is the record of one claim on a volume.
type Attachment struct {
	ID         string         `json:"id"`
	VolumeID   string         `json:"volume_id"`
	ProjectID  string         `json:"project_id"`
	Server     string         `json:"server,omitempty"`
	Host       string         `json:"host,omitempty"`
	Mountpoint string         `json:"mountpoint,omitempty"`
	Mode       string         `json:"mode"` // rw, ro or null
	Status     AttachStatus   `json:"status"`
	Connector  map[string]any `json:"connector,omitempty"`
	Compute    bool           `json:"compute,omitempty"`   // made by the compute service, which alone may end it
	Container  bool           `json:"container,omitempty"` // of containers of Host, whose end alone ends it
	AttachedAt time.Time      `json:"attached_at,omitzero"`
	Created    time.Time      `json:"created"`
	// Peers are the hosts that reach the volume at Keeper, the node that has its
	// files; more than one only while the server moves.
	Keeper string `json:"keeper,omitempty"`
	Peers  []Peer `json:"peers,omitempty"`
}

// Peer is a host that reaches a volume over the network.
type Peer struct {
	Host string `json:"host"`
	User string `json:"user"`
	PSK  []byte `json:"psk"` // never shown, never logged
}

// Backup is the record of one backup.
type Backup struct {
	ID          string            `json:"id"`
	Name        *string           `json:"name,omitempty"`
	Description *string           `json:"description,omitempty"`
	ProjectID   string            `json:"project_id"`
	UserID      string            `json:"user_id"`
	VolumeID    string            `json:"volume_id"`
	SnapshotID  string            `json:"snapshot_id,omitempty"`
	ParentID    string            `json:"parent_id,omitempty"` // "": full
	Container   string            `json:"container,omitempty"`
	Status      Status            `json:"status"`
	FailReason  string            `json:"fail_reason,omitempty"`
	SizeGiB     int               `json:"size_gib"`
	Objects     int               `json:"objects"`
	Node        string            `json:"node,omitempty"` // whose vault holds it
	AZ          string            `json:"az,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Bootable    bool              `json:"bootable,omitempty"`
	ImageMeta   map[string]string `json:"image_meta,omitempty"`
	TypeID      string            `json:"type_id,omitempty"`     // of the volume
	VolumeMeta  map[string]string `json:"volume_meta,omitempty"` // of the volume, for one made from the backup
	Key         []byte            `json:"key,omitempty"`         // of the volume, when it was encrypted; never shown, never logged
	RestoreTo   string            `json:"restore_to,omitempty"`  // volume being restored
	DataTime    time.Time         `json:"data_time"`
	Created     time.Time         `json:"created"`
	Updated     time.Time         `json:"updated,omitzero"`
}

// KeyFor is what the backup's content is sealed with; v is what it is restored to.
// A record that was made before records kept keys has only its own volume's.
func (b *Backup) KeyFor(v *Volume) []byte {
	if len(b.Key) == 0 && b.VolumeID == v.ID {
		return v.Key
	}
	return b.Key
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func registerVolumes(db *store.DB) *store.Collection[Volume] {
	return store.Register(db, store.Schema[Volume]{Service: "volume", Kind: "volume", Version: 1,
		ID: func(v *Volume) string { return v.ID },
		Index: map[string]func(*Volume) []string{
			"project": func(v *Volume) []string { return one(v.ProjectID) },
			"type":    func(v *Volume) []string { return one(v.TypeID) },
			"node":    func(v *Volume) []string { return one(v.Node) },
			"group":   func(v *Volume) []string { return one(v.GroupID) },
		}})
}

func registerSnapshots(db *store.DB) *store.Collection[Snapshot] {
	return store.Register(db, store.Schema[Snapshot]{Service: "volume", Kind: "snapshot", Version: 1,
		ID: func(s *Snapshot) string { return s.ID },
		Index: map[string]func(*Snapshot) []string{
			"project": func(s *Snapshot) []string { return one(s.ProjectID) },
			"volume":  func(s *Snapshot) []string { return one(s.VolumeID) },
			"group":   func(s *Snapshot) []string { return one(s.GroupSnapshotID) },
		}})
}

func registerAttachments(db *store.DB) *store.Collection[Attachment] {
	return store.Register(db, store.Schema[Attachment]{Service: "volume", Kind: "attachment", Version: 1,
		ID: func(a *Attachment) string { return a.ID },
		Index: map[string]func(*Attachment) []string{
			"project": func(a *Attachment) []string { return one(a.ProjectID) },
			"volume":  func(a *Attachment) []string { return one(a.VolumeID) },
			"server":  func(a *Attachment) []string { return one(a.Server) },
			"keeper":  func(a *Attachment) []string { return one(a.Keeper) },
		}})
}

func registerBackups(db *store.DB) *store.Collection[Backup] {
	return store.Register(db, store.Schema[Backup]{Service: "volume", Kind: "backup", Version: 1,
		ID: func(b *Backup) string { return b.ID },
		Index: map[string]func(*Backup) []string{
			"project": func(b *Backup) []string { return one(b.ProjectID) },
			"volume":  func(b *Backup) []string { return one(b.VolumeID) },
			"parent":  func(b *Backup) []string { return one(b.ParentID) },
		}})
}
