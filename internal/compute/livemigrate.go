package compute

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) liveRoutes() []rest.Route {
	const at, rule = "/servers/{id}/migrations/{migration}", "os_compute_api:servers:migrations:"
	return []rest.Route{
		{Method: "POST", Path: "/servers/{id}/action", Action: "os-migrateLive", Policy: "os_compute_api:os-migrate-server:migrate_live", Body: liveSchemas(), Handle: s.migrateLive},
		{Method: "POST", Path: at + "/action", Action: "force_complete", Policy: rule + "force_complete", Min: rest.V(2, 22), Body: wire.Body("force_complete", `{"type":"null"}`), Handle: s.forceLive},
		{Method: "DELETE", Path: at, Policy: rule + "delete", Min: rest.V(2, 24), Handle: s.abortLive},
	}
}

// liveSchemas follow nova/api/openstack/compute/schemas/migrate_server.py.
func liveSchemas() []rest.Schema {
	const host = `"host":{"type":["string","null"],"minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"}`
	body := func(lo, hi rest.Version, fields, required string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"os-migrateLive":{"type":"object","properties":{`+host+`,`+fields+`},"required":["host","block_migration"`+required+
			`],"additionalProperties":false}},"required":["os-migrateLive"],"additionalProperties":false}`)
	}
	const auto = `"block_migration":{"anyOf":[` + wire.Bool + `,{"enum":["auto"]}]}`
	return []rest.Schema{
		body(rest.V(2, 1), rest.V(2, 24), `"block_migration":`+wire.Bool+`,"disk_over_commit":`+wire.Bool, `,"disk_over_commit"`),
		body(rest.V(2, 25), rest.V(2, 29), auto, ""),
		body(rest.V(2, 30), rest.V(2, 67), auto+`,"force":`+wire.Bool, ""),
		body(rest.V(2, 68), rest.Version{}, auto, ""),
	}
}

// migrateLive moves a running server. Its own disks go with it, whatever
// block_migration says: no host shares them with another. Until 2.33 upstream chose
// the host before it answered.
func (s *Service) migrateLive(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Live struct {
			Host  *string `json:"host"`
			Force any     `json:"force"`
		} `json:"os-migrateLive"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	args := liveArgs{Migration: uuid.NewString()}
	set(&args.Host, b.Live.Host)
	if args.Force = wire.Truthy(b.Live.Force); args.Force && args.Host == "" {
		return nil, errs.Invalidf("Can't force to a non-provided destination")
	}
	if err := v.allows("os-migrateLive", liveFrom, nil); err != nil {
		return nil, err
	}
	if err := s.knownHost(args.Host); err != nil {
		return nil, err
	}
	if !r.AtLeast(2, 34) {
		if _, err := s.liveHosts(ctx, v, args); err != nil {
			return nil, errs.Invalidf("%s", err.Error())
		}
	}
	return rest.Empty(202), s.beginLive(ctx, r.ID, r.Creds, v.ID, args)
}

// liveFrom are the states of a server that can move while it runs.
var liveFrom = []VMState{Active, Paused}

func (s *Service) beginLive(ctx context.Context, request string, c *policy.Credentials, id string, args liveArgs) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, id, func(v *Server) error {
			if err := v.allows("os-migrateLive", liveFrom, nil); err != nil {
				return err
			}
			v.TaskState, v.Updated = Migrating, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		err = s.moves.Begin(tx, migration.Migration{ID: args.Migration, Server: v.ID, ProjectID: v.ProjectID, UserID: c.UserID, Kind: migration.Live,
			Status: migration.Queued, Source: v.Host, Target: args.Host, OldFlavor: v.Flavor.ID, NewFlavor: v.Flavor.ID})
		if err != nil {
			return err
		}
		return s.begin(tx, request, c, sagaLive, "live-migration", v, args)
	})
}

// liveHosts lists where the server can go while it runs, best first. A destination
// that is forced passes no filter but those that say whether it can at all.
func (s *Service) liveHosts(ctx context.Context, v *Server, args liveArgs) ([]string, error) {
	if args.Host == v.Host {
		return nil, errs.Invalidf("Unable to migrate instance (%s) to current host (%s).", v.ID, v.Host)
	}
	if args.Force {
		if !s.pool.Up(args.Host) {
			return nil, errs.Invalidf("Compute service of %s is unavailable at this time.", args.Host)
		}
		return []string{args.Host}, nil
	}
	moved := *v
	moved.AskedHost = args.Host
	return s.chooseHosts(ctx, &moved, v.resources(), hostFilter{"another host", func(h string) bool { return h != v.Host }})
}

// liveOf finds a live migration in one of the states. Both errors are upstream's
// (nova/compute/api.py, live_migrate_abort and live_migrate_force_complete).
func (s *Service) liveOf(r *rest.Request, v *Server, method string, states ...string) (*migration.Migration, error) {
	if v.TaskState != Migrating {
		task := string(v.TaskState)
		if task == "" {
			task = "None"
		}
		return nil, errs.Conflictf("Cannot '%s' instance %s while it is in task_state %s", method, v.ID, task)
	}
	m, err := s.moves.Find(v.ID, r.Path("migration"))
	if err != nil {
		return nil, err
	}
	if m.Kind != migration.Live || !slices.Contains(states, m.Status) {
		return nil, errs.Invalidf("Migration %s state of instance %s is %s. Cannot %s while the migration is in this state.", r.Path("migration"), v.ID, m.Status, method)
	}
	return m, nil
}

// forceLive lets a live migration end at the cost of a longer standstill.
func (s *Service) forceLive(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	m, err := s.liveOf(r, v, "force_complete", migration.Running)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.Invalidf("%s", err.Error())
	} else if err != nil {
		return nil, err
	}
	from, err := s.Nodes.Mover(m.Source)
	if err == nil {
		err = from.ForceMove(ctx, v.ID)
	}
	if errs.Is(err, errs.Conflict) {
		return nil, errs.Invalidf("Migration %s state of instance %s is %s. Cannot force complete while the migration is in this state.", r.Path("migration"), v.ID, m.Status)
	} else if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.note(ctx, r, v.ID, "live_migration_force_complete")
}

// abortLive takes a live migration back: what runs since 2.24, what has not begun since 2.65.
func (s *Service) abortLive(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(r, v); err != nil {
		return nil, err
	}
	states := []string{migration.Running}
	if r.AtLeast(2, 65) {
		states = append(states, migration.Queued, migration.Preparing)
	}
	if _, err := s.liveOf(r, v, "abort live migration", states...); err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		now, err := s.servers.TxGet(tx, v.ID)
		if err != nil || now.TaskState != Migrating {
			return err // it ended in the meantime
		}
		if err := s.Sagas.CancelAll(tx, v.ID); err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaNoted, "live_migration_cancel", now, nil)
	})
	return rest.Empty(202), err
}

// note puts something that was done at once into the server's actions.
func (s *Service) note(ctx context.Context, r *rest.Request, id, action string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaNoted, action, v, nil)
	})
}
