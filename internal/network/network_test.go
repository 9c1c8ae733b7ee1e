package network

import (
	"bytes"
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
	"github.com/strata-cloud/strata/internal/store"
)

type tokens map[string]*policy.Credentials

func (t tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

// users are the callers of all tests: an administrator, two projects' members and a reader.
var users = tokens{
	"admin": {UserID: "a", ProjectID: "adm", Roles: []string{"admin", "member", "reader"}},
	"alice": {UserID: "u", ProjectID: "p1", Roles: []string{"member", "reader"}},
	"bob":   {UserID: "v", ProjectID: "p2", Roles: []string{"member", "reader"}},
	"ro":    {UserID: "w", ProjectID: "p1", Roles: []string{"reader"}},
}

type node struct{}

func (node) Hosts() []Host { return []Host{{ID: "n1", Name: "n1", Zone: "nova", Alive: true}} }

// world is a running service with its HTTP API.
type world struct {
	testing.TB
	s   *Service
	url string
}

func start(t testing.TB) *world {
	t.Helper()
	return startWith(t, Options{Nodes: node{}})
}

func startWith(t testing.TB, o Options) *world {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler), CompactEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	o.DB, o.Log = db, slog.New(slog.DiscardHandler)
	s := New(o)
	if err := db.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	engine, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Policy: engine, Log: slog.New(slog.DiscardHandler), Metrics: rest.NewMetrics(), AuthURL: "/identity", Auth: users}
	h, err := kit.Handler(s.API())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &world{t, s, srv.URL}
}

// call sends a request; body may be text or a value.
func (w *world) call(token, method, path string, body any, headers ...string) (int, map[string]any) {
	w.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			w.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, w.url+prefix+path, in)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]any{}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			w.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return resp.StatusCode, out
}

// want sends a request that must have the status, and gives the body.
func (w *world) want(status int, token, method, path string, body any, headers ...string) map[string]any {
	w.Helper()
	got, out := w.call(token, method, path, body, headers...)
	if got != status {
		w.Fatalf("%s %s %v: %d %v, want %d", method, path, body, got, out, status)
	}
	return out
}

// make creates a resource and gives its view.
func (w *world) make(token, kind, path, fields string, args ...any) map[string]any {
	w.Helper()
	body := fmt.Sprintf(`{"%s":{%s}}`, kind, fmt.Sprintf(fields, args...))
	return w.want(201, token, "POST", path, body)[kind].(map[string]any)
}

func (w *world) net(token, fields string) string {
	w.Helper()
	return w.make(token, "network", "/networks", "%s", fields)["id"].(string)
}

func (w *world) sub(token, net, cidr, more string) string {
	w.Helper()
	v := 4
	if strings.Contains(cidr, ":") {
		v = 6
	}
	return w.make(token, "subnet", "/subnets", `"network_id":"%s","ip_version":%d,"cidr":"%s"%s`, net, v, cidr, more)["id"].(string)
}

// refusal is the type of a NeutronError.
func refusal(body map[string]any) string {
	e, _ := body["NeutronError"].(map[string]any)
	t, _ := e["type"].(string)
	return t
}

const absent = "00000000-0000-4000-8000-000000000000"
