package volumes

import (
	"context"
	"slices"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/csi/driver"
)

// AttachmentID names the attachment of a volume on a node of a cluster.
func AttachmentID(cluster, volume, node string) string {
	return (&Scope{Cluster: cluster}).id("attachment", volume, node)
}

// ControllerPublishVolume implements csi.ControllerServer.
func (c *controller) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if r.VolumeId == "" || r.NodeId == "" || r.VolumeCapability == nil {
		return nil, errs.Invalidf("Which volume, on which node, and for what?")
	}
	if err := driver.Check(r.VolumeCapability); err != nil {
		return nil, err
	}
	v, err := c.storage.Volume(c.Scope, r.VolumeId)
	if err != nil {
		return nil, err
	}
	server, err := c.Server(r.NodeId)
	if err != nil {
		return nil, err
	}
	readOnly := server == "" && (r.Readonly || r.VolumeCapability.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
	a := Attachment{ID: AttachmentID(c.Cluster, v.ID, r.NodeId), Volume: v.ID, Node: r.NodeId, Cluster: c.Cluster, Server: server, ReadOnly: readOnly}
	for _, other := range v.Attachments {
		if other.ID != a.ID {
			return nil, status.Errorf(codes.FailedPrecondition, "Volume %s is attached to %s, and to one node at a time.", v.Name, other.Node)
		}
		if other.ReadOnly != readOnly {
			return nil, status.Errorf(codes.AlreadyExists, "Volume %s is attached to node %s already, in another way (read-only: %v).", v.Name, other.Node, other.ReadOnly)
		}
	}
	if err := c.storage.Attach(ctx, c.Scope, a); err != nil {
		return nil, err
	}
	return &csi.ControllerPublishVolumeResponse{}, nil
}

// ControllerUnpublishVolume implements csi.ControllerServer.
func (c *controller) ControllerUnpublishVolume(ctx context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, errs.Invalidf("Which volume?")
	}
	v, err := c.storage.Volume(c.Scope, r.VolumeId)
	if errs.Is(err, errs.NotFound) {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	for _, a := range v.Attachments {
		if a.Cluster == c.Cluster && (r.NodeId == "" || a.Node == r.NodeId) {
			if err := c.storage.Detach(ctx, a.ID); err != nil {
				return nil, err
			}
		}
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// ListVolumes implements csi.ControllerServer.
func (c *controller) ListVolumes(_ context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	all, next, err := page(c.storage.Volumes(c.Scope), r.MaxEntries, r.StartingToken, func(v Volume) string { return v.ID })
	if err != nil {
		return nil, err
	}
	out := &csi.ListVolumesResponse{NextToken: next}
	for _, v := range all {
		e := &csi.ListVolumesResponse_Entry{Volume: &csi.Volume{VolumeId: v.ID, CapacityBytes: int64(v.SizeGiB) * gib}, Status: &csi.ListVolumesResponse_VolumeStatus{}}
		for _, a := range v.Attachments {
			if a.Cluster == c.Cluster {
				e.Status.PublishedNodeIds = append(e.Status.PublishedNodeIds, a.Node)
			}
		}
		out.Entries = append(out.Entries, e)
	}
	return out, nil
}

// page cuts a list, in the order of ids. A token is the last id of the page before.
func page[T any](all []T, most int32, token string, id func(T) string) (cut []T, next string, err error) {
	if most < 0 {
		return nil, "", errs.Invalidf("A page of %s entries?", strconv.Itoa(int(most)))
	}
	slices.SortFunc(all, func(a, b T) int { return compare(id(a), id(b)) })
	if token != "" {
		i := slices.IndexFunc(all, func(x T) bool { return id(x) > token })
		if !isID(token) {
			return nil, "", status.Errorf(codes.Aborted, "The token %q is none of ours.", token)
		}
		if i < 0 {
			return nil, "", nil
		}
		all = all[i:]
	}
	if most > 0 && len(all) > int(most) {
		all = all[:most]
		next = id(all[most-1])
	}
	return all, next, nil
}
