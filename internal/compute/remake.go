package compute

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// A remake is an action that stops a server, changes what it is made of, and lets
// it go on: rebuild, resize with its two ends, rescue and unrescue. The request
// writes what the server shall be into its record; the saga makes the node follow.
type remake struct {
	name string // as upstream names the action in its 409
	log  string // as it is called in the server's actions
	from []VMState
	task TaskState
	// ends writes the record when the node has followed.
	ends func(*Server)
	// fails writes the record when it has not; nil: the server is in error.
	fails func(*Server)
	// claim, release and undo move what placement holds, around the node's work.
	claim, release, undo func(*Service, context.Context, *Server) error
	keepRunning          bool // nothing of the machine changes
	abrupt               bool // what the guest has in memory is not worth keeping
	// travels: the server may change hosts, by its Resize.
	travels bool
	// moving and moved are the states of the resize's migration record; "" for none.
	moving, moved string
}

// remakes follow the check_instance_state decorators of nova/compute/api.py.
func remakes(name string) remake {
	switch name {
	case "rebuild":
		return remake{name: name, log: name, from: []VMState{Active, Stopped, Errored}, task: Rebuilding, ends: rebuilt}
	case "resize", "migrate": // upstream's one method
		return remake{name: name, log: name, from: []VMState{Active, Stopped}, task: Resizing, ends: resized, fails: unresized, travels: true,
			claim: (*Service).claimResize, undo: (*Service).claimOld, moving: migration.Migrating, moved: migration.Finished}
	case "confirmResize":
		return remake{name: name, log: name, from: []VMState{Resized}, ends: confirmed, release: (*Service).releaseOld, keepRunning: true,
			moving: migration.Confirming, moved: migration.Confirmed}
	case "revertResize":
		return remake{name: name, log: name, from: []VMState{Resized}, task: Reverting, ends: confirmed, fails: unreverted, release: (*Service).releaseNew, undo: (*Service).settleReverted, travels: true,
			moving: migration.Reverting, moved: migration.Reverted}
	case "rescue":
		return remake{name: name, log: name, from: []VMState{Active, Stopped, Errored}, task: Rescuing, ends: func(v *Server) { v.VMState = Rescued }}
	case "unrescue":
		return remake{name: name, log: name, from: []VMState{Rescued}, task: Unrescuing, abrupt: true, ends: func(v *Server) { v.VMState = Active }}
	}
	return remake{}
}

// remakeArgs are fixed when the saga begins.
type remakeArgs struct {
	Name    string `json:"name"`
	Stopped bool   `json:"stopped"` // the server shall not run in the end
}

func (s *Service) registerRemake() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaRemake, Failed: s.remakeFailed, Steps: []saga.Step[job]{
		{Name: "claim", Do: s.remakeClaim, Undo: s.remakeUnclaim},
		{Name: "stop", Do: s.remakeStop},
		{Name: "move", Do: s.remakeMove, Undo: s.remakeUnmove},
		{Name: "make", Do: s.remakeMake},
		{Name: "await", Do: s.remakeAwait},
		{Name: "finish", Do: s.remakeFinish},
	}})
}

// beginRemake checks the server's state and begins the work; change writes what
// the server shall be. It runs in the ledger, where quota may be checked.
func (s *Service) beginRemake(ctx context.Context, r *rest.Request, id, name string, stopped func(*Server) bool, change func(*store.Tx, *Server) error) (out *Server, err error) {
	m := remakes(name)
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		args := remakeArgs{Name: name}
		v, err := s.servers.TxUpdate(tx, id, func(v *Server) error {
			if err := v.allows(m.name, m.from, nil); err != nil {
				return err
			}
			args.Stopped = stopped(v)
			if err := change(tx, v); err != nil {
				return err
			}
			v.TaskState, v.Updated = m.task, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		out = v
		return s.begin(tx, r.ID, r.Creds, sagaRemake, m.log, v, args)
	})
	return out, err
}

func wasStopped(v *Server) bool { return v.VMState == Stopped }

func neverStopped(*Server) bool { return false }

func (s *Service) remakeOf(j *job) (*Server, remake, remakeArgs, error) {
	var args remakeArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return nil, remake{}, args, fmt.Errorf("saga of %s: %w", j.Server, err)
	}
	v, err := s.servers.Get(j.Server)
	return v, remakes(args.Name), args, err
}

func (s *Service) remakeClaim(ctx context.Context, j *job) error {
	v, m, _, err := s.remakeOf(j)
	if err != nil {
		return err
	}
	if m.claim != nil {
		if err := m.claim(s, ctx, v); err != nil {
			return err
		}
	}
	return s.markMove(ctx, v, m.moving)
}

// markMove writes the state of the server's resize into its migration record.
func (s *Service) markMove(ctx context.Context, v *Server, status string) error {
	if status == "" || v.Resize == nil {
		return nil
	}
	return s.moves.Mark(ctx, v.Resize.ID, status)
}

func (s *Service) remakeUnclaim(ctx context.Context, j *job) error {
	v, m, _, err := s.remakeOf(j)
	if err != nil {
		return err
	}
	if m.moving != "" {
		if err := s.markMove(ctx, v, migration.Failed); err != nil {
			return err
		}
	}
	if m.undo == nil {
		return nil
	}
	return m.undo(s, ctx, v)
}

// remakeStop stops the machine as it is: what it had in memory goes to its disks.
func (s *Service) remakeStop(ctx context.Context, j *job) error {
	_, m, _, err := s.remakeOf(j)
	if err != nil || m.keepRunning {
		return err
	}
	if j.Gen, err = s.order(ctx, j.Server, func(_ *Server, i *nodeapi.Instance) error {
		i.Power, i.Abrupt = nodeapi.PowerStopped, m.abrupt
		return nil
	}); err != nil {
		return err
	}
	return s.remakeAwait(ctx, j)
}

func (s *Service) remakeMake(ctx context.Context, j *job) error {
	_, m, args, err := s.remakeOf(j)
	if err != nil {
		return err
	}
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		i.Abrupt = false
		switch {
		case m.keepRunning:
			i.Kept = nil
			for n := range i.Disks {
				i.Disks[n].CopyFrom = ""
			}
			return nil
		case args.Stopped:
			i.Power = nodeapi.PowerStopped
		default:
			i.Power = nodeapi.PowerRunning
		}
		return s.describe(v, i)
	})
	return err
}

func (s *Service) remakeAwait(ctx context.Context, j *job) error {
	ctx, cancel := context.WithTimeout(ctx, s.BootTimeout)
	defer cancel()
	_, err := s.Nodes.Reached(ctx, j.Server, j.Gen)
	return err
}

func (s *Service) remakeFinish(ctx context.Context, j *job) error {
	v, m, args, err := s.remakeOf(j)
	if err != nil {
		return err
	}
	if m.release != nil && v.Resize != nil {
		if err := m.release(s, ctx, v); err != nil {
			return err
		}
	}
	if err := s.markMove(ctx, v, m.moved); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		v.VMState, v.Fault = Active, nil
		if args.Stopped {
			v.VMState = Stopped
		}
		m.ends(v)
		v.doing("")
		return nil
	})
}

// remakeFailed leaves the server as it was when the action can be taken back, and
// in error otherwise.
func (s *Service) remakeFailed(ctx context.Context, j *job, cause error) error {
	_, m, args, err := s.remakeOf(j)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, j.Server, func(v *Server) error {
			if v.TaskState == Deleting {
				return nil
			}
			v.TaskState, v.Updated = "", wire.Now()
			v.Fault = &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
			if m.fails == nil {
				v.VMState = Errored
				return nil
			}
			m.fails(v)
			return nil
		})
		if err != nil || v.TaskState == Deleting || m.fails == nil {
			return err
		}
		_, err = s.orderTx(tx, v.ID, func(v *Server, i *nodeapi.Instance) error {
			if i.Power = nodeapi.PowerRunning; args.Stopped { // as it was before
				i.Power = nodeapi.PowerStopped
			}
			return s.describe(v, i)
		})
		return err
	})
}
