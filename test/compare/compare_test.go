package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// fake is a cloud of one service, which answers requests for things with what it is given.
func fake(t *testing.T, status int, thing string) string {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "secret")
		w.WriteHeader(http.StatusCreated)
		_, err := w.Write([]byte(`{"token":{"catalog":[{"type":"thing","endpoints":[{"interface":"public","url":"` + s.URL + `/base/v2.0"}]}]}}`))
		if err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/base/v2.0/things", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != "secret" || r.Header.Get("OpenStack-API-Version") != "thing 1.5" {
			t.Errorf("headers: %v", r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if _, err := w.Write([]byte(strings.ReplaceAll(thing, "HOST", s.URL))); err != nil {
			t.Error(err)
		}
	})
	return s.URL + "/v3"
}

func play(t *testing.T, url, text string) []exchange {
	t.Helper()
	s, err := parse("test", text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), strings.Replace(url, "://", "://admin:pw@", 1))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.run(t.Context(), []script{s})
	if err != nil {
		t.Fatal(err)
	}
	c.normalise(out)
	return out
}

func TestCompare(t *testing.T) {
	const ask = `admin POST thing@1.5 /v2.0/things {"name":"{run}"} -> id=thing.id`
	a := `{"thing":{"id":"5e5f0a7e-31c8-4b1e-9d0a-000000000001","link":"HOST/base/v2.0/things?b=1&a=2","n":1.0,"when":"2026-01-02T03:04:05Z","tags":["y","x"],"only":1}}`
	b := `{"thing":{"id":"5e5f0a7e-31c8-4b1e-9d0a-000000000002","link":"HOST/base/v2.0/things?a=2&b=1","n":1,"when":"2026-01-02T09:09:09Z","tags":["x","y"],"more":"m"}}`
	got := diffAll(play(t, fake(t, 201, a), ask), play(t, fake(t, 201, b), ask))
	if len(got) != 2 || got[0].kind != "missing" || got[0].at != ".thing.only" || got[1].kind != "extra" || got[1].at != ".thing.more" {
		t.Errorf("got %+v", got)
	}
	got = diffAll(play(t, fake(t, 201, a), ask), play(t, fake(t, 400, a), ask))
	if len(got) != 1 || got[0].kind != "status" || !strings.HasPrefix(got[0].b, "400 ") {
		t.Errorf("another status: %+v", got)
	}
}

func TestValues(t *testing.T) {
	for _, tc := range []struct{ a, b, want string }{
		{`{"x":1}`, `{"x":"1"}`, "type .x"},
		{`{"x":null}`, `{"x":""}`, "type .x"},
		{`{"x":"a"}`, `{"x":"b"}`, "value .x"},
		{`{"x":[{"y":1},{"y":2}]}`, `{"x":[{"y":1}]}`, "length .x"},
		{`{"error":{"message":"a"}}`, `{"error":{"message":"b"}}`, ""},
		{`{"x":{}}`, `{"x":[]}`, "type .x"},
	} {
		d := &differ{key: "k", seen: map[difference]bool{}}
		var a, b any
		if json.Unmarshal([]byte(tc.a), &a) != nil || json.Unmarshal([]byte(tc.b), &b) != nil {
			t.Fatal("bad case")
		}
		d.value("", a, b)
		got := ""
		if len(d.out) > 0 {
			got = d.out[0].kind + " " + d.out[0].at
		}
		if len(d.out) > 1 || got != tc.want {
			t.Errorf("%s %s: %v", tc.a, tc.b, d.out)
		}
	}
}

func TestParse(t *testing.T) {
	s, err := parse("test", "# words\n\nlogin m {run}-m pw {run}\nm PUT image@2 /v2/x +Content-Type= +If-Match=3 <data -> id=Location")
	if err != nil || len(s.steps) != 2 {
		t.Fatal(s, err)
	}
	st := s.steps[1]
	if s.steps[0].word != "login" || st.body != "data" || st.version != "2" || len(st.header) != 2 || st.header[1] != [2]string{"If-Match", "3"} || st.save[0] != [2]string{"id", "Location"} {
		t.Errorf("%+v", st)
	}
	for _, bad := range []string{"login m", "m GET x", "m GET x / -> id"} {
		if _, err := parse("test", bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestScripts holds the embedded scripts and the file of explanations to their forms.
func TestScripts(t *testing.T) {
	list, err := scripts()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range list {
		n += len(s.steps)
	}
	if n < 1000 {
		t.Errorf("only %d steps", n)
	}
	known, err := readKnown(filepath.Join("..", "..", "docs", "compat-differences.yaml"))
	if err != nil || len(known) == 0 {
		t.Errorf("%d explanations, %v", len(known), err)
	}
}
