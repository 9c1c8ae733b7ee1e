package region

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/docker"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/placement"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/registry"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// identityForDocker shows Docker's gateway the identity service.
type identityForDocker struct{ *identity.Service }

func (i identityForDocker) SignIn(ctx context.Context, id, secret string) (string, error) {
	token, _, err := i.Service.SignIn(ctx, identity.SignIn{AppCredential: id, Secret: secret})
	return token, err
}

func (i identityForDocker) HasProject(ctx context.Context, id string) bool {
	_, err := i.Project(ctx, id)
	return err == nil
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
	if err := n.Alias(ctx, p.ID, p.Aliases); err != nil {
		return nil, err
	}
	out := n.view(v)
	return &out, nil
}

func (n networksForDocker) view(v *network.ServerPort) docker.PortView {
	return docker.PortView{ID: v.ID, NetworkID: v.NetworkID, MAC: v.MAC, MTU: v.MTU, FixedIPs: v.FixedIPs, Subnets: v.Subnets, Floating: v.Floating, Domain: n.Domain(v.NetworkID)}
}

func (n networksForDocker) Make(ctx context.Context, c *policy.Credentials, w docker.NewNetwork, also func(tx *store.Tx, id, router string) error) error {
	want := network.Wanted{Name: w.Name, Inside: w.Inside}
	for _, sub := range w.Subnets {
		want.Subnets = append(want.Subnets, network.WantedSubnet{CIDR: sub.CIDR, Range: sub.Range, Gateway: sub.Gateway})
	}
	return n.MakeNetwork(ctx, c, want, also)
}

func (n networksForDocker) Drop(ctx context.Context, id, router string, also func(tx *store.Tx) error) error {
	return n.DropNetwork(ctx, id, router, also)
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

// volumesForDocker shows it the volume service.
type volumesForDocker struct{ *volume.Service }

func (v volumesForDocker) Of(project string) []docker.Volume {
	var out []docker.Volume
	for _, x := range v.Volumes.By("project", project) {
		if x.Status != block.Deleting { // it is gone, to who asked for that
			out = append(out, v.view(x))
		}
	}
	slices.SortFunc(out, func(a, b docker.Volume) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	return out
}

func (v volumesForDocker) view(x *block.Volume) docker.Volume {
	out := docker.Volume{ID: x.ID, ProjectID: x.ProjectID, Status: string(x.Status), Type: v.Types.Name(x.TypeID), Node: x.Node, SizeGiB: x.SizeGiB, Created: x.Created, Metadata: x.Metadata,
		Multiattach: x.Multiattach, ReadOnly: x.ReadOnly != nil && *x.ReadOnly}
	if x.Name != nil {
		out.Name = *x.Name
	}
	return out
}

func (v volumesForDocker) Get(id string) (docker.Volume, bool) {
	x, err := v.Volumes.Get(id)
	if err != nil {
		return docker.Volume{}, false
	}
	return v.view(x), true
}

func (v volumesForDocker) Make(ctx context.Context, c *policy.Credentials, x docker.Volume) error {
	_, err := v.Service.Make(ctx, c, volume.Named{ID: x.ID, Name: x.Name, Type: x.Type, SizeGiB: x.SizeGiB, Metadata: x.Metadata})
	return err
}

func (v volumesForDocker) Await(ctx context.Context, id string) error {
	return v.AwaitVolume(ctx, id)
}

func (v volumesForDocker) Attach(ctx context.Context, a docker.Attachment) (nodeapi.ContainerVolume, error) {
	src, limits, err := v.Mounted(ctx, volume.Mount(a))
	if err != nil {
		return nodeapi.ContainerVolume{}, err
	}
	return nodeapi.ContainerVolume{ID: a.VolumeID, Remote: src.Remote, Limits: limits, ReadOnly: a.ReadOnly}, nil
}

func (v volumesForDocker) Release(ctx context.Context, id string) error {
	return v.Service.Attach().Release(ctx, id, nil)
}

// placementForDocker shows it the placement service.
type placementForDocker struct{ *placement.Service }

func (p placementForDocker) Candidates(ctx context.Context, vcpus, memoryMiB int) (iter.Seq[string], error) {
	return p.Service.Candidates(ctx, placement.Need{VCPU: vcpus, MemoryMiB: memoryMiB}, nil)
}

func (p placementForDocker) Claim(ctx context.Context, consumer, node, projectID, userID string, vcpus, memoryMiB int) error {
	return p.Service.Claim(ctx, consumer, node, projectID, userID, placement.Need{VCPU: vcpus, MemoryMiB: memoryMiB})
}
