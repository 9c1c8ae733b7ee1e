package compute

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) evacuateRoutes() []rest.Route {
	return []rest.Route{{Method: "POST", Path: "/servers/{id}/action", Action: "evacuate", Policy: "os_compute_api:os-evacuate", Body: evacuateSchemas(), Handle: s.evacuate}}
}

// evacuateSchemas follow nova/api/openstack/compute/schemas/evacuate.py.
func evacuateSchemas() []rest.Schema {
	const fields = `"host":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"},"adminPass":{"type":"string","maxLength":255}`
	body := func(lo, hi rest.Version, more, required string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"evacuate":{"type":"object","properties":{`+fields+more+`},"required":[`+required+
			`],"additionalProperties":false}},"required":["evacuate"],"additionalProperties":false}`)
	}
	return []rest.Schema{
		body(rest.V(2, 1), rest.V(2, 13), `,"onSharedStorage":`+wire.Bool, `"onSharedStorage"`),
		body(rest.V(2, 14), rest.V(2, 28), "", ""),
		body(rest.V(2, 29), rest.V(2, 67), `,"force":`+wire.Bool, ""),
		body(rest.V(2, 68), rest.Version{}, "", ""),
	}
}

type evacuateBody struct {
	Evacuate struct {
		Host     string  `json:"host"`
		Password *string `json:"adminPass"`
		Shared   any     `json:"onSharedStorage"`
		Force    any     `json:"force"`
	} `json:"evacuate"`
}

// evacuate makes a server anew on another host, when its own is down. Its own disks
// are lost, its volumes stay. Whatever else is under way on it ends.
func (s *Service) evacuate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b evacuateBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := &b.Evacuate
	if err := s.evacuable(r, v, &b); err != nil {
		return nil, err
	}
	password := randomText(12)
	set(&password, in.Password)
	args := evacuateArgs{Migration: uuid.NewString(), Host: in.Host, Force: wire.Truthy(in.Force), Stopped: r.AtLeast(2, 95)}
	if err := s.beginEvacuate(ctx, r.ID, r.Creds, v.ID, password, args); err != nil {
		return nil, err
	}
	if !r.AtLeast(2, 14) {
		return rest.JSON(200, map[string]string{"adminPass": password}), nil
	}
	return rest.Empty(200), nil
}

// evacuable checks what an evacuation names, and that the server's host is down
// (nova/api/openstack/compute/evacuate.py; nova/compute/api.py, evacuate).
func (s *Service) evacuable(r *rest.Request, v *Server, b *evacuateBody) error {
	in := &b.Evacuate
	shared := !r.AtLeast(2, 14) && wire.Truthy(in.Shared)
	switch {
	case wire.Truthy(in.Force) && in.Host == "":
		return errs.Invalidf("Can't force to a non-provided destination")
	case shared && in.Password != nil:
		return errs.Invalidf("admin password can't be changed on existing disk")
	case in.Host != "" && s.knownHost(in.Host) != nil:
		return errs.NotFoundf("Compute host %s not found.", in.Host)
	case in.Host != "" && in.Host == v.Host:
		return errs.Invalidf("The target host can't be the same one.")
	case shared:
		return errs.Invalidf("%s is not on shared storage: Invalid state of instance files on shared storage", v.ID)
	}
	if err := v.evacuates(); err != nil {
		return err
	}
	if s.pool.Up(v.Host) {
		return errs.Invalidf("Compute service of %s is still in use.", v.Host)
	}
	return nil
}

// evacuates checks the server's state. A task that is under way forbids nothing: its
// host will never end it.
func (v *Server) evacuates() error {
	idle := *v
	idle.TaskState = ""
	if v.TaskState == Deleting || v.Evacuation != "" || v.Host == "" {
		idle.TaskState = v.TaskState
	}
	if v.Host == "" && v.TaskState == "" {
		return errs.Conflictf("Instance %s has no host", v.ID)
	}
	return idle.allows("evacuate", []VMState{Active, Stopped, Errored}, nil)
}

func (s *Service) beginEvacuate(ctx context.Context, request string, c *policy.Credentials, id, password string, args evacuateArgs) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if err := s.Sagas.CancelAll(tx, id); err != nil {
			return err
		}
		v, err := s.servers.TxUpdate(tx, id, func(v *Server) error {
			if err := v.evacuates(); err != nil {
				return err
			}
			args.Stopped = args.Stopped || v.VMState == Stopped
			v.TaskState, v.Evacuation, v.AdminPass, v.Updated = Rebuilding, args.Migration, password, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		err = s.moves.Begin(tx, migration.Migration{ID: args.Migration, Server: v.ID, ProjectID: v.ProjectID, UserID: c.UserID, Kind: migration.Evacuation,
			Status: migration.Accepted, Automatic: args.Automatic, Source: v.Host, Target: args.Host, OldFlavor: v.Flavor.ID, NewFlavor: v.Flavor.ID})
		if err != nil {
			return fmt.Errorf("evacuation of %s: %w", v.ID, err)
		}
		return s.begin(tx, request, c, sagaEvacuate, "evacuate", v, args)
	})
}
