package network

import (
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// TestExposed gives load balancers' ports floating IPs: any, chosen ones, the user's own, and
// none where there is no way out; and takes away those that were made and no others.
func TestExposed(t *testing.T) {
	w, ctx := start(t), t.Context()
	who := &policy.Credentials{ProjectID: "shop"}
	if err := w.s.Bootstrap(ctx, BootstrapOptions{AdminProject: "admin", PublicCIDR: netip.MustParsePrefix("203.0.113.0/24")}); err != nil {
		t.Fatal(err)
	}
	vip := func(name string, inside bool) string {
		t.Helper()
		var id string
		if err := w.s.MakeNetwork(ctx, who, Wanted{Name: name, Inside: inside}, func(_ *store.Tx, n, _ string) error { id = n; return nil }); err != nil {
			t.Fatal(err)
		}
		sub := w.s.subnets.By("network", id)[0].ID
		if err := w.s.TakeVIP(ctx, VIPSpec{PortID: name, NetworkID: id, At: []nodeapi.FixedIP{{SubnetID: sub}}, LoadBalancer: name, ProjectID: "shop", Node: "n1"}, func(*store.Tx, []nodeapi.FixedIP) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return name
	}
	front, back := vip("front", false), vip("back", true)
	expose := func(e Exposed) netip.Addr {
		t.Helper()
		a, err := w.s.Expose(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	e := Exposed{ID: "f1", Owner: "c1", Port: front, Description: "d"}
	first := expose(e)
	rev := w.s.floating.Rev("f1")
	if !first.IsValid() || expose(e) != first || w.s.floating.Rev("f1") != rev {
		t.Errorf("repeated: %s", first)
	}
	if a := expose(Exposed{ID: "f2", Owner: "c1", Port: back}); a.IsValid() {
		t.Errorf("without a way out: %s", a)
	}
	public := w.s.networks.By("external", "yes")[0].ID
	for _, net := range []string{public, "nowhere"} {
		if _, err := w.s.Expose(ctx, Exposed{ID: "f2", Port: back, Network: net}); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s from where it cannot be reached: %v", net, err)
		}
	}
	e.Address = netip.MustParseAddr("203.0.113.77") // another one, which is chosen
	if a := expose(e); a != e.Address || len(w.s.floating.By("project", "shop")) != 1 {
		t.Errorf("chosen: %s, %d", a, len(w.s.floating.By("project", "shop")))
	}
	err := w.s.do(ctx, nil, func(c *call) error {
		_, err := c.fip.add(c, "shop", map[string]any{"floating_network_id": public, "floating_ip_address": netip.MustParseAddr("203.0.113.88")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Address = netip.MustParseAddr("203.0.113.88")
	if a := expose(e); a != e.Address {
		t.Errorf("the user's: %s", a)
	}
	if _, err := w.s.floating.Get("f1"); err == nil {
		t.Error("the one that was made is left")
	}
	e.Address = netip.Addr{}
	if a := expose(e); a.String() != "203.0.113.88" {
		t.Errorf("any, with the user's there: %s", a)
	}
	front2 := vip("front2", false)
	if _, err := w.s.Expose(ctx, Exposed{ID: "f3", Port: front2, Address: netip.MustParseAddr("203.0.113.88")}); !errs.Is(err, errs.Conflict) {
		t.Errorf("another's: %v", err)
	}
	kept, gone := expose(Exposed{ID: "f3", Port: front2}), expose(Exposed{ID: "f4", Owner: "c1", Port: vip("front3", false)})
	if err := w.s.Conceal(ctx, "c1", "f4"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.floating.Get("f4"); err != nil {
		t.Error(err)
	}
	if err := w.s.Conceal(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	left := map[netip.Addr]bool{}
	for _, f := range w.s.floating.By("project", "shop") {
		left[f.Address] = true
	}
	if len(left) != 2 || !left[kept] || left[gone] {
		t.Errorf("left: %v", left)
	}
	if status, out := w.call("admin", "PUT", "/quotas/shop", map[string]any{"quota": map[string]any{"floatingip": 2}}); status != 200 {
		t.Fatal(status, out)
	}
	if _, err := w.s.Expose(ctx, Exposed{ID: "f5", Owner: "c1", Port: "front3"}); !errs.Is(err, errs.QuotaExceeded) {
		t.Errorf("over the quota: %v", err)
	}
}
