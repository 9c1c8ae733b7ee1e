package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// transition is what a power action does: from which states, through which task, to which state.
type transition struct {
	name   string // as upstream names the method in its 409
	from   []VMState
	task   TaskState
	during []TaskState // task states that do not forbid it
	to     VMState
	power  nodeapi.Power
}

// transitions follow the check_instance_state decorators of nova/compute/api.py.
var transitions = map[string]transition{
	"os-start": {name: "start", from: []VMState{Stopped}, task: PoweringOn, to: Active, power: nodeapi.PowerRunning},
	"os-stop":  {name: "stop", from: []VMState{Active, Errored}, task: PoweringOff, to: Stopped, power: nodeapi.PowerStopped},
	"pause":    {name: "pause", from: []VMState{Active}, task: Pausing, to: Paused, power: nodeapi.PowerPaused},
	"unpause":  {name: "unpause", from: []VMState{Paused}, task: Unpausing, to: Active, power: nodeapi.PowerRunning},
	"suspend":  {name: "suspend", from: []VMState{Active}, task: Suspending, to: Suspended, power: nodeapi.PowerSuspended},
	"resume":   {name: "resume", from: []VMState{Suspended}, task: Resuming, to: Active, power: nodeapi.PowerRunning},
	"SOFT":     {name: "reboot", from: []VMState{Active}, task: Rebooting, to: Active, power: nodeapi.PowerRunning},
	"HARD": {name: "reboot", from: []VMState{Active, Stopped, Paused, Suspended, Errored}, task: RebootingHard,
		during: []TaskState{Rebooting, RebootingHard, Pausing, Unpausing, Suspending, Resuming}, to: Active, power: nodeapi.PowerRunning},
}

// powerTimeout bounds the wait for a node: a guest gets 60 s to shut down by itself.
const powerTimeout = 3 * time.Minute

func (s *Service) powerAction(action string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		return s.changePower(ctx, r, action, transitions[action])
	}
}

func (s *Service) reboot(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Reboot struct {
			Type string `json:"type"`
		} `json:"reboot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	kind := "SOFT"
	if b.Reboot.Type == "HARD" || b.Reboot.Type == "hard" || b.Reboot.Type == "Hard" {
		kind = "HARD"
	}
	return s.changePower(ctx, r, kind, transitions[kind])
}

func (s *Service) changePower(ctx context.Context, r *rest.Request, kind string, t transition) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(r, v); err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if err := v.allows(t.name, t.from, t.during); err != nil {
				return err
			}
			v.TaskState, v.Updated = t.task, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaPower, t.name, v, powerArgs{kind, v.RebootSeq + 1})
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), nil
}

// allows checks that the action may begin in the server's state.
func (v *Server) allows(action string, from []VMState, during []TaskState) error {
	if v.DeletedAt != nil {
		return errs.NotFoundf("Instance %s could not be found.", v.ID)
	}
	if v.leaving() {
		return errs.Conflictf("Cannot '%s' instance %s while it is in task_state %s", action, v.ID, SoftDeleting)
	}
	if v.Evacuation != "" && v.TaskState == "" { // what it interrupted has just ended
		return errs.Conflictf("Cannot '%s' instance %s while it is in task_state %s", action, v.ID, Rebuilding)
	}
	if !slices.Contains(from, v.VMState) {
		return errs.Conflictf("Cannot '%s' instance %s while it is in vm_state %s", action, v.ID, v.VMState)
	}
	if v.TaskState != "" && !slices.Contains(during, v.TaskState) {
		return errs.Conflictf("Cannot '%s' instance %s while it is in task_state %s", action, v.ID, v.TaskState)
	}
	return nil
}

func (s *Service) orderPower(ctx context.Context, j *job) error {
	t, args, err := transitionOf(j)
	if err != nil {
		return err
	}
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		i.Power = t.power
		if t.name == "reboot" {
			i.Reboot = nodeapi.Reboot{Seq: args.Seq, Hard: args.Kind == "HARD"}
		}
		return s.describe(v, i)
	})
	return err
}

// powerArgs are fixed when the saga begins, so that a step that runs twice does not reboot twice.
type powerArgs struct {
	Kind string `json:"kind"` // key of transitions
	Seq  int64  `json:"seq"`  // of the reboot
}

func transitionOf(j *job) (transition, powerArgs, error) {
	var args powerArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return transition{}, args, fmt.Errorf("power saga of %s: %w", j.Server, err)
	}
	return transitions[args.Kind], args, nil
}

func (s *Service) awaitPower(ctx context.Context, j *job) error {
	t, _, err := transitionOf(j)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	if _, err := s.Nodes.Reached(ctx, j.Server, j.Gen); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		v.VMState, v.Fault = t.to, nil
		v.doing("")
		return nil
	})
}

// observed maps what a node sees to the state that users see.
var observed = map[nodeapi.Power]VMState{nodeapi.PowerRunning: Active, nodeapi.PowerPaused: Paused,
	nodeapi.PowerSuspended: Suspended, nodeapi.PowerStopped: Stopped}

// powerFailed gives up the wish: the server is what the node says that it is, or
// in error when that is nothing that a user could have asked for.
func (s *Service) powerFailed(ctx context.Context, j *job, cause error) error {
	var st nodeapi.InstanceStatus
	if now, err := s.Nodes.Statuses.Get(j.Server); err == nil {
		st = *now
	}
	state, known := observed[st.Power]
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, j.Server)
		if err != nil || v.TaskState == Deleting {
			return err
		}
		if known {
			if _, err := s.orderTx(tx, v.ID, func(_ *Server, i *nodeapi.Instance) error { i.Power = st.Power; return nil }); err != nil {
				return err
			}
		}
		_, err = s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			v.TaskState, v.Updated, v.Fault = "", wire.Now(), nil
			if v.VMState = state; !known {
				v.VMState, v.Fault = Errored, &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
			}
			return nil
		})
		return err
	})
}
