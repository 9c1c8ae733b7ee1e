package region

import (
	"context"
	"net/netip"

	"github.com/strata-cloud/strata/internal/cluster/services"
	"github.com/strata-cloud/strata/internal/loadbalancer"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/store"
)

// regionForServices makes load balancers and floating IPs of clusters' Services.
type regionForServices struct{ r *Region }

var _ services.Region = regionForServices{}

func (s regionForServices) Ensure(ctx context.Context, b *services.Balancer, guard func(tx *store.Tx) error) (*services.State, error) {
	m := loadbalancer.Managed{ID: b.ID, ProjectID: b.ProjectID, Owner: b.Cluster, Name: b.Name, Description: b.Description, NetworkID: b.NetworkID, SubnetID: b.SubnetID, Guard: guard}
	if b.Address.IsValid() {
		m.Address = b.Address.String()
	}
	if m.SubnetID == "" {
		sub, err := s.r.Network.SoleSubnet(b.NetworkID)
		if err != nil {
			return nil, err
		}
		m.SubnetID = sub
	}
	for _, p := range b.Ports {
		pool := loadbalancer.ManagedPool{Algorithm: b.Algorithm, Sticky: b.Sticky, Transparent: b.Transparent}
		watched := 0
		if h := b.Monitor; h != nil {
			pool.Monitor, watched = &loadbalancer.ManagedMonitor{Path: h.Path, Delay: h.Delay, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall}, h.Port
		}
		for _, x := range b.Members {
			pool.Members = append(pool.Members, loadbalancer.ManagedMember{Name: x.Name, Address: x.Address.String(), Port: p.NodePort, MonitorPort: watched})
		}
		m.Listeners = append(m.Listeners, loadbalancer.ManagedListener{Name: p.Name, Protocol: p.Protocol, Port: p.Port, Limit: b.Limit, Allowed: b.Allowed, Pool: pool})
	}
	st, err := s.r.Balancers.EnsureManaged(ctx, m)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddr(st.Address)
	return &services.State{Port: st.PortID, Address: at, Serves: st.Serves}, err
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
