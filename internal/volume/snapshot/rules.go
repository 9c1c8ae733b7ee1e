package snapshot

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// The kinds of sagas.
const (
	sagaCreate = "volume.snapshot.create"
	sagaDelete = "volume.snapshot.delete"
)

// Service is the snapshots.
type Service struct{ *block.Core }

type args struct {
	Snapshot string
	Request  string
}

// New registers the sagas.
func New(core *block.Core) *Service {
	s := &Service{core}
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaCreate, Failed: s.failed, Steps: []saga.Step[block.Job]{
		{Name: "make", Do: s.make, Undo: s.unmake}, {Name: "ready", Do: s.ready}}})
	saga.Register(core.Sagas, saga.Definition[block.Job]{Kind: sagaDelete, Insist: true, Steps: []saga.Step[block.Job]{
		{Name: "drop", Do: s.unmake}, {Name: "forget", Do: s.forget}}})
	return s
}

// Order is a snapshot that somebody wants.
type Order struct {
	ID, VolumeID, Request string
	Name, Description     *string
	Metadata              map[string]string
	InUse                 bool // also of a volume in use
}

// Create accepts a snapshot. The same order again changes nothing.
func (s *Service) Create(ctx context.Context, who *policy.Credentials, o Order) (*block.Snapshot, error) {
	var out *block.Snapshot
	err := s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if have, err := s.Snapshots.TxGet(tx, o.ID); err == nil {
			out = have
			return nil
		}
		v, err := s.Volumes.TxGet(tx, o.VolumeID)
		if err != nil {
			return wire.NotFound("Volume", o.VolumeID)
		}
		if err := s.Thawed(tx, block.BackendOf(v.Host())); err != nil {
			return err
		}
		if err := Fit(v, o.InUse); err != nil {
			return err
		}
		if err := s.Charge(tx, who.ProjectID, s.SnapshotCost(v.TypeID, v.SizeGiB)); err != nil {
			return err
		}
		out = Record(v, who, o)
		if err := s.Snapshots.TxCreate(tx, out); err != nil {
			return err
		}
		return s.Begin(tx, o.Request, who, sagaCreate, "snapshot", v.ID, args{o.ID, o.Request})
	})
	return out, err
}

// Record is a new snapshot of the volume.
func Record(v *block.Volume, who *policy.Credentials, o Order) *block.Snapshot {
	return &block.Snapshot{ID: o.ID, VolumeID: v.ID, Name: o.Name, Description: o.Description, ProjectID: who.ProjectID, UserID: who.UserID, SizeGiB: v.SizeGiB,
		TypeID: v.TypeID, Status: block.Creating, Progress: "0%", Metadata: o.Metadata, Created: wire.Now()}
}

// Fit refuses a volume whose state allows no snapshot now.
func Fit(v *block.Volume, inUse bool) error {
	may, words := []block.Status{block.Available}, "available"
	if inUse {
		may, words = append(may, block.InUse), "available, in-use"
	}
	switch {
	case v.Node == "":
		return wire.InvalidVolume("The snapshot cannot be created because volume has not been scheduled to any host.")
	case v.Status == block.Errored:
		return wire.InvalidVolume("The snapshot cannot be created when the volume is in error status.")
	case !v.In(may...):
		return wire.InvalidVolume("Volume %s status must be %s, but current status is: %s.", v.ID, words, v.Status)
	}
	return nil
}

// Remove begins the removal of a snapshot.
func (s *Service) Remove(ctx context.Context, who *policy.Credentials, request, id string, force bool) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		snap, err := s.Snapshots.TxGet(tx, id)
		if err != nil {
			return wire.NotFound("Snapshot", id)
		}
		if v, err := s.Volumes.TxGet(tx, snap.VolumeID); err == nil {
			if err := s.Thawed(tx, block.BackendOf(v.Host())); err != nil {
				return err
			}
		}
		if !force && !slices.Contains([]block.Status{block.Available, block.Errored}, snap.Status) || snap.GroupSnapshotID != "" {
			return wire.InvalidSnapshot("Volume Snapshot status must be available or error, and must not be part of a group snapshot, but the status is %s.", snap.Status)
		}
		if _, err := s.Snapshots.TxUpdate(tx, id, func(x *block.Snapshot) error { x.Status = block.Deleting; return nil }); err != nil {
			return err
		}
		return s.Begin(tx, request, who, sagaDelete, "delete snapshot", snap.VolumeID, args{id, request})
	})
}

// on gives the snapshot of the job with its volume; nil, nil when one is gone.
func (s *Service) on(j *block.Job) (*block.Snapshot, *block.Volume, args, error) {
	var a args
	if err := j.Read(&a); err != nil {
		return nil, nil, a, err
	}
	snap, err := s.Snapshots.Get(a.Snapshot)
	if err != nil {
		return nil, nil, a, nil
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return snap, nil, a, nil
	}
	return snap, v, a, nil
}

func (s *Service) make(ctx context.Context, j *block.Job) error {
	snap, v, a, err := s.on(j)
	if err != nil {
		return err
	}
	if snap == nil || v == nil {
		return errs.NotFoundf("snapshot %s or its volume is gone", a.Snapshot)
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	return st.EnsureSnapshot(ctx, v.Ref(), snap.OnNode())
}

func (s *Service) unmake(ctx context.Context, j *block.Job) error {
	_, v, a, err := s.on(j)
	if err != nil || v == nil || v.Node == "" {
		return err
	}
	st, err := s.Storage(v)
	if err == nil {
		err = st.DeleteSnapshot(ctx, v.Ref(), s.SnapshotOnNode(a.Snapshot))
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// set changes the snapshot, unless it is gone or on its way.
func (s *Service) set(ctx context.Context, id string, fn func(*block.Snapshot)) error {
	_, err := s.Snapshots.Update(ctx, id, func(x *block.Snapshot) error {
		if x.Status != block.Deleting {
			x.Updated = wire.Now()
			fn(x)
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func (s *Service) ready(ctx context.Context, j *block.Job) error {
	_, _, a, err := s.on(j)
	if err != nil {
		return err
	}
	return s.set(ctx, a.Snapshot, func(x *block.Snapshot) { x.Status, x.Progress = block.Available, "100%" })
}

func (s *Service) failed(ctx context.Context, j *block.Job, _ error) error {
	snap, _, a, err := s.on(j)
	if err != nil || snap == nil {
		return err
	}
	if snap.Status == block.Creating {
		s.Tell(ctx, snap.ProjectID, a.Request, "VOLUME_SNAPSHOT", snap.ID, block.CreateSnapshot, block.SnapshotFailed)
	}
	return s.set(ctx, a.Snapshot, func(x *block.Snapshot) { x.Status = block.Errored })
}

func (s *Service) forget(ctx context.Context, j *block.Job) error {
	_, _, a, err := s.on(j)
	if err != nil {
		return err
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.Snapshots.TxDelete(tx, a.Snapshot); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}
