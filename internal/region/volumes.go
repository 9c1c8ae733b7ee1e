package region

import (
	"context"
	"io"

	"github.com/strata-cloud/strata/internal/image"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/volume"
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
