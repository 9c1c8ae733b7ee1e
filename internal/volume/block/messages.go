package block

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Message tells a user why work that had been accepted failed.
type Message struct {
	ID        string    `json:"id"`
	ProjectID string    `json:"project_id"`
	RequestID string    `json:"request_id"`
	Kind      string    `json:"kind"` // VOLUME, VOLUME_SNAPSHOT or VOLUME_BACKUP
	Resource  string    `json:"resource"`
	Event     string    `json:"event"` // such as VOLUME_VOLUME_001_002
	Text      string    `json:"text"`
	Created   time.Time `json:"created"`
}

// messageTTL is upstream's message_ttl.
const messageTTL = 30 * 24 * time.Hour

// Expires is when the message goes.
func (m *Message) Expires() time.Time { return m.Created.Add(messageTTL) }

func registerMessages(db *store.DB) *store.Collection[Message] {
	return store.Register(db, store.Schema[Message]{Service: "volume", Kind: "message", Version: 1,
		ID:    func(m *Message) string { return m.ID },
		Index: map[string]func(*Message) []string{"project": func(m *Message) []string { return one(m.ProjectID) }}})
}

// An Action is what was being done (cinder/message/message_field.py).
type Action struct{ ID, Text string }

// The actions that leave messages.
var (
	ScheduleVolume = Action{"001", "schedule allocate volume"}
	CopyToImage    = Action{"003", "copy volume to image"}
	ExtendVolume   = Action{"007", "extend volume"}
	CreateVolume   = Action{"008", "create volume from backend storage"}
	CreateSnapshot = Action{"009", "create snapshot"}
	DeleteSnapshot = Action{"010", "delete snapshot"}
	CreateBackup   = Action{"013", "create backup"}
	DeleteBackup   = Action{"014", "delete backup"}
	RestoreBackup  = Action{"015", "restore backup"}
	ReimageVolume  = Action{"016", "reimage volume"}
)

// Detail is why it failed.
type Detail struct{ ID, Text string }

// The reasons.
var (
	Unknown        = Detail{"001", "An unknown error occurred."}
	NoBackend      = Detail{"003", "Could not find any available weighted backend."}
	UploadFailed   = Detail{"004", "Failed to upload volume to image at backend."}
	ExtendFailed   = Detail{"010", "Volume Driver failed to extend volume."}
	CreateFailed   = Detail{"012", "Driver failed to create the volume."}
	SnapshotFailed = Detail{"013", "Snapshot failed to create."}
	SnapshotStays  = Detail{"016", "Snapshot failed to delete."}
	BackupFailed   = Detail{"020", "Backup driver failed to create backup."}
	BackupStays    = Detail{"025", "Backup driver failed to delete backup."}
	RestoreFailed  = Detail{"026", "Backup driver failed to restore backup."}
	TooLarge       = Detail{"007", "Image used for creating volume exceeds available space."}
)

// Tell writes a message. A failure to do so is only logged: it must not stop what
// is being cleaned up.
func (c *Core) Tell(ctx context.Context, project, request, kind, resource string, a Action, d Detail) {
	m := &Message{ID: uuid.NewString(), ProjectID: project, RequestID: request, Kind: kind, Resource: resource,
		Event: "VOLUME_" + kind + "_" + a.ID + "_" + d.ID, Text: a.Text + ":" + d.Text, Created: wire.Now()}
	if err := c.Messages.Create(ctx, m); err != nil {
		c.Log.Warn("a user is not told of a failure", "op", a.Text, "volume", resource, "err", err)
	}
}
