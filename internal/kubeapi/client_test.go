package kubeapi

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/errs"
)

// serve is a client of a server that answers with h.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	c, err := New(Config{Server: s.URL, CA: ca, Token: "secret", Manager: "me"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var things = Kind{APIVersion: "example/v1", Kind: "Thing", Plural: "things"}

func TestPath(t *testing.T) {
	core := Kind{APIVersion: "v1", Kind: "Node", Plural: "nodes", Clusterly: true}
	for _, c := range []struct{ got, want string }{
		{things.path("a b", "x/y", "scale"), "/apis/example/v1/namespaces/a%20b/things/x%2Fy/scale"},
		{things.path("", ""), "/apis/example/v1/things"},
		{core.path("ignored", "n"), "/api/v1/nodes/n"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

func TestApply(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got := []string{r.Method, r.URL.String(), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), string(raw)}
		want := []string{"PATCH", "/apis/example/v1/namespaces/n/things/x?fieldManager=me&force=true", "application/apply-patch+yaml", "Bearer secret", `{"a":1}`}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	if err := c.Apply(t.Context(), things, "n", "x", map[string]int{"a": 1}); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for status, kind := range map[int]errs.Kind{404: errs.NotFound, 409: errs.Conflict, 403: errs.Forbidden, 422: errs.Invalid, 410: errs.Precondition, 503: errs.Unavailable} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"kind":"Status","message":"why"}`)
		})
		err := c.Get(t.Context(), things, "n", "x", &struct{}{})
		if !errs.Is(err, kind) || err.Error() != "why" {
			t.Errorf("%d: %v", status, err)
		}
		if err := c.Delete(t.Context(), things, "n", "x"); (err == nil) != (status == 404) {
			t.Errorf("%d: deleting: %v", status, err)
		}
	}
}

type thing struct {
	Metadata struct{ Name string } `json:"metadata"`
	Size     int                   `json:"size"`
}

// TestFollow has a server that sends changes, ends the stream, has forgotten the version,
// and is listed anew.
func TestFollow(t *testing.T) {
	item := func(name string, version, size int) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"n","resourceVersion":"%d"},"size":%d}`, name, version, size)
	}
	lists, watches := 0, []string{}
	told := make(chan struct{}) // the reader has seen what the last change left
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("labelSelector") != "a=b" {
			t.Errorf("selects %q", q.Get("labelSelector"))
		}
		if q.Get("watch") == "" {
			if lists++; lists == 1 {
				fmt.Fprintf(w, `{"metadata":{"resourceVersion":"4","continue":"more"},"items":[%s]}`, item("one", 4, 1))
			} else if q.Get("continue") == "more" {
				fmt.Fprintf(w, `{"metadata":{"resourceVersion":"5"},"items":[%s]}`, item("two", 5, 2))
			} else {
				fmt.Fprintf(w, `{"metadata":{"resourceVersion":"20"},"items":[%s]}`, item("new", 20, 9))
			}
			return
		}
		watches = append(watches, q.Get("resourceVersion"))
		send := func(kind, object string) {
			fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, object)
			w.(http.Flusher).Flush()
		}
		switch len(watches) {
		case 1:
			<-told
			send("MODIFIED", item("one", 6, 3))
			<-told
			send("DELETED", item("two", 7, 2))
			<-told
			send("BOOKMARK", item("", 11, 0))
			send("ERROR", `{"code":410,"message":"too old"}`)
		default:
			told <- struct{}{}
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream := Follow[thing](ctx, c, things, "a=b", func(err error) { t.Errorf("failed: %v", err) })
	for i, want := range []string{
		`[{"metadata":{"Name":"one"},"size":1},{"metadata":{"Name":"two"},"size":2}]`,
		`[{"metadata":{"Name":"one"},"size":3},{"metadata":{"Name":"two"},"size":2}]`,
		`[{"metadata":{"Name":"one"},"size":3}]`,
		`[{"metadata":{"Name":"new"},"size":9}]`,
	} {
		got, ok := <-stream
		if !ok {
			t.Fatalf("it ended before state %d", i)
		}
		if raw, _ := json.Marshal(got); string(raw) != want {
			t.Errorf("state %d: %s, want %s", i, raw, want)
		}
		if i < 3 {
			told <- struct{}{}
		}
	}
	<-told // it watches again
	if d := cmp.Diff([]string{"5", "20"}, watches); d != "" {
		t.Error(d)
	}
	cancel()
	for range stream {
	}
}

func TestFromKubeconfig(t *testing.T) {
	got, err := FromKubeconfig([]byte(`
current-context: b
contexts: [{name: a, context: {cluster: x, user: x}}, {name: b, context: {cluster: y, user: z}}]
clusters: [{name: x, cluster: {server: "https://no"}}, {name: y, cluster: {server: "https://yes", certificate-authority-data: Q0E=}}]
users: [{name: z, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Config{Server: "https://yes", CA: []byte("CA"), Certificate: []byte("CERT"), Key: []byte("KEY")}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "current-context: x", "\t", "current-context: b\ncontexts: [{name: b, context: {cluster: y}}]\nclusters: [{name: y, cluster: {server: s, certificate-authority-data: '!'}}]"} {
		if _, err := FromKubeconfig([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestTell writes an event that has all that kubectl describe shows, and the same one again.
func TestTell(t *testing.T) {
	var paths []string
	var last map[string]any
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.URL.Path)
		last = nil
		if err := json.NewDecoder(r.Body).Decode(&last); err != nil {
			t.Error(err)
		}
	})
	e := Event{Of: Reference{Kind: Pods, Namespace: "n", Name: strings.Repeat("p", 253), UID: "u"}, Warning: true, Reason: "Failed", Message: strings.Repeat("m", 2000), From: "me"}
	for i := range 2 {
		e.Count = i + 1
		if err := c.Tell(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if paths[0] != paths[1] || !strings.HasPrefix(paths[0], "PATCH /api/v1/namespaces/n/events/ppp") || len(path.Base(paths[0])) > 253 {
		t.Errorf("it is written at %q", paths)
	}
	of, _ := last["involvedObject"].(map[string]any)
	if last["type"] != "Warning" || last["count"] != float64(2) || len(last["message"].(string)) != maxMessage || of["uid"] != "u" || of["kind"] != "Pod" {
		t.Errorf("%v", last)
	}
	if err := c.Tell(t.Context(), Event{Of: Reference{Kind: Nodes, Name: "one"}, Reason: "ScaleDown"}); err != nil {
		t.Fatal(err)
	}
	if got := paths[2]; !strings.HasPrefix(got, "PATCH /api/v1/namespaces/default/events/one.") {
		t.Errorf("of what is in no namespace: %s", got)
	}
}
