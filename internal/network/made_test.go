package network

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// TestMadeNetworks makes networks with all that they need, and leaves nothing of them.
func TestMadeNetworks(t *testing.T) {
	w, ctx := start(t), t.Context()
	who := &policy.Credentials{ProjectID: "shop"}
	if err := w.s.Bootstrap(ctx, BootstrapOptions{AdminProject: "admin", PublicCIDR: netip.MustParsePrefix("203.0.113.0/24")}); err != nil {
		t.Fatal(err)
	}
	before := [...]int{w.s.networks.Len(), w.s.subnets.Len(), w.s.ports.Len(), w.s.routers.Len()}
	type made struct{ id, router string }
	make := func(n Wanted) (out made) {
		t.Helper()
		if err := w.s.MakeNetwork(ctx, who, n, func(_ *store.Tx, id, router string) error { out = made{id, router}; return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	front, back := make(Wanted{Name: "front"}), make(Wanted{Name: "back", Inside: true})
	given := make(Wanted{Name: "given", Subnets: []WantedSubnet{{CIDR: netip.MustParsePrefix("10.9.0.0/24"), Range: netip.MustParsePrefix("10.9.0.128/25"), Gateway: netip.MustParseAddr("10.9.0.254")}}})
	if front.router == "" || back.router != "" || given.router == "" || given.router == front.router {
		t.Errorf("routers: %v %v %v", front, back, given)
	}
	cidrs := map[string]string{}
	for _, n := range w.s.Visible(ctx, who) {
		if len(n.Subnets) != 1 || !n.Subnets[0].ServiceAddr.IsValid() && n.ID == "" {
			t.Fatalf("%+v", n)
		}
		cidrs[n.Name] = n.Subnets[0].CIDR.String() + " " + n.Subnets[0].Gateway.String()
	}
	if cidrs["front"] != "172.20.0.0/24 172.20.0.1" || cidrs["back"] != "172.20.1.0/24 172.20.1.1" || cidrs["given"] != "10.9.0.0/24 10.9.0.254" {
		t.Errorf("subnets: %v", cidrs)
	}
	nothing := errors.New("no")
	if err := w.s.MakeNetwork(ctx, who, Wanted{Name: "not"}, func(*store.Tx, string, string) error { return nothing }); !errors.Is(err, nothing) {
		t.Errorf("%v", err)
	}
	if _, err := w.s.EnsurePort(ctx, PortSpec{ID: "p", NetworkID: front.id, ProjectID: "shop", Server: "s", Host: "n1", Zone: "zun", Hostname: "a_b"}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Alias(ctx, "p", []string{"a_b", "db"}); err != nil {
		t.Fatal(err)
	}
	if p, err := w.s.ports.Get("p"); err != nil || len(p.Aliases) != 2 || p.DNSName != "" {
		t.Errorf("%+v, %v", p, err)
	}
	none := func(*store.Tx) error { return nil }
	if err := w.s.DropNetwork(ctx, front.id, front.router, none); !errs.Is(err, errs.Conflict) {
		t.Errorf("with a port: %v", err)
	}
	if _, err := w.s.routers.Get(front.router); err != nil {
		t.Errorf("its router: %v", err)
	}
	if err := w.s.ReleasePort(ctx, "p", false); err != nil {
		t.Fatal(err)
	}
	had, err := w.s.routers.Get(front.router)
	if err != nil {
		t.Fatal(err)
	}
	gateway := had.GatewayID
	if err := w.s.DropNetwork(ctx, front.id, front.router, func(*store.Tx) error { return nothing }); !errors.Is(err, nothing) {
		t.Errorf("a caller that gives up: %v", err)
	}
	if r, err := w.s.routers.Get(front.router); err != nil || gateway == "" || r.GatewayID != gateway || !r.EnableSNAT {
		t.Errorf("a router that stayed lost its gateway %s: %+v, %v", gateway, r, err)
	}
	for range 2 { // absent is fine
		for _, m := range []made{front, back, given} {
			if err := w.s.DropNetwork(ctx, m.id, m.router, none); err != nil {
				t.Error(err)
			}
		}
	}
	if after := [...]int{w.s.networks.Len(), w.s.subnets.Len(), w.s.ports.Len(), w.s.routers.Len()}; after != before {
		t.Errorf("there were %v, and are %v", before, after)
	}
}
