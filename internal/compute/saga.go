package compute

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// The kinds of sagas.
const (
	sagaCreate = "compute.server.create"
	sagaDelete = "compute.server.delete"
	sagaPower  = "compute.server.power"
	sagaRemake = "compute.server.remake"
	sagaAttach = "compute.server.attach"
	sagaDetach = "compute.server.detach"
	sagaPlug   = "compute.server.plug"
	sagaUnplug = "compute.server.unplug"
	sagaImage  = "compute.server.image"
	sagaShelve = "compute.server.shelve"
	sagaReturn = "compute.server.unshelve"

	sagaOffload  = "compute.server.offload"
	sagaRestore  = "compute.server.restore"
	sagaExtended = "compute.server.extend_volume"

	sagaLive  = "compute.server.live_migrate"
	sagaNoted = "compute.server.noted"

	sagaEvacuate = "compute.server.evacuate"

	sagaSoftDelete = "compute.server.softdelete"
)

// job is the state of every saga on a server.
type job struct {
	Server string          `json:"server"`
	Args   json.RawMessage `json:"args,omitempty"`
	Gen    int64           `json:"gen,omitempty"` // the Instance generation to wait for
}

// begin starts a saga on the server in the caller's transaction.
func (s *Service) begin(tx *store.Tx, requestID string, c *policy.Credentials, kind, action string, v *Server, args any) error {
	j := job{Server: v.ID}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return err
		}
		j.Args = raw
	}
	return s.Sagas.Begin(tx, saga.Start{ID: uuid.NewString(), Kind: kind, Resource: v.ID, Action: action,
		RequestID: requestID, ProjectID: c.ProjectID, UserID: c.UserID, State: j})
}

func (s *Service) registerSagas() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaCreate, Failed: s.createFailed, Steps: []saga.Step[job]{
		{Name: "schedule", Do: s.schedule, Undo: s.unschedule},
		{Name: "networks", Do: s.plug, Undo: s.unplug},
		{Name: "volumes", Do: s.mapVolumes, Undo: s.unmapVolumes},
		{Name: "spawn", Do: s.spawn, Undo: s.destroy},
		{Name: "running", Do: s.awaitRunning},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaDelete, Insist: true, Steps: []saga.Step[job]{
		{Name: "destroy", Do: s.destroy},
		{Name: "networks", Do: s.unplug},
		{Name: "volumes", Do: s.unmapVolumes},
		{Name: "release", Do: s.unschedule},
		{Name: "forget", Do: s.markDeleted},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaPower, Failed: s.powerFailed, Steps: []saga.Step[job]{
		{Name: "order", Do: s.orderPower},
		{Name: "await", Do: s.awaitPower},
	}})
	s.registerRemake()
	s.registerLive()
	s.registerEvacuate()
	s.registerSnapshot()
	s.registerShelve()
	s.registerSoftDelete()
	s.registerVolumes()
	s.registerInterfaces()
}

// update changes a server's record; a server that is gone is no error to sagas.
func (s *Service) update(ctx context.Context, id string, fn func(*Server) error) error {
	_, err := s.servers.Update(ctx, id, func(v *Server) error {
		v.Updated = wire.Now()
		return fn(v)
	})
	return err
}

// doing sets the task state, unless a delete has begun: nothing overrides that.
func (v *Server) doing(t TaskState) {
	if t == "" && v.leaving() {
		t = SoftDeleting
	}
	if v.TaskState != Deleting {
		v.TaskState = t
	}
}

// schedule claims the best host that still has room. A repeated run keeps the
// host that the first one claimed.
func (s *Service) schedule(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	if v.Host != "" {
		_, err := s.claimOne(ctx, v, []string{v.Host})
		return err
	}
	for {
		hosts, done, err := s.reserve(ctx, v, v.resources())
		if err != nil {
			return err
		}
		ok, err := s.claimOne(ctx, v, hosts)
		done()
		if ok || len(hosts) < alternatives || !errs.Is(err, errs.NoCapacity) {
			return err
		}
	}
}

// claimOne claims the first of the hosts that still has room and writes it down.
// NoCapacity: none has.
func (s *Service) claimOne(ctx context.Context, v *Server, hosts []string) (ok bool, err error) {
	for _, h := range hosts {
		err := s.Placement.Claim(ctx, v.ID, h, v.ProjectID, v.UserID, v.resources())
		if errs.Is(err, errs.NoCapacity) {
			continue
		} else if err != nil {
			return false, err
		}
		ok, err := s.settle(ctx, v, h)
		if ok || err != nil {
			return ok, err
		}
		if err := s.Placement.Release(ctx, v.ID); err != nil {
			return false, err
		}
	}
	return false, errNoHost
}

func (s *Service) unschedule(ctx context.Context, j *job) error {
	if err := s.Placement.Release(ctx, j.Server); err != nil {
		return err
	}
	if v, err := s.servers.Get(j.Server); err == nil && v.Resize != nil {
		if err := s.Placement.Release(ctx, v.Resize.ID); err != nil {
			return err
		}
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.TaskState != Deleting {
			v.Host = ""
		}
		return nil
	})
}

// plug makes and binds the server's ports.
func (s *Service) plug(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	for _, n := range v.NICs {
		if _, err := s.Networks.EnsurePort(ctx, s.portSpec(v, n)); err != nil {
			return err
		}
	}
	return s.update(ctx, v.ID, func(v *Server) error { v.doing(Spawning); return nil })
}

func (s *Service) portSpec(v *Server, n NIC) PortSpec {
	return PortSpec{ID: n.PortID, NetworkID: n.NetworkID, ProjectID: v.ProjectID, FixedIP: n.FixedIP, Groups: v.Groups,
		Server: v.ID, Host: v.Host, Zone: s.zoneOf(v), Hostname: v.Hostname, Existing: !n.Ours}
}

func (s *Service) unplug(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	for _, n := range v.NICs {
		if err := s.Networks.ReleasePort(ctx, n.PortID, !n.Ours); err != nil {
			return err
		}
	}
	// A port that was bound to the server behind our back must not stay bound to nothing.
	for _, p := range s.Networks.Ports(v.ID) {
		if err := s.Networks.ReleasePort(ctx, p.ID, true); err != nil {
			return err
		}
	}
	return nil
}

// spawn tells the node to run the server.
func (s *Service) spawn(ctx context.Context, j *job) error {
	gen, err := s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		i.Power = nodeapi.PowerRunning
		return s.describe(v, i)
	})
	j.Gen = gen
	return err
}

// order writes the Instance that the node should run, with the next generation.
// fn changes it; an Instance that does not exist yet comes empty.
func (s *Service) order(ctx context.Context, id string, fn func(*Server, *nodeapi.Instance) error) (gen int64, err error) {
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		gen, err = s.orderTx(tx, id, fn)
		return err
	})
	return gen, err
}

func (s *Service) orderTx(tx *store.Tx, id string, fn func(*Server, *nodeapi.Instance) error) (int64, error) {
	v, err := s.servers.TxGet(tx, id)
	if err != nil {
		return 0, err
	}
	inst := &nodeapi.Instance{ID: v.ID, Node: v.Host}
	if old, err := s.Nodes.Instances.TxGet(tx, id); err == nil {
		*inst = *old
	} else if !errs.Is(err, errs.NotFound) {
		return 0, err
	}
	if err := fn(v, inst); err != nil {
		return 0, err
	}
	inst.Gen = v.Gen + 1
	if err := s.Nodes.Instances.TxPut(tx, inst); err != nil {
		return 0, err
	}
	_, err = s.servers.TxUpdate(tx, id, func(v *Server) error {
		v.Gen, v.RebootSeq = inst.Gen, inst.Reboot.Seq
		return nil
	})
	return inst.Gen, err
}

func (s *Service) awaitRunning(ctx context.Context, j *job) error {
	ctx, cancel := context.WithTimeout(ctx, s.BootTimeout)
	defer cancel()
	if _, err := s.Nodes.Reached(ctx, j.Server, j.Gen); err != nil {
		return err
	}
	if err := s.completeVolumes(ctx, j); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		t := wire.Now()
		v.VMState, v.Launched, v.AdminPass = Active, &t, ""
		v.doing("")
		return nil
	})
}

// destroy makes the node remove every trace and then forgets the Instance. When
// the node is away, the order stays behind for its return (see follow): deleting
// always works.
func (s *Service) destroy(ctx context.Context, j *job) error {
	inst, err := s.Nodes.Instances.Get(j.Server)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	gen := inst.Gen
	// A fault is an answer too: the node tries again only what is new.
	if st, err := s.Nodes.Statuses.Get(j.Server); !inst.Deleted || err == nil && st.Gen >= gen && st.Fault != "" {
		if gen, err = s.order(ctx, j.Server, func(_ *Server, i *nodeapi.Instance) error { i.Deleted = true; return nil }); err != nil {
			return err
		}
	}
	if _, err := s.Nodes.Conn(inst.Node); err != nil {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	if _, err := s.Nodes.Reached(wait, j.Server, gen); err != nil {
		return err
	}
	return s.Nodes.Forget(ctx, j.Server)
}

// destroyTimeout bounds one wait for a node; then destroy looks whether it is still there.
const destroyTimeout = time.Minute

func (s *Service) createFailed(ctx context.Context, j *job, cause error) error {
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.TaskState == Deleting {
			return nil
		}
		v.VMState, v.TaskState = Errored, ""
		v.Fault = &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
		return nil
	})
}

func (s *Service) markDeleted(ctx context.Context, j *job) error {
	if v, err := s.servers.Get(j.Server); err == nil && v.Shelf != nil {
		if err := s.Images.Discard(ctx, v.Shelf.ID); err != nil {
			return err
		}
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		t := wire.Now()
		v.VMState, v.TaskState, v.DeletedAt, v.UserData, v.AdminPass, v.Password = Deleted, "", &t, "", "", ""
		return nil
	})
}

func (v *Server) resources() Resources {
	r := Resources{VCPU: v.Flavor.VCPUs, MemoryMiB: v.Flavor.RAM, DiskGiB: v.Flavor.Disk + v.Flavor.Ephemeral + (v.Flavor.Swap+1023)/1024}
	if v.volumeBacked() {
		r.DiskGiB -= v.Flavor.Disk
	}
	for k, val := range v.Flavor.ExtraSpecs {
		if len(k) > 6 && k[:6] == "trait:" {
			if val == "required" {
				r.RequiredTraits = append(r.RequiredTraits, k[6:])
			} else if val == "forbidden" {
				r.ForbiddenTraits = append(r.ForbiddenTraits, k[6:])
			}
		}
	}
	return r
}
