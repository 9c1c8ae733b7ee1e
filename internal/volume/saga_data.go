package volume

import (
	"context"
	"errors"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// back puts a volume back to rest after work that failed or succeeded.
func (s *Service) back(ctx context.Context, id string, fn func(*block.Volume)) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		rest := s.Rest(tx, id)
		_, err := s.TxUpdate(tx, id, func(v *block.Volume) error {
			if v.Status != block.Deleting {
				v.Status = rest
			}
			fn(v)
			return nil
		})
		return ignoreAbsent(err)
	})
}

// extendArgs say the size before and after; the record has the new one from the
// start, so that the quota holds.
type extendArgs struct{ From, To int }

func (s *Service) extendData(ctx context.Context, j *block.Job) error {
	var a extendArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	if err := st.ExtendVolume(ctx, v.Ref(), a.To); err != nil {
		return err
	}
	s.growAttached(ctx, v, a.To)
	return nil
}

// growAttached tells the hosts that reach the volume over the network. A server on
// one that does not hear it sees the new size when it is started anew.
func (s *Service) growAttached(ctx context.Context, v *block.Volume, gib int) {
	for _, a := range s.Attachments.By("volume", v.ID) {
		for _, p := range a.Peers {
			st, err := s.Nodes.Storage(p.Host)
			if err == nil {
				err = st.GrowAttached(ctx, v.ID, gib)
			}
			if err != nil {
				s.Log.Warn("a server does not see yet that its volume has grown", "volume", v.ID, "server", a.Server, "node", p.Host, "err", err)
			}
		}
	}
}

// extended ends an extension. The node has told the guests already; their servers'
// records say so too, once, as the status changes.
func (s *Service) extended(ctx context.Context, j *block.Job) error {
	run := s.running(j.Volume)
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, j.Volume)
		if err != nil || v.Status != block.Extending {
			return ignoreAbsent(err)
		}
		for _, a := range s.Attachments.TxBy(tx, "volume", v.ID) {
			if s.servers == nil || run == nil || a.Status != block.AttachAttached || !a.Compute {
				continue
			}
			if err := s.servers.VolumeExtended(tx, a.Server, run.RequestID, run.ProjectID, run.UserID); err != nil {
				return err
			}
		}
		rest := s.Rest(tx, v.ID)
		_, err = s.TxUpdate(tx, v.ID, func(v *block.Volume) error { v.Status = rest; return nil })
		return err
	})
}

func (s *Service) extendFailed(ctx context.Context, j *block.Job, _ error) error {
	var a extendArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return ignoreAbsent(err)
	}
	if v.Status == block.Extending {
		s.Tell(ctx, v.ProjectID, s.requestOf(v.ID), "VOLUME", v.ID, block.ExtendVolume, block.ExtendFailed)
	}
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if v.Status == block.Extending {
			v.Status, v.SizeGiB = block.ErrorExtending, a.From
		}
	})
}

type revertArgs struct{ Snapshot string }

func (s *Service) revertData(ctx context.Context, j *block.Job) error {
	var a revertArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	return st.RevertVolume(ctx, v.Ref(), s.SnapshotOnNode(a.Snapshot))
}

func (s *Service) reverted(ctx context.Context, j *block.Job) error {
	return s.endRevert(ctx, j, block.Available)
}

func (s *Service) revertFailed(ctx context.Context, j *block.Job, _ error) error {
	return s.endRevert(ctx, j, block.Errored)
}

func (s *Service) endRevert(ctx context.Context, j *block.Job, end block.Status) error {
	var a revertArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		_, err := s.Snapshots.TxUpdate(tx, a.Snapshot, func(x *block.Snapshot) error { x.Status = block.Available; return nil })
		if err = ignoreAbsent(err); err != nil {
			return err
		}
		_, err = s.TxUpdate(tx, j.Volume, func(v *block.Volume) error {
			if v.Status == block.Reverting {
				v.Status = end
			}
			return nil
		})
		return ignoreAbsent(err)
	})
}

func (s *Service) makeImage(ctx context.Context, j *block.Job) error {
	var a NewImage
	if err := j.Read(&a); err != nil {
		return err
	}
	return s.images.EnsureImage(ctx, a)
}

func (s *Service) dropImage(ctx context.Context, j *block.Job) error {
	var a NewImage
	if err := j.Read(&a); err != nil {
		return err
	}
	return s.images.Discard(ctx, a.ID)
}

func (s *Service) uploadData(ctx context.Context, j *block.Job) (err error) {
	var a NewImage
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	data, err := st.ReadVolume(ctx, v.Ref(), "", a.Format)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	return s.images.Upload(ctx, a.ID, data)
}

func (s *Service) uploaded(ctx context.Context, j *block.Job) error {
	return s.back(ctx, j.Volume, func(v *block.Volume) { v.Previous = "" })
}

func (s *Service) uploadFailed(ctx context.Context, j *block.Job, _ error) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return ignoreAbsent(err)
	}
	if v.Status == block.Uploading {
		s.Tell(ctx, v.ProjectID, s.requestOf(v.ID), "VOLUME", v.ID, block.CopyToImage, block.UploadFailed)
	}
	return s.uploaded(ctx, j)
}

// reimageRemove empties the volume's place; make then makes it from its new image.
func (s *Service) reimageRemove(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	return st.DeleteVolume(ctx, v.Ref())
}

func (s *Service) reimaged(ctx context.Context, j *block.Job) error {
	return s.back(ctx, j.Volume, func(v *block.Volume) { v.Previous, v.Bootable = "", true })
}

func (s *Service) reimageFailed(ctx context.Context, j *block.Job, _ error) error {
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if v.Status == block.Downloading {
			v.Status = block.Errored
		}
	})
}
