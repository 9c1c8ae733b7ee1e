package store

import (
	"context"
	"io"
)

// Backend is an ordered key space with revisions: etcd, or memory in tests. Every
// committed transaction that changes something has the next revision.
// The suite in storetest says what an implementation must do.
type Backend interface {
	// Txn applies all ops if all compares hold, durably. A key appears at most once among ops.
	Txn(ctx context.Context, compares []Compare, ops []Op) (TxnResult, error)
	// Range reads the keys with a prefix, in key order, from one revision.
	Range(ctx context.Context, prefix string, opt RangeOptions) (RangeResult, error)
	// Watch delivers everything that happened from revision from on, in order, a
	// revision never split over two batches. The channel closes after a batch
	// with Err, or when ctx ends.
	Watch(ctx context.Context, from int64) <-chan Batch
	// Compact forgets the history before rev.
	Compact(ctx context.Context, rev int64) error
	// Snapshot writes a consistent copy of the whole key space.
	Snapshot(ctx context.Context, w io.Writer) error
	// Status tells size, revision and alarms.
	Status(ctx context.Context) (Status, error)
	// Close stops the backend; watches end.
	Close() error
}

// Defragmenter is a backend that can give space back to the file system.
type Defragmenter interface {
	Defrag(ctx context.Context) error
}

// KV is a key with its value and the revision that last wrote it.
type KV struct {
	Key    string
	Value  []byte
	ModRev int64
}

// Compare holds when the key was last written by ModRev; 0 means that the key is absent.
type Compare struct {
	Key    string
	ModRev int64
}

// Op puts a value, or deletes the key when Value is nil.
type Op struct {
	Key   string
	Value []byte
}

// TxnResult tells whether the compares held, and the revision of the commit or, if
// they did not, a revision that is at least the one that broke them.
type TxnResult struct {
	OK  bool
	Rev int64
}

// RangeOptions choose the revision to read (0: the newest, linearizable) and how
// many keys at most (0: all).
type RangeOptions struct {
	Rev   int64
	Limit int
}

// RangeResult is what a Range found, and the revision it was read at or later.
type RangeResult struct {
	KVs  []KV
	More bool
	Rev  int64
}

// Change is one key written (or deleted: Value is nil) by a revision.
type Change struct {
	Key    string
	Value  []byte
	ModRev int64
}

// Batch is a run of changes up to and including revision Rev. Err ends the
// watch; ErrCompacted asks for a new load.
type Batch struct {
	Rev     int64
	Changes []Change
	Err     error
}

// Status is the state of a backend.
type Status struct {
	Revision  int64
	Size      int64 // bytes on disk
	InUse     int64 // bytes of it that hold data
	Quota     int64 // bytes at which writes stop; 0 for no limit
	Members   int
	Alarms    []string // names such as NOSPACE, CORRUPT
	LeaderEra uint64   // the consensus term; 0 when there is none
	Leads     bool     // this member leads the others
}
