package backup

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// The kinds of sagas.
const (
	sagaCreate  = "volume.backup.create"
	sagaRestore = "volume.backup.restore"
	sagaDelete  = "volume.backup.delete"
	sagaImport  = "volume.backup.import"
)

// Volumes makes the volume that a backup is restored to when none is named.
type Volumes interface {
	FromBackup(ctx context.Context, c *policy.Credentials, request, backup, name string) (*block.Volume, error)
}

// Service is the backups.
type Service struct {
	*block.Core
	maker Volumes
}

type args struct{ Backup, Request string }

// New registers the sagas.
func New(core *block.Core, maker Volumes) *Service {
	s := &Service{core, maker}
	type step = saga.Step[block.Job]
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaCreate, Failed: s.createFailed, Steps: []step{{Name: "store", Do: s.make, Undo: s.drop}, {Name: "ready", Do: s.ready}}})
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaRestore, Failed: s.restoreFailed, Steps: []step{{Name: "write", Do: s.write}, {Name: "ready", Do: s.restored}}})
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaDelete, Insist: true, Steps: []step{{Name: "drop", Do: s.drop}, {Name: "forget", Do: s.forget}}})
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaImport, Failed: s.importFailed, Steps: []step{{Name: "adopt", Do: s.adopt}, {Name: "ready", Do: s.imported}}})
	return s
}

// on gives the backup of the job; nil when it is gone.
func (s *Service) on(j *block.Job) (*block.Backup, args, error) {
	var a args
	if err := j.Read(&a); err != nil {
		return nil, a, err
	}
	b, err := s.Backups.Get(a.Backup)
	if err != nil {
		return nil, a, nil
	}
	return b, a, nil
}

func (s *Service) make(ctx context.Context, j *block.Job) error {
	b, a, err := s.on(j)
	if err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if b == nil || err != nil {
		return errs.NotFoundf("backup %s or its volume is gone", a.Backup)
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	got, err := st.MakeBackup(ctx, nodeapi.Backup{ID: b.ID, Volume: v.Ref(), SnapshotID: s.SnapshotOnNode(b.SnapshotID), Parent: b.ParentID})
	if err != nil {
		return err
	}
	return s.set(ctx, b.ID, func(b *block.Backup) { b.Objects = got.Objects })
}

func (s *Service) drop(ctx context.Context, j *block.Job) error {
	b, a, err := s.on(j)
	if err != nil || b == nil || b.Node == "" {
		return err
	}
	st, err := s.Nodes.Storage(b.Node)
	if err == nil {
		err = st.DeleteBackup(ctx, a.Backup)
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// set changes the backup, unless it is gone or on its way.
func (s *Service) set(ctx context.Context, id string, fn func(*block.Backup)) error {
	_, err := s.Backups.Update(ctx, id, func(b *block.Backup) error {
		if b.Status != block.Deleting {
			b.Updated = wire.Now()
			fn(b)
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// letGo puts the volume, or the snapshot, that was being backed up or restored back to rest.
func (s *Service) letGo(ctx context.Context, volume, snap string, end block.Status) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if _, err := s.Snapshots.TxUpdate(tx, snap, func(x *block.Snapshot) error {
			if x.Status == block.BackingUp {
				x.Status = block.Available
			}
			return nil
		}); snap != "" && err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		rest := s.Rest(tx, volume)
		_, err := s.TxUpdate(tx, volume, func(v *block.Volume) error {
			if v.In(block.BackingUp, block.RestoringBackup) {
				v.Status = rest
				if end != "" {
					v.Status = end
				}
			}
			return nil
		})
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
}

func (s *Service) ready(ctx context.Context, j *block.Job) error {
	b, a, err := s.on(j)
	if err != nil || b == nil {
		return err
	}
	if err := s.set(ctx, a.Backup, func(b *block.Backup) { b.Status = block.Available }); err != nil {
		return err
	}
	return s.letGo(ctx, j.Volume, b.SnapshotID, "")
}

func (s *Service) createFailed(ctx context.Context, j *block.Job, cause error) error {
	b, a, err := s.on(j)
	if err != nil || b == nil {
		return err
	}
	s.Log.Warn("a backup failed", "volume", j.Volume, "op", "backup", "err", cause)
	if b.Status == block.Creating {
		s.Tell(ctx, b.ProjectID, a.Request, "VOLUME_BACKUP", b.ID, block.CreateBackup, block.BackupFailed)
	}
	if err := s.set(ctx, a.Backup, func(b *block.Backup) { b.Status, b.FailReason = block.Errored, "The node could not store the backup." }); err != nil {
		return err
	}
	return s.letGo(ctx, j.Volume, b.SnapshotID, "")
}

func (s *Service) write(ctx context.Context, j *block.Job) error {
	b, a, err := s.on(j)
	if err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if b == nil || err != nil {
		return errs.NotFoundf("backup %s or its volume is gone", a.Backup)
	}
	st, err := s.Nodes.Storage(b.Node)
	if err != nil {
		return err
	}
	return st.Restore(ctx, b.ID, b.KeyFor(v), v.Ref())
}

func (s *Service) restored(ctx context.Context, j *block.Job) error { return s.endRestore(ctx, j, "") }

func (s *Service) restoreFailed(ctx context.Context, j *block.Job, _ error) error {
	if b, a, err := s.on(j); err == nil && b != nil && b.Status == block.Restoring {
		s.Tell(ctx, b.ProjectID, a.Request, "VOLUME_BACKUP", b.ID, block.RestoreBackup, block.RestoreFailed)
	}
	return s.endRestore(ctx, j, block.ErrorRestoring)
}

func (s *Service) endRestore(ctx context.Context, j *block.Job, end block.Status) error {
	b, a, err := s.on(j)
	if err != nil {
		return err
	}
	if b != nil {
		if err := s.set(ctx, a.Backup, func(b *block.Backup) { b.Status, b.RestoreTo = block.Available, "" }); err != nil {
			return err
		}
	}
	return s.letGo(ctx, j.Volume, "", end)
}

func (s *Service) forget(ctx context.Context, j *block.Job) error {
	_, a, err := s.on(j)
	if err != nil {
		return err
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.Sagas.Forget(tx, a.Backup); err != nil {
			return err
		}
		if err := s.Backups.TxDelete(tx, a.Backup); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}
