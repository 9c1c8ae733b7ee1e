package region

import (
	"log/slog"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/securitygroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/store"
)

// TestGroupsForCompute holds rules that compute asks for to those it is shown.
func TestGroupsForCompute(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := groupsForCompute{network.New(network.Options{DB: db, Log: log})}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	g, err := s.Create(t.Context(), nil, "web", "d")
	if err != nil || g.Name != "web" || g.Description != "d" || len(g.Rules) != 0 {
		t.Fatalf("%+v %v", g, err)
	}
	from, to := 22, 80
	for _, tc := range []struct {
		n        securitygroup.NewRule
		protocol string
	}{
		{securitygroup.NewRule{Group: g.ID, Protocol: "tcp", FromPort: &from, ToPort: &to, CIDR: "10.2.3.124/24"}, "tcp"},
		{securitygroup.NewRule{Group: g.ID, Protocol: "icmp", CIDR: "2001:db8::/32"}, "ipv6-icmp"},
		{securitygroup.NewRule{Group: g.ID, RemoteGroup: g.ID}, ""},
	} {
		n := tc.n
		r, err := s.AddRule(t.Context(), nil, n)
		if err != nil || r.Protocol != tc.protocol || r.CIDR != n.CIDR || (r.RemoteGroup == "web") != (n.RemoteGroup != "") {
			t.Fatalf("%+v: %+v %v", n, r, err)
		}
		if n.FromPort != nil && (*r.FromPort != from || *r.ToPort != to) {
			t.Errorf("ports %d:%d", *r.FromPort, *r.ToPort)
		}
		if _, err := s.AddRule(t.Context(), nil, n); errs.CodeOf(err) != "SecurityGroupRuleExists" {
			t.Errorf("%+v again: %v", n, err)
		}
	}
	if g, err = s.Get(t.Context(), nil, g.ID); err != nil || len(g.Rules) != 3 {
		t.Fatalf("%+v %v", g, err)
	}
	if err := s.DropRule(t.Context(), nil, g.Rules[0].ID); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), nil, g.ID); err != nil {
		t.Error(err)
	}
}
