package region

import (
	"context"
	"net/netip"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// networksForCluster shows the service of clusters the network service.
type networksForCluster struct{ *network.Service }

var _ cluster.Networks = networksForCluster{}

func (s networksForCluster) Make(ctx context.Context, project, name string, cidr netip.Prefix, also func(tx *store.Tx, network, router string) error) error {
	return s.MakeNetwork(ctx, &policy.Credentials{ProjectID: project}, network.Wanted{Name: name, Subnets: []network.WantedSubnet{{CIDR: cidr}}}, also)
}

func (s networksForCluster) Drop(ctx context.Context, id, router string, also func(tx *store.Tx) error) error {
	return s.DropNetwork(ctx, id, router, also)
}

func (s networksForCluster) Subnet(c *policy.Credentials, net, subnet string) (*cluster.PodNetwork, error) {
	sub, err := s.ClusterSubnet(c, net, subnet)
	if err != nil {
		return nil, err
	}
	return &cluster.PodNetwork{ID: sub.NetworkID, SubnetID: sub.ID, CIDR: sub.CIDR}, nil
}

func (s networksForCluster) EnsurePort(ctx context.Context, p cluster.PortSpec) (*nodeapi.ContainerPort, error) {
	return s.EnsureClusterPort(ctx, network.ClusterPort(p))
}

func (s networksForCluster) DropPorts(ctx context.Context, id, node string, match func(id string, pod bool) bool) error {
	return s.DropClusterPorts(ctx, id, node, match)
}
