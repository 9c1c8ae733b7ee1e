package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// madeStates are those in which volumes of another service's servers come and go.
var madeStates = []VMState{Active, Paused, Stopped, Resized}

// AttachMade attaches a volume of the caller's project to a server, by an attachment's id
// that the caller chose, and waits for it. It may be repeated. Conflict: the server is busy,
// or it has failed.
func (s *Service) AttachMade(ctx context.Context, c *policy.Credentials, server, attachment, volume string) error {
	vol, err := s.Volumes.Volume(ctx, c, volume)
	if err != nil {
		return err
	}
	begun := false
	return s.awaitDevice(ctx, server, attachment, func(d *Device) (bool, error) {
		switch {
		case d != nil:
			return d.State == DeviceAttached, nil
		case begun:
			return false, errs.Conflictf("Volume %s could not be attached to server %s: its actions tell why.", volume, server)
		}
		if err := attachable(vol); err != nil {
			return false, err
		}
		begun = true
		return false, s.beginAttach(ctx, "req-"+uuid.NewString(), c, server, &Device{ID: attachment, VolumeID: volume, Owner: vol.ProjectID, Boot: -1}, madeStates)
	})
}

// DetachMade ends that, and waits until the server does not reach the volume any more. Absent
// is fine.
func (s *Service) DetachMade(ctx context.Context, server, attachment string) error {
	ctx = store.Freeing(ctx)
	begun := false
	err := s.awaitDevice(ctx, server, attachment, func(d *Device) (bool, error) {
		switch {
		case d == nil:
			return true, nil
		case d.State != DeviceAttached:
			return false, nil
		case begun:
			return false, errs.Conflictf("Server %s has not let go of volume %s.", server, d.VolumeID)
		}
		begun = true
		return false, s.beginDetach(ctx, "req-"+uuid.NewString(), &policy.Credentials{ProjectID: d.Owner}, server, d.VolumeID, madeStates)
	})
	if errs.Is(err, errs.NotFound) { // the server is gone, and its volumes are free
		return nil
	}
	return err
}

// awaitDevice looks at a device of a server, nil if there is none, at each change until it is
// as wanted.
func (s *Service) awaitDevice(ctx context.Context, server, id string, look func(*Device) (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	err := s.awaitServer(ctx, server, func(v *Server) (bool, error) {
		var d *Device
		if i := slices.IndexFunc(v.Devices, func(d Device) bool { return d.ID == id }); i >= 0 && v.DeletedAt == nil {
			d = &v.Devices[i]
		}
		return look(d)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("waiting for a volume of server %s: %w", server, err)
	}
	return err
}
