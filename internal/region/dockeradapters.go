package region

import (
	"context"
	"iter"
	"runtime"

	"github.com/strata-cloud/strata/internal/docker"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/placement"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/registry"
)

// identityForDocker shows Docker's gateway the identity service.
type identityForDocker struct{ *identity.Service }

func (i identityForDocker) SignIn(ctx context.Context, id, secret string) (string, error) {
	token, _, err := i.Service.SignIn(ctx, identity.SignIn{AppCredential: id, Secret: secret})
	return token, err
}

// imagesForDocker shows it the registry.
type imagesForDocker struct{ *registry.Service }

func (i imagesForDocker) Resolve(ctx context.Context, c *policy.Credentials, hosts []string, ref string) (*docker.Image, error) {
	v, err := i.Service.Resolve(ctx, c, hosts, ref)
	if err != nil {
		return nil, err
	}
	out := docker.Image(*v)
	return &out, nil
}

func (i imagesForDocker) Tagged(ctx context.Context, c *policy.Credentials) ([]*docker.Image, error) {
	list, err := i.Service.Tagged(ctx, c)
	out := make([]*docker.Image, len(list))
	for n, v := range list {
		x := docker.Image(*v)
		out[n] = &x
	}
	return out, err
}

func (i imagesForDocker) Info(v *docker.Image) (*docker.ImageInfo, error) {
	x := registry.Image(*v)
	config, size, err := i.Config(&x, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	return &docker.ImageInfo{Config: config.Config, Created: config.Created, Size: size}, nil
}

// networksForDocker shows it the network service.
type networksForDocker struct{ *network.Service }

func (n networksForDocker) Visible(ctx context.Context, c *policy.Credentials) []docker.Network {
	list := n.Service.Visible(ctx, c)
	out := make([]docker.Network, len(list))
	for i, v := range list {
		out[i] = docker.Network(v)
	}
	return out
}

func (n networksForDocker) Groups(ctx context.Context, projectID string, wanted []string) ([]string, error) {
	ids, _, err := n.Service.Groups(ctx, projectID, wanted)
	return ids, err
}

func (n networksForDocker) EnsurePort(ctx context.Context, p docker.PortSpec) (*docker.PortView, error) {
	v, err := n.Service.EnsurePort(ctx, network.PortSpec{ID: p.ID, NetworkID: p.NetworkID, ProjectID: p.ProjectID, FixedIP: p.FixedIP, Groups: p.Groups,
		Server: p.Device, Host: p.Node, Zone: p.Owner, Hostname: p.Name})
	if err != nil {
		return nil, err
	}
	out := n.view(v)
	return &out, nil
}

func (n networksForDocker) view(v *network.ServerPort) docker.PortView {
	return docker.PortView{ID: v.ID, NetworkID: v.NetworkID, MAC: v.MAC, MTU: v.MTU, FixedIPs: v.FixedIPs, Subnets: v.Subnets, Floating: v.Floating, Domain: n.Domain(v.NetworkID)}
}

func (n networksForDocker) ReleasePort(ctx context.Context, id string) error {
	return n.Service.ReleasePort(ctx, id, false)
}

func (n networksForDocker) Ports(device string) []docker.PortView {
	list := n.Service.Ports(device)
	out := make([]docker.PortView, len(list))
	for i := range list {
		out[i] = n.view(&list[i])
	}
	return out
}

// placementForDocker shows it the placement service.
type placementForDocker struct{ *placement.Service }

func (p placementForDocker) Candidates(ctx context.Context, vcpus, memoryMiB int) (iter.Seq[string], error) {
	return p.Service.Candidates(ctx, placement.Need{VCPU: vcpus, MemoryMiB: memoryMiB}, nil)
}

func (p placementForDocker) Claim(ctx context.Context, consumer, node, projectID, userID string, vcpus, memoryMiB int) error {
	return p.Service.Claim(ctx, consumer, node, projectID, userID, placement.Need{VCPU: vcpus, MemoryMiB: memoryMiB})
}
