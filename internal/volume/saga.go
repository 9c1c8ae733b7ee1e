package volume

import (
	"context"
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	pools "github.com/strata-cloud/strata/internal/volume/pool"
)

// The kinds of sagas on a volume.
const (
	sagaCreate  = "volume.volume.create"
	sagaDelete  = "volume.volume.delete"
	sagaExtend  = "volume.volume.extend"
	sagaRevert  = "volume.volume.revert"
	sagaUpload  = "volume.volume.upload"
	sagaReimage = "volume.volume.reimage"

	sagaManage   = "volume.volume.manage"
	sagaUnmanage = "volume.volume.unmanage"
	sagaMove     = "volume.volume.move"
	sagaTidy     = "volume.volume.tidy"
)

func (s *Service) registerSagas() {
	type step = saga.Step[block.Job]
	define := func(kind string, insist bool, failed func(context.Context, *block.Job, error) error, steps ...step) {
		saga.Register(s.Sagas, saga.Definition[block.Job]{Kind: kind, Insist: insist, Failed: failed, Steps: steps})
	}
	define(sagaCreate, false, s.createFailed, step{Name: "place", Do: s.place, Undo: s.unplace}, step{Name: "make", Do: s.make, Undo: s.unmake}, step{Name: "ready", Do: s.ready})
	define(sagaDelete, true, nil, step{Name: "remove", Do: s.removeData}, step{Name: "forget", Do: s.forget})
	define(sagaManage, false, s.manageFailed, step{Name: "adopt", Do: s.adopt, Undo: s.giveBack}, step{Name: "ready", Do: s.managed})
	define(sagaUnmanage, true, nil, step{Name: "release", Do: s.release}, step{Name: "forget", Do: s.forget})
	define(sagaMove, false, s.moveFailed, step{Name: "copy", Do: s.copyData, Undo: s.dropCopy}, step{Name: "switch", Do: s.switchOver, Undo: s.switchBack})
	define(sagaTidy, true, s.tidyFailed, step{Name: "remove", Do: s.tidy}, step{Name: "settle", Do: s.moved})
	define(sagaExtend, false, s.extendFailed, step{Name: "extend", Do: s.extendData}, step{Name: "settle", Do: s.extended})
	define(sagaRevert, false, s.revertFailed, step{Name: "revert", Do: s.revertData}, step{Name: "settle", Do: s.reverted})
	define(sagaUpload, false, s.uploadFailed, step{Name: "record", Do: s.makeImage, Undo: s.dropImage}, step{Name: "upload", Do: s.uploadData}, step{Name: "settle", Do: s.uploaded})
	define(sagaReimage, false, s.reimageFailed, step{Name: "remove", Do: s.reimageRemove}, step{Name: "make", Do: s.make}, step{Name: "settle", Do: s.reimaged})
}

// place chooses where the volume will be. A repeated run keeps the first choice.
func (s *Service) place(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil || v.Node != "" {
		return err
	}
	backend := ""
	if v.GroupID != "" {
		if backend, err = s.groups.Backend(ctx, v.GroupID); err != nil {
			return err
		}
	}
	node, driver, pool := "", "", ""
	if source := s.sourceOf(v); source != nil {
		node, driver, pool = source.Node, source.Driver, source.Pool
		if backend != "" && backend != block.BackendOf(source.Host()) {
			return errs.Invalidf("volume %s is copied from another back end than its group's", v.ID)
		}
	} else {
		t, err := s.Types.Get(v.TypeID)
		if err != nil {
			return err
		}
		choose := func() (*pools.Place, error) { return s.pools.ChooseNear(ctx, v.Near, t, v.SizeGiB) }
		if backend != "" {
			choose = func() (*pools.Place, error) { return s.pools.ChooseIn(ctx, backend, t, v.SizeGiB) }
		}
		p, err := choose()
		if err != nil {
			return err
		}
		node, driver, pool = p.Node, p.Driver, p.Pool.Name
	}
	return s.Settle(ctx, v.ID, func(v *block.Volume) { v.Node, v.Driver, v.Pool = node, driver, pool })
}

// sourceOf is the volume that v is copied from, itself or by a snapshot, or nil.
func (s *Service) sourceOf(v *block.Volume) *block.Volume {
	id := v.SourceID
	if v.SnapshotID != "" {
		if snap, err := s.Snapshots.Get(v.SnapshotID); err == nil {
			id = snap.VolumeID
		}
	}
	if id == "" {
		return nil
	}
	source, err := s.Volumes.Get(id)
	if err != nil {
		return nil
	}
	return source
}

func (s *Service) unplace(ctx context.Context, j *block.Job) error {
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if v.Status != block.Deleting {
			v.Node, v.Driver, v.Pool = "", "", ""
		}
	})
}

// make makes the volume on its node.
func (s *Service) make(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	want := nodeapi.Volume{VolumeRef: v.Ref(), SizeGiB: v.SizeGiB, Source: nodeapi.VolumeOrigin{ImageID: v.ImageID}}
	if v.SnapshotID != "" || v.SourceID != "" {
		source := s.sourceOf(v)
		if source == nil {
			return errs.NotFoundf("the source of volume %s is gone", v.ID)
		}
		ref := source.Ref()
		want.Source = nodeapi.VolumeOrigin{Volume: &ref, SnapshotID: s.SnapshotOnNode(v.SnapshotID)}
	}
	if err := st.EnsureVolume(ctx, want); err != nil || v.BackupID == "" {
		return err
	}
	return s.restoreInto(ctx, v)
}

// restoreInto writes the backup that a new volume is made from.
func (s *Service) restoreInto(ctx context.Context, v *block.Volume) error {
	b, err := s.Backups.Get(v.BackupID)
	if err != nil {
		return err
	}
	st, err := s.Nodes.Storage(b.Node)
	if err != nil {
		return err
	}
	return st.Restore(ctx, b.ID, b.KeyFor(v), v.Ref())
}

func (s *Service) unmake(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil || v.Node == "" {
		return ignoreAbsent(err)
	}
	st, err := s.Storage(v)
	if err != nil {
		return ignoreAbsent(err)
	}
	return st.DeleteVolume(ctx, v.Ref())
}

func ignoreAbsent(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func (s *Service) ready(ctx context.Context, j *block.Job) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, j.Volume)
		if err != nil {
			return ignoreAbsent(err)
		}
		if err := s.releaseBackup(tx, v); err != nil {
			return err
		}
		rest := s.Rest(tx, v.ID)
		_, err = s.TxUpdate(tx, v.ID, func(v *block.Volume) error {
			if v.In(block.Creating, block.Downloading) {
				v.Status = rest
			}
			v.Bootable = v.Bootable || v.ImageID != ""
			return nil
		})
		return err
	})
}

// releaseBackup lets go of the backup that a new volume was being restored from.
func (s *Service) releaseBackup(tx *store.Tx, v *block.Volume) error {
	b, err := s.Backups.TxGet(tx, v.BackupID)
	if v.BackupID == "" || err != nil || b.RestoreTo != v.ID {
		return nil
	}
	_, err = s.Backups.TxUpdate(tx, b.ID, func(b *block.Backup) error {
		b.Status, b.RestoreTo = block.Available, ""
		return nil
	})
	return err
}

func (s *Service) createFailed(ctx context.Context, j *block.Job, cause error) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return ignoreAbsent(err)
	}
	if v.Status == block.Deleting {
		return s.DB.Txn(ctx, func(tx *store.Tx) error { return s.releaseBackup(tx, v) })
	}
	action, detail := block.CreateVolume, block.CreateFailed
	if errs.Is(cause, errs.NoCapacity) {
		action, detail = block.ScheduleVolume, block.NoBackend
	}
	if v.Status != block.Errored {
		s.Tell(ctx, v.ProjectID, s.requestOf(v.ID), "VOLUME", v.ID, action, detail)
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if err := s.releaseBackup(tx, v); err != nil {
			return err
		}
		_, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error { v.Status = block.Errored; return nil })
		return ignoreAbsent(err)
	})
}

// requestOf is the request that began what is being done with the volume.
func (s *Service) requestOf(volume string) string {
	if r := s.running(volume); r != nil {
		return r.RequestID
	}
	return ""
}

// running is the saga that is at work on the volume: the oldest that is open.
func (s *Service) running(volume string) (run *saga.Record) {
	for _, r := range s.Sagas.Of(volume) {
		if !r.Finished() {
			run = r
		}
	}
	return run
}

// removeData removes the volume from its node. One that is in use there after all
// comes back instead of being tried for ever.
func (s *Service) removeData(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil || v.Node == "" {
		return ignoreAbsent(err)
	}
	st, err := s.Storage(v)
	if err != nil {
		return ignoreAbsent(err)
	}
	err = st.DeleteVolume(ctx, v.Ref())
	if !errs.Is(err, errs.Conflict) {
		return ignoreAbsent(err)
	}
	s.Log.Warn("a volume cannot be deleted now", "volume", v.ID, "node", v.Node, "err", err)
	j.Stop = true
	return s.Settle(ctx, v.ID, func(v *block.Volume) { v.Status = block.ErrorDeleting })
}

// forget removes the records.
func (s *Service) forget(ctx context.Context, j *block.Job) error {
	if j.Stop {
		return nil
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		for _, snap := range s.Snapshots.TxBy(tx, "volume", j.Volume) {
			if err := s.Snapshots.TxDelete(tx, snap.ID); err != nil {
				return err
			}
		}
		for _, a := range s.Attachments.TxBy(tx, "volume", j.Volume) {
			if err := s.Attachments.TxDelete(tx, a.ID); err != nil {
				return err
			}
		}
		if err := s.Sagas.Forget(tx, j.Volume); err != nil {
			return err
		}
		return ignoreAbsent(s.Volumes.TxDelete(tx, j.Volume))
	})
}

// metadata is what a volume remembers of its image, as upstream's glance metadata.
func (i *Image) metadata() map[string]string {
	m := map[string]string{"image_id": i.ID, "image_name": i.Name, "checksum": i.Checksum, "container_format": i.Container, "disk_format": i.Format,
		"min_disk": strconv.Itoa(i.MinDisk), "min_ram": strconv.Itoa(i.MinRAM), "size": strconv.Itoa(int(i.Size))}
	for k, v := range i.Properties {
		if _, core := m[k]; !core {
			m[k] = v
		}
	}
	return m
}
