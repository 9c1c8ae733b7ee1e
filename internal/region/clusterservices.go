package region

import (
	"context"
	"net/netip"

	"github.com/strata-cloud/strata/internal/cluster/services"
	"github.com/strata-cloud/strata/internal/loadbalancer"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// regionForServices makes load balancers and floating IPs of clusters' Services.
type regionForServices struct{ r *Region }

var _ services.Region = regionForServices{}

func (s regionForServices) Ensure(ctx context.Context, b *services.Balancer, guard func(tx *store.Tx) error) (*services.State, error) {
	m := loadbalancer.Managed{ID: b.ID, ProjectID: b.ProjectID, Owner: b.Cluster, Name: b.Name, Description: b.Description, NetworkID: b.NetworkID, Guard: guard}
	var err error
	if m.At, err = s.at(b); err != nil {
		return nil, err
	}
	for _, p := range b.Ports {
		pool := loadbalancer.ManagedPool{Algorithm: b.Algorithm, Sticky: b.Sticky, Transparent: b.Transparent}
		watched := 0
		if h := b.Monitor; h != nil {
			pool.Monitor, watched = &loadbalancer.ManagedMonitor{Path: h.Path, Delay: h.Delay, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall}, h.Port
		}
		for _, x := range b.Members {
			member := loadbalancer.ManagedMember{Name: x.Name, Address: x.Address.String(), Port: p.NodePort, MonitorPort: watched}
			if x.Watched.IsValid() {
				member.MonitorAddress = x.Watched.String()
			}
			pool.Members = append(pool.Members, member)
		}
		m.Listeners = append(m.Listeners, loadbalancer.ManagedListener{Name: p.Name, Protocol: p.Protocol, Port: p.Port, Limit: b.Limit, Allowed: b.Allowed, Pool: pool})
	}
	st, err := s.r.Balancers.EnsureManaged(ctx, m)
	if err != nil {
		return nil, err
	}
	out := &services.State{Port: st.PortID, Address: st.At[0], Serves: st.Serves}
	if b.IPv6 {
		out.Address6 = st.At[1]
	}
	return out, nil
}

// at are the subnets of a load balancer, IPv4 first, and its addresses where these are named.
func (s regionForServices) at(b *services.Balancer) ([]nodeapi.FixedIP, error) {
	at := []nodeapi.FixedIP{{SubnetID: b.SubnetID, Addr: b.Address}}
	if b.SubnetID == "" {
		sub, err := s.r.Network.SoleSubnet(b.NetworkID)
		if err != nil {
			return nil, err
		}
		at[0].SubnetID = sub
	}
	if !b.IPv6 {
		return at, nil
	}
	sub := b.SubnetID6
	if sub == "" {
		six, err := s.r.Network.ClusterSubnet6(b.NetworkID)
		if err != nil {
			return nil, err
		}
		sub = six.ID
	}
	return append(at, nodeapi.FixedIP{SubnetID: sub, Addr: b.Address6}), nil
}

func (s regionForServices) Expose(ctx context.Context, port string, f *services.Floating) (netip.Addr, error) {
	e := network.Exposed{ID: f.ID, Owner: f.Cluster, Port: port, Description: f.Description, Network: f.Network, Address: f.Address}
	if f.Keep {
		e.Owner = ""
	}
	return s.r.Network.Expose(ctx, e)
}

func (s regionForServices) DropBalancers(ctx context.Context, cluster string, keep []string) error {
	return s.r.Balancers.RemoveManaged(ctx, cluster, keep...)
}

func (s regionForServices) DropFloating(ctx context.Context, cluster string, keep []string) error {
	return s.r.Network.Conceal(ctx, cluster, keep...)
}
