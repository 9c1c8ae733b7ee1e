package volumes

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/csi/driver"
)

const gib = 1 << 30

// metadataPrefix begins what a volume is told of its claim (cinder-csi's metadata), typeKey
// is the only parameter that a storage class may have, ClusterKey the mark of whose it is.
const (
	metadataPrefix = "csi.storage.k8s.io/"
	typeKey        = "type"
	ClusterKey     = driver.Name + "/cluster"
)

// CreateVolume implements csi.ControllerServer.
func (c *controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	want, err := c.wanted(r)
	if err != nil {
		return nil, err
	}
	if err := c.source(r.VolumeContentSource, want); err != nil {
		return nil, err
	}
	if want.SizeGiB, err = size(r.CapacityRange, want.SizeGiB); err != nil {
		return nil, err
	}
	have, err := c.storage.Volume(c.Scope, want.ID)
	if errs.Is(err, errs.NotFound) {
		if err := c.storage.Make(ctx, c.Scope, want); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	} else if have.State != Going && !have.fits(want, r.CapacityRange) {
		return nil, status.Errorf(codes.AlreadyExists, "There is a volume for %s already, of %d GiB and from %q: it is another one than was asked for.", r.Name, have.SizeGiB, have.Snapshot+have.Source)
	}
	if have, err = c.made(ctx, want.ID); err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: have.ID, CapacityBytes: int64(have.SizeGiB) * gib, ContentSource: r.VolumeContentSource}}, nil
}

// wanted is the volume that is asked for, but for its size.
func (c *controller) wanted(r *csi.CreateVolumeRequest) (*Volume, error) {
	if r.Name == "" || len(r.VolumeCapabilities) == 0 {
		return nil, errs.Invalidf("A new volume has a name and is for a use.")
	}
	for _, u := range r.VolumeCapabilities {
		if err := driver.Check(u); err != nil {
			return nil, err
		}
	}
	v := &Volume{ID: c.id("volume", r.Name), Name: r.Name[:min(len(r.Name), 255)], Metadata: map[string]string{ClusterKey: c.Cluster}}
	for _, k := range slices.Sorted(maps.Keys(r.Parameters)) {
		switch value := r.Parameters[k]; {
		case k == typeKey:
			v.Type = value
		case strings.HasPrefix(k, metadataPrefix):
			v.Metadata[k] = value[:min(len(value), 255)]
		default:
			return nil, errs.Invalidf("The parameter %s of a storage class is not known: there is %q, a type of volumes.", k, typeKey)
		}
	}
	return v, nil
}

// source looks at what a volume is to be made from, which says how large it is at least.
func (c *controller) source(from *csi.VolumeContentSource, v *Volume) error {
	switch {
	case from.GetSnapshot() != nil:
		x, err := c.storage.Snapshot(c.Scope, from.GetSnapshot().SnapshotId)
		if err != nil {
			return err
		}
		v.Snapshot, v.SizeGiB = x.ID, x.SizeGiB
	case from.GetVolume() != nil:
		x, err := c.storage.Volume(c.Scope, from.GetVolume().VolumeId)
		if err != nil {
			return err
		}
		v.Source, v.SizeGiB = x.ID, x.SizeGiB
	}
	return nil
}

// size is what is asked for in GiB, rounded up. The least is one, or the source's.
func size(r *csi.CapacityRange, least int) (int, error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	if required < 0 || limit < 0 {
		return 0, errs.Invalidf("A size is not negative.")
	}
	n := max((required+gib-1)/gib, 1)
	switch {
	case required > 0 && n < int64(least):
		return 0, status.Errorf(codes.OutOfRange, "The volume is to have %d GiB, and what it is made from has %d GiB: it cannot be smaller.", n, least)
	case limit > 0 && max(n, int64(least))*gib > limit:
		return 0, status.Errorf(codes.OutOfRange, "No volume has between %d and %d bytes, and fits: sizes are whole GiB.", required, limit)
	}
	return int(max(n, int64(least))), nil
}

// fits tells whether a volume that is there is the one that is asked for.
func (v *Volume) fits(want *Volume, r *csi.CapacityRange) bool {
	limit := r.GetLimitBytes()
	return int64(v.SizeGiB)*gib >= r.GetRequiredBytes() && (limit == 0 || int64(v.SizeGiB)*gib <= limit) && v.Snapshot == want.Snapshot && v.Source == want.Source
}

// made waits for a volume. One that failed is removed, so that the next attempt may do better.
func (c *controller) made(ctx context.Context, id string) (*Volume, error) {
	if err := c.storage.Await(ctx, c.Scope, id); err != nil && !errs.Is(err, errs.Internal) {
		return nil, err
	}
	v, err := c.storage.Volume(c.Scope, id)
	if err != nil {
		return nil, status.Errorf(codes.Aborted, "The volume has been removed while it was made.")
	}
	switch v.State {
	case Ready:
		return v, nil
	case Failed:
		if err := c.storage.Remove(ctx, c.Scope, id); err != nil {
			return nil, err
		}
		return nil, status.Errorf(codes.ResourceExhausted, "Volume %s could not be made: volume %s of the project failed, and is removed. Block storage has no room for it, or could not reach its node.", v.Name, v.ID)
	}
	return nil, status.Errorf(codes.Aborted, "Volume %s is being changed, or goes.", v.Name)
}

// DeleteVolume implements csi.ControllerServer.
func (c *controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, errs.Invalidf("Which volume?")
	}
	v, err := c.storage.Volume(c.Scope, r.VolumeId)
	switch {
	case errs.Is(err, errs.NotFound):
		return &csi.DeleteVolumeResponse{}, nil
	case err != nil:
		return nil, err
	case v.State == Going:
	case len(v.Attachments) > 0:
		return nil, status.Errorf(codes.FailedPrecondition, "Volume %s is attached.", v.Name)
	default:
		if err := c.storage.Remove(ctx, c.Scope, v.ID); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if err := c.storage.Await(ctx, c.Scope, v.ID); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ControllerExpandVolume implements csi.ControllerServer.
func (c *controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if r.VolumeId == "" || r.CapacityRange == nil {
		return nil, errs.Invalidf("Which volume, and how large?")
	}
	v, err := c.storage.Volume(c.Scope, r.VolumeId)
	if err != nil {
		return nil, err
	}
	n, err := size(r.CapacityRange, 0)
	if err != nil {
		return nil, err
	}
	if n > v.SizeGiB {
		if err := c.storage.Grow(ctx, c.Scope, v.ID, n); err != nil {
			return nil, err
		}
	}
	if err := c.storage.Await(ctx, c.Scope, v.ID); err != nil && !errs.Is(err, errs.Internal) {
		return nil, err
	}
	if v, err = c.storage.Volume(c.Scope, v.ID); err != nil {
		return nil, err
	}
	if v.State != Ready {
		return nil, status.Errorf(codes.Internal, "Volume %s did not become larger; block storage says why (openstack volume show %s).", v.Name, v.ID)
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: int64(v.SizeGiB) * gib, NodeExpansionRequired: true}, nil
}

// ValidateVolumeCapabilities implements csi.ControllerServer.
func (c *controller) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.VolumeId == "" || len(r.VolumeCapabilities) == 0 {
		return nil, errs.Invalidf("Which volume, and for what?")
	}
	if _, err := c.storage.Volume(c.Scope, r.VolumeId); err != nil {
		return nil, err
	}
	for _, u := range r.VolumeCapabilities {
		if err := driver.Check(u); err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeContext: r.VolumeContext, VolumeCapabilities: r.VolumeCapabilities, Parameters: r.Parameters}}, nil
}
