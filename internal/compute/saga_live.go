package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// registerLive: until the sending node says that the guest runs on the other one,
// everything can be taken back. From then on the server is there, and the saga ends
// well even when it was cancelled.
func (s *Service) registerLive() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaLive, Failed: s.liveFailed, Steps: []saga.Step[job]{
		{Name: "claim", Do: s.liveClaim, Undo: s.liveUnclaim},
		{Name: "send", Do: s.liveSend, Undo: s.liveUnsend},
		{Name: "switch", Do: s.liveSwitch},
		{Name: "await", Do: s.remakeAwait},
		{Name: "finish", Do: s.liveFinish},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaNoted, Steps: []saga.Step[job]{
		{Name: "done", Do: func(context.Context, *job) error { return nil }},
	}})
}

// liveArgs are fixed when the saga begins.
type liveArgs struct {
	Migration string `json:"migration"` // also the consumer of what is claimed on the host that it leaves
	Host      string `json:"host,omitempty"`
	Force     bool   `json:"force,omitempty"`
}

func (s *Service) liveOfJob(j *job) (*Server, *migration.Migration, liveArgs, error) {
	var args liveArgs
	v, m, err := s.moveOfJob(j, &args, &args.Migration)
	return v, m, args, err
}

// moveOfJob reads a saga's arguments, which have the id of a migration, and gives the
// server and the migration.
func (s *Service) moveOfJob(j *job, args any, id *string) (*Server, *migration.Migration, error) {
	if err := json.Unmarshal(j.Args, args); err != nil {
		return nil, nil, fmt.Errorf("move of %s: %w", j.Server, err)
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.moves.Get(*id)
	return v, m, err
}

// liveClaim chooses the host and claims it; what the server has goes by the
// migration's id until it has left. A repeated run keeps the host.
func (s *Service) liveClaim(ctx context.Context, j *job) error {
	v, m, args, err := s.liveOfJob(j)
	if err != nil || m.Status != migration.Queued {
		return err
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	hosts, err := s.liveHosts(ctx, v, args)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		err := s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, Holding{v.ID, h, v.resources()}, Holding{m.ID, v.Host, v.resources()})
		if errs.Is(err, errs.NoCapacity) {
			continue
		} else if err != nil {
			return err
		}
		return s.ledger.Do(ctx, func(tx *store.Tx) error { return s.moves.Turn(tx, m.ID, h, migration.Preparing) })
	}
	return errNoHost
}

// liveUnclaim leaves the server with what it has on the host where it is.
func (s *Service) liveUnclaim(ctx context.Context, j *job) error {
	v, m, _, err := s.liveOfJob(j)
	if err != nil {
		return err
	}
	return s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, Holding{v.ID, v.Host, v.resources()}, Holding{Consumer: m.ID})
}

// followEvery is how often progress goes into the record.
const followEvery = time.Second

func (s *Service) liveSend(ctx context.Context, j *job) error {
	v, m, _, err := s.liveOfJob(j)
	if err != nil || v.Host == m.Target {
		return err
	}
	if err := s.moves.Mark(ctx, m.ID, migration.Running); err != nil {
		return err
	}
	var written time.Time
	err = s.transfer(ctx, v.ID, m.Target, true, func(p nodeapi.MoveProgress) error {
		if time.Since(written) < followEvery && p.Phase != nodeapi.MoveDone {
			return nil
		}
		written = time.Now()
		return s.moves.Follow(ctx, m.ID, migration.Progress{MemoryTotal: p.MemoryTotal, MemoryProcessed: p.MemoryProcessed, MemoryRemaining: p.MemoryRemaining,
			DiskTotal: p.DiskTotal, DiskProcessed: p.DiskProcessed, DiskRemaining: p.DiskRemaining})
	})
	return err
}

// liveUnsend ends the move; one that is done already is completed.
func (s *Service) liveUnsend(ctx context.Context, j *job) error {
	v, m, _, err := s.liveOfJob(j)
	if err != nil || m.Target == "" || v.Host == m.Target {
		return err
	}
	moved, err := s.endTransfer(ctx, v.ID, m.Target)
	if err != nil || !moved {
		return err
	}
	return s.liveSwitch(ctx, j)
}

func (s *Service) liveSwitch(ctx context.Context, j *job) error {
	v, m, _, err := s.liveOfJob(j)
	if err != nil {
		return err
	}
	if v.Host == m.Target {
		j.Gen = v.Gen
		return nil
	}
	j.Gen, err = s.arrive(ctx, v.ID, m.Target, s.describe)
	if err != nil {
		return err
	}
	return s.moves.Mark(ctx, m.ID, migration.PostMigrating)
}

func (s *Service) liveFinish(ctx context.Context, j *job) error {
	_, m, _, err := s.liveOfJob(j)
	if err != nil {
		return err
	}
	if err := s.Placement.Release(ctx, m.ID); err != nil {
		return err
	}
	if err := s.moves.Mark(ctx, m.ID, migration.Completed); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error { v.doing(""); return nil })
}

// liveFailed: the server goes on where it is. Its guest may be lost only when it
// has moved and the other node says so.
func (s *Service) liveFailed(ctx context.Context, j *job, cause error) error {
	v, m, _, err := s.liveOfJob(j)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	fault, status := "", migration.Broken
	landed := v.Host == m.Target && m.Target != m.Source
	switch st, err := s.Nodes.Statuses.Get(v.ID); {
	case landed && err == nil && st.Gen >= v.Gen && st.Fault != "":
		fault, status = st.Fault, migration.Failed
	case landed:
		status = migration.Completed
	case errors.Is(cause, saga.ErrCancelled):
		status = migration.Cancelled
	case m.Status == migration.Queued:
		status = migration.Failed // no host was found
	}
	if err := s.moves.Mark(ctx, m.ID, status); err != nil {
		return err
	}
	return s.update(ctx, v.ID, func(v *Server) error {
		if v.doing(""); fault != "" && v.TaskState != Deleting {
			v.VMState, v.Fault = Errored, &Fault{Code: 500, Message: fault, Created: wire.Now()}
		}
		return nil
	})
}
