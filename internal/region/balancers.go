package region

import (
	"context"

	"github.com/strata-cloud/strata/internal/loadbalancer"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// networksForBalancers shows the load balancers the network service.
type networksForBalancers struct{ *network.Service }

var _ loadbalancer.Networks = networksForBalancers{}

func (s networksForBalancers) Subnet(c *policy.Credentials, id string) (*loadbalancer.Subnet, error) {
	sub, net, err := s.VisibleSubnet(c, id)
	if err != nil {
		return nil, err
	}
	return &loadbalancer.Subnet{ID: sub.ID, NetworkID: net, CIDR: sub.CIDR}, nil
}

func (s networksForBalancers) Network(c *policy.Credentials, id string) ([]loadbalancer.Subnet, error) {
	subs, err := s.VisibleSubnets(c, id)
	out := make([]loadbalancer.Subnet, len(subs))
	for i, x := range subs {
		out[i] = loadbalancer.Subnet{ID: x.ID, NetworkID: id, CIDR: x.CIDR}
	}
	return out, err
}

func (s networksForBalancers) Port(ctx context.Context, c *policy.Credentials, id string) (*loadbalancer.Port, error) {
	p, err := s.Service.Port(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return &loadbalancer.Port{ID: p.ID, NetworkID: p.NetworkID, DeviceID: p.DeviceID, FixedIPs: p.FixedIPs}, nil
}

func (s networksForBalancers) Group(c *policy.Credentials, id string) error {
	return s.UsableGroup(c, id)
}

func (s networksForBalancers) TakeVIP(ctx context.Context, v loadbalancer.VIPSpec, also func(tx *store.Tx, at []nodeapi.FixedIP) error) error {
	return s.Service.TakeVIP(ctx, network.VIPSpec(v), also)
}

// balancing are the nodes that load balancers can be on.
func (s hostsForNetwork) balancing() []loadbalancer.Host {
	var out []loadbalancer.Host
	for _, h := range s.Hosts() {
		out = append(out, loadbalancer.Host{ID: h.ID, Alive: h.Alive, Dead: h.Dead})
	}
	return out
}
