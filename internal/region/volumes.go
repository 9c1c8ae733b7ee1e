package region

import (
	"context"
	"io"

	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/compute"
	"github.com/strata-cloud/strata/internal/image"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// imagesForVolume shows the volume service the image service.
type imagesForVolume struct{ *image.Service }

func (s imagesForVolume) Image(ctx context.Context, c *policy.Credentials, id string) (*volume.Image, error) {
	v, err := s.Service.Image(ctx, c, id)
	if err != nil {
		return nil, err
	}
	out := &volume.Image{ID: v.ID, Status: string(v.Status), Format: v.DiskFormat, Container: v.ContainerFormat, Checksum: v.Checksum,
		MinDisk: int(v.MinDisk), MinRAM: int(v.MinRAM), Properties: v.Properties}
	if v.Name != nil {
		out.Name = *v.Name
	}
	if v.Size != nil {
		out.Size = *v.Size
	}
	if v.VirtualSize != nil {
		out.Virtual = *v.VirtualSize
	}
	return out, nil
}

func (s imagesForVolume) Named(_ context.Context, c *policy.Credentials, name string) (string, error) {
	v, err := s.Find(c, name)
	if err != nil {
		return "", err
	}
	return v.ID, nil
}

func (s imagesForVolume) EnsureImage(ctx context.Context, n volume.NewImage) error {
	return s.EnsureRecord(ctx, image.Image{ID: n.ID, Name: &n.Name, DiskFormat: n.Format, ContainerFormat: n.Container, Visibility: n.Visibility,
		Owner: n.ProjectID, Protected: n.Protected, MinDisk: int64(n.MinDisk), Properties: n.Properties})
}

func (s imagesForVolume) Upload(ctx context.Context, id string, data io.Reader) error {
	return s.TakeIn(ctx, id, data)
}

// serversForVolume shows the volume service the servers; the compute service is built after it.
type serversForVolume struct{ *Region }

func (s serversForVolume) VolumeExtended(tx *store.Tx, server, request, project, user string) error {
	return s.Compute.VolumeExtended(tx, server, request, project, user)
}

// volumesForCompute shows compute the volume service.
type volumesForCompute struct{ *volume.Service }

var _ compute.Volumes = volumesForCompute{}

func (s volumesForCompute) Volume(_ context.Context, c *policy.Credentials, id string) (*compute.Volume, error) {
	v, err := s.FindVolume(c, id)
	if err != nil {
		return nil, err
	}
	return s.forCompute(v), nil
}

func (s volumesForCompute) forCompute(v *block.Volume) *compute.Volume {
	out := &compute.Volume{ID: v.ID, ProjectID: v.ProjectID, Status: string(v.Status), Zone: v.AZ, Type: s.Types.Name(v.TypeID), SizeGiB: v.SizeGiB,
		Bootable: v.Bootable, Multiattach: v.Multiattach, ReadOnly: v.ReadOnly != nil && *v.ReadOnly, Image: v.ImageMetadata}
	if v.Driver == local.Name { // others are near every node
		out.Node = v.Node
	}
	if v.Name != nil {
		out.Name = *v.Name
	}
	return out
}

func (s volumesForCompute) Snapshot(_ context.Context, c *policy.Credentials, id string) (*compute.VolumeSnapshot, error) {
	x, err := s.FindSnapshot(c, id)
	if err != nil {
		return nil, err
	}
	return &compute.VolumeSnapshot{ID: x.ID, VolumeID: x.VolumeID, ProjectID: x.ProjectID, Status: string(x.Status), SizeGiB: x.SizeGiB}, nil
}

func (s volumesForCompute) EnsureVolume(ctx context.Context, c *policy.Credentials, n compute.NewVolume) (*compute.Volume, error) {
	v, err := s.Service.EnsureVolume(ctx, c, volume.Wanted(n))
	if err != nil {
		return nil, err
	}
	return s.forCompute(v), nil
}

func (s volumesForCompute) EnsureSnapshot(ctx context.Context, c *policy.Credentials, n compute.NewSnapshot) error {
	return s.Service.EnsureSnapshot(ctx, c, n.ID, n.VolumeID, n.Name)
}

func (s volumesForCompute) Reserve(ctx context.Context, c *policy.Credentials, n compute.NewAttachment) error {
	if _, err := s.FindVolume(c, n.VolumeID); err != nil {
		return err
	}
	_, err := s.Attach().Reserve(ctx, attach.Claim{ID: n.ID, VolumeID: n.VolumeID, Server: n.Server, Mode: n.Mode, Compute: true})
	return err
}

func (s volumesForCompute) Connect(ctx context.Context, id, host, device string) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	a, err := s.Attach().Connect(ctx, id, host, device, "", map[string]any{"host": host})
	if err != nil {
		return nil, nil, err
	}
	return s.Attach().Source(ctx, a, host)
}

func (s volumesForCompute) Admit(ctx context.Context, id, host string) (*nodeapi.VolumeSource, error) {
	a, err := s.Attach().Admit(ctx, id, host)
	if err != nil {
		return nil, err
	}
	src, _, err := s.Attach().Source(ctx, a, host)
	return src, err
}

func (s volumesForCompute) Complete(ctx context.Context, id string) error {
	return s.Attach().Complete(ctx, id)
}

func (s volumesForCompute) Detaching(ctx context.Context, c *policy.Credentials, id string) error {
	return s.Attach().Detaching(ctx, id, true)
}

func (s volumesForCompute) Keep(ctx context.Context, id string) error {
	return s.Attach().Detaching(ctx, id, false)
}

func (s volumesForCompute) Release(ctx context.Context, id string, also func(*store.Tx) error) error {
	return s.Attach().Release(ctx, id, also)
}
