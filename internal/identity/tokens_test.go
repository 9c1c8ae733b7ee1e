package identity

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

func TestIssue(t *testing.T) {
	c := newCloud(t)
	demoID := c.do("GET", "/auth/projects", c.demo(), "").want(200).at("projects", 0, "id").(string)
	for _, tc := range []struct {
		name, body string
		status     int
	}{
		{"unscoped", byPassword("demo", "demo-pw", ""), 201},
		{"explicitly unscoped", byPassword("demo", "demo-pw", `{"unscoped":{}}`), 201},
		{"explicitly unscoped, as text", byPassword("demo", "demo-pw", `"unscoped"`), 201},
		{"project by name", byPassword("demo", "demo-pw", inDemo), 201},
		{"project by id", byPassword("demo", "demo-pw", `{"project":{"id":"`+demoID+`"}}`), 201},
		{"domain", byPassword("admin", "admin-pw", inDomain), 201},
		{"system", byPassword("admin", "admin-pw", inSystem), 201},
		{"no role on the project", byPassword("demo", "demo-pw", inAdmin), 401},
		{"no role on the domain", byPassword("demo", "demo-pw", inDomain), 401},
		{"no role on the system", byPassword("demo", "demo-pw", inSystem), 401},
		{"no such project", byPassword("demo", "demo-pw", `{"project":{"id":"x"}}`), 401},
		{"two scopes", byPassword("admin", "admin-pw", `{"system":{"all":true},"domain":{"id":"default"}}`), 400},
		{"project without its domain", byPassword("demo", "demo-pw", `{"project":{"name":"demo"}}`), 400},
		{"wrong password", byPassword("demo", "nope", ""), 401},
		{"no such user", byPassword("nobody", "nope", ""), 401},
		{"no auth", `{}`, 400},
		{"no methods", `{"auth":{"identity":{}}}`, 400},
		{"method without data", `{"auth":{"identity":{"methods":["password"]}}}`, 400},
		{"unknown method", `{"auth":{"identity":{"methods":["palm"],"palm":{}}}}`, 401},
		{"no method at all", `{"auth":{"identity":{"methods":[]}}}`, 401},
		{"bad token", byToken("rubbish", ""), 404},
		{"not JSON", `{`, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := c.do("POST", "/auth/tokens", "", tc.body).want(tc.status)
			tok := a.header.Get("X-Subject-Token")
			if (tok != "") != (tc.status == 201) || len(tok) >= 255 {
				t.Errorf("X-Subject-Token is %q", tok)
			}
			if tc.status == 401 && a.at("error", "code") != 401.0 {
				t.Errorf("envelope: %v", a.body)
			}
		})
	}
	wrong := c.do("POST", "/auth/tokens", "", byPassword("demo", "nope", "")).at("error", "message")
	if none := c.do("POST", "/auth/tokens", "", byPassword("nobody", "nope", "")).at("error", "message"); wrong != none {
		t.Errorf("a wrong password (%q) and a missing user (%q) can be told apart", wrong, none)
	}
}

func TestTokenBody(t *testing.T) {
	c := newCloud(t)
	a := c.do("POST", "/identity/v3/auth/tokens", "", byPassword("admin", "admin-pw", inAdmin)).want(201)
	if a.header.Get("Vary") != "X-Auth-Token" {
		t.Errorf("Vary: %q", a.header.Get("Vary"))
	}
	for _, key := range []string{"issued_at", "expires_at"} {
		if s := a.at("token", key).(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`).MatchString(s) {
			t.Errorf("%s is %q", key, s)
		}
	}
	var roles []string
	for _, r := range a.at("token", "roles").([]any) {
		roles = append(roles, r.(map[string]any)["name"].(string))
	}
	if want := []string{"admin", "manager", "member", "reader"}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v with the implied ones", roles, want)
	}
	if v, ok := a.at("token", "user").(map[string]any)["password_expires_at"]; !ok || v != nil {
		t.Errorf("password_expires_at is %v", v)
	}
	if a.at("token", "project", "domain", "name") != "Default" || a.at("token", "is_domain") != false || a.at("token", "methods", 0) != "password" {
		t.Errorf("body: %v", a.body)
	}
	if n := len(a.at("token", "catalog").([]any)); n != 5 {
		t.Errorf("%d services in the catalog", n)
	}
	tok := a.header.Get("X-Subject-Token")
	got := c.do("GET", "/auth/tokens", tok, "", "X-Subject-Token", tok).want(200)
	if got.at("token", "audit_ids", 0) != a.at("token", "audit_ids", 0) {
		t.Error("validation shows another token")
	}
	if v := c.do("GET", "/auth/tokens?nocatalog", tok, "", "X-Subject-Token", tok).want(200).body["token"].(map[string]any); v["catalog"] != nil {
		t.Error("nocatalog shows the catalog")
	}
	c.do("HEAD", "/auth/tokens", tok, "", "X-Subject-Token", tok).want(200)
	if sys := c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", inSystem)).want(201); sys.at("token", "system", "all") != true {
		t.Errorf("system: %v", sys.body)
	}
	if un := c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", "")).want(201).at("token").(map[string]any); un["roles"] != nil || un["catalog"] != nil || un["project"] != nil {
		t.Errorf("an unscoped token has a scope: %v", un)
	}
}

func TestValidateAndRevoke(t *testing.T) {
	c := newCloud(t)
	admin, demo := c.admin(), c.demo()
	c.do("GET", "/auth/tokens", demo, "", "X-Subject-Token", demo).want(200)
	c.do("GET", "/auth/tokens", admin, "", "X-Subject-Token", demo).want(200)
	c.do("GET", "/auth/tokens", demo, "", "X-Subject-Token", admin).want(403)
	c.do("GET", "/auth/tokens", admin, "", "X-Subject-Token", "rubbish").want(404)
	c.do("GET", "/auth/tokens", "", "", "X-Subject-Token", demo).want(401)
	c.do("GET", "/auth/tokens", "rubbish", "", "X-Subject-Token", demo).want(401)
	c.do("DELETE", "/auth/tokens", demo, "", "X-Subject-Token", admin).want(403)
	c.do("DELETE", "/auth/tokens", demo, "", "X-Subject-Token", demo).want(204)
	c.do("GET", "/auth/tokens", admin, "", "X-Subject-Token", demo).want(404)
	c.do("GET", "/auth/projects", demo, "").want(401)
	c.do("GET", "/auth/tokens", c.demo(), "", "X-Subject-Token", admin).want(403)
}

func TestRescope(t *testing.T) {
	c := newCloud(t)
	first := c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", `{"unscoped":{}}`)).want(201)
	tok := first.header.Get("X-Subject-Token")
	second := c.do("POST", "/auth/tokens", "", byToken(tok, inAdmin)).want(201)
	if second.at("token", "expires_at") != first.at("token", "expires_at") {
		t.Error("rescoping moved the expiry")
	}
	if second.at("token", "audit_ids", 1) != first.at("token", "audit_ids", 0) {
		t.Error("the audit chain is broken")
	}
	third := c.do("POST", "/auth/tokens", "", byToken(second.header.Get("X-Subject-Token"), inDomain)).want(201)
	if third.at("token", "audit_ids", 1) != first.at("token", "audit_ids", 0) {
		t.Error("the audit chain does not lead to its beginning")
	}
	sys := c.login("admin", "admin-pw", inSystem)
	c.do("POST", "/auth/tokens", "", byToken(sys, inAdmin)).want(403)
}

func TestExpiry(t *testing.T) {
	c := newCloud(t)
	tok, admin := c.demo(), c.admin()
	at := time.Now()
	c.svc.now = func() time.Time { return at }
	at = at.Add(61 * time.Minute)
	if _, err := c.svc.Authenticate(t.Context(), tok); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("an expired token: %v", err)
	}
	fresh := c.admin()
	c.do("GET", "/auth/tokens", admin, "", "X-Subject-Token", tok).want(401)
	c.do("GET", "/auth/tokens", fresh, "", "X-Subject-Token", tok).want(404)
	c.do("GET", "/auth/tokens?allow_expired=1", fresh, "", "X-Subject-Token", tok).want(200)
	at = at.Add(72 * time.Hour)
	c.do("GET", "/auth/tokens?allow_expired=1", c.admin(), "", "X-Subject-Token", tok).want(404)
}

func TestKeyRotation(t *testing.T) {
	c := newCloud(t)
	tok := c.demo()
	for range 3 {
		if err := c.svc.rotateKeys(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.svc.Authenticate(t.Context(), tok); err != nil {
			t.Errorf("after a rotation: %v", err)
		}
		c.do("GET", "/auth/projects", c.demo(), "").want(200)
	}
	c.svc.now = func() time.Time { return time.Now().Add(100 * time.Hour) }
	if err := c.svc.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k, _ := c.svc.dir.Keys.Get(keysID); len(k.Set.Keys) != 3 {
		t.Errorf("%d keys are kept", len(k.Set.Keys))
	}
}

func TestDiscovery(t *testing.T) {
	c := newCloud(t)
	a := c.do("GET", "/identity", "", "").want(300)
	if href := a.at("versions", "values", 0, "links", 0, "href"); href != c.url+"/identity/v3/" || a.header.Get("Location") != href {
		t.Errorf("%v, Location %s", a.body, a.header.Get("Location"))
	}
	if v := c.do("GET", "/identity/v3/", "", "").want(200).at("version", "id"); v != "v3.14" {
		t.Error(v)
	}
	if href := c.do("GET", "/v3", "", "").want(200).at("version", "links", 0, "href").(string); !strings.HasSuffix(href, "/v3/") {
		t.Error(href)
	}
}

func TestLockout(t *testing.T) {
	c := newCloud(t, func(o *Options) { o.LockoutAfter = 3 })
	at := time.Now()
	c.svc.now = func() time.Time { return at }
	for range 3 {
		c.do("POST", "/auth/tokens", "", byPassword("demo", "nope", "")).want(401)
	}
	c.do("POST", "/auth/tokens", "", byPassword("demo", "demo-pw", "")).want(401)
	c.admin()
	at = at.Add(31 * time.Minute)
	c.demo()
}

func TestSchemasCompile(t *testing.T) {
	for _, api := range newCloud(t).svc.APIs() {
		for _, r := range api.Routes {
			for _, s := range append(r.Body, r.Query...) {
				if err := s.Check(); err != nil {
					t.Errorf("%s %s: %v", r.Method, r.Path, err)
				}
			}
		}
	}
}
