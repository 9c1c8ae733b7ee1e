package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/policy"
)

// wire is the way to another registry, which can be cut.
type wire struct {
	*httptest.Server
	to  http.Handler
	cut atomic.Bool

	mu   sync.Mutex
	came []string // requests, without those for tokens
}

func newWire(t *testing.T, to http.Handler) *wire {
	w := &wire{to: to}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("Authorization") != "" && r.URL.Path != "/v2/token" {
			w.mu.Lock()
			w.came = append(w.came, r.Method+" "+r.URL.Path)
			w.mu.Unlock()
		}
		w.to.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// count tells how often something was asked for.
func (w *wire) count(method, what string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.came {
		if strings.HasPrefix(c, method+" ") && strings.Contains(c, what) {
			n++
		}
	}
	return n
}

// mirrorWorld is a registry that mirrors docker.io, which is another one like it.
type mirrorWorld struct {
	*world
	hub  *world
	wire *wire
}

// hubPassword is in the mirror's file of credentials.
const hubLogin = "library/library-max"

func newMirrorWorld(t *testing.T, change ...func(*Options)) *mirrorWorld {
	t.Helper()
	hub := newWorld(t)
	hub.user("library-max", "default", hub.project("library", "default"), "member")
	u, err := url.Parse(hub.url)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirrorWorld{hub: hub, wire: newWire(t, httputil.NewSingleHostReverseProxy(u))}
	m.world = newWorld(t, append([]func(*Options){func(o *Options) { m.mirrors(o, m.wire.URL) }}, change...)...)
	return m
}

// mirrors sets the mirror up.
func (m *mirrorWorld) mirrors(o *Options, address string) {
	o.Mirrors = map[string]string{"docker.io": address}
	raw, _ := json.Marshal(map[string]any{"auths": map[string]any{hubKey: map[string]string{"username": hubLogin, "password": password}}})
	if err := os.WriteFile(filepath.Join(o.Dir, loginsFile), raw, 0o600); err != nil {
		panic(err)
	}
}

// whole pulls an image of two layers by its tag, at a path.
func (m *mirrorWorld) whole(who as, path, query, tag string, layers ...string) {
	m.t.Helper()
	g := who.want(200, "GET", path+"/manifests/"+tag+query, "", "Accept", ociManifest)
	if string(g.body) != manifest(layers...) || g.header.Get("Docker-Content-Digest") != sum(manifest(layers...)) {
		m.t.Errorf("%s:%s is %s", path, tag, g.body)
	}
	for _, l := range layers {
		if g := who.want(200, "GET", path+"/blobs/"+sum(l)+query, ""); string(g.body) != l {
			m.t.Errorf("the layer %q is %q", l, g.body)
		}
	}
}

// TestMirror pulls an image by way of the mirror, and again while its registry is away.
func TestMirror(t *testing.T) {
	m := newMirrorWorld(t)
	box := m.hub.as(hubLogin)
	box.push("library/box", "1", "shared", "one")
	rita, max := m.ofDemo("rita"), m.ofDemo("max")
	const path = "/v2/mirror/docker.io/library/box"
	m.whole(rita, path, "", "1", "shared", "one")
	m.whole(max, "/v2/mirror/docker.io/box", "", "1", "shared", "one")                       // as docker has it
	m.whole(max, "/v2/library/box", "", "1", "shared", "one")                                // dockerd
	m.whole(max, "/v2/library/box", "?ns=docker.io", "1", "shared", "one")                   // containerd
	m.whole(m.ofOther("rita"), "/mirror/docker.io/v2/library/box", "", "1", "shared", "one") // dockerd with a path
	if n := m.wire.count("GET", "/blobs/") + m.wire.count("GET", "/manifests/"); n != 3 {
		t.Errorf("%d requests for two layers and a manifest: %v", n, m.wire.came)
	}
	box.push("library/box", "1", "shared", "two")
	m.whole(rita, path, "", "1", "shared", "two") // the tag has moved
	m.hub.as(hubLogin).push("library/never", "1", "x", "y")

	m.wire.cut.Store(true)
	m.whole(rita, path, "", "1", "shared", "two")
	m.whole(rita, path, "", sum(manifest("shared", "one")), "shared", "one")
	if g := rita.want(503, "GET", "/v2/mirror/docker.io/library/never/manifests/1", "", "Accept", ociManifest); g.code() != "UNAVAILABLE" {
		t.Errorf("what is not here: %s", g.body)
	}
	if n := strings.Count(m.log.String(), "does not answer"); n != 1 {
		t.Errorf("the log says %d times that the registry is away", n)
	}
	if strings.Contains(m.log.String(), password) {
		t.Error("the log has the password")
	}
	m.start() // a restart of the service
	m.whole(rita, path, "", "1", "shared", "two")
}

// TestMirrorAccess: who may use mirrors, and for what.
func TestMirrorAccess(t *testing.T) {
	m := newMirrorWorld(t)
	m.hub.as(hubLogin).push("library/box", "1", "shared", "one")
	const path = "/v2/mirror/docker.io/library/box"
	nobody := func(status int, path string) {
		t.Helper()
		if g := m.raw("GET", path, nil, "Accept", ociManifest); g.status != status {
			t.Errorf("nobody: %s: %d %s, want %d", path, g.status, g.body, status)
		}
	}
	nobody(401, path+"/manifests/1")
	nobody(401, "/v2/token")
	max, rita := m.ofDemo("max"), m.ofDemo("rita")
	if g := max.layer("mirror/docker.io/library/box", "mine"); g.status != 501 && g.status != 405 {
		t.Errorf("a push to a mirror: %d %s", g.status, g.body)
	}
	if g := m.ofDemo("mona").do("DELETE", path+"/manifests/"+sum(manifest("shared", "one")), ""); g.status != 501 && g.status != 405 {
		t.Errorf("a deletion in a mirror: %d %s", g.status, g.body)
	}
	for p, status := range map[string]int{
		path + "/manifests/none":                                    404,
		path + "/blobs/" + sum("none"):                              404,
		path + "/blobs/sha256:x":                                    400,
		path + "/manifests/%20":                                     400,
		"/v2/mirror/quay.example/a/b/manifests/1":                   403, // a project of that name
		"/mirror/quay.example/v2/a/b/manifests/1":                   404,
		"/v2/mirror/docker.io/%2e%2e/%2e%2e/demo/web/manifests/1":   400,
		"/v2/mirror/docker.io/Upper/manifests/1":                    400,
		"/v2/other/web/manifests/1":                                 403, // never looked for elsewhere
		"/v2/anybody/web/manifests/1":                               403,
		"/v2/mirror/docker.io/library/box/manifests/1?ns=docker.io": 200, // containerd, of a mirror with a path
		"/v2/library/box/manifests/1?ns=x.org":                      403, // which is another registry's
	} {
		rita.want(status, "GET", p, "", "Accept", ociManifest)
	}
	if n := m.wire.count("", "web"); n != 0 {
		t.Errorf("the registry was asked for projects' images: %v", m.wire.came)
	}
	// A private layer is not had by way of a mirror.
	max.push("demo/own", "1", "private", "config")
	rita.want(404, "GET", path+"/blobs/"+sum("private"), "")
	// Of a project that is called as Docker's own images are.
	m.user("library-max", "default", m.project("library", "default"), "member")
	own := m.as("library/library-max")
	own.push("library/box", "1", "shared", "own")
	m.whole(own, "/v2/library/box", "", "1", "shared", "own")

	var err error
	open := "registry:mirror: \"@\"\n"
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(open), 0o600); err != nil {
		t.Fatal(err)
	}
	if m.svc.Policy, err = policy.New(file, identity.Policies(), Policies()); err != nil {
		t.Fatal(err)
	}
	nobody(200, path+"/manifests/1")
	nobody(401, "/v2/")
	nobody(401, "/v2/demo/own/manifests/1")
	g := m.raw("GET", "/v2/token?scope=repository:demo/own:pull", nil)
	var tok struct{ Token string }
	if g.status != 200 || json.Unmarshal(g.body, &tok) != nil || tok.Token == "" {
		t.Fatalf("a token for nobody: %d %s", g.status, g.body)
	}
	for p, status := range map[string]int{path + "/manifests/1": 200, "/v2/": 200, "/v2/library/box/manifests/1": 200, "/v2/demo/own/manifests/1": 403, "/v2/_catalog": 403} {
		if g := m.raw("GET", p, nil, "Accept", ociManifest, "Authorization", "Bearer "+tok.Token); g.status != status {
			t.Errorf("%s with a token of nobody: %d %s, want %d", p, g.status, g.body, status)
		}
	}
}

// TestMirrorSweep: what nobody asks for goes, and what is of no mirror any more.
func TestMirrorSweep(t *testing.T) {
	m := newMirrorWorld(t, func(o *Options) { o.MirrorKeep = 24 * time.Hour })
	m.hub.as(hubLogin).push("library/box", "1", "shared", "one")
	m.hub.as(hubLogin).push("library/box", "2", "shared", "two")
	rita := m.ofDemo("rita")
	const path = "/v2/mirror/docker.io/library/box"
	m.whole(rita, path, "", "1", "shared", "one")
	m.whole(rita, path, "", "2", "shared", "two")
	if k := m.kept(); k != "5 blobs, 7 links" {
		t.Fatalf("at first: %s", k)
	}
	sweep := func(after time.Duration, want string) {
		t.Helper()
		m.later(after)
		for range 3 { // manifests, layers, blobs
			m.sweepAll()
		}
		if k := m.kept(); k != want {
			t.Errorf("after %s: %s, want %s", after, k, want)
		}
	}
	sweep(23*time.Hour, "5 blobs, 7 links")
	old := now().Add(-25 * time.Hour) // of what the records say, since they know the real time
	for _, l := range m.svc.links.All() {
		if l.Name != "2" && l.Digest != sum(manifest("shared", "two")) {
			if _, err := m.svc.links.Update(t.Context(), l.ID(), func(l *Link) error { l.Used, l.Since = old, old; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(-16*time.Hour, "3 blobs, 4 links")
	m.svc.Mirrors = nil
	m.svc.mirror.Mirrors = map[string]string{"docker.io": ""}
	m.start()
	sweep(7*time.Hour, "0 blobs, 0 links")
	rita.want(403, "GET", path+"/manifests/2", "")
}

// TestMirrorLimit: what does not fit is given out and not kept, and what is wanted least
// makes room.
func TestMirrorLimit(t *testing.T) {
	m := newMirrorWorld(t, func(o *Options) { o.MirrorLimit = 3000 })
	big, small := strings.Repeat("x", 2500), strings.Repeat("y", 400)
	m.hub.as(hubLogin).push("library/box", "big", big, "c1")
	m.hub.as(hubLogin).push("library/box", "small", small, "c2")
	rita := m.ofDemo("rita")
	const path = "/v2/mirror/docker.io/library/box"
	m.whole(rita, path, "", "small", small, "c2")
	m.whole(rita, path, "", "big", big, "c1")
	m.whole(rita, path, "", "big", big, "c1")
	if _, err := os.Stat(m.svc.blob(sum(big))); !os.IsNotExist(err) {
		t.Errorf("what does not fit was kept: %v", err)
	}
	if n := m.wire.count("GET", "/blobs/"+sum(big)); n != 2 {
		t.Errorf("what is not kept was asked for %d times", n)
	}
	left, err := os.ReadDir(filepath.Join(m.svc.Dir, uploadsDir))
	if err != nil || len(left) > 0 {
		t.Errorf("uploads: %v, %v", left, err)
	}
	m.svc.MirrorLimit = 1000
	m.sweepAll()
	if _, err := m.svc.links.Get(linkID("mirror/docker.io/library/box", tagLink, "small")); err == nil {
		t.Error("nothing has made room")
	}
}
