package volumes

import (
	"context"
	"io"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/nbd"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Driver keeps volumes. Where a user u is given, it is who has the volume open and
// does the work; nil: nobody has.
type Driver interface {
	// Pools tells where volumes are, and how full it is there.
	Pools(ctx context.Context) ([]nodeapi.Pool, error)
	// Exists tells whether the volume is there, complete.
	Exists(ctx context.Context, v nodeapi.VolumeRef) (bool, error)
	// Size is the volume's size in bytes, or that of its snapshot unless "".
	// NotFound: there is none.
	Size(ctx context.Context, v nodeapi.VolumeRef, snapshot string) (int64, error)
	// Snapshots names the volume's snapshots, the oldest first.
	Snapshots(ctx context.Context, v nodeapi.VolumeRef) ([]string, error)
	// Create makes the volume of size bytes unless it is there. Invalid: the
	// origin is larger than that.
	Create(ctx context.Context, v nodeapi.VolumeRef, size int64, from Origin) error
	// Delete removes the volume and its snapshots; absent is fine.
	Delete(ctx context.Context, v nodeapi.VolumeRef) error
	// Extend makes the volume at least size bytes large. Invalid: it is larger already.
	Extend(ctx context.Context, v nodeapi.VolumeRef, size int64, u User) error
	// Snapshot keeps the content and the size that the volume has now, unless it
	// has a snapshot of that name.
	Snapshot(ctx context.Context, v nodeapi.VolumeRef, name string, u User) error
	// DeleteSnapshot drops a snapshot; absent is fine.
	DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, name string, u User) error
	// Revert gives a volume that nobody has open the snapshot's content and size.
	// Conflict: another snapshot is larger than this one.
	Revert(ctx context.Context, v nodeapi.VolumeRef, name string) error
	// Open gives access to a snapshot, read-only, or with "" to a volume that
	// nobody else has open.
	Open(ctx context.Context, v nodeapi.VolumeRef, snapshot string) (Device, error)
	// Read gives a snapshot's content as an image in the format: raw, qcow2,
	// vmdk, vdi or vhd.
	Read(ctx context.Context, v nodeapi.VolumeRef, snapshot, format string) (io.ReadCloser, error)
	// Link makes what a process in dir needs to open the volume, and describes
	// that. Unlink takes it back; absent is fine.
	Link(ctx context.Context, v nodeapi.VolumeRef, dir string) (Disk, error)
	Unlink(ctx context.Context, v nodeapi.VolumeRef, dir string) error
}

// Adopter is a driver that can make volumes of what lies in its pools and is not
// the cloud's, and give volumes away again.
type Adopter interface {
	// Foreign lists what is not the cloud's in a pool.
	Foreign(ctx context.Context, pool string) ([]nodeapi.Foreign, error)
	// Adopt makes the volume of the foreign thing of that name, which is gone then.
	// Its size is rounded up to whole GiB. Invalid: it is not fit; Conflict: it is in use.
	Adopt(ctx context.Context, v nodeapi.VolumeRef, name string) error
	// Release undoes Adopt for a volume that nobody has open; absent is fine.
	Release(ctx context.Context, v nodeapi.VolumeRef, name string) error
}

// Recrypter is a driver that can encrypt a volume in its place, or stop to.
type Recrypter interface {
	// Recrypt makes a volume that nobody has open, and that has no snapshots, one
	// with another key, or with none. Conflict: it has snapshots.
	Recrypt(ctx context.Context, from, to nodeapi.VolumeRef) error
}

// Origin is what a new volume starts as; blank when it has neither field.
type Origin struct {
	Image *blockdev.Base // stays in place until Create returns
	// Volume's Snapshot is what is copied; both are set then.
	Volume   *nodeapi.VolumeRef
	Snapshot string
}

// User is a process that has a volume open: a machine or an export.
type User interface {
	Resize(ctx context.Context, size int64) error
	Snapshot(ctx context.Context, name string) error
	DeleteSnapshot(ctx context.Context, name string) error
}

// Device is the content of a disk.
type Device interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() int64
	// Zero makes n bytes zeroes; Flush makes what was written stable.
	Zero(off, n int64) error
	Flush() error
	// Map tells about at least one byte from off on, and at most about n.
	Map(off, n int64) ([]nbd.Extent, error)
}

// Disk is how a process opens a volume. File names are in its own directory.
type Disk struct {
	Format string // qcow2 or raw
	File   string // "": one of the others
	RBD    *RBD
}

// RBD is a Ceph image; Conf is a file in the directory.
type RBD struct{ Pool, Image, Conf, User string }
