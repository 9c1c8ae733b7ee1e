package region

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/image"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume"
)

// imageProxy shows compute's older API the image service.
type imageProxy struct{ *image.Service }

func imageForProxy(v *image.Image, err error) (*proxy.Image, error) {
	if err != nil {
		return nil, err
	}
	out := &proxy.Image{ID: v.ID, Status: string(v.Status), MinDisk: int(v.MinDisk), MinRAM: int(v.MinRAM), Size: v.Size,
		Created: v.Created, Updated: v.Updated, Properties: v.Properties}
	if v.Name != nil {
		out.Name = *v.Name
	}
	return out, nil
}

func (s imageProxy) List(ctx context.Context, r *rest.Request) ([]proxy.Image, error) {
	list, err := s.Service.List(ctx, r)
	if err != nil {
		return nil, err
	}
	out := make([]proxy.Image, len(list))
	for i, v := range list {
		x, err := imageForProxy(v, nil)
		if err != nil {
			return nil, err
		}
		out[i] = *x
	}
	return out, nil
}

func (s imageProxy) Get(ctx context.Context, r *rest.Request, id string) (*proxy.Image, error) {
	return imageForProxy(s.Show(ctx, r, id))
}

func (s imageProxy) Delete(ctx context.Context, r *rest.Request, id string) error {
	return s.Drop(ctx, r, id)
}

func (s imageProxy) SetProperties(ctx context.Context, r *rest.Request, id string, edit func(map[string]string) error) (*proxy.Image, error) {
	return imageForProxy(s.Service.SetProperties(ctx, r, id, edit))
}

// addressProxy shows compute's older API the network service.
type addressProxy struct{ *network.Service }

func (s addressProxy) Networks(ctx context.Context, r *rest.Request) ([]proxy.Network, error) {
	list, err := s.ListNetworks(ctx, r)
	out := make([]proxy.Network, len(list))
	for i, n := range list {
		out[i] = proxy.Network(n)
	}
	return out, err
}

func (s addressProxy) Network(ctx context.Context, r *rest.Request, id string) (*proxy.Network, error) {
	n, err := s.GetNetwork(ctx, r, id)
	if err != nil {
		return nil, err
	}
	v := proxy.Network(*n)
	return &v, nil
}

func floatingForProxy(f *network.ServerFloatingIP, err error) (*proxy.FloatingIP, error) {
	if err != nil {
		return nil, err
	}
	v := proxy.FloatingIP(*f)
	return &v, nil
}

func (s addressProxy) FloatingIPs(ctx context.Context, r *rest.Request) ([]proxy.FloatingIP, error) {
	list, err := s.ListFloatingIPs(ctx, r)
	out := make([]proxy.FloatingIP, len(list))
	for i, f := range list {
		out[i] = proxy.FloatingIP(f)
	}
	return out, err
}

func (s addressProxy) FloatingIP(ctx context.Context, r *rest.Request, id string) (*proxy.FloatingIP, error) {
	return floatingForProxy(s.GetFloatingIP(ctx, r, id))
}

func (s addressProxy) FloatingIPNamed(ctx context.Context, r *rest.Request, address string) (*proxy.FloatingIP, error) {
	return floatingForProxy(s.Service.FloatingIPNamed(ctx, r, address))
}

func (s addressProxy) Allocate(ctx context.Context, r *rest.Request, network string) (*proxy.FloatingIP, error) {
	return floatingForProxy(s.AllocateFloatingIP(ctx, r, network))
}

func (s addressProxy) Release(ctx context.Context, r *rest.Request, id string) error {
	return s.ReleaseFloatingIP(ctx, r, id)
}

func (s addressProxy) Map(ctx context.Context, r *rest.Request, id, port, fixed string) error {
	return s.MapFloatingIP(ctx, r, id, port, fixed)
}

// volumeProxy shows compute's older API the volume service.
type volumeProxy struct{ *volume.Service }

func volumeForProxy(v *volume.ServerVolume, err error) (*proxy.Volume, error) {
	if err != nil {
		return nil, err
	}
	x := proxy.Volume(*v)
	return &x, nil
}

func snapshotForProxy(v *volume.ServerSnapshot, err error) (*proxy.Snapshot, error) {
	if err != nil {
		return nil, err
	}
	x := proxy.Snapshot(*v)
	return &x, nil
}

func (s volumeProxy) Volumes(ctx context.Context, r *rest.Request) ([]proxy.Volume, error) {
	list, err := s.ListServerVolumes(ctx, r)
	out := make([]proxy.Volume, len(list))
	for i, v := range list {
		out[i] = proxy.Volume(v)
	}
	return out, err
}

func (s volumeProxy) Volume(ctx context.Context, r *rest.Request, id string) (*proxy.Volume, error) {
	return volumeForProxy(s.GetServerVolume(ctx, r, id))
}

func (s volumeProxy) CreateVolume(ctx context.Context, r *rest.Request, n proxy.Volume) (*proxy.Volume, error) {
	return volumeForProxy(s.CreateServerVolume(ctx, r, volume.ServerVolume(n)))
}

func (s volumeProxy) DeleteVolume(ctx context.Context, r *rest.Request, id string) error {
	return s.DeleteServerVolume(ctx, r, id)
}

func (s volumeProxy) Snapshots(ctx context.Context, r *rest.Request) ([]proxy.Snapshot, error) {
	list, err := s.ListServerSnapshots(ctx, r)
	out := make([]proxy.Snapshot, len(list))
	for i, v := range list {
		out[i] = proxy.Snapshot(v)
	}
	return out, err
}

func (s volumeProxy) Snapshot(ctx context.Context, r *rest.Request, id string) (*proxy.Snapshot, error) {
	return snapshotForProxy(s.GetServerSnapshot(ctx, r, id))
}

func (s volumeProxy) CreateSnapshot(ctx context.Context, r *rest.Request, n proxy.Snapshot, inUse bool) (*proxy.Snapshot, error) {
	return snapshotForProxy(s.CreateServerSnapshot(ctx, r, volume.ServerSnapshot(n), inUse))
}

func (s volumeProxy) DeleteSnapshot(ctx context.Context, r *rest.Request, id string) error {
	return s.DeleteServerSnapshot(ctx, r, id)
}
