package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Volumes is what compute needs of the volume service; without it (nil) servers
// have no volumes and the routes do not exist. Volumes, snapshots and attachments
// are named by ids that compute chose, so every call may be repeated.
type Volumes interface {
	// Volume and Snapshot give what the caller may see; NotFound otherwise.
	Volume(ctx context.Context, c *policy.Credentials, id string) (*Volume, error)
	Snapshot(ctx context.Context, c *policy.Credentials, id string) (*VolumeSnapshot, error)
	// EnsureVolume accepts a new volume in the caller's project, under its quota
	// (Forbidden); AwaitVolume waits until it is available and fails when it is in error.
	EnsureVolume(ctx context.Context, c *policy.Credentials, v NewVolume) (*Volume, error)
	AwaitVolume(ctx context.Context, id string) error
	// DeleteVolume begins the removal of a volume that is detached. Absent is fine.
	DeleteVolume(ctx context.Context, id string) error
	// EnsureSnapshot accepts a snapshot, of a volume in use too; AwaitSnapshot waits for it.
	EnsureSnapshot(ctx context.Context, c *policy.Credentials, s NewSnapshot) error
	AwaitSnapshot(ctx context.Context, id string) error

	// Reserve claims a volume for a server by an attachment: Conflict or Invalid
	// when its state forbids it. From now on nobody else can take or delete it.
	Reserve(ctx context.Context, c *policy.Credentials, a NewAttachment) error
	// Admit lets another host reach the volume too, to which the server is about to
	// move, and tells how. Connect ends that for every host but its own.
	Admit(ctx context.Context, attachment, host string) (*nodeapi.VolumeSource, error)
	// Connect binds the attachment to the host that will use it and tells how.
	Connect(ctx context.Context, attachment, host, device string) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error)
	// Complete says that the server has the volume: it is in use.
	Complete(ctx context.Context, attachment string) error
	// Detaching marks the volume as on its way out; Keep undoes that.
	Detaching(ctx context.Context, c *policy.Credentials, attachment string) error
	Keep(ctx context.Context, attachment string) error
	// Release ends the attachment. Absent is fine. also, unless nil, happens in the same
	// transaction.
	Release(ctx context.Context, attachment string, also func(*store.Tx) error) error
}

// Volume is what compute sees of a volume.
type Volume struct {
	ID, Name, ProjectID, Status, Zone, Type string
	Node                                    string // that alone has its content; "": none has
	SizeGiB                                 int
	Bootable, Multiattach, ReadOnly         bool
	// Image is what the volume knows of the image it was made from: image_id,
	// image_name, min_ram, ..., and the image's own properties. Nil when it knows none.
	Image map[string]string
}

// VolumeSnapshot is what compute sees of a snapshot.
type VolumeSnapshot struct {
	ID, VolumeID, ProjectID, Status string
	SizeGiB                         int
}

// NewVolume is a volume that a server boots from or is given; at most one of
// Image and Snapshot is set.
type NewVolume struct {
	ID, Name, Image, Snapshot, Type, Zone string
	SizeGiB                               int
	Near                                  string // host to be kept on, if it has room
}

// NewSnapshot is a snapshot that an image of a server is made of.
type NewSnapshot struct {
	ID, VolumeID, Name string
}

// NewAttachment is a claim on a volume. Mode is rw or ro.
type NewAttachment struct {
	ID, VolumeID, Server, Mode string
}
