package dockerwire

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func open(t *testing.T, method, path, body string) (*Request, *httptest.ResponseRecorder, error) {
	t.Helper()
	w := httptest.NewRecorder()
	r, err := Open(w, httptest.NewRequest(method, path, strings.NewReader(body)), "9")
	return r, w, err
}

func TestVersions(t *testing.T) {
	for path, want := range map[string]struct{ version, prefix, path, fault string }{
		"/_ping":         {MaxVersion, "", "/_ping", ""},
		"/v1.24/info":    {"1.24", "/v1.24", "/info", ""},
		"/v1.9/info":     {"1.9", "/v1.9", "/info", "too old"},
		"/v1.99/info":    {"1.99", "/v1.99", "/info", "too new"},
		"/vx/info":       {MaxVersion, "", "/vx/info", ""},
		"/v1.40/a/v1.41": {"1.40", "/v1.40", "/a/v1.41", ""},
	} {
		r, w, err := open(t, "GET", path, "")
		if r.Version != want.version || r.Prefix != want.prefix || r.Path != want.path || (err == nil) != (want.fault == "") || err != nil && !strings.Contains(err.Error(), want.fault) {
			t.Errorf("%s: %q %q %q, %v", path, r.Version, r.Prefix, r.Path, err)
		}
		if got := w.Header().Get("Api-Version"); got != MaxVersion {
			t.Errorf("%s: the answer is of version %q", path, got)
		}
	}
}

func TestTable(t *testing.T) {
	var table Table[string]
	table.Add("GET", "/containers/{id}/json", "container")
	table.Add("GET", "/images/{name}/json", "image")
	table.Add("DELETE", "/images/{name}", "remove")
	for _, c := range []struct{ method, path, handler, name, value string }{
		{"GET", "/v1.40/containers/a/json", "container", "id", "a"},
		{"GET", "/containers/a/b/json", "", "", ""},
		{"GET", "/images/host:5000/a/b/json", "image", "name", "host:5000/a/b"},
		{"DELETE", "/images/a/json", "remove", "name", "a/json"},
		{"POST", "/images/a/json", "", "", ""},
	} {
		r, _, _ := open(t, c.method, c.path, "")
		if h, ok := table.Find(r); h != c.handler || ok != (c.handler != "") || ok && r.Vars[c.name] != c.value {
			t.Errorf("%s %s: %q with %v", c.method, c.path, h, r.Vars)
		}
	}
}

func TestRead(t *testing.T) {
	for body, want := range map[string]errs.Kind{"": errs.Invalid, "{": errs.Invalid, `{"a":"` + strings.Repeat("x", maxBody) + `"}`: errs.TooLarge} {
		r, _, _ := open(t, "POST", "/x", body)
		if err := r.Read(&struct{}{}); !errs.Is(err, want) {
			t.Errorf("%.10q: %v", body, err)
		}
	}
	r, _, _ := open(t, "POST", "/x", "{}")
	r.Header.Set("Content-Type", "text/plain")
	if err := r.Read(&struct{}{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("text: %v", err)
	}
}

func TestFail(t *testing.T) {
	r, w, _ := open(t, "GET", "/x", "")
	Fail(w, r, slog.New(slog.DiscardHandler), errs.NotFoundf("No such <thing>: %s", "x"))
	if w.Code != http.StatusNotFound || w.Body.String() != "{\"message\":\"No such <thing>: x\"}\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r, w, _ = open(t, "GET", "/x", "")
	Fail(w, r, slog.New(slog.DiscardHandler), Late(errors.New("broken off")))
	if w.Body.Len() > 0 {
		t.Errorf("into an answer that had begun: %s", w.Body)
	}
}
