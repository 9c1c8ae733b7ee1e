package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// SoftDelete is a delete that can be taken back until the server is reclaimed. The
// server is stopped and keeps its host, ports and volumes.
type SoftDelete struct {
	At   time.Time `json:"at"`
	From VMState   `json:"from"` // its state before; "" until it has stopped
}

// leaving tells whether the server has been deleted softly and has not stopped yet.
func (v *Server) leaving() bool { return v.SoftDelete != nil && v.SoftDelete.From == "" }

// recoverable tells whether a delete of the server can be put off: one that never
// ran, or that has left its host, goes at once (nova/api/openstack/compute/servers.py, _delete).
func (v *Server) recoverable() bool {
	switch v.TaskState {
	case Shelving, Offloading, Unshelving:
		return false
	}
	return v.Launched != nil && v.Host != "" && v.Shelf == nil
}

// softRemove deletes the server, softly when the cloud is set so and that is possible.
// Nothing that is under way is cut off: it ends first.
func (s *Service) softRemove(ctx context.Context, r *rest.Request, id string) error {
	if s.ReclaimAfter <= 0 {
		return s.remove(ctx, r.ID, r.Creds, id)
	}
	final := false
	err := s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if err != nil || v.DeletedAt != nil || v.TaskState == Deleting || v.SoftDelete != nil {
			return err
		}
		if final = !v.recoverable(); final {
			return nil
		}
		v, err = s.servers.TxUpdate(tx, id, func(v *Server) error {
			v.SoftDelete, v.Updated = &SoftDelete{At: time.Now().UTC()}, wire.Now()
			if v.TaskState == "" {
				v.TaskState = SoftDeleting
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaSoftDelete, "delete", v, nil)
	})
	if err != nil || !final {
		return err
	}
	return s.remove(ctx, r.ID, r.Creds, id)
}

func (s *Service) registerSoftDelete() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaSoftDelete, Insist: true, Steps: []saga.Step[job]{
		{Name: "stop", Do: s.softStop},
		{Name: "keep", Do: s.softKeep},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaRestore, Failed: s.restoreFailed, Steps: []saga.Step[job]{
		{Name: "order", Do: s.restoreOrder},
		{Name: "await", Do: s.remakeAwait},
		{Name: "finish", Do: s.restored},
	}})
}

// softStop stops the server. A node that is away, or cannot, stops it later: the
// order stays.
func (s *Service) softStop(ctx context.Context, j *job) (err error) {
	v, err := s.servers.Get(j.Server)
	if err != nil || !v.leaving() || v.TaskState == Deleting {
		return err
	}
	j.Gen, err = s.order(ctx, j.Server, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerStopped; return nil })
	if err != nil {
		return err
	}
	if _, err := s.Nodes.Conn(v.Host); err != nil {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	if _, err := s.Nodes.Reached(wait, j.Server, j.Gen); err != nil {
		s.Log.Warn("a server that is deleted does not stop", "server", j.Server, "err", err)
	}
	return ctx.Err()
}

func (s *Service) softKeep(ctx context.Context, j *job) error {
	return s.update(ctx, j.Server, func(v *Server) error {
		if !v.leaving() || v.TaskState == Deleting {
			return nil // it was reset or is going for good
		}
		v.SoftDelete = &SoftDelete{At: v.SoftDelete.At, From: v.VMState}
		v.VMState, v.TaskState = SoftDeleted, ""
		return nil
	})
}

// restore brings back a server that was deleted softly, against the quota that it
// has not counted for since (nova/compute/api.py, restore).
func (s *Service) restore(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, v.ID)
		if err != nil {
			return err
		}
		if err := v.allows("restore", []VMState{SoftDeleted}, nil); err != nil {
			return err
		}
		if _, err := s.fitQuota(tx, []*Server{v}, 1); err != nil {
			return err
		}
		args := restoreArgs{v.SoftDelete.From}
		v, err = s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			v.TaskState, v.SoftDelete, v.Updated = Restoring, nil, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaRestore, "restore", v, args)
	})
	return rest.Empty(202), err
}

// restoreArgs say what the server was before it was deleted.
type restoreArgs struct {
	From VMState `json:"from"`
}

func restoreArgsOf(j *job) (a restoreArgs, err error) {
	if err = json.Unmarshal(j.Args, &a); err != nil {
		err = fmt.Errorf("restore saga of %s: %w", j.Server, err)
	}
	return a, err
}

func (s *Service) restoreOrder(ctx context.Context, j *job) (err error) {
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		if i.Power = nodeapi.PowerRunning; v.Resize != nil && v.Resize.Stopped {
			i.Power = nodeapi.PowerStopped
		}
		return s.describe(v, i)
	})
	return err
}

// restored: the server runs, whatever it did before; but a resize that was not
// confirmed, and a rescue, go on where they were.
func (s *Service) restored(ctx context.Context, j *job) error {
	a, err := restoreArgsOf(j)
	if err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.VMState, v.Fault = Active, nil; a.From == Resized || a.From == Rescued {
			v.VMState = a.From
		}
		v.doing("")
		return nil
	})
}

// restoreFailed leaves the server deleted, from which it can be restored again.
func (s *Service) restoreFailed(ctx context.Context, j *job, cause error) error {
	a, err := restoreArgsOf(j)
	if err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, j.Server, func(v *Server) error {
			if v.TaskState == Deleting || v.leaving() {
				return nil
			}
			v.TaskState, v.VMState, v.SoftDelete = "", SoftDeleted, &SoftDelete{At: time.Now().UTC(), From: a.From}
			v.Fault = &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
			return nil
		})
		if err != nil || v.TaskState == Deleting {
			return err
		}
		_, err = s.orderTx(tx, j.Server, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerStopped; return nil })
		return err
	})
}

// reclaimable lists the servers whose time to be restored is over.
func (s *Service) reclaimable(at time.Time) []string {
	if s.ReclaimAfter <= 0 {
		return nil
	}
	var out []string
	for _, v := range s.servers.By("soft", "yes") {
		if v.VMState == SoftDeleted && v.TaskState == "" && v.SoftDelete.At.Add(s.ReclaimAfter).Before(at) {
			out = append(out, v.ID)
		}
	}
	return out
}

// reclaim deletes such a server for good.
func (s *Service) reclaim(ctx context.Context, id string) error {
	v, err := s.servers.Get(id)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if v.VMState != SoftDeleted || v.TaskState != "" {
		return nil // it was restored since
	}
	return s.remove(ctx, "req-"+uuid.NewString(), &policy.Credentials{UserID: v.UserID, ProjectID: v.ProjectID}, id)
}
