package cluster

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
)

func (tokens) DomainName(_ context.Context, id string) string { return "name of " + id }

// TestReviewToken says who is who in a cluster, to the node that hosts it alone.
func TestReviewToken(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one"`)
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]*policy.Credentials{
		"confined": {UserID: "u1", UserName: "one", ProjectID: project1, Roles: []string{"member"}, AccessRules: []policy.AccessRule{{Service: "compute", Method: "GET", Path: "/**"}}},
		"system":   {UserID: "u1", UserName: "system:admin", ProjectID: project1, Roles: []string{"member"}},
		"strata":   {UserID: "u1", UserName: "strata:policies", ProjectID: project1, Roles: []string{"member"}},
		"unscoped": {UserID: "u1", UserName: "one"},
		"named":    {UserID: "u1", UserName: "one", UserDomainID: "d", ProjectID: project1, ProjectName: "p", Roles: []string{"member", "reader"}},
	} {
		people[name] = who
		t.Cleanup(func() { delete(people, name) })
	}
	got, err := w.svc.ReviewToken(t.Context(), c.Member, id, "named")
	if err != nil {
		t.Fatal(err)
	}
	want := &nodeapi.KubeUser{Name: "one", UID: "u1", Groups: []string{project1, "strata:role:member", "strata:role:reader"}, Extra: map[string][]string{
		extraRoles: {"member", "reader"}, extraProject: {project1}, extraProjectName: {"p"}, extraDomain: {"d"}, extraDomainName: {"name of d"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, token := range []string{"other", "admin", "none", "confined", "system", "strata", "unscoped", ""} {
		if u, err := w.svc.ReviewToken(t.Context(), c.Member, id, token); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s is %+v, %v", token, u, err)
		}
	}
	if _, err := w.svc.ReviewToken(t.Context(), "node-4", id, "named"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("another node is told: %v", err)
	}
}

// TestMayBe holds certificates to what tokens give.
func TestMayBe(t *testing.T) {
	c := &Cluster{ProjectID: project1}
	reader := &policy.Credentials{UserName: "r", ProjectID: project1, Roles: []string{"reader"}}
	for _, x := range []struct {
		who    *policy.Credentials
		name   string
		groups []string
		ok     bool
	}{
		{people["owner"], "admin", []string{"system:masters"}, true},
		{people["admin"], "admin", []string{"system:masters"}, true},
		{people["other"], "admin", []string{"system:masters"}, false},
		{reader, "admin", []string{"system:masters"}, false},
		{reader, "r", []string{"system:masters"}, false},
		{reader, "r", []string{"strata:role:member"}, false},
		{reader, "other", nil, false},
		{reader, "system:kube-scheduler", nil, false},
		{reader, "r", []string{"strata:role:reader", project1}, true},
		{&policy.Credentials{UserName: "system:kube-scheduler", ProjectID: project1}, "system:kube-scheduler", nil, false},
	} {
		if err := mayBe(x.who, c, x.name, x.groups); (err == nil) != x.ok {
			t.Errorf("%+v for %s %v: %v", x.who, x.name, x.groups, err)
		}
	}
}
