package nodes

import (
	"context"
	"io"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Storage is a node's volumes. Every call names what it makes by ids that the
// control plane chose, and may be repeated: a saga's step calls it until it has
// an answer. A call returns when the work is done and is safe on the disk.
type Storage interface {
	// Pools lists where this node keeps volumes, with their capacity now.
	Pools(ctx context.Context) ([]nodeapi.Pool, error)
	// EnsureVolume makes the volume unless it is there. Invalid: its source does not fit in it.
	EnsureVolume(ctx context.Context, v nodeapi.Volume) error
	// DeleteVolume removes the volume and all its snapshots. Absent is fine; Conflict: in use.
	DeleteVolume(ctx context.Context, v nodeapi.VolumeRef) error
	// ExtendVolume makes the volume at least sizeGiB large, also under a running server, which sees it.
	ExtendVolume(ctx context.Context, v nodeapi.VolumeRef, sizeGiB int) error
	// GrowAttached has the servers of this node see that a volume that another node
	// keeps, and which they have, is at least sizeGiB large. Without such a server it does nothing.
	GrowAttached(ctx context.Context, volume string, sizeGiB int) error
	// EnsureSnapshot keeps the volume's content at one moment, also under a running server.
	EnsureSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error
	// EnsureSnapshots is EnsureSnapshot for several volumes at one moment: those
	// that are files and that one server of this node has to itself, and those that
	// nobody has; others are taken right after one another. Unless all are there
	// already, all are taken anew.
	EnsureSnapshots(ctx context.Context, list []nodeapi.VolumeSnapshot) error
	// DeleteSnapshot drops a snapshot. Absent is fine.
	DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error
	// RevertVolume gives the volume the snapshot's content and size. Conflict: in use.
	RevertVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error
	// ReadVolume gives the content of the volume, or of a snapshot unless "", as
	// an image in the format (raw, qcow2, vmdk, vdi, vhd).
	ReadVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot, format string) (io.ReadCloser, error)

	// MoveVolume copies a volume that nobody uses to another pool or driver of the
	// node, where nothing of it stays when that fails. The first one stays. In the
	// same pool it changes the volume's key in its place. Conflict: in use.
	MoveVolume(ctx context.Context, from, to nodeapi.VolumeRef) error

	// ForeignVolumes lists what is not the cloud's in a pool, ForeignSnapshots what is
	// not in a volume by the names that the control plane knows, which it leaves out itself.
	ForeignVolumes(ctx context.Context, driver, pool string) ([]nodeapi.Foreign, error)
	ForeignSnapshots(ctx context.Context, v nodeapi.VolumeRef) ([]nodeapi.Foreign, error)
	// AdoptVolume makes a volume of a foreign thing, ReleaseVolume makes one foreign.
	// Invalid: it is not fit; Conflict: in use.
	AdoptVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error
	ReleaseVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error

	// MakeBackup stores a backup; Restore writes one over a volume that nobody
	// uses and that is large enough, with the key of the volume that was backed up;
	// DeleteBackup drops one. Absent is fine there.
	MakeBackup(ctx context.Context, b nodeapi.Backup) (nodeapi.BackupResult, error)
	Restore(ctx context.Context, backup string, key []byte, v nodeapi.VolumeRef) error
	DeleteBackup(ctx context.Context, backup string) error
	// ExportBackup seals a note about a backup, so that only this node's vault can
	// read it, and nobody can make one up.
	ExportBackup(ctx context.Context, backup string, note []byte) (string, error)
	// ReadRecord opens what ExportBackup sealed. Invalid: it did not; NotFound: the
	// backup is gone; Conflict: another backup has the id that it is to have now.
	ReadRecord(ctx context.Context, record, as string) (nodeapi.BackupRecord, error)
	// ImportBackup makes the backup that ExportBackup's record is about known by
	// another id as well; its errors are ReadRecord's.
	ImportBackup(ctx context.Context, backup, record string) (nodeapi.BackupResult, error)
}
