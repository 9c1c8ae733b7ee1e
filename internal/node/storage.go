package node

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/vault"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/keyed"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/reconcile"
)

// StorageOptions configure a node's volumes.
type StorageOptions struct {
	Drivers  map[string]volumes.Driver // by their names
	Vault    *vault.Vault
	Exports  *export.Manager // of volumes that several machines share
	Machines hypervisor.Driver
	// Base hands a base image to use, which stays in place until use returns.
	Base func(ctx context.Context, image string, use func(blockdev.Base) error) error
	// Dir keeps which machines have which volumes.
	Dir string
	Log *slog.Logger
	// Node is this node's name and Addr where other hosts reach it. Control says
	// which volumes they are to reach; nil: none.
	Node, Addr string
	Control    ExportControl
}

// Storage is this node's volumes.
//
// Who has a volume open does the work on it: nobody, or the machine that it is
// attached to, or the export that several machines or other hosts use. Work on one volume is done one after the other; reading a frozen
// view of it (to copy, upload or back it up) hinders nobody, since the view is a
// snapshot of its own, which is removed afterwards or, after a crash, when the
// volume is next worked on.
type Storage struct {
	StorageOptions
	busy keyed.Mutex // by volume: its content or its snapshots are changed

	mu    sync.Mutex
	views map[string]int // frozen views in use, by volume
	swept map[string]bool

	exports map[string]nodeapi.Export       // wanted
	reports map[string]nodeapi.ExportStatus // reached
	loop    *reconcile.Loop
	report  chan struct{}
}

// NewStorage opens a node's volumes.
func NewStorage(ctx context.Context, o StorageOptions) (*Storage, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of attachments: %w", err)
	}
	s := &Storage{StorageOptions: o, views: map[string]int{}, swept: map[string]bool{}, reports: map[string]nodeapi.ExportStatus{}, report: make(chan struct{}, 1)}
	s.loop = reconcile.New("export", o.Log, s.reconcileExport)
	return s, s.adoptExports(ctx)
}

func (s *Storage) driver(v nodeapi.VolumeRef) (volumes.Driver, error) {
	if d := s.Drivers[v.Driver]; d != nil {
		return d, nil
	}
	return nil, errs.NotFoundf("this node has no driver %q for volumes", v.Driver)
}

// Pools implements nodes.Storage.
func (s *Storage) Pools(ctx context.Context) ([]nodeapi.Pool, error) {
	var all []nodeapi.Pool
	for name, d := range s.Drivers {
		pools, err := d.Pools(ctx)
		if err != nil {
			return nil, fmt.Errorf("driver %s: %w", name, err)
		}
		all = append(all, pools...)
	}
	return all, nil
}

// work locks the volume, finds who has it open and runs fn.
func (s *Storage) work(ctx context.Context, v nodeapi.VolumeRef, fn func(volumes.Driver, volumes.User) error) error {
	d, err := s.driver(v)
	if err != nil {
		return err
	}
	defer s.busy.Lock(v.ID)()
	u, err := s.user(v)
	if err != nil {
		return err
	}
	if err := s.sweep(ctx, d, v, u); err != nil {
		return err
	}
	return fn(d, u)
}

// viewMark begins the names of snapshots that are frozen views.
const viewMark = "view-"

// viewPrefix begins those of this node's: others may read a volume of a shared pool too.
func (s *Storage) viewPrefix() string {
	return fmt.Sprintf(viewMark+"%08x-", crc32.ChecksumIEEE([]byte(s.Node)))
}

// sweep removes the views that an earlier agent left, once.
func (s *Storage) sweep(ctx context.Context, d volumes.Driver, v nodeapi.VolumeRef, u volumes.User) error {
	s.mu.Lock()
	done := s.swept[v.ID]
	s.mu.Unlock()
	if done {
		return nil
	}
	names, err := d.Snapshots(ctx, v)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, s.viewPrefix()) {
			if err := d.DeleteSnapshot(ctx, v, n, u); err != nil {
				return fmt.Errorf("removing a view that a crash left: %w", err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swept[v.ID] = true
	return nil
}

// freeze gives the name of a snapshot that stays as it is until the returned
// function is called: the one that is asked for, or a new one of the content now.
func (s *Storage) freeze(ctx context.Context, v nodeapi.VolumeRef, snapshot, what string) (string, func(), error) {
	name := snapshot
	err := s.work(ctx, v, func(d volumes.Driver, u volumes.User) error {
		if name == "" {
			name = s.viewPrefix() + what
			if err := d.Snapshot(ctx, v, name, u); err != nil {
				return err
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.views[v.ID+"/"+name]++
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	return name, func() {
		s.mu.Lock()
		s.views[v.ID+"/"+name]--
		last := s.views[v.ID+"/"+name] == 0
		if last {
			delete(s.views, v.ID+"/"+name)
		}
		s.mu.Unlock()
		if snapshot != "" || !last {
			return
		}
		ctx := context.WithoutCancel(ctx)
		err := s.work(ctx, v, func(d volumes.Driver, u volumes.User) error { return d.DeleteSnapshot(ctx, v, name, u) })
		if err != nil {
			s.Log.Error("a frozen view of a volume stays", "volume", v.ID, "err", err)
		}
	}, nil
}

// viewed tells whether a snapshot, or with "" any of the volume, is being read.
func (s *Storage) viewed(v nodeapi.VolumeRef, snapshot string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.views {
		if key == v.ID+"/"+snapshot || snapshot == "" && strings.HasPrefix(key, v.ID+"/") {
			return true
		}
	}
	return false
}

// EnsureVolume implements nodes.Storage.
func (s *Storage) EnsureVolume(ctx context.Context, v nodeapi.Volume) error {
	from, release, err := s.origin(ctx, v)
	if err != nil {
		return err
	}
	defer release()
	size := int64(v.SizeGiB) << 30
	return s.work(ctx, v.VolumeRef, func(d volumes.Driver, _ volumes.User) error {
		if v.Source.ImageID == "" {
			return d.Create(ctx, v.VolumeRef, size, from)
		}
		if ok, err := d.Exists(ctx, v.VolumeRef); ok || err != nil {
			return err // the image may be gone by now
		}
		return s.Base(ctx, v.Source.ImageID, func(b blockdev.Base) error {
			return d.Create(ctx, v.VolumeRef, size, volumes.Origin{Image: &b})
		})
	})
}

// origin freezes what the volume is to be a copy of.
func (s *Storage) origin(ctx context.Context, v nodeapi.Volume) (volumes.Origin, func(), error) {
	none := func() {}
	src := v.Source.Volume
	if src == nil {
		return volumes.Origin{}, none, nil
	}
	if d, err := s.driver(v.VolumeRef); err != nil {
		return volumes.Origin{}, none, err
	} else if ok, err := d.Exists(ctx, v.VolumeRef); ok || err != nil {
		return volumes.Origin{}, none, err // made already: its origin may be gone
	}
	if src.Driver != v.Driver {
		return volumes.Origin{}, none, errs.Invalidf("a volume cannot be copied from driver %s to driver %s", src.Driver, v.Driver)
	}
	name, release, err := s.freeze(ctx, *src, v.Source.SnapshotID, v.ID)
	if err != nil {
		return volumes.Origin{}, none, err
	}
	return volumes.Origin{Volume: src, Snapshot: name}, release, nil
}

// DeleteVolume implements nodes.Storage.
func (s *Storage) DeleteVolume(ctx context.Context, v nodeapi.VolumeRef) error {
	d, err := s.driver(v)
	if err != nil {
		return err
	}
	defer s.busy.Lock(v.ID)()
	if err := s.unused(ctx, v); err != nil {
		return err
	}
	if err := d.Delete(ctx, v); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.Dir, v.ID))
}

// unused makes sure that nobody has the volume.
func (s *Storage) unused(ctx context.Context, v nodeapi.VolumeRef) error {
	machines, err := s.attached(v)
	if err != nil {
		return err
	}
	if len(machines) > 0 {
		return errs.Conflictf("volume %s is attached to server %s", v.ID, machines[0])
	}
	if s.viewed(v, "") {
		return errs.Conflictf("volume %s is being copied", v.ID)
	}
	return s.Exports.End(ctx, v.ID) // of machines that are gone
}

// ExtendVolume implements nodes.Storage.
func (s *Storage) ExtendVolume(ctx context.Context, v nodeapi.VolumeRef, sizeGiB int) error {
	return s.work(ctx, v, func(d volumes.Driver, u volumes.User) error { return d.Extend(ctx, v, int64(sizeGiB)<<30, u) })
}

// EnsureSnapshot implements nodes.Storage.
func (s *Storage) EnsureSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return s.work(ctx, v, func(d volumes.Driver, u volumes.User) error { return d.Snapshot(ctx, v, snapshot, u) })
}

// DeleteSnapshot implements nodes.Storage.
func (s *Storage) DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return s.work(ctx, v, func(d volumes.Driver, u volumes.User) error {
		if s.viewed(v, snapshot) {
			return errs.Conflictf("snapshot %s is being copied", snapshot)
		}
		return d.DeleteSnapshot(ctx, v, snapshot, u)
	})
}

// RevertVolume implements nodes.Storage.
func (s *Storage) RevertVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return s.work(ctx, v, func(d volumes.Driver, u volumes.User) error {
		if u != nil {
			return errs.Conflictf("volume %s is in use", v.ID)
		}
		return d.Revert(ctx, v, snapshot)
	})
}

// ReadVolume implements nodes.Storage.
func (s *Storage) ReadVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot, format string) (io.ReadCloser, error) {
	d, err := s.driver(v)
	if err != nil {
		return nil, err
	}
	name, release, err := s.freeze(ctx, v, snapshot, "read-"+uuid.NewString())
	if err != nil {
		return nil, err
	}
	r, err := d.Read(ctx, v, name, format)
	if err != nil {
		release()
		return nil, err
	}
	return &frozenReader{r, sync.OnceFunc(release)}, nil
}

// frozenReader lets go of the view when it is closed.
type frozenReader struct {
	io.ReadCloser
	release func()
}

func (f *frozenReader) Close() error {
	defer f.release()
	return f.ReadCloser.Close()
}

// MakeBackup implements nodes.Storage.
func (s *Storage) MakeBackup(ctx context.Context, b nodeapi.Backup) (nodeapi.BackupResult, error) {
	d, err := s.driver(b.Volume)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	name, release, err := s.freeze(ctx, b.Volume, b.SnapshotID, "backup-"+b.ID)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	defer release()
	dev, err := d.Open(ctx, b.Volume, name)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	res, err := s.Vault.Make(ctx, b.ID, b.Parent, b.Volume.Key, dev)
	return res, errors.Join(err, dev.Close())
}

// Restore implements nodes.Storage.
func (s *Storage) Restore(ctx context.Context, backup string, key []byte, v nodeapi.VolumeRef) error {
	return s.work(ctx, v, func(d volumes.Driver, u volumes.User) error {
		if u != nil {
			return errs.Conflictf("volume %s is in use", v.ID)
		}
		dev, err := d.Open(ctx, v, "")
		if err != nil {
			return err
		}
		return errors.Join(s.Vault.Restore(ctx, backup, key, dev), dev.Close())
	})
}

// DeleteBackup implements nodes.Storage.
func (s *Storage) DeleteBackup(ctx context.Context, backup string) error {
	return s.Vault.Delete(ctx, backup)
}

// ExportBackup implements nodes.Storage.
func (s *Storage) ExportBackup(ctx context.Context, backup string, note []byte) (string, error) {
	return s.Vault.Export(ctx, backup, note)
}

// ReadRecord implements nodes.Storage.
func (s *Storage) ReadRecord(ctx context.Context, record, as string) (nodeapi.BackupRecord, error) {
	return s.Vault.Record(ctx, record, as)
}

// ImportBackup implements nodes.Storage.
func (s *Storage) ImportBackup(ctx context.Context, backup, record string) (nodeapi.BackupResult, error) {
	return s.Vault.Import(ctx, backup, record)
}

// notThere tells whether a file is absent.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
