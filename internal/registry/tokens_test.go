package registry

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestChallenge(t *testing.T) {
	w := newWorld(t)
	host := strings.TrimPrefix(w.url, "http://")
	realm := `Bearer realm="` + w.url + `/v2/token",service="` + host + `"`
	for _, tc := range [][3]string{
		{"GET", "/v2/", ""},
		{"GET", "/v2/_catalog", "registry:catalog:*"},
		{"GET", "/v2/demo/web/manifests/1", "repository:demo/web:pull"},
		{"HEAD", "/v2/demo/a/b/blobs/" + sum(""), "repository:demo/a/b:pull"},
		{"PUT", "/v2/demo/web/manifests/1", "repository:demo/web:pull,push"},
		{"POST", "/v2/demo/web/blobs/uploads/", "repository:demo/web:pull,push"},
		{"DELETE", "/v2/demo/web/manifests/1", "repository:demo/web:delete"},
		{"GET", "/v2/demo%22,x=%22/manifests/1", ""},
		{"GET", "/v2/nothing", ""},
	} {
		want := realm
		if tc[2] != "" {
			want += `,scope="` + tc[2] + `"`
		}
		g := w.raw(tc[0], tc[1], nil)
		if g.status != 401 || g.header.Get("WWW-Authenticate") != want || tc[0] != "HEAD" && g.code() != codeUnauthorized {
			t.Errorf("%s %s: %d %s %s, want 401 %s", tc[0], tc[1], g.status, g.header.Get("WWW-Authenticate"), g.body, want)
		}
		g = w.raw(tc[0], tc[1], nil, "Authorization", "Bearer nonsense")
		if g.status != 401 || !strings.HasSuffix(g.header.Get("WWW-Authenticate"), `,error="invalid_token"`) {
			t.Errorf("%s %s with a bad token: %d %s", tc[0], tc[1], g.status, g.header.Get("WWW-Authenticate"))
		}
	}
}

func TestLogins(t *testing.T) {
	w := newWorld(t)
	token, _ := w.ofDemo("max").token()
	if g := w.raw("GET", "/v2/", nil, "Authorization", "Bearer "+token); g.status != 200 || string(g.body) != "{}" {
		t.Errorf("a log-in: %d %s", g.status, g.body)
	}
	for name, want := range map[string]int{
		"demo/demo-max": 200, "Default/demo/demo-max": 200, w.demo + "/demo-max": 200,
		"demo-max":       401, // has no default project
		"other/demo-max": 401, "demo/nobody": 401, "nowhere/demo-max": 401, "Nowhere/demo/demo-max": 401,
		"": 401, "/": 401, "//": 401, "demo/": 401, strings.Repeat("a", 32): 401,
	} {
		if _, g := w.as(name).token(); g.status != want {
			t.Errorf("%q: %d %s, want %d", name, g.status, g.body, want)
		}
	}
	w.keystone("PATCH", "/users/"+w.users["demo-max"], map[string]any{"user": map[string]any{"default_project_id": w.demo}})
	if _, g := w.as("demo-max").token(); g.status != 200 {
		t.Errorf("a user with a default project: %d %s", g.status, g.body)
	}
	bad := w.ofDemo("max")
	bad.pass = "wrong"
	if _, g := bad.token(); g.status != 401 || g.code() != codeUnauthorized {
		t.Errorf("a wrong password: %d %s", g.status, g.body)
	}
	if g := w.raw("GET", "/v2/token", nil); g.status != 401 || !strings.HasPrefix(g.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("nobody: %d %v", g.status, g.header)
	}
	if strings.Contains(w.log.String(), password) {
		t.Error("a password is in the log")
	}
}

func TestOAuth(t *testing.T) {
	w := newWorld(t)
	post := func(v url.Values) got {
		return w.raw("POST", "/v2/token", strings.NewReader(v.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	}
	g := post(url.Values{"grant_type": {"password"}, "username": {"demo/demo-max"}, "password": {password}, "scope": {"repository:demo/web:pull,push"}, "client_id": {"x"}})
	var a struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}
	if err := json.Unmarshal(g.body, &a); err != nil || g.status != 200 || a.Expires != 600 {
		t.Fatalf("%d %s: %v", g.status, g.body, err)
	}
	if g := w.raw("POST", "/v2/demo/web/blobs/uploads/", nil, "Authorization", "Bearer "+a.Token); g.status != 202 {
		t.Errorf("%d %s", g.status, g.body)
	}
	for what, v := range map[string]url.Values{
		"a refresh token": {"grant_type": {"refresh_token"}, "refresh_token": {"x"}},
		"no grant":        {"username": {"demo/demo-max"}, "password": {password}},
		"many scopes":     {"grant_type": {"password"}, "username": {"demo/demo-max"}, "password": {password}, "scope": {strings.Repeat("repository:demo/x:pull ", maxScopes+1)}},
		"no scope":        {"grant_type": {"password"}, "username": {"demo/demo-max"}, "password": {password}, "scope": {"everything"}},
	} {
		if g := post(v); g.status != 400 {
			t.Errorf("%s: %d %s", what, g.status, g.body)
		}
	}
	if g := post(url.Values{"grant_type": {"password"}, "username": {"demo/demo-max"}, "password": {"wrong"}}); g.status != 401 {
		t.Errorf("a wrong password: %d %s", g.status, g.body)
	}
	if g := w.raw("DELETE", "/v2/token", nil); g.status != 501 {
		t.Errorf("deleting: %d", g.status)
	}
}

// A token is good for what it was asked for, and no longer than its time.
func TestTokenIsNarrow(t *testing.T) {
	w := newWorld(t)
	max := w.ofDemo("max")
	max.push("demo/web", "1", "layer", "{}")
	token, _ := max.token("repository:demo/web:pull", "repository:other/web:pull,push,delete")
	get := func(method, path string) got {
		return w.raw(method, path, nil, "Authorization", "Bearer "+token, "Accept", ociManifest)
	}
	if g := get("GET", "/v2/demo/web/manifests/1"); g.status != 200 {
		t.Errorf("what it is for: %d %s", g.status, g.body)
	}
	for _, q := range [][2]string{{"POST", "/v2/demo/web/blobs/uploads/"}, {"GET", "/v2/demo/else/manifests/1"}, {"GET", "/v2/_catalog"}} {
		g := get(q[0], q[1])
		if g.status != 401 || !strings.HasSuffix(g.header.Get("WWW-Authenticate"), `,error="insufficient_scope"`) {
			t.Errorf("%v: %d %s", q, g.status, g.header.Get("WWW-Authenticate"))
		}
	}
	if g := get("GET", "/v2/other/web/manifests/1"); g.status != 403 {
		t.Errorf("another project: %d", g.status)
	}
	w.later(10*time.Minute - time.Second)
	if g := get("GET", "/v2/demo/web/manifests/1"); g.status != 200 {
		t.Errorf("just before its end: %d", g.status)
	}
	w.later(time.Second)
	if g := get("GET", "/v2/demo/web/manifests/1"); g.status != 401 {
		t.Errorf("after its end: %d", g.status)
	}
	// It is not one of identity's, and says nothing of that.
	if _, err := w.id.Authenticate(t.Context(), token); err == nil {
		t.Error("the registry's token opens everything else")
	}
	if g := w.raw("GET", "/v2/demo/web/manifests/1", nil, "X-Auth-Token", w.admin, "Accept", ociManifest); g.status != 403 {
		t.Errorf("an administrator of another project: %d", g.status)
	}
}

// Application credentials are what machines use. What is taken away counts at once.
func TestApplicationCredentials(t *testing.T) {
	w := newWorld(t)
	w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	in := SignIn{Project: "demo", User: "demo-max", Secret: password}
	own, _, err := w.svc.Identity.SignIn(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	cred := func(body map[string]any) (id string, a as) {
		c := w.keystone("POST", "/users/"+w.users["demo-max"]+"/application_credentials", map[string]any{"application_credential": body}, own)["application_credential"].(map[string]any)
		return c["id"].(string), as{w, c["id"].(string), c["secret"].(string)}
	}
	id, ci := cred(map[string]any{"name": "ci"})
	ci.push("demo/web", "2", "layer", "more", "{}")
	_, reads := cred(map[string]any{"name": "reads", "roles": []any{map[string]any{"id": w.roles["reader"]}}})
	reads.pull(200, "demo/web", "2")
	reads.want(403, "POST", "/v2/demo/web/blobs/uploads/", "")
	_, ruled := cred(map[string]any{"name": "ruled", "access_rules": []any{map[string]any{"service": ServiceType, "method": "GET", "path": "/v2/demo/web/manifests/*"}}})
	ruled.pull(200, "demo/web", "2")
	ruled.want(403, "GET", "/v2/demo/web/tags/list", "")

	token, _ := ci.token("repository:demo/web:pull")
	get := func() int {
		return w.raw("GET", "/v2/demo/web/manifests/2", nil, "Authorization", "Bearer "+token, "Accept", ociManifest).status
	}
	if s := get(); s != 200 {
		t.Fatal(s)
	}
	w.keystone("DELETE", "/users/"+w.users["demo-max"]+"/application_credentials/"+id, nil, own)
	if s := get(); s != 401 {
		t.Errorf("a deleted credential's token: %d", s)
	}
	if _, g := ci.token(); g.status != 401 {
		t.Errorf("a deleted credential: %d", g.status)
	}

	token, _ = w.ofDemo("rita").token("repository:demo/web:pull")
	if s := get(); s != 200 {
		t.Fatal(s)
	}
	w.keystone("DELETE", "/projects/"+w.demo+"/users/"+w.users["demo-rita"]+"/roles/"+w.roles["reader"], nil)
	if s := get(); s != 401 {
		t.Errorf("a token of somebody without a role: %d", s)
	}
}
