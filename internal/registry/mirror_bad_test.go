package registry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMirrorOfLiars: what a registry gives that is not what was asked for is neither kept
// nor taken for complete.
func TestMirrorOfLiars(t *testing.T) {
	good := manifest("layer", "config")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer elsewhere.Close()
	m := newMirrorWorld(t)
	m.wire.to = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, what, _ := strings.Cut(r.URL.Path, "/v2/library/")
		switch name, rest, _ := strings.Cut(what, "/"); {
		case name == "limited":
			w.WriteHeader(http.StatusTooManyRequests)
		case name == "private":
			w.WriteHeader(http.StatusForbidden)
		case name == "broken":
			w.WriteHeader(http.StatusBadGateway)
		case name == "login": // wants a token of a realm that is not there
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+elsewhere.URL+`/token?signature=secret",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case name == "elsewhere" && strings.HasPrefix(rest, "blobs/"):
			http.Redirect(w, r, elsewhere.URL+"/?signature=secret", http.StatusTemporaryRedirect)
		case name == "huge":
			w.Header().Set("Docker-Content-Digest", sum("huge"))
			_, _ = io.WriteString(w, strings.Repeat("x", 5<<20))
		case rest == "manifests/lies":
			w.Header().Set("Docker-Content-Digest", sum("something else"))
			_, _ = io.WriteString(w, good)
		case rest == "manifests/strange", rest == "manifests/"+sum(`{"schemaVersion":1}`):
			_, _ = io.WriteString(w, `{"schemaVersion":1}`)
		case strings.HasPrefix(rest, "manifests/"):
			w.Header().Set("Content-Type", ociManifest)
			_, _ = io.WriteString(w, good)
		case name == "other" && strings.HasPrefix(rest, "blobs/"):
			_, _ = io.WriteString(w, strings.Repeat("x", chunk+10))
		case name == "short" && strings.HasPrefix(rest, "blobs/"):
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "layer")
		}
	})
	rita := m.ofDemo("rita")
	token, _ := rita.token()
	for path, status := range map[string]int{
		"limited/manifests/1": 429, "private/manifests/1": 403, "broken/manifests/1": 503, "login/manifests/1": 503, "huge/manifests/1": 413,
		"box/manifests/lies": 503, "box/manifests/strange": 404, "box/manifests/" + sum("unknown"): 503,
		"elsewhere/blobs/" + sum("layer"): 503, "private/blobs/" + sum("layer"): 403, "broken/blobs/" + sum("layer"): 503,
	} {
		g := rita.want(status, "GET", "/v2/library/"+path, "", "Accept", ociManifest)
		if strings.Contains(string(g.body), "secret") {
			t.Errorf("%s tells a signature: %s", path, g.body)
		}
	}
	for _, name := range []string{"other", "short"} {
		q, _ := http.NewRequest("GET", m.url+"/v2/library/"+name+"/blobs/"+sum("layer"), nil)
		q.Header.Set("Authorization", "Bearer "+token)
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			continue // nothing was sent when it was found out
		}
		_, err = io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if err == nil && a.StatusCode == 200 {
			t.Errorf("%s: %s: the client takes what it got for complete", name, a.Status)
		}
	}
	if log := m.log.String(); strings.Contains(log, "secret") || strings.Contains(log, password) {
		t.Errorf("the log tells secrets: %s", log)
	}
	if k := m.kept(); k != "0 blobs, 0 links" {
		t.Errorf("of liars there is kept: %s", k)
	}
	if left, err := os.ReadDir(filepath.Join(m.svc.Dir, uploadsDir)); err != nil || len(left) > 0 {
		t.Errorf("uploads: %v, %v", left, err)
	}
}

// TestMirrorTogether: who asks for a layer that is coming reads along, and gets its
// beginning before its end is here; one that nobody wants any more ends.
func TestMirrorTogether(t *testing.T) {
	begin, end := strings.Repeat("a", 3*chunk), strings.Repeat("z", chunk)
	whole := begin + end
	gate, gone, asked := make(chan struct{}), make(chan struct{}), make(chan struct{}, 10)
	m := newMirrorWorld(t)
	m.wire.to = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		_, _ = io.WriteString(w, begin)
		w.(http.Flusher).Flush()
		if strings.Contains(r.URL.Path, "/left/") {
			<-r.Context().Done()
			close(gone)
			return
		}
		<-gate
		_, _ = io.WriteString(w, end)
	})
	token, _ := m.ofDemo("rita").token()
	open := func(name, dgst string) *http.Response {
		u, _ := url.Parse(m.url + "/v2/library/" + name + "/blobs/" + dgst)
		a, err := http.DefaultClient.Do(&http.Request{Method: "GET", URL: u, Header: http.Header{"Authorization": {"Bearer " + token}}})
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != 200 || a.ContentLength != int64(len(whole)) {
			t.Fatalf("%s, %d bytes", a.Status, a.ContentLength)
		}
		if _, err := io.ReadFull(a.Body, make([]byte, chunk)); err != nil {
			t.Fatal(err)
		}
		return a
	}
	one, two := open("box", sum(whole)), open("box", sum(whole))
	close(gate)
	for _, a := range []*http.Response{one, two} {
		rest, err := io.ReadAll(a.Body)
		if err != nil || string(rest) != whole[chunk:] {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		a.Body.Close()
	}
	if len(asked) != 1 {
		t.Errorf("the registry was asked %d times", len(asked))
	}
	open("left", sum("never comes")).Body.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("what nobody wants goes on coming")
	}
}

// TestMirrorNames: what the operator may not give.
func TestMirrorNames(t *testing.T) {
	for host, address := range map[string]string{"docker.io": "https://registry.example.com", "r.example:5000": "http://r.example:5000/mirror/docker.io/", "localhost": ""} {
		if err := CheckMirror(host, address); err != nil {
			t.Errorf("%s=%s: %v", host, address, err)
		}
	}
	for host, address := range map[string]string{"docker": "https://x", "Docker.io": "https://x", "a.b/c": "https://x", "a.example": "ftp://x", "b.example": "registry", "c.example": "https://u:secret@x",
		"d.example": "https://x?y=z", "../e.example": "https://x", "": "https://x", "f.example": "https://u:secret@x y"} {
		if err := CheckMirror(host, address); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: %v", host, address, err)
		}
	}
}
