package region

import (
	"context"
	"net/netip"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/loadbalancer"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// networksForCluster shows the service of clusters the network service.
type networksForCluster struct {
	*network.Service
	balancers *loadbalancer.Service
}

var _ cluster.Networks = networksForCluster{}

func (s networksForCluster) Make(ctx context.Context, project, name string, cidrs []netip.Prefix, out string, also func(tx *store.Tx, network, router string) error) error {
	w := network.Wanted{Name: name, Out: out}
	for _, cidr := range cidrs {
		w.Subnets = append(w.Subnets, network.WantedSubnet{CIDR: cidr, SLAAC: cidr.Addr().Is6()})
	}
	return s.MakeNetwork(ctx, &policy.Credentials{ProjectID: project}, w, also)
}

func (s networksForCluster) Drop(ctx context.Context, id, router string, also func(tx *store.Tx) error) error {
	return s.DropNetwork(ctx, id, router, also)
}

func (s networksForCluster) Subnet(c *policy.Credentials, net, subnet string) (*cluster.PodNetwork, error) {
	sub, err := s.ClusterSubnet(c, net, subnet)
	if err != nil {
		return nil, err
	}
	out := &cluster.PodNetwork{ID: sub.NetworkID, SubnetID: sub.ID, CIDR: sub.CIDR}
	if six, err := s.ClusterSubnet6(sub.NetworkID); err == nil {
		out.SubnetID6, out.CIDR6 = six.ID, six.CIDR
	}
	return out, nil
}

func (s networksForCluster) EnsurePort(ctx context.Context, p cluster.PortSpec) (*nodeapi.ContainerPort, error) {
	return s.EnsureClusterPort(ctx, network.ClusterPort(p))
}

func (s networksForCluster) DropPorts(ctx context.Context, id, node string, match func(id string, pod bool) bool) error {
	return s.DropClusterPorts(ctx, id, node, match)
}

func (s networksForCluster) Balancers(id string) []nodeapi.KubeBalancer {
	var out []nodeapi.KubeBalancer
	for _, v := range s.balancers.ManagedOf(id) {
		b := nodeapi.KubeBalancer{Addr: v.At[0], MAC: v.MAC, Floating: s.ExposedAt(v.PortID), Transparent: v.Transparent}
		if len(v.At) > 1 { // IPv4 comes first (regionForServices.at)
			b.Addr6 = v.At[1]
		}
		out = append(out, b)
	}
	return out
}

func (s networksForCluster) External(project, ref string) (string, error) {
	return s.ExternalNamed(project, ref)
}
