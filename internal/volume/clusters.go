package volume

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/snapshot"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Persistent is a volume that a cluster makes for its project; it chose the id.
type Persistent struct {
	ID, Name, Type   string
	Snapshot, Source string
	SizeGiB          int
	Metadata         map[string]string
}

// MakePersistent accepts a new volume in the caller's project.
func (s *Service) MakePersistent(ctx context.Context, c *policy.Credentials, p Persistent) error {
	_, err := s.order(ctx, c, &order{ID: p.ID, Name: wire.Trim(&p.Name), Type: p.Type, Snapshot: p.Snapshot, Source: p.Source, SizeGiB: p.SizeGiB, Metadata: p.Metadata, requestID: "req-" + p.ID})
	return err
}

// Extend begins to make a volume of the caller's project larger, in use or not.
func (s *Service) Extend(ctx context.Context, c *policy.Credentials, id string, size int) error {
	v, err := s.FindVolume(c, id)
	if err != nil {
		return err
	}
	expected := block.Available
	if v.Status == block.InUse {
		expected = v.Status
	}
	return s.extendTo(ctx, c, "req-"+uuid.NewString(), v, size, expected)
}

// AwaitRest waits until nothing is being done with a volume. NotFound: it has gone.
func (s *Service) AwaitRest(ctx context.Context, id string) error {
	return s.until(ctx, "volume/volume", "volume "+id, func() (bool, error) {
		v, err := s.Volumes.Get(id)
		if err != nil {
			return false, wire.NotFound("Volume", id)
		}
		return v.In(block.Available, block.InUse, block.Reserved, block.Attaching, block.Detaching, block.Errored, block.ErrorExtending, block.ErrorDeleting, block.ErrorRestoring, block.ErrorManaging), nil
	})
}

// AwaitSnapshotRest is AwaitRest for a snapshot.
func (s *Service) AwaitSnapshotRest(ctx context.Context, id string) error {
	return s.until(ctx, "volume/snapshot", "snapshot "+id, func() (bool, error) {
		x, err := s.Snapshots.Get(id)
		if err != nil {
			return false, wire.NotFound("Snapshot", id)
		}
		return x.Status == block.Available || x.Status == block.Errored || x.Status == block.ErrorDeleting, nil
	})
}

func (s *Service) until(ctx context.Context, kind, what string, is func() (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := s.DB.Notify(ctx, kind)
	for {
		if ok, err := is(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-changed:
		}
	}
}

// MakeSnapshot accepts a snapshot of a volume of the caller's project, in use or not.
func (s *Service) MakeSnapshot(ctx context.Context, c *policy.Credentials, id, volume, name string, metadata map[string]string) error {
	if _, err := s.FindVolume(c, volume); err != nil {
		return err
	}
	_, err := s.snapshots.Create(ctx, c, snapshot.Order{ID: id, VolumeID: volume, Name: &name, Metadata: metadata, InUse: true, Request: "req-" + id})
	return err
}

// RemoveSnapshot begins the removal of a snapshot of the caller's project.
func (s *Service) RemoveSnapshot(ctx context.Context, c *policy.Credentials, id string) error {
	if _, err := s.FindSnapshot(c, id); err != nil {
		return err
	}
	return s.snapshots.Remove(ctx, c, "req-"+id, id, false)
}

// clusterKey tells in an attachment's connector which cluster has the volume.
const clusterKey = "cluster"

// MountedFor is Mounted for a node of a cluster.
func (s *Service) MountedFor(ctx context.Context, cluster string, m Mount) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	return s.mounted(ctx, m, map[string]any{"host": m.Host, clusterKey: cluster})
}

// ClusterOf is the cluster whose an attachment is; "": none's.
func ClusterOf(a *block.Attachment) string {
	id, _ := a.Connector[clusterKey].(string)
	return id
}

// LetGo ends what a node of a cluster has of volumes; node "": all nodes.
func (s *Service) LetGo(ctx context.Context, project, cluster, node string) error {
	for _, a := range s.Attachments.By("project", project) {
		if ClusterOf(a) != cluster || node != "" && a.Host != node {
			continue
		}
		if err := s.attach.Release(ctx, a.ID, nil); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}
