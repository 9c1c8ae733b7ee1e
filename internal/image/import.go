package image

import (
	"context"
	"fmt"
	"maps"
	"os"

	"github.com/google/uuid"
)

// ImportOptions describe a local file that becomes an image.
type ImportOptions struct {
	Name            string
	Path            string
	Owner           string // project
	Visibility      string // default private
	DiskFormat      string // default: what the content is
	ContainerFormat string // default bare
	MinDisk         int64  // GiB
	MinRAM          int64  // MiB
	Properties      map[string]string
}

// Import makes an active image of a local file. It is idempotent: when the owner
// has an active image of the same name and content, that is returned instead.
func (s *Service) Import(ctx context.Context, o ImportOptions) (*Image, error) {
	f, err := os.Open(o.Path)
	if err != nil {
		return nil, fmt.Errorf("importing image %s: %w", o.Name, err)
	}
	defer f.Close()
	blob, res, release, err := s.ingest(f, s.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("importing image %s: %w", o.Name, refusal(err))
	}
	defer release()
	for _, v := range s.Named(o.Owner, o.Name) {
		if v.Hash == res.SHA512 {
			s.discard(blob)
			return v, nil
		}
	}
	v := o.record(res)
	v.Blob = blob
	if err = res.fits(v); err == nil {
		err = s.images.Create(ctx, v)
	}
	if err != nil {
		s.discard(blob)
		return nil, fmt.Errorf("importing image %s: %w", o.Name, err)
	}
	return v, nil
}

func (o ImportOptions) record(res Result) *Image {
	v := &Image{ID: uuid.NewString(), Name: &o.Name, Status: Active, Visibility: o.Visibility, Owner: o.Owner, DiskFormat: o.DiskFormat,
		ContainerFormat: o.ContainerFormat, MinDisk: o.MinDisk, MinRAM: o.MinRAM, Properties: maps.Clone(o.Properties),
		Size: &res.Size, Checksum: res.MD5, Hash: res.SHA512, Created: now()}
	v.Updated = v.Created
	if v.Visibility == "" {
		v.Visibility = Private
	}
	if v.DiskFormat == "" {
		v.DiskFormat = res.Format
	}
	if v.ContainerFormat == "" {
		v.ContainerFormat = "bare"
	}
	v.VirtualSize = res.virtualSize(v)
	return v
}
