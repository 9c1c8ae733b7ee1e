package region

import (
	"context"
	"io"
	"iter"

	"github.com/strata-cloud/strata/internal/compute"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/image"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/placement"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/registry"
)

// imagesForCompute shows compute the image service.
type imagesForCompute struct{ *image.Service }

func (s imagesForCompute) Image(ctx context.Context, c *policy.Credentials, id string) (*compute.Image, error) {
	v, err := s.Service.Image(ctx, c, id)
	if err != nil {
		return nil, err
	}
	out := &compute.Image{ID: v.ID, Status: string(v.Status), Format: v.DiskFormat, MinDisk: int(v.MinDisk), MinRAM: int(v.MinRAM), Properties: v.Properties}
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

func (s imagesForCompute) Begin(ctx context.Context, n compute.NewImage) error {
	format := "qcow2"
	if n.Format != "" {
		format = n.Format
	}
	return s.EnsureRecord(ctx, image.Image{ID: n.ID, Name: &n.Name, DiskFormat: format, ContainerFormat: "bare", Visibility: image.Private,
		Owner: n.ProjectID, MinDisk: int64(n.MinDisk), MinRAM: int64(n.MinRAM), Properties: n.Properties})
}

func (s imagesForCompute) Fill(ctx context.Context, id string, data io.Reader) error {
	return s.TakeIn(ctx, id, data)
}

func (s imagesForCompute) Backups(project, server, kind string) []string {
	return s.Made(project, map[string]string{"image_type": "backup", "backup_type": kind, "instance_uuid": server})
}

// placementForCompute shows compute the placement service.
type placementForCompute struct{ *placement.Service }

func need(r compute.Resources) placement.Need { return placement.Need(r) }

func (s placementForCompute) Candidates(ctx context.Context, r compute.Resources, soon map[string]int) (iter.Seq[string], error) {
	return s.Service.Candidates(ctx, need(r), soon)
}

func (s placementForCompute) Claim(ctx context.Context, consumer, host, projectID, userID string, r compute.Resources) error {
	return s.Service.Claim(ctx, consumer, host, projectID, userID, need(r))
}

func (s placementForCompute) ClaimAll(ctx context.Context, projectID, userID string, list ...compute.Holding) error {
	all := make([]placement.Holding, len(list))
	for i, h := range list {
		all[i] = placement.Holding{Consumer: h.Consumer, Node: h.Host, Need: need(h.Need)}
	}
	return s.Service.ClaimAll(ctx, projectID, userID, all...)
}

// networksForCompute shows compute the network service.
type networksForCompute struct{ *network.Service }

func (s networksForCompute) Port(ctx context.Context, c *policy.Credentials, id string) (*compute.Port, error) {
	p, err := s.Service.Port(ctx, c, id)
	return portForCompute(p), err
}

func (s networksForCompute) EnsurePort(ctx context.Context, p compute.PortSpec) (*compute.Port, error) {
	v, err := s.Service.EnsurePort(ctx, network.PortSpec(p))
	return portForCompute(v), err
}

func (s networksForCompute) Ports(server string) []compute.Port {
	list := s.Service.Ports(server)
	out := make([]compute.Port, len(list))
	for i := range list {
		out[i] = compute.Port(list[i])
	}
	return out
}

func portForCompute(p *network.ServerPort) *compute.Port {
	if p == nil {
		return nil
	}
	v := compute.Port(*p)
	return &v
}

// hostsForNetwork shows the network service the pool.
type hostsForNetwork struct{ *nodes.Registry }

func (s hostsForNetwork) Hosts() []network.Host {
	infos := s.Infos.All()
	out := make([]network.Host, len(infos))
	for i, n := range infos {
		_, err := s.Conn(n.ID)
		out[i] = network.Host{ID: n.ID, Name: n.Host, Zone: "nova", Alive: err == nil, Dead: err != nil && s.Dead(n.ID), Tunnel: n.TunnelAddr, Physicals: n.Physicals, Started: n.BootedAt, Seen: n.SeenAt}
	}
	return out
}

// identityForRegistry shows the registry the identity service.
type identityForRegistry struct{ r *Region }

func (i identityForRegistry) SignIn(ctx context.Context, in registry.SignIn) (string, *policy.Credentials, error) {
	return i.r.Identity.SignIn(ctx, identity.SignIn(in))
}

func (i identityForRegistry) Authenticate(ctx context.Context, token string) (*policy.Credentials, error) {
	return i.r.Identity.Authenticate(ctx, token)
}

func (i identityForRegistry) Seal(purpose string, secret []byte) (string, error) {
	return i.r.Identity.Seal(purpose, secret)
}

func (i identityForRegistry) Open(purpose, text string) ([]byte, error) {
	return i.r.Identity.Open(purpose, text)
}

func (i identityForRegistry) HasProject(ctx context.Context, id string) bool {
	return i.r.hasProject(ctx, id)
}

func (i identityForRegistry) ProjectName(ctx context.Context, id string) (string, error) {
	p, err := i.r.Identity.ActiveProject(ctx, id)
	if err != nil {
		return "", err
	}
	return p.Name, nil
}
