package rest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

type tokens map[string]*policy.Credentials

func (t tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

func serve(t *testing.T, apis ...*API) *httptest.Server {
	t.Helper()
	engine, err := policy.New("", []policy.Rule{
		{Name: "things:get", Check: "role:reader and project_id:%(project_id)s"},
		{Name: "things:admin", Check: "role:admin"}})
	if err != nil {
		t.Fatal(err)
	}
	kit := &Kit{Policy: engine, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(), AuthURL: "/identity",
		Auth: tokens{"good": {UserID: "u", ProjectID: "p", Roles: []string{"reader"}}, "boss": {UserID: "a", ProjectID: "q", Roles: []string{"admin"}}}}
	h, err := kit.Handler(apis...)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func thing() *API {
	ok := func(_ context.Context, r *Request) (*Response, error) {
		return JSON(200, map[string]string{"version": r.Version.String(), "id": r.Path("id"), "action": r.Route.Action}), nil
	}
	other := func(_ context.Context, r *Request) (*Response, error) {
		return nil, r.Enforce(policy.Target{"project_id": "other"})
	}
	return &API{Name: "compute", Prefix: "/compute/v2.1", Family: ComputeFaults(), RequestIDHeader: "X-Compute-Request-Id", ProjectInPath: true,
		Versions: &Microversions{Type: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: V(2, 1), Max: V(2, 90)},
		Discovery: map[string]Document{"/compute/v2.1": func(base string) *Response {
			return JSON(200, map[string]string{"href": base})
		}},
		Routes: []Route{
			{Method: "GET", Path: "/things/{id}", Policy: "things:get", Handle: ok},
			{Method: "GET", Path: "/new", Policy: "things:get", Min: V(2, 50), Handle: ok},
			{Method: "GET", Path: "/other", Policy: "things:get", Handle: other},
			{Method: "GET", Path: "/boom", Policy: "things:get", Handle: func(context.Context, *Request) (*Response, error) { panic("boom") }},
			{Method: "GET", Path: "/admin", Policy: "things:admin", Handle: ok},
			{Method: "POST", Path: "/things", Policy: "things:get", Handle: ok, Body: []Schema{
				SchemaOf(`{"type":"object","properties":{"name":{"type":"string","maxLength":5}},"required":["name"],"additionalProperties":false}`)}},
			{Method: "POST", Path: "/things/{id}/action", Policy: "things:get", Action: "start", Handle: ok},
			{Method: "POST", Path: "/things/{id}/action", Policy: "things:get", Action: "stop", Min: V(2, 60), Handle: ok},
		}}
}

func TestKit(t *testing.T) {
	s := serve(t, thing())
	for _, tc := range []struct {
		name, method, path, token, version, body string
		status                                   int
		want                                     string
	}{
		{"show", "GET", "/things/7", "good", "", "", 200, `"version":"2.1"`},
		{"trailing slash", "GET", "/things/7/", "good", "", "", 200, `"id":"7"`},
		{"escaped", "GET", "/things/a%2Fb", "good", "", "", 200, `"id":"a/b"`},
		{"project in path", "GET", "/" + strings.Repeat("a", 32) + "/things/7", "boss", "", "", 403, "forbidden"},
		{"foreign project in path", "GET", "/" + strings.Repeat("a", 32) + "/things/7", "good", "", "", 400, "badRequest"},
		{"no token", "GET", "/things/7", "", "", "", 401, `"title":"Unauthorized"`},
		{"bad token", "GET", "/things/7", "bad", "", "", 401, `"code":401`},
		{"unknown path", "GET", "/nothing", "good", "", "", 404, `"code":"404 Not Found"`},
		{"wrong method", "DELETE", "/things/7", "good", "", "", 404, `"code":"404 Not Found"`},
		{"HEAD is no route", "HEAD", "/things/7", "good", "", "", 404, ""},
		{"unknown path without a token", "GET", "/nowhere", "", "", "", 401, "Unauthorized"},
		{"two actions", "POST", "/things/7/action", "good", "", `{"go":null,"stop":null}`, 400, "Malformed"},
		{"latest", "GET", "/things/7", "good", "latest", "", 200, `"version":"2.90"`},
		{"too new a version", "GET", "/things/7", "good", "2.91", "", 406, "Minimum is 2.1 and maximum is 2.90"},
		{"bad version", "GET", "/things/7", "good", "2.01", "", 400, "invalid format"},
		{"route not there yet", "GET", "/new", "good", "2.49", "", 404, "itemNotFound"},
		{"route there", "GET", "/new", "good", "2.50", "", 200, ""},
		{"policy", "GET", "/admin", "good", "", "", 403, "Policy doesn't allow things:admin to be performed."},
		{"policy on the resource", "GET", "/other", "good", "", "", 403, "forbidden"},
		{"panic", "GET", "/boom", "good", "", "", 500, "computeFault"},
		{"no body", "POST", "/things", "good", "", "", 400, "badRequest"},
		{"not JSON", "POST", "/things", "good", "", "{", 400, "badRequest"},
		{"unknown field", "POST", "/things", "good", "", `{"name":"a","x":1}`, 400, "additional properties"},
		{"too long", "POST", "/things", "good", "", `{"name":"abcdef"}`, 400, "field/attribute name. Value: \\\"abcdef\\\""},
		{"valid", "POST", "/things", "good", "", `{"name":"a"}`, 200, ""},
		{"too large", "POST", "/things", "good", "", `{"name":"` + strings.Repeat("a", maxBody) + `"}`, 413, "overLimit"},
		{"action", "POST", "/things/1/action", "good", "", `{"start":null}`, 200, `"action":"start"`},
		{"action not there yet", "POST", "/things/1/action", "good", "", `{"stop":null}`, 400, "no such action: stop"},
		{"action there", "POST", "/things/1/action", "good", "2.60", `{"stop":null}`, 200, `"action":"stop"`},
		{"discovery", "GET", "/", "", "", "", 200, "http://"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequest(tc.method, s.URL+"/compute/v2.1"+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", "application/json")
			if tc.token != "" {
				req.Header.Set("X-Auth-Token", tc.token)
			}
			if tc.version != "" {
				req.Header.Set("OpenStack-API-Version", "volume 3.5, compute "+tc.version)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || !strings.Contains(string(raw), tc.want) {
				t.Errorf("got %d %s, want %d with %s", resp.StatusCode, raw, tc.status, tc.want)
			}
			if !strings.HasPrefix(resp.Header.Get("X-Openstack-Request-Id"), "req-") || tc.method != "HEAD" && !json.Valid(raw) {
				t.Errorf("request id %q, body %s", resp.Header.Get("X-Openstack-Request-Id"), raw)
			}
		})
	}
}

func TestUnknownPolicyAndConflictingRoutes(t *testing.T) {
	engine, err := policy.New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	kit := &Kit{Policy: engine}
	if _, err := kit.Handler(thing()); err == nil {
		t.Error("a route without a declared policy was accepted")
	}
	if _, err := kit.Handler(&API{Routes: []Route{{Method: "GET", Path: "/{a}/x"}, {Method: "GET", Path: "/y/{b}"}}}); err == nil {
		t.Error("conflicting routes were accepted")
	}
}

func TestStrictSlash(t *testing.T) {
	api := thing()
	api.StrictSlash = true
	s := serve(t, api)
	for path, want := range map[string]int{"/things/7": 200, "/things/7/": 404, "/": 200} {
		req, err := http.NewRequest("GET", s.URL+"/compute/v2.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", "good")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestPaginate(t *testing.T) {
	type item struct{ id, name string }
	items := func() []item { return []item{{"3", "b"}, {"1", "b"}, {"2", "a"}, {"4", "10"}, {"5", "9"}} }
	field := func(x item, k string) (string, bool) { return x.name, k == "name" }
	for _, tc := range []struct{ query, want, err string }{
		{"", "12345", ""},
		{"sort_key=name", "54213", ""},
		{"sort=name:desc", "13245", ""},
		{"sort_key=name&limit=2", "54+", ""},
		{"sort_key=name&limit=2&marker=4", "21+", ""},
		{"sort_key=name&marker=2", "13", ""},
		{"limit=2&marker=4&page_reverse=true", "23+", ""},
		{"marker=x", "", "marker [x] not found"},
		{"sort_key=x", "", "not valid"},
		{"sort_key=name&sort_dir=up", "", "direction"},
		{"limit=-1", "", "limit"},
		{"limit=x", "", "limit"},
	} {
		q, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		p, err := PageOf(q, 0)
		got := ""
		if err == nil {
			var page []item
			var more bool
			page, more, err = Paginate(items(), p, func(x item) string { return x.id }, field)
			for _, x := range page {
				got += x.id
			}
			if more {
				got += "+"
			}
		}
		if err != nil {
			if tc.err == "" || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.query, err)
			}
			continue
		}
		if got != tc.want || tc.err != "" {
			t.Errorf("%s: got %s, want %s %s", tc.query, got, tc.want, tc.err)
		}
	}
}

func TestFamilies(t *testing.T) {
	for name, tc := range map[string]struct {
		f    Family
		want string
	}{
		"identity":  {IdentityFaults(), `{"error":{"code":404,"message":"m","title":"Not Found"}}`},
		"network":   {NetworkFaults(), `{"NeutronError":{"detail":"","message":"m","type":"HTTPNotFound"}}`},
		"placement": {PlacementFaults(), `{"errors":[{"code":"placement.undefined_code","detail":"m","max_version":"2.90","min_version":"2.1","request_id":"r","status":404,"title":"Not Found"}]}`},
		"volume":    {VolumeFaults(), `{"itemNotFound":{"code":404,"message":"m"}}`},
	} {
		if body, _ := tc.f.Encode(Fault{Status: 404, Message: "m", RequestID: "r", Version: V(1, 23), Range: &Microversions{Min: V(2, 1), Max: V(2, 90)}}); string(body) != tc.want {
			t.Errorf("%s: %s", name, body)
		}
	}
	if body, _ := PlacementFaults().Encode(Fault{Status: 404, Message: "m", Version: V(1, 22)}); strings.Contains(string(body), "code") {
		t.Errorf("placement tells its codes before 1.23: %s", body)
	}
	for accept, want := range map[string][2]string{
		"*/*":              {"text/html", "&lt;m&gt;"},
		"application/json": {"application/json", `"message":"<m>"`},
		"":                 {"text/plain", "<m>"},
	} {
		if body, ct := ImageFaults().Encode(Fault{Status: 404, Message: "<m>", Accept: accept}); !strings.Contains(string(body), want[1]) || !strings.HasPrefix(ct, want[0]) {
			t.Errorf("image to %q: %s %s", accept, ct, body)
		}
	}
}
