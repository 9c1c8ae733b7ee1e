package volumes

import (
	"context"
	"maps"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/strata-cloud/strata/internal/errs"
)

func compare(a, b string) int { return strings.Compare(a, b) }

func isID(s string) bool { return uuid.Validate(s) == nil }

// CreateSnapshot implements csi.ControllerServer.
func (c *controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.Name == "" || r.SourceVolumeId == "" {
		return nil, errs.Invalidf("A snapshot has a name, and is of a volume.")
	}
	want := &Snapshot{ID: c.id("snapshot", r.Name), Name: r.Name[:min(len(r.Name), 255)], Volume: r.SourceVolumeId, Metadata: map[string]string{ClusterKey: c.Cluster}}
	for k, v := range maps.All(r.Parameters) {
		if !strings.HasPrefix(k, metadataPrefix) {
			return nil, errs.Invalidf("The parameter %s of a snapshot class is not known.", k)
		}
		want.Metadata[k] = v[:min(len(v), 255)]
	}
	have, err := c.storage.Snapshot(c.Scope, want.ID)
	switch {
	case errs.Is(err, errs.NotFound):
		if _, err := c.storage.Volume(c.Scope, want.Volume); err != nil {
			return nil, err
		}
		if err := c.storage.MakeSnapshot(ctx, c.Scope, want); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case have.Volume != want.Volume:
		return nil, status.Errorf(codes.AlreadyExists, "There is a snapshot %s already, of volume %s.", r.Name, have.Volume)
	}
	if err := c.storage.AwaitSnapshot(ctx, c.Scope, want.ID); err != nil && !errs.Is(err, errs.Internal) {
		return nil, err
	}
	if have, err = c.storage.Snapshot(c.Scope, want.ID); err != nil {
		return nil, status.Errorf(codes.Aborted, "The snapshot has been removed while it was made.")
	}
	if have.State == Failed {
		if err := c.storage.RemoveSnapshot(ctx, c.Scope, have.ID); err != nil {
			return nil, err
		}
		return nil, status.Errorf(codes.Internal, "Snapshot %s could not be made, and is removed.", have.Name)
	}
	return &csi.CreateSnapshotResponse{Snapshot: have.message()}, nil
}

func (x *Snapshot) message() *csi.Snapshot {
	return &csi.Snapshot{SnapshotId: x.ID, SourceVolumeId: x.Volume, SizeBytes: int64(x.SizeGiB) * gib, CreationTime: &timestamppb.Timestamp{Seconds: x.Created}, ReadyToUse: x.State == Ready}
}

// DeleteSnapshot implements csi.ControllerServer.
func (c *controller) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.SnapshotId == "" {
		return nil, errs.Invalidf("Which snapshot?")
	}
	x, err := c.storage.Snapshot(c.Scope, r.SnapshotId)
	if errs.Is(err, errs.NotFound) {
		return &csi.DeleteSnapshotResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	if x.State != Going {
		if err := c.storage.RemoveSnapshot(ctx, c.Scope, x.ID); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if err := c.storage.AwaitSnapshot(ctx, c.Scope, x.ID); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// ListSnapshots implements csi.ControllerServer.
func (c *controller) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	var list []Snapshot
	for _, x := range c.storage.Snapshots(c.Scope) {
		if (r.SnapshotId == "" || x.ID == r.SnapshotId) && (r.SourceVolumeId == "" || x.Volume == r.SourceVolumeId) && x.State != Going {
			list = append(list, x)
		}
	}
	list, next, err := page(list, r.MaxEntries, r.StartingToken, func(x Snapshot) string { return x.ID })
	if err != nil {
		return nil, err
	}
	out := &csi.ListSnapshotsResponse{NextToken: next}
	for i := range list {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: list[i].message()})
	}
	return out, nil
}
