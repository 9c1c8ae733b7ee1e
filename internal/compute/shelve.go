package compute

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) shelveRoutes() []rest.Route {
	const at, rule = "/servers/{id}/action", "os_compute_api:os-shelve:"
	body := func(lo, hi rest.Version, fields string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"unshelve":{"anyOf":[{"type":"null"},{"type":"object","properties":{`+fields+`},"minProperties":1,"additionalProperties":false}]}},"required":["unshelve"],"additionalProperties":false}`)
	}
	const zone, host = `"availability_zone":{"type":"string","minLength":1,"maxLength":255}`, `"availability_zone":{"type":["string","null"],"minLength":1,"maxLength":255},"host":{"type":"string","minLength":1,"maxLength":255}`
	return []rest.Route{
		{Method: "POST", Path: at, Action: "shelve", Policy: rule + "shelve", Handle: s.shelve},
		{Method: "POST", Path: at, Action: "shelveOffload", Policy: rule + "shelve_offload", Handle: s.offload},
		{Method: "POST", Path: at, Action: "unshelve", Policy: rule + "unshelve", Handle: s.unshelve, Body: []rest.Schema{
			body(rest.V(2, 77), rest.V(2, 90), zone), body(rest.V(2, 91), rest.Version{}, host)}},
	}
}

// registerShelve: shelving makes an image of the server's disk and then gives up
// its host at once (upstream's default, shelved_offload_time = 0); its ports stay.
// Once the image is whole there is no way back but unshelve: offloading insists.
func (s *Service) registerShelve() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaShelve, Failed: s.shelveFailed, Steps: []saga.Step[job]{
		{Name: "stop", Do: s.shelveStop, Undo: s.shelveResume},
		{Name: "record", Do: s.imageRecord, Undo: s.shelveDiscard},
		{Name: "fill", Do: s.imageFill},
		{Name: "keep", Do: s.shelveKeep},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaOffload, Insist: true, Steps: []saga.Step[job]{
		{Name: "destroy", Do: s.destroy},
		{Name: "release", Do: s.offloaded},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaReturn, Failed: s.unshelveFailed, Steps: []saga.Step[job]{
		{Name: "schedule", Do: s.schedule, Undo: s.unschedule},
		{Name: "networks", Do: s.plug},
		{Name: "volumes", Do: s.mapVolumes},
		{Name: "spawn", Do: s.respawn, Undo: s.destroy},
		{Name: "running", Do: s.returned},
	}})
}

func (s *Service) shelve(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		var a imageArgs
		v, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if err := v.allows("shelve", []VMState{Active, Stopped, Paused, Suspended}, nil); err != nil {
				return err
			}
			if !v.volumeBacked() { // a root volume keeps by itself
				a.Image = imageOf(v, v.Name+"-shelved", v.ProjectID, v.UserID, "snapshot", nil)
			}
			v.TaskState, v.Updated = Shelving, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaShelve, "shelve", v, a)
	})
	return rest.Empty(202), err
}

// offload is for a server that is shelved and still on its host; here none ever is.
func (s *Service) offload(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	return nil, errs.Conflictf("Cannot 'shelveOffload' instance %s while it is in vm_state %s", v.ID, v.VMState)
}

func (s *Service) unshelve(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	zone, host, err := s.unshelveTo(r, v)
	if err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if err := v.allows("unshelve", []VMState{ShelvedOffloaded}, nil); err != nil {
				return err
			}
			if v.Shelf == nil && !v.volumeBacked() {
				return errs.Conflictf("Instance %s has no image to come back from", v.ID)
			}
			if zone.Set {
				v.AZ = ""
				set(&v.AZ, zone.Value)
			}
			v.AskedHost, v.TaskState, v.Updated = host, Unshelving, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaReturn, "unshelve", v, returnArgs{v.shelfID()})
	})
	return rest.Empty(202), err
}

// unshelveTo reads where the server shall come back: a zone from 2.77 on, a host from 2.91 on.
func (s *Service) unshelveTo(r *rest.Request, v *Server) (zone optional[string], host string, err error) {
	if !r.AtLeast(2, 77) {
		return zone, "", nil // whatever came with the action was ignored
	}
	var b struct {
		To *struct {
			Zone optional[string] `json:"availability_zone"`
			Host string           `json:"host"`
		} `json:"unshelve"`
	}
	if err := r.Decode(&b); err != nil || b.To == nil {
		return zone, "", err
	}
	if b.To.Zone.Value != nil && !s.pool.HasZone(*b.To.Zone.Value) {
		return zone, "", errs.Invalidf("The requested availability zone is not available")
	}
	if b.To.Host != "" {
		if err := r.EnforceRule("os_compute_api:os-shelve:unshelve_to_host", target(v)); err != nil {
			return zone, "", err
		}
		if _, err := s.Nodes.Infos.Get(b.To.Host); err != nil {
			return zone, "", errs.Invalidf("Compute host %s could not be found.", b.To.Host)
		}
	}
	return b.To.Zone, b.To.Host, nil
}

// onItsWay tells whether a server that is being shelved has passed the point of no return.
func (v *Server) onItsWay() bool {
	return v.Shelf != nil || v.TaskState == Offloading || v.VMState == ShelvedOffloaded
}

func (v *Server) shelfID() string {
	if v.Shelf == nil {
		return ""
	}
	return v.Shelf.ID
}

func (s *Service) shelveStop(ctx context.Context, j *job) (err error) {
	if j.Gen, err = s.order(ctx, j.Server, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerStopped; return nil }); err != nil {
		return err
	}
	return s.remakeAwait(ctx, j)
}

// shelveResume lets a server that ran go on, unless it is shelved already.
func (s *Service) shelveResume(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil || v.onItsWay() || v.TaskState == Deleting || v.VMState == Stopped {
		return err
	}
	_, err = s.order(ctx, j.Server, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerRunning; return nil })
	return err
}

func (s *Service) shelveDiscard(ctx context.Context, j *job) error {
	if v, err := s.servers.Get(j.Server); err != nil || v.onItsWay() {
		return err
	}
	return s.imageDiscard(ctx, j)
}

// shelveKeep remembers the image and begins the offloading: from here on the
// server can leave its host.
func (s *Service) shelveKeep(ctx context.Context, j *job) error {
	a, err := imageArgsOf(j)
	if err != nil {
		return err
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	owner := &policy.Credentials{UserID: v.UserID, ProjectID: v.ProjectID}
	var img *Image
	if a.Image.ID != "" {
		if img, err = s.Images.Image(ctx, owner, a.Image.ID); err != nil {
			return err
		}
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		begun := false
		v, err := s.servers.TxUpdate(tx, j.Server, func(v *Server) error {
			begun = v.onItsWay() || v.TaskState == Deleting
			if !begun {
				v.Shelf, v.TaskState, v.Updated = img, Offloading, wire.Now()
			}
			return nil
		})
		if err != nil || begun {
			return err
		}
		return s.begin(tx, "req-"+uuid.NewString(), owner, sagaOffload, "shelveOffload", v, nil)
	})
}

// shelveFailed leaves a server that could not be shelved as it was.
func (s *Service) shelveFailed(ctx context.Context, j *job, _ error) error {
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.onItsWay() {
			return nil
		}
		if v.VMState != Stopped && v.VMState != Errored {
			v.VMState = Active // what it had in memory is on its disk
		}
		v.doing("")
		return nil
	})
}

// offloaded takes the server off its host in the books.
func (s *Service) offloaded(ctx context.Context, j *job) error {
	if err := s.Placement.Release(ctx, j.Server); err != nil {
		return err
	}
	return s.update(ctx, j.Server, func(v *Server) error {
		v.VMState, v.Host, v.DiskSet, v.AskedHost = ShelvedOffloaded, "", 0, ""
		for i := range v.Devices {
			v.Devices[i].Source = nil
		}
		v.doing("")
		return nil
	})
}

// respawn is spawn where an earlier host may not yet have forgotten the server.
func (s *Service) respawn(ctx context.Context, j *job) (err error) {
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		i.Node, i.Deleted, i.Power = v.Host, false, nodeapi.PowerRunning
		return s.describe(v, i)
	})
	return err
}

// returnArgs name the image that a server comes back from.
type returnArgs struct {
	Image string `json:"image"`
}

func (s *Service) returned(ctx context.Context, j *job) error {
	var a returnArgs
	if err := json.Unmarshal(j.Args, &a); err != nil {
		return fmt.Errorf("unshelve saga of %s: %w", j.Server, err)
	}
	if err := s.remakeAwait(ctx, j); err != nil {
		return err
	}
	if err := s.update(ctx, j.Server, func(v *Server) error {
		t := wire.Now()
		v.VMState, v.Launched, v.Shelf, v.Fault = Active, &t, nil, nil
		v.doing("")
		return nil
	}); err != nil {
		return err
	}
	if a.Image == "" {
		return nil
	}
	if err := s.Images.Discard(ctx, a.Image); err != nil {
		// The server runs: an image that stays is no reason to take that back.
		s.Log.Warn("the image of a shelved server stays", "server", j.Server, "err", err)
	}
	return nil
}

// unshelveFailed leaves the server shelved.
func (s *Service) unshelveFailed(ctx context.Context, j *job, cause error) error {
	return s.update(ctx, j.Server, func(v *Server) error {
		if v.TaskState == Deleting {
			return nil
		}
		v.TaskState, v.Fault = "", &Fault{Code: 500, Message: cause.Error(), Created: wire.Now()}
		if v.VMState = ShelvedOffloaded; v.Shelf == nil && !v.volumeBacked() {
			v.VMState = Errored
		}
		return nil
	})
}
