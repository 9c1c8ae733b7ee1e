package region

import (
	"context"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/cluster/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/volume"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// volumesForCluster shows the service of clusters the volume service.
type volumesForCluster struct {
	*volume.Service
	r *Region
}

var _ cluster.Volumes = volumesForCluster{}

// as is the cluster's user.
func as(s *volumes.Scope) *policy.Credentials {
	return &policy.Credentials{ProjectID: s.Project, UserID: s.User}
}

func (v volumesForCluster) Volume(s *volumes.Scope, id string) (*volumes.Volume, error) {
	x, err := v.FindVolume(as(s), id)
	if err != nil {
		return nil, err
	}
	out := v.view(x)
	return &out, nil
}

func (v volumesForCluster) view(x *block.Volume) volumes.Volume {
	out := volumes.Volume{ID: x.ID, Type: v.Types.Name(x.TypeID), SizeGiB: x.SizeGiB, Snapshot: x.SnapshotID, Source: x.SourceID, Metadata: x.Metadata, State: stateOf(x.Status)}
	if x.Name != nil {
		out.Name = *x.Name
	}
	for _, a := range v.Attachments.By("volume", x.ID) {
		y := volumes.Attachment{ID: a.ID, Volume: x.ID, Node: a.Host, Cluster: volume.ClusterOf(a), Server: a.Server, ReadOnly: a.Mode == "ro"}
		if a.Server != "" {
			node, cluster := v.r.Cluster.NodeOfServer(a.Server)
			if y.Node = "server " + a.Server; volumes.AttachmentID(cluster, x.ID, node) == a.ID { // not by its owner's hand
				y.Node, y.Cluster = node, cluster
			}
		}
		out.Attachments = append(out.Attachments, y)
	}
	return out
}

func stateOf(s block.Status) volumes.State {
	switch s {
	case block.Available, block.InUse, block.Reserved, block.Attaching, block.Detaching:
		return volumes.Ready
	case block.Errored, block.ErrorExtending, block.ErrorRestoring, block.ErrorManaging, block.ErrorDeleting:
		return volumes.Failed
	case block.Deleting:
		return volumes.Going
	}
	return volumes.Busy
}

func (v volumesForCluster) Volumes(s *volumes.Scope) (out []volumes.Volume) {
	for _, x := range v.Service.Volumes.By("project", s.Project) {
		if x.Status != block.Deleting {
			out = append(out, v.view(x))
		}
	}
	return out
}

func (v volumesForCluster) Make(ctx context.Context, s *volumes.Scope, x *volumes.Volume) error {
	return v.MakePersistent(ctx, as(s), volume.Persistent{ID: x.ID, Name: x.Name, Type: x.Type, Snapshot: x.Snapshot, Source: x.Source, SizeGiB: x.SizeGiB, Metadata: x.Metadata})
}

func (v volumesForCluster) Await(ctx context.Context, _ *volumes.Scope, id string) error {
	return v.AwaitRest(ctx, id)
}

func (v volumesForCluster) Remove(ctx context.Context, s *volumes.Scope, id string) error {
	return v.Service.Remove(ctx, as(s), id)
}

func (v volumesForCluster) Grow(ctx context.Context, s *volumes.Scope, id string, gib int) error {
	return v.Extend(ctx, as(s), id, gib)
}

func (v volumesForCluster) Attach(ctx context.Context, s *volumes.Scope, a volumes.Attachment) error {
	if a.Server != "" {
		return v.r.Compute.AttachMade(ctx, as(s), a.Server, a.ID, a.Volume)
	}
	_, _, err := v.MountedFor(ctx, s.Cluster, volume.Mount{ID: a.ID, VolumeID: a.Volume, Host: a.Node, ReadOnly: a.ReadOnly})
	return err
}

func (v volumesForCluster) Detach(ctx context.Context, id string) error {
	if a, err := v.Attachments.Get(id); err == nil && a.Server != "" {
		return v.r.Compute.DetachMade(ctx, a.Server, id)
	}
	return v.Service.Attach().Release(ctx, id, nil)
}

func (v volumesForCluster) Reach(ctx context.Context, s *volumes.Scope, attachment string) (*nodeapi.ContainerVolume, error) {
	a, err := v.Attachments.Get(attachment)
	if err != nil || volume.ClusterOf(a) != s.Cluster {
		return nil, errs.NotFoundf("the volume is not attached to the node")
	}
	src, limits, err := v.Service.Attach().Source(ctx, a, a.Host)
	if err != nil {
		return nil, err
	}
	out := &nodeapi.ContainerVolume{ID: a.VolumeID, Name: a.VolumeID, Remote: src.Remote, Limits: limits, ReadOnly: a.Mode == "ro"}
	if x, err := v.Service.Volumes.Get(a.VolumeID); err == nil && x.Name != nil {
		out.Name = *x.Name
	}
	return out, nil
}

func (v volumesForCluster) Snapshot(s *volumes.Scope, id string) (*volumes.Snapshot, error) {
	x, err := v.FindSnapshot(as(s), id)
	if err != nil {
		return nil, err
	}
	out := snapshotView(x)
	return &out, nil
}

func snapshotView(x *block.Snapshot) volumes.Snapshot {
	out := volumes.Snapshot{ID: x.ID, Volume: x.VolumeID, SizeGiB: x.SizeGiB, Created: x.Created.Unix(), Metadata: x.Metadata, State: stateOf(x.Status)}
	if x.Name != nil {
		out.Name = *x.Name
	}
	return out
}

func (v volumesForCluster) Snapshots(s *volumes.Scope) (out []volumes.Snapshot) {
	for _, x := range v.Service.Snapshots.By("project", s.Project) {
		out = append(out, snapshotView(x))
	}
	return out
}

func (v volumesForCluster) MakeSnapshot(ctx context.Context, s *volumes.Scope, x *volumes.Snapshot) error {
	return v.Service.MakeSnapshot(ctx, as(s), x.ID, x.Volume, x.Name, x.Metadata)
}

func (v volumesForCluster) AwaitSnapshot(ctx context.Context, _ *volumes.Scope, id string) error {
	return v.AwaitSnapshotRest(ctx, id)
}

func (v volumesForCluster) RemoveSnapshot(ctx context.Context, s *volumes.Scope, id string) error {
	return v.Service.RemoveSnapshot(ctx, as(s), id)
}
