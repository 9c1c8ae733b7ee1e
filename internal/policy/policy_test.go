package policy

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExpressions(t *testing.T) {
	member := &Credentials{UserID: "u", ProjectID: "p", Roles: []string{"member", "reader"}}
	admin := &Credentials{UserID: "a", ProjectID: "q", Roles: []string{"Admin"}}
	system := &Credentials{UserID: "s", System: true, Roles: []string{"reader"}}
	own := Target{"project_id": "p", "user_id": "u", "target.user.id": "u"}
	for _, tc := range []struct {
		expr string
		c    *Credentials
		t    Target
		want bool
	}{
		{"", member, nil, true},
		{"@", member, nil, true},
		{"!", admin, nil, false},
		{"role:admin", admin, nil, true},
		{"role:admin", member, nil, false},
		{"role:member and project_id:%(project_id)s", member, own, true},
		{"role:member and project_id:%(project_id)s", member, Target{"project_id": "x"}, false},
		{"role:member and project_id:%(project_id)s", member, Target{}, false},
		{"(role:reader and system_scope:all) or rule:owner", system, nil, true},
		{"(role:reader and system_scope:all) or rule:owner", member, own, true},
		{"not role:admin", member, nil, true},
		{"not (role:admin or role:member)", member, nil, false},
		{"user_id:%(target.user.id)s", member, own, true},
		{"'p':%(project_id)s", admin, own, true},
		{"None:%(domain_id)s", admin, Target{"domain_id": ""}, true},
		{"is_admin:True", admin, nil, true},
		{"role:member and not domain_id:None", member, nil, false},
		{"rule:circle", admin, nil, false},
		{"rule:absent", admin, nil, false},
	} {
		e, err := New("", []Rule{{"x", tc.expr}, {"owner", "project_id:%(project_id)s"}, {"circle", "rule:circle"}})
		if err != nil {
			t.Fatalf("%q: %v", tc.expr, err)
		}
		if got := e.Allows("x", tc.c, tc.t); got != tc.want {
			t.Errorf("%q for %s on %v: got %v", tc.expr, tc.c.UserID, tc.t, got)
		}
	}
}

func TestBadExpressions(t *testing.T) {
	for _, expr := range []string{"role", "role:a and", "(role:a", "role:a)", "or role:a", ":x"} {
		if _, err := New("", []Rule{{"x", expr}}); err == nil {
			t.Errorf("%q was accepted", expr)
		}
	}
}

func TestOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	defaults := []Rule{{"a:get", "role:reader"}, {"a:set", "role:member"}}
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader := &Credentials{Roles: []string{"reader"}}
	write("\"a:set\": \"role:reader\"\n")
	e, err := New(file, defaults)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Allows("a:set", reader, nil) {
		t.Error("the override is not in force")
	}
	write("\"a:unknown\": \"@\"\n")
	if _, err := New(file, defaults); err == nil {
		t.Error("an override of an unknown rule was accepted")
	}
	if _, err := New(file+".absent", defaults); err != nil {
		t.Errorf("an absent file: %v", err)
	}
}

func BenchmarkAllows(b *testing.B) {
	e, err := New("", []Rule{{"x", "(role:admin and system_scope:all) or (role:reader and project_id:%(project_id)s)"}})
	if err != nil {
		b.Fatal(err)
	}
	c := &Credentials{ProjectID: "p", Roles: []string{"member", "reader"}}
	t := Target{"project_id": "p"}
	for b.Loop() {
		if !e.Allows("x", c, t) {
			b.Fatal("refused")
		}
	}
}

func TestAccessRules(t *testing.T) {
	c := &Credentials{AccessRules: []AccessRule{
		{"compute", "GET", "/v2.1/servers/{id}"}, {"image", "GET", "/v2/**"}, {"network", "POST", "/v2.0/*/tags"},
	}}
	for _, tc := range []struct {
		service, method, path string
		want                  bool
	}{
		{"compute", "GET", "/v2.1/servers/x", true},
		{"compute", "GET", "/v2.1/servers/x/", true},
		{"compute", "GET", "/v2.1/servers", false},
		{"compute", "GET", "/v2.1/servers/x/ips", false},
		{"compute", "DELETE", "/v2.1/servers/x", false},
		{"network", "GET", "/v2.1/servers/x", false},
		{"image", "GET", "/v2", true},
		{"image", "GET", "/v2/images/x/file", true},
		{"network", "POST", "/v2.0/ports/tags", true},
		{"network", "POST", "/v2.0/tags", false},
	} {
		if got := c.MayRequest(tc.service, tc.method, tc.path); got != tc.want {
			t.Errorf("%s %s %s: got %v", tc.service, tc.method, tc.path, got)
		}
	}
	if !(&Credentials{}).MayRequest("compute", "DELETE", "/v2.1/servers/x") {
		t.Error("without rules nothing is refused")
	}
}
