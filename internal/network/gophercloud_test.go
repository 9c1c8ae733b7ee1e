package network

import (
	"context"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

func (w *world) client(token string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: token}, Endpoint: w.url + prefix + "/", Type: "network"}
}

func ok[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGophercloud builds a routed network with a client that others wrote, and takes it down.
func TestGophercloud(t *testing.T) {
	w, ctx := start(t), context.Background()
	cl, yes := w.client("alice"), true
	ext := w.net("admin", `"name":"public","router:external":true`)
	w.sub("admin", ext, "203.0.113.0/24", `,"enable_dhcp":false`)

	n, err := networks.Create(ctx, cl, networks.CreateOpts{Name: "n", AdminStateUp: &yes}).Extract()
	n = ok(t, n, err)
	s, err := subnets.Create(ctx, cl, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.0.0.0/24", IPVersion: 4, DNSNameservers: []string{"9.9.9.9"},
		AllocationPools: []subnets.AllocationPool{{Start: "10.0.0.10", End: "10.0.0.20"}}}).Extract()
	s = ok(t, s, err)
	if s.GatewayIP != "10.0.0.1" || !s.EnableDHCP || s.AllocationPools[0].End != "10.0.0.20" {
		t.Errorf("%+v", s)
	}
	g, err := groups.Create(ctx, cl, groups.CreateOpts{Name: "web"}).Extract()
	g = ok(t, g, err)
	rule, err := rules.Create(ctx, cl, rules.CreateOpts{SecGroupID: g.ID, Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 80, PortRangeMax: 81, RemoteIPPrefix: "10.0.0.7/8"}).Extract()
	if rule = ok(t, rule, err); rule.PortRangeMax != 81 || rule.RemoteIPPrefix != "10.0.0.7/8" {
		t.Errorf("%+v", rule)
	}
	sg := []string{g.ID}
	p, err := ports.Create(ctx, cl, ports.CreateOpts{NetworkID: n.ID, Name: "p", SecurityGroups: &sg, AllowedAddressPairs: []ports.AddressPair{{IPAddress: "10.0.0.99"}}}).Extract()
	p = ok(t, p, err)
	if len(p.FixedIPs) != 1 || p.AllowedAddressPairs[0].MACAddress != p.MACAddress || p.Status != "DOWN" {
		t.Errorf("%+v", p)
	}
	name := "q"
	p, err = ports.Update(ctx, cl, p.ID, ports.UpdateOpts{Name: &name, RevisionNumber: &p.RevisionNumber}).Extract()
	p = ok(t, p, err)
	old := p.RevisionNumber - 1
	if _, err := ports.Update(ctx, cl, p.ID, ports.UpdateOpts{Name: &name, RevisionNumber: &old}).Extract(); !gophercloud.ResponseCodeIs(err, 412) {
		t.Errorf("an old revision: %v", err)
	}
	r, err := routers.Create(ctx, cl, routers.CreateOpts{Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: ext}}).Extract()
	r = ok(t, r, err)
	i, err := routers.AddInterface(ctx, cl, r.ID, routers.AddInterfaceOpts{SubnetID: s.ID}).Extract()
	ok(t, i, err)
	f, err := floatingips.Create(ctx, cl, floatingips.CreateOpts{FloatingNetworkID: ext, PortID: p.ID}).Extract()
	if f = ok(t, f, err); f.FixedIP != p.FixedIPs[0].IPAddress || f.RouterID != r.ID {
		t.Errorf("%+v", f)
	}
	if err := attributestags.Add(ctx, cl, "networks", n.ID, "blue").ExtractErr(); err != nil {
		t.Fatal(err)
	}
	pages, err := networks.List(cl, networks.ListOpts{Tags: "blue", Limit: 1}).AllPages(ctx)
	found, err := networks.ExtractNetworks(ok(t, pages, err))
	if found = ok(t, found, err); len(found) != 1 || found[0].ID != n.ID {
		t.Errorf("%+v", found)
	}
	q, err := quotas.Update(ctx, w.client("admin"), "p1", quotas.UpdateOpts{Network: gophercloud.IntToPointer(1)}).Extract()
	if q = ok(t, q, err); q.Network != 1 || q.Port != 500 {
		t.Errorf("%+v", q)
	}
	if _, err := networks.Create(ctx, cl, networks.CreateOpts{Name: "one too many"}).Extract(); !gophercloud.ResponseCodeIs(err, 409) {
		t.Errorf("over quota: %v", err)
	}
	i, err = routers.RemoveInterface(ctx, cl, r.ID, routers.RemoveInterfaceOpts{SubnetID: s.ID}).Extract()
	if !gophercloud.ResponseCodeIs(err, 409) {
		t.Errorf("removing an interface under a floating IP: %v %v", i, err)
	}
	for what, err := range map[string]error{"floating IP": floatingips.Delete(ctx, cl, f.ID).ExtractErr(), "port": ports.Delete(ctx, cl, p.ID).ExtractErr(),
		"group": groups.Delete(ctx, cl, g.ID).ExtractErr()} {
		if err != nil {
			t.Errorf("deleting the %s: %v", what, err)
		}
	}
	if _, err := routers.RemoveInterface(ctx, cl, r.ID, routers.RemoveInterfaceOpts{SubnetID: s.ID}).Extract(); err != nil {
		t.Error(err)
	}
	if err := routers.Delete(ctx, cl, r.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := networks.Delete(ctx, cl, n.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}
