package compute

import (
	"context"
	"errors"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// registerEvacuate: when the Instance says that the server is elsewhere there is no
// way back, since the host that was down may return at any moment and removes then
// what is not its own.
func (s *Service) registerEvacuate() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaEvacuate, Failed: s.evacuateFailed, Steps: []saga.Step[job]{
		{Name: "claim", Do: s.evacuateClaim, Undo: s.evacuateUnclaim},
		{Name: "fence", Do: s.evacuateFence, Undo: s.evacuateUnfence},
		{Name: "make", Do: s.evacuateMake},
		{Name: "await", Do: s.awaitArrival},
		{Name: "finish", Do: s.evacuated},
	}})
}

type evacuateArgs struct {
	Migration string `json:"migration"`
	Host      string `json:"host,omitempty"`
	Force     bool   `json:"force,omitempty"`
	Stopped   bool   `json:"stopped,omitempty"`   // it shall not run in the end
	Automatic bool   `json:"automatic,omitempty"` // its host was found dead
}

func (s *Service) evacuationOf(j *job) (*Server, *migration.Migration, evacuateArgs, error) {
	var args evacuateArgs
	v, m, err := s.moveOfJob(j, &args, &args.Migration)
	return v, m, args, err
}

// evacuateClaim chooses the host and claims it in place of the one that is down.
// Nothing else of the server is left to go back to.
func (s *Service) evacuateClaim(ctx context.Context, j *job) error {
	v, m, args, err := s.evacuationOf(j)
	if err != nil || m.Status != migration.Accepted {
		return err
	}
	if err := s.volumesThere(ctx, v); err != nil {
		return err
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	hosts, err := s.liveHosts(ctx, v, liveArgs{Host: args.Host, Force: args.Force})
	if err != nil {
		return err
	}
	for _, h := range hosts {
		claims := []Holding{{v.ID, h, v.resources()}}
		if v.Resize != nil {
			claims = append(claims, Holding{Consumer: v.Resize.ID})
		}
		err := s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, claims...)
		if errs.Is(err, errs.NoCapacity) {
			continue
		} else if err != nil {
			return err
		}
		if err := s.markMove(ctx, v, migration.Failed); err != nil { // a resize that can neither be confirmed nor reverted
			return err
		}
		return s.DB.Txn(ctx, func(tx *store.Tx) error {
			if _, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error { v.Resize = nil; return nil }); err != nil {
				return err
			}
			return s.moves.Turn(tx, m.ID, h, migration.PreMigrating)
		})
	}
	return errNoHost
}

// evacuateUnclaim claims the host that is down again, if it has room still.
func (s *Service) evacuateUnclaim(ctx context.Context, j *job) error {
	v, _, _, err := s.evacuationOf(j)
	if err != nil {
		return err
	}
	err = s.Placement.Claim(ctx, v.ID, v.Host, v.ProjectID, v.UserID, v.resources())
	if errs.Is(err, errs.NoCapacity) {
		s.Log.Warn("a server that was not evacuated has no claim on its host", "server", v.ID, "node", v.Host)
		return nil
	}
	return err
}

// evacuateFence stops the guest when the node can still be told, as one that an
// operator only says is down. One that is away cannot: a server that runs under a
// lease ends with it, any other is trusted to be off.
func (s *Service) evacuateFence(ctx context.Context, j *job) error {
	v, m, _, err := s.evacuationOf(j)
	if err != nil || v.Host == m.Target {
		return err
	}
	if s.Nodes.UnderLease(v.ID) {
		return s.revoke(ctx, v)
	}
	if _, err := s.Nodes.Conn(v.Host); err != nil {
		return nil
	}
	gen, err := s.order(ctx, v.ID, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerStopped; return nil })
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	if _, err := s.Nodes.Reached(wait, v.ID, gen); err != nil {
		s.Log.Warn("the host of a server that is evacuated does not stop it", "server", v.ID, "node", v.Host, "err", err)
	}
	return ctx.Err()
}

// evacuateMake orders the server on the new host: disks of its own from the image.
func (s *Service) evacuateMake(ctx context.Context, j *job) error {
	v, m, args, err := s.evacuationOf(j)
	if err != nil {
		return err
	}
	if v.Host == m.Target {
		return nil // an earlier run came this far
	}
	if err := s.bindTo(ctx, v, m.Target); err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if _, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error { v.Host, v.Updated = m.Target, wire.Now(); return nil }); err != nil {
			return err
		}
		_, err := s.orderTx(tx, v.ID, func(v *Server, i *nodeapi.Instance) error {
			i.Node, i.Deleted, i.Revoked, i.Power = m.Target, false, false, nodeapi.PowerRunning
			if args.Stopped {
				i.Power = nodeapi.PowerStopped
			}
			return s.describe(v, i)
		})
		return err
	})
}

// awaitArrival waits for the last that was ordered.
func (s *Service) awaitArrival(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	j.Gen = v.Gen
	return s.remakeAwait(ctx, j)
}

func (s *Service) evacuated(ctx context.Context, j *job) error {
	_, m, args, err := s.evacuationOf(j)
	if err != nil {
		return err
	}
	if err := s.moves.Mark(ctx, m.ID, migration.Done); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		t := wire.Now()
		v.VMState, v.Launched, v.Fault, v.AdminPass, v.Evacuation = Active, &t, nil, "", ""
		if args.Stopped {
			v.VMState = Stopped
		}
		v.doing("")
		return nil
	})
}

// evacuateFailed leaves the server in error, on whichever host the Instance names.
func (s *Service) evacuateFailed(ctx context.Context, j *job, cause error) error {
	_, m, _, err := s.evacuationOf(j)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	status := migration.Broken
	if m.Status == migration.Accepted {
		status = migration.Failed // no host was found
	}
	if err := s.moves.Mark(ctx, m.ID, status); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.Evacuation = ""; v.TaskState == Deleting || errors.Is(cause, saga.ErrCancelled) {
			return nil
		}
		v.VMState, v.TaskState, v.AdminPass = Errored, "", ""
		v.Fault = &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
		return nil
	})
}
