package loadbalancer

import (
	"context"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	cloudproviders "github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/providers"
)

func ok[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGophercloud does what Kubernetes' cloud provider does for a service, with its client.
func TestGophercloud(t *testing.T) {
	w, ctx := start(t), context.Background()
	cl := &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: "alice"}, Endpoint: w.url + "/load-balancer/", ResourceBase: w.url + "/load-balancer/v2.0/", Type: "load-balancer"}
	yes, weight := true, 5
	lb, err := loadbalancers.Create(ctx, cl, loadbalancers.CreateOpts{Name: "kube_service", VipSubnetID: w.subnet, Provider: "octavia", AdminStateUp: &yes, Tags: []string{"kube"}}).Extract()
	lb = ok(t, lb, err)
	if lb.Provider != "octavia" || lb.ProvisioningStatus != pendingCreate || lb.CreatedAt.IsZero() || lb.VipPortID == "" {
		t.Errorf("%+v", lb)
	}
	w.settle()
	l, err := listeners.Create(ctx, cl, listeners.CreateOpts{LoadbalancerID: lb.ID, Name: "l", Protocol: listeners.ProtocolTCP, ProtocolPort: 443, AllowedCIDRs: []string{"0.0.0.0/0"}}).Extract()
	l = ok(t, l, err)
	if l.ConnLimit != -1 || l.TimeoutClientData != 50000 || l.AllowedCIDRs[0] != "0.0.0.0/0" || l.Loadbalancers[0].ID != lb.ID {
		t.Errorf("%+v", l)
	}
	w.settle()
	p, err := pools.Create(ctx, cl, pools.CreateOpts{ListenerID: l.ID, Name: "p", Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin, Persistence: &pools.SessionPersistence{Type: "SOURCE_IP"}}).Extract()
	p = ok(t, p, err)
	if p.Persistence.Type != "SOURCE_IP" || p.Listeners[0].ID != l.ID {
		t.Errorf("%+v", p)
	}
	w.settle()
	name := "node"
	if err := pools.BatchUpdateMembers(ctx, cl, p.ID, []pools.BatchUpdateMemberOpts{{Address: "10.0.0.50", ProtocolPort: 31000, Name: &name, Weight: &weight, SubnetID: &w.subnet}}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.settle()
	hm, err := monitors.Create(ctx, cl, monitors.CreateOpts{PoolID: p.ID, Type: "HTTP", Delay: 5, Timeout: 3, MaxRetries: 2, URLPath: "/healthz", HTTPMethod: "GET", ExpectedCodes: "200"}).Extract()
	hm = ok(t, hm, err)
	if hm.URLPath != "/healthz" || hm.Pools[0].ID != p.ID {
		t.Errorf("%+v", hm)
	}
	w.settle()
	pages, err := pools.ListMembers(cl, p.ID, pools.ListMembersOpts{}).AllPages(ctx)
	members, err2 := pools.ExtractMembers(ok(t, pages, err))
	if len(ok(t, members, err2)) != 1 || members[0].Weight != 5 || members[0].SubnetID != w.subnet || members[0].ProvisioningStatus != active {
		t.Errorf("%+v", members)
	}
	found, err := listeners.List(cl, listeners.ListOpts{LoadbalancerID: lb.ID}).AllPages(ctx)
	ls, err2 := listeners.ExtractListeners(ok(t, found, err))
	if len(ok(t, ls, err2)) != 1 || ls[0].DefaultPoolID != p.ID {
		t.Errorf("%+v", ls)
	}
	tree, err := loadbalancers.GetStatuses(ctx, cl, lb.ID).Extract()
	if tree = ok(t, tree, err); tree.Loadbalancer.Listeners[0].Pools[0].Members[0].ID != members[0].ID {
		t.Errorf("%+v", tree)
	}
	all, err := cloudproviders.List(cl, cloudproviders.ListOpts{}).AllPages(ctx)
	list, err2 := cloudproviders.ExtractProviders(ok(t, all, err))
	if len(ok(t, list, err2)) != 3 {
		t.Errorf("%+v", list)
	}
	if err := loadbalancers.Delete(ctx, cl, lb.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := loadbalancers.Get(ctx, cl, lb.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("after the deletion: %v", err)
	}
}
