package volume

import (
	"context"
	"fmt"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/snapshot"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Wanted is a volume that another service wants for a user: it chose the id.
type Wanted struct {
	ID, Name, Image, Snapshot, Type, Zone string
	SizeGiB                               int
	Near                                  string // node to be kept on, if it has room
}

// EnsureVolume accepts a new volume in the caller's project. One that is there is left as it is.
func (s *Service) EnsureVolume(ctx context.Context, c *policy.Credentials, w Wanted) (*block.Volume, error) {
	if v, err := s.Volumes.Get(w.ID); err == nil {
		return v, nil
	}
	v, err := s.order(ctx, c, &order{ID: w.ID, Name: &w.Name, Image: w.Image, Snapshot: w.Snapshot, Type: w.Type, Zone: w.Zone, SizeGiB: w.SizeGiB, Near: w.Near, requestID: "req-" + w.ID})
	if errs.Is(err, errs.Conflict) { // another run of the caller was faster
		return s.FindVolume(c, w.ID)
	}
	return v, err
}

// AwaitVolume waits until a new volume is ready and fails when it is in error.
func (s *Service) AwaitVolume(ctx context.Context, id string) error {
	return s.await(ctx, "volume/volume", "volume "+id, func() (block.Status, error) {
		v, err := s.Volumes.Get(id)
		if err != nil {
			return "", wire.NotFound("Volume", id)
		}
		return v.Status, nil
	})
}

// AwaitSnapshot is AwaitVolume for a snapshot.
func (s *Service) AwaitSnapshot(ctx context.Context, id string) error {
	return s.await(ctx, "volume/snapshot", "snapshot "+id, func() (block.Status, error) {
		x, err := s.Snapshots.Get(id)
		if err != nil {
			return "", wire.NotFound("Snapshot", id)
		}
		return x.Status, nil
	})
}

func (s *Service) await(ctx context.Context, kind, what string, status func() (block.Status, error)) error {
	changed := s.DB.Notify(ctx, kind)
	for {
		switch st, err := status(); {
		case err != nil:
			return err
		case st == block.Errored || st == block.Deleting || st == block.ErrorDeleting:
			return errs.New(errs.Internal, "%s did not become ready: it is %s", what, st)
		case st != block.Creating && st != block.Downloading:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-changed:
		}
	}
}

// DeleteVolume begins the removal of a volume that nobody uses. Absent is fine.
func (s *Service) DeleteVolume(ctx context.Context, id string) error {
	v, err := s.Volumes.Get(id)
	if err != nil {
		return nil
	}
	if v.Status == block.Deleting {
		return nil
	}
	return s.remove(ctx, "req-"+id, &policy.Credentials{ProjectID: v.ProjectID, UserID: v.UserID}, id, false, v.Status == block.Creating)
}

// EnsureSnapshot accepts a snapshot, of a volume in use too.
func (s *Service) EnsureSnapshot(ctx context.Context, c *policy.Credentials, id, volume, name string) error {
	if _, err := s.FindVolume(c, volume); err != nil {
		return err
	}
	_, err := s.snapshots.Create(ctx, c, snapshot.Order{ID: id, VolumeID: volume, Name: &name, InUse: true, Request: "req-" + id})
	return err
}

// Attach is the rules of attaching, for the compute service.
func (s *Service) Attach() *attach.Service { return s.attach }
