package system

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/test/cloud"
)

// otherRegistry is another cloud's, where images are in a project that is called as
// Docker's own are. It asks for a password, and can go away.
type otherRegistry struct {
	cloud *cloud.Cloud
	creds string // of skopeo
	addr  string // HOST:PORT
	srv   *http.Server

	mu   sync.Mutex
	came []string // requests
}

// newOtherRegistry starts one at an address of this machine.
func newOtherRegistry(t *testing.T, host string) *otherRegistry {
	t.Helper()
	o := &otherRegistry{cloud: cloud.New(t)}
	projectID(t, o.cloud, "library")
	o.creds = member(t, o.cloud, "library", "librarian", "member")
	way := httputil.NewSingleHostReverseProxy(must[*url.URL](t)(url.Parse(o.cloud.URL())))
	l := must[net.Listener](t)(net.Listen("tcp", net.JoinHostPort(host, "0")))
	o.addr = l.Addr().String()
	o.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		if r.Header.Get("Authorization") != "" {
			o.came = append(o.came, r.Method+" "+r.URL.Path)
		}
		o.mu.Unlock()
		way.ServeHTTP(w, r)
	})}
	go func() { _ = o.srv.Serve(l) }() // until it is closed
	t.Cleanup(func() { o.srv.Close() })
	return o
}

// put pushes an image.
func (o *otherRegistry) put(t *testing.T, dir, tag, name string) {
	t.Helper()
	if err := (skopeo{t, o.cloud}).push(o.creds, dir, tag, name); err != nil {
		t.Fatal(err)
	}
}

// gets counts what was asked for.
func (o *otherRegistry) gets(what string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.came {
		if strings.HasPrefix(c, "GET ") && strings.Contains(c, what) {
			n++
		}
	}
	return n
}

// digestOf is an image's, as a layout has it.
func digestOf(t *testing.T, dir string) string {
	t.Helper()
	_, rest, _ := strings.Cut(string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "index.json")))), `"digest":"`)
	d, _, _ := strings.Cut(rest, `"`)
	return d
}

// logins lets a control member log in there.
func (o *otherRegistry) logins(t *testing.T, dataDir string) {
	t.Helper()
	user, password, _ := strings.Cut(o.creds, ":")
	raw := must[[]byte](t)(json.Marshal(map[string]any{"auths": map[string]any{"docker.io": map[string]string{"username": user, "password": password}}}))
	if err := os.WriteFile(filepath.Join(dataDir, "registry", "upstreams.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRegistryMirror pulls images of docker.io, which is a registry of this machine, by
// way of the region's, and while it is away.
func TestRegistryMirror(t *testing.T) {
	o := newOtherRegistry(t, "127.0.0.1")
	one, two := layout(t, "1", "shared", strings.Repeat("one ", 1<<20)), layout(t, "1", "shared", "two")
	o.put(t, one, "1", "library/box:1")
	o.put(t, one, "1", "library/other:1")
	d := newDock(t, "--registry-mirror", "docker.io=http://"+o.addr)
	o.logins(t, d.cloud.Dir)
	pulled := func(ref, dir string) {
		t.Helper()
		if out := d.must("pull", ref); !strings.Contains(out, "Digest: "+digestOf(t, dir)) {
			t.Errorf("%s: %s", ref, out)
		}
	}
	pulled("box:1", one)
	d.must("rmi", "box:1")
	pulled("box:1", one)
	if n := o.gets("/blobs/"); n != 3 {
		t.Errorf("%d blobs were asked for, there are 3: %v", n, o.came)
	}
	if out := d.mustBuild(false, "-t", "built", files(t, map[string]string{"Dockerfile": "FROM other:1 AS box\nFROM busybox\nCOPY --from=box /file /from\nRUN head -c 7 /from\n"})); !strings.Contains(out, "one one") {
		t.Errorf("build: %s", out)
	}
	testMirrorClients(t, d.cloud, one)
	o.put(t, two, "1", "library/box:1")
	pulled("box:1", two)

	o.srv.Close()
	d.must("rmi", "box:1")
	pulled("box:1", two)
	pulled("box@"+digestOf(t, one), one)
	d.cloud.Kill()
	d.cloud.Up()
	d.run(nil, "rmi", "-f", "box:1")
	pulled("box:1", two)
	log := string(must[[]byte](t)(os.ReadFile(filepath.Join(d.cloud.Dir, "strata.log"))))
	if strings.Contains(log, "a-password") || !strings.Contains(log, "does not answer") {
		t.Error("the log tells the password, or not that the registry is away")
	}
	// Whoever takes the mirror back, by a start, asks for nothing of it any more.
	d.cloud.Must("down")
	d.cloud.Flags = append(d.cloud.Flags, "--registry-mirror", "docker.io=")
	d.cloud.Up()
	demo := d.cloud.Auth("strata-demo")
	s := skopeo{t, d.cloud}
	s.refused("a mirror that was taken back", []string{"denied"}, "inspect", "--tls-verify=false", "--creds", "demo/"+demo["username"]+":"+demo["password"], s.ref("mirror/docker.io/library/box:1"))
}

// testMirrorClients: others than the region's own nodes use the mirror in their ways.
func testMirrorClients(t *testing.T, c *cloud.Cloud, dir string) {
	demo := c.Auth("strata-demo")
	creds := "demo/" + demo["username"] + ":" + demo["password"]
	s := skopeo{t, c}
	same := func(what, got string) {
		t.Helper()
		if out, err := exec.Command("diff", "-r", filepath.Join(dir, "blobs"), filepath.Join(got, "blobs")).CombinedOutput(); err != nil {
			t.Errorf("%s: another image: %s", what, out)
		}
	}
	got, err := s.pull(creds, "mirror/docker.io/library/box:1")
	if err != nil {
		t.Fatal(err)
	}
	same("by its name", got)
	s.refused("nobody", []string{"unauthorized", "authentication required"}, "inspect", "--tls-verify=false", "--no-creds", s.ref("mirror/docker.io/library/box:1"))
	s.refused("a push", []string{"Mirrors are only read", "denied", "unsupported", "405", "501"}, "copy", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+dir+":1", s.ref("mirror/docker.io/library/box:2"))
	// podman and its relatives, whose mirrors are in a file.
	conf := filepath.Join(t.TempDir(), "registries.conf")
	text := "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"" + c.Listen + "/mirror/docker.io\"\ninsecure = true\n"
	auth := filepath.Join(filepath.Dir(conf), "auth.json")
	s.must("login", "--tls-verify=false", "--authfile", auth, "-u", strings.Split(creds, ":")[0], "-p", demo["password"], c.Listen)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got = t.TempDir()
	s.must("--registries-conf", conf, "copy", "--authfile", auth, "docker://docker.io/library/box:1", "oci:"+got+":x")
	same("as registries.conf has it", got)
}

// TestRegistryMirrorOfNodes pulls by way of the mirror on a node that is no control member.
func TestRegistryMirrorOfNodes(t *testing.T) {
	if _, err := exec.LookPath("runc"); err != nil {
		needs.Missing(t, "containers need runc: make deps")
	}
	p := newPool(t, 2)
	first, second := p.All[0], p.All[1]
	o := newOtherRegistry(t, first.Addr[:strings.LastIndexByte(first.Addr, '.')]+".1")
	dir := layout(t, "1", "shared", "of a pool")
	o.put(t, dir, "1", "library/box:1")
	p.strata(first, "down")
	p.strata(first, "up", "--detach", "--listen", first.Addr+":5000", "--cluster-listen", first.Addr+":5001", "--name", first.Name, "--public-cidr", p.public, "--registry-mirror", "docker.io=http://"+o.addr)
	o.logins(t, first.DataDir)
	p.awaitNodes(2)
	cli := dockerCLI(t)
	for _, h := range p.All {
		d := p.dock(h, cli)
		// A node that has not heard of mirrors yet asks the registry itself, which takes long.
		d.limit = 6 * time.Second
		d.eventually(h.Name+" to pull", func() bool {
			r := d.run(nil, "pull", "box:1")
			return r.code == 0 && strings.Contains(r.out, "Digest: "+digestOf(t, dir))
		})
	}
	if n := o.gets("/blobs/"); n != 3 {
		t.Errorf("for two nodes %d blobs were asked for, there are 3: %v", n, o.came)
	}
	p.strata(second, "down")
	if out, err := p.try(second, "up", "--detach", "--registry-mirror", "docker.io=https://x.example"); err == nil {
		t.Errorf("a node takes a mirror: %s", out)
	}
	p.strata(second, "up", "--detach")
}
