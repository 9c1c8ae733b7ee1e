package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// cloud is identity served over HTTP from a memory store.
type cloud struct {
	t   testing.TB
	svc *Service
	url string
}

func newCloud(t testing.TB, change ...func(*Options)) *cloud {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	opt := Options{PublicURL: "http://cloud.example", BcryptCost: bcrypt.MinCost, Log: log}
	for _, f := range change {
		f(&opt)
	}
	svc, err := New(db, opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	boot := BootstrapOptions{AdminPassword: "admin-pw", DemoPassword: "demo-pw"}
	for range 2 { // the second time must change nothing
		if err := svc.Bootstrap(t.Context(), boot); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Auth: svc, Policy: engine, Log: log, AuthURL: "/identity/v3"}
	h, err := kit.Handler(svc.APIs()...)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &cloud{t, svc, srv.URL}
}

// answer is a response taken apart.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   map[string]any
	what   string
}

// do sends a request; body may be nil or JSON text.
func (c *cloud) do(method, path, tok, body string, header ...string) *answer {
	c.t.Helper()
	if !strings.HasPrefix(path, "/identity") && !strings.HasPrefix(path, "/v3") {
		path = "/v3" + path
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if tok != "" {
		req.Header.Set("X-Auth-Token", tok)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := &answer{t: c.t, status: resp.StatusCode, header: resp.Header, what: fmt.Sprintf("%s %s %s", method, path, body)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			c.t.Fatalf("%s: %v in %s", a.what, err, raw)
		}
	}
	return a
}

// want demands a status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got %d, want %d: %v", a.what, a.status, status, a.body)
	}
	return a
}

// at walks the body; a number indexes a list.
func (a *answer) at(path ...any) any {
	a.t.Helper()
	var v any = a.body
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				a.t.Fatalf("%s: no %v in %v", a.what, path, a.body)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				a.t.Fatalf("%s: no %v in %v", a.what, path, a.body)
			}
			v = l[p]
		}
	}
	return v
}

func (a *answer) id(kind string) string {
	a.t.Helper()
	s, _ := a.at(kind, "id").(string)
	if s == "" {
		a.t.Fatalf("%s: no %s.id in %v", a.what, kind, a.body)
	}
	return s
}

// column collects one attribute of a list.
func (a *answer) column(key, attr string) []string {
	a.t.Helper()
	list, ok := a.body[key].([]any)
	if !ok {
		a.t.Fatalf("%s: no list %s in %v", a.what, key, a.body)
	}
	var out []string
	for _, v := range list {
		s, _ := v.(map[string]any)[attr].(string)
		out = append(out, s)
	}
	return out
}

const (
	inAdmin  = `{"project":{"name":"admin","domain":{"id":"default"}}}`
	inDemo   = `{"project":{"name":"demo","domain":{"name":"Default"}}}`
	inSystem = `{"system":{"all":true}}`
	inDomain = `{"domain":{"id":"default"}}`
)

func byPassword(user, secret, scope string) string {
	body := `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"` + user +
		`","domain":{"id":"default"},"password":"` + secret + `"}}}`
	if scope != "" {
		body += `,"scope":` + scope
	}
	return body + `}}`
}

func byToken(tok, scope string) string {
	body := `{"auth":{"identity":{"methods":["token"],"token":{"id":"` + tok + `"}}`
	if scope != "" {
		body += `,"scope":` + scope
	}
	return body + `}}`
}

// login gives a token of user in a scope.
func (c *cloud) login(user, secret, scope string) string {
	c.t.Helper()
	return c.do("POST", "/auth/tokens", "", byPassword(user, secret, scope)).want(201).header.Get("X-Subject-Token")
}

func (c *cloud) admin() string { c.t.Helper(); return c.login("admin", "admin-pw", inAdmin) }
func (c *cloud) demo() string  { c.t.Helper(); return c.login("demo", "demo-pw", inDemo) }
