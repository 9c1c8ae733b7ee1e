package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) registerVolumes() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaAttach, Steps: []saga.Step[job]{
		{Name: "reserve", Do: s.attachReserve, Undo: s.attachWithdraw},
		{Name: "connect", Do: s.attachConnect},
		{Name: "order", Do: s.attachOrder, Undo: s.attachUnorder},
		{Name: "await", Do: s.deviceAwait},
		{Name: "complete", Do: s.attachComplete},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaDetach, Steps: []saga.Step[job]{
		{Name: "begin", Do: s.detachBegin, Undo: s.detachKeep},
		{Name: "order", Do: s.detachOrder, Undo: s.detachReorder},
		{Name: "await", Do: s.deviceAwait},
		{Name: "release", Do: s.detachRelease},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaExtended, Steps: []saga.Step[job]{
		// The node resized the disk under its guest before this began.
		{Name: "seen", Do: func(context.Context, *job) error { return nil }},
	}})
}

// extendVolume is upstream's name of the action and of the method of the manager
// (nova/compute/instance_actions.py, manager.py).
const extendVolume = "extend_volume"

// VolumeExtended notes in the server's actions, in the caller's transaction, that
// its guest has seen a volume grow. A server that is gone is no error.
func (s *Service) VolumeExtended(tx *store.Tx, server, request, project, user string) error {
	v, err := s.servers.TxGet(tx, server)
	if err != nil || v.DeletedAt != nil {
		return nil
	}
	return s.begin(tx, request, &policy.Credentials{ProjectID: project, UserID: user}, sagaExtended, extendVolume, v, nil)
}

// ownerOf is the project of a device's volume, which acts on it.
func ownerOf(v *Server, d *Device) *policy.Credentials {
	return &policy.Credentials{UserID: v.UserID, ProjectID: d.Owner, Roles: []string{"member", "reader"}}
}

// setDevice changes one device of the server's record; one that is gone stays gone.
func (s *Service) setDevice(ctx context.Context, server, id string, fn func(*Device)) error {
	_, err := s.servers.Update(ctx, server, func(v *Server) error {
		for i := range v.Devices {
			if v.Devices[i].ID == id {
				fn(&v.Devices[i])
			}
		}
		return nil
	})
	return err
}

// secure makes the volume if it is to be made, and claims it for the server.
func (s *Service) secure(ctx context.Context, v *Server, d *Device) error {
	if s.Volumes == nil {
		return errs.Invalidf("there are no volumes here")
	}
	c := ownerOf(v, d)
	if d.New != nil && d.State == "" {
		wanted := *d.New
		wanted.Near = v.Host
		if _, err := s.Volumes.EnsureVolume(ctx, c, wanted); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, s.BootTimeout)
		defer cancel()
		if err := s.Volumes.AwaitVolume(wait, d.VolumeID); err != nil {
			return err
		}
	}
	mode := "rw"
	if d.Kind == "cdrom" {
		mode = "ro"
	}
	if err := s.Volumes.Reserve(ctx, c, NewAttachment{ID: d.ID, VolumeID: d.VolumeID, Server: v.ID, Mode: mode}); err != nil {
		return err
	}
	return s.setDevice(ctx, v.ID, d.ID, func(d *Device) {
		if d.State == "" {
			d.State = DeviceReserved
		}
	})
}

// connect tells the volume which host uses it, and remembers how that reaches it.
func (s *Service) connect(ctx context.Context, v *Server, d *Device) error {
	src, limits, err := s.Volumes.Connect(ctx, d.ID, v.Host, d.Name)
	if err != nil || v.Host == "" {
		return err
	}
	return s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.Source, d.Limits = src, limits })
}

// mapVolumes gets every volume of a new or returning server ready on its host.
func (s *Service) mapVolumes(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil || !slices.ContainsFunc(v.Devices, func(d Device) bool { return d.VolumeID != "" }) {
		return err
	}
	if err := s.update(ctx, v.ID, func(v *Server) error {
		if v.VMState == Building {
			v.doing(Mapping)
		}
		return nil
	}); err != nil {
		return err
	}
	for i := range v.Devices {
		d := &v.Devices[i]
		if d.VolumeID == "" {
			continue
		}
		if err := s.secure(ctx, v, d); err != nil {
			return err
		}
		if err := s.connect(ctx, v, d); err != nil {
			return err
		}
	}
	return s.update(ctx, v.ID, func(v *Server) error {
		if v.VMState == Building {
			v.doing(Spawning)
		}
		return nil
	})
}

// unmapVolumes releases every volume and begins the deletion of those that go with
// the server. A volume that cannot be deleted, such as one with snapshots, stays.
func (s *Service) unmapVolumes(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	for i := range v.Devices {
		d := &v.Devices[i]
		if d.VolumeID == "" || s.Volumes == nil {
			continue
		}
		if err := s.Volumes.Release(ctx, d.ID, nil); err != nil {
			return err
		}
		if d.DeleteToo {
			err := s.Volumes.DeleteVolume(ctx, d.VolumeID)
			if errs.Is(err, errs.Invalid) || errs.Is(err, errs.Conflict) {
				s.Log.Warn("a volume outlives its server", "server", v.ID, "volume", d.VolumeID, "err", err)
			} else if err != nil {
				return err
			}
		}
		if err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.State, d.Source, d.Limits = "", nil, nil }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) completeVolumes(ctx context.Context, j *job) error {
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	for _, d := range v.volumes() {
		if err := s.complete(ctx, v, &d); err != nil {
			return err
		}
	}
	return nil
}

// complete makes the volume the server's. The device is attached first: whoever reads
// that the volume is in use can ask for its detaching at once.
func (s *Service) complete(ctx context.Context, v *Server, d *Device) error {
	err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) {
		if d.State == DeviceReserved {
			d.State = DeviceAttached
		}
	})
	if err != nil {
		return err
	}
	return s.Volumes.Complete(ctx, d.ID)
}

// deviceArgs name the device that a saga is about.
type deviceArgs struct {
	Device string `json:"device"`
}

// deviceOf gives the saga's server and device; nil when it has no such device any more.
func (s *Service) deviceOf(j *job) (*Server, *Device, error) {
	var a deviceArgs
	if err := json.Unmarshal(j.Args, &a); err != nil {
		return nil, nil, fmt.Errorf("volume saga of %s: %w", j.Server, err)
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return nil, nil, err
	}
	for i := range v.Devices {
		if v.Devices[i].ID == a.Device {
			return v, &v.Devices[i], nil
		}
	}
	return v, nil, nil
}

var errNoDevice = errs.New(errs.Conflict, "the server has the device no more")

func (s *Service) withDevice(j *job, do func(*Server, *Device) error) error {
	v, d, err := s.deviceOf(j)
	if err != nil {
		return err
	}
	if d == nil {
		return errNoDevice
	}
	return do(v, d)
}

func (s *Service) attachReserve(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, d *Device) error { return s.secure(ctx, v, d) })
}

// attachWithdraw takes the device back out of the record.
func (s *Service) attachWithdraw(ctx context.Context, j *job) error {
	v, d, err := s.deviceOf(j)
	if err != nil || d == nil {
		return err
	}
	return s.dropDevice(ctx, v.ID, d.ID)
}

// dropDevice frees the device's volume and forgets the device at once: whoever reads
// that the volume is available can attach it to the server again.
func (s *Service) dropDevice(ctx context.Context, server, id string) error {
	return s.Volumes.Release(ctx, id, func(tx *store.Tx) error {
		_, err := s.servers.TxUpdate(tx, server, func(v *Server) error {
			v.Devices, v.Updated = slices.DeleteFunc(v.Devices, func(d Device) bool { return d.ID == id }), wire.Now()
			return nil
		})
		return err
	})
}

func (s *Service) attachConnect(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, d *Device) error { return s.connect(ctx, v, d) })
}

func (s *Service) attachOrder(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, _ *Device) error { return s.orderDisks(ctx, v, j) })
}

// orderDisks tells the node which disks the server has now. One that is on no host
// has none.
func (s *Service) orderDisks(ctx context.Context, v *Server, j *job) (err error) {
	if v.Host == "" {
		j.Gen = 0
		return nil
	}
	j.Gen, err = s.order(ctx, v.ID, func(v *Server, i *nodeapi.Instance) error {
		i.Disks = v.disks()
		return nil
	})
	return err
}

// attachUnorder takes the disk away again and gives the node its time to follow.
func (s *Service) attachUnorder(ctx context.Context, j *job) error {
	v, d, err := s.deviceOf(j)
	if err != nil || d == nil {
		return err
	}
	if err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.Source = nil }); err != nil {
		return err
	}
	return s.settleDisks(ctx, v, j)
}

// settleDisks orders the disks and waits, but takes no for an answer: an undo must end.
func (s *Service) settleDisks(ctx context.Context, v *Server, j *job) error {
	if err := s.orderDisks(ctx, v, j); err != nil {
		return err
	}
	if _, err := s.Nodes.Conn(v.Host); err != nil {
		return nil // the order stays for its return
	}
	if err := s.deviceAwait(ctx, j); err != nil {
		s.Log.Warn("a node did not take a server's disks back", "server", v.ID, "err", err)
	}
	return ctx.Err()
}

func (s *Service) deviceAwait(ctx context.Context, j *job) error {
	if j.Gen == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	_, err := s.Nodes.Reached(ctx, j.Server, j.Gen)
	return err
}

func (s *Service) attachComplete(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, d *Device) error { return s.complete(ctx, v, d) })
}

func (s *Service) detachBegin(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, d *Device) error { return s.Volumes.Detaching(ctx, ownerOf(v, d), d.ID) })
}

// detachKeep leaves the server with its volume.
func (s *Service) detachKeep(ctx context.Context, j *job) error {
	v, d, err := s.deviceOf(j)
	if err != nil || d == nil {
		return err
	}
	if err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.State = DeviceAttached }); err != nil {
		return err
	}
	if err := s.Volumes.Keep(ctx, d.ID); !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

func (s *Service) detachOrder(ctx context.Context, j *job) error {
	return s.withDevice(j, func(v *Server, d *Device) error {
		if err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.State = DeviceDetaching }); err != nil {
			return err
		}
		return s.orderDisks(ctx, v, j)
	})
}

func (s *Service) detachReorder(ctx context.Context, j *job) error {
	v, d, err := s.deviceOf(j)
	if err != nil || d == nil {
		return err
	}
	if err := s.setDevice(ctx, v.ID, d.ID, func(d *Device) { d.State = DeviceAttached }); err != nil {
		return err
	}
	return s.settleDisks(ctx, v, j)
}

func (s *Service) detachRelease(ctx context.Context, j *job) error {
	v, d, err := s.deviceOf(j)
	if err != nil || d == nil {
		return err
	}
	return s.dropDevice(ctx, v.ID, d.ID)
}
