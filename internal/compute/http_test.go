package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
)

// tokens are the callers that the tests know.
var tokens = map[string]*policy.Credentials{
	"member": owner,
	"reader": {UserID: "u2", ProjectID: project1, Roles: []string{"reader"}},
	"other":  {UserID: "u3", ProjectID: project2, Roles: []string{"member", "reader"}},
	"admin":  {UserID: "u0", ProjectID: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0", Roles: []string{"admin", "manager", "member", "reader"}},
}

type fakeAuth struct{}

func (fakeAuth) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := tokens[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "no such token")
}

// handler serves the world's compute API.
func (w *world) handler() http.Handler {
	w.t.Helper()
	engine, err := policy.New("", Policies())
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := (&rest.Kit{Auth: fakeAuth{}, Policy: engine, Log: slog.New(slog.DiscardHandler), AuthURL: "/identity/v3"}).Handler(w.svc.API(), w.svc.LegacyAPI())
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// client talks to the compute API over HTTP.
type client struct {
	*world
	url string
}

func newClient(t testing.TB, hosts ...string) *client {
	w := newWorld(t, saga.Options{}, hosts...).start()
	srv := httptest.NewServer(w.handler())
	t.Cleanup(srv.Close)
	return &client{w, srv.URL}
}

// answer is a response taken apart.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   map[string]any
}

// do sends a request; who is "token" or "token@2.53".
func (c *client) do(who, method, path, body string) *answer {
	c.t.Helper()
	token, version, _ := strings.Cut(who, "@")
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/compute/v2.1"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", "compute "+version)
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
	a := &answer{t: c.t, status: resp.StatusCode, header: resp.Header, what: fmt.Sprintf("%s: %s %s %s", who, method, path, body)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			c.t.Fatalf("%s: %v in %s", a.what, err, raw)
		}
	}
	return a
}

// want demands a status; an error must come in compute's envelope.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got %d, want %d: %v", a.what, a.status, status, a.body)
	}
	if status >= 400 && status != 401 {
		if len(a.body) != 1 {
			a.t.Fatalf("%s: not a fault: %v", a.what, a.body)
		}
		for kind, f := range a.body {
			m, _ := f.(map[string]any)
			if m["code"] != float64(status) || m["message"] == "" {
				a.t.Fatalf("%s: fault %s: %v", a.what, kind, f)
			}
		}
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

// is demands a value at a path.
func (a *answer) is(want any, path ...any) *answer {
	a.t.Helper()
	if got := a.at(path...); fmt.Sprint(got) != fmt.Sprint(want) {
		a.t.Fatalf("%s: %v is %v, want %v", a.what, path, got, want)
	}
	return a
}

// count demands the length of a list.
func (a *answer) count(n int, path ...any) *answer {
	a.t.Helper()
	if l, ok := a.at(path...).([]any); !ok || len(l) != n {
		a.t.Fatalf("%s: %v has %d items, want %d: %v", a.what, path, len(l), n, a.at(path...))
	}
	return a
}

// server creates a server with more fields and waits until it is there.
func (c *client) server(name, more string) string {
	c.t.Helper()
	a := c.do("member@2.96", "POST", "/servers", createText(name, more)).want(202)
	c.settled()
	id, _ := a.at("server", "id").(string)
	return id
}

func createText(name, more string) string {
	return fmt.Sprintf(`{"server":{"name":%q,"flavorRef":"42","imageRef":%q,"networks":"auto"%s}}`, name, imageID, more)
}

func (c *client) act(who, id, body string) *answer {
	c.t.Helper()
	a := c.do(who, "POST", "/servers/"+id+"/action", body)
	c.settled()
	return a
}
