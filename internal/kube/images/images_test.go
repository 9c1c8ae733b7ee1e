package images

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/credentials"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const (
	ownName  = "192.0.2.1:5000"
	password = "a-password-that-nobody-sees"
	manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`
)

// region is the control plane with a registry that wants a token, but for docker.io's images.
type region struct {
	http   *httptest.Server
	refuse error // to give a password

	mu   sync.Mutex
	came []string
}

func newRegion(t *testing.T) *region {
	r := &region{}
	r.http = httptest.NewServer(r)
	t.Cleanup(r.http.Close)
	return r
}

func (r *region) DialMirror(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", r.http.Listener.Addr().String())
}

func (r *region) PullLogin(_ context.Context, cluster string) (*nodeapi.KubeLogin, error) {
	if r.refuse != nil {
		return nil, r.refuse
	}
	return &nodeapi.KubeLogin{Name: "worker of " + cluster, Password: password, Lasts: 30 * time.Minute}, nil
}

// ServeHTTP implements http.Handler.
func (r *region) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.came = append(r.came, fmt.Sprintf("%s %s?%s %q", q.Method, q.URL.Path, q.URL.RawQuery, q.Header.Get("Authorization")+q.Header.Get(secretHeader)))
	r.mu.Unlock()
	switch {
	case q.URL.Path == tokenPath:
		if q.FormValue("username") != "worker of c1" || q.FormValue("password") != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"token":"opens","access_token":"opens","expires_in":600}`)
	case q.URL.Query().Get(namespaceKey) == "" && q.Header.Get("Authorization") != "Bearer opens":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s%s",service="x",scope="repository:demo/web:pull"`, q.Host, tokenPath))
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Docker-Content-Digest", digest.FromString(manifest).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
		_, _ = io.WriteString(w, manifest) // nothing of a HEAD
	}
}

func (r *region) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.came)
}

// worker is a server with its files.
type worker struct {
	*Server
	dir, socket string
	log         *bytes.Buffer
}

func newWorker(t *testing.T, r *region) *worker {
	t.Helper()
	dir := t.TempDir()
	w := &worker{dir: filepath.Join(dir, "registries"), socket: filepath.Join(dir, "run", "login.sock"), log: &bytes.Buffer{}}
	w.Server = New(Config{Control: r, Dir: func(string) string { return w.dir }, Socket: func(string) string { return w.socket }, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(w.Close)
	return w
}

func part(cluster string, names, mirrors []string) nodeapi.KubePart {
	return nodeapi.KubePart{ID: cluster, Worker: &nodeapi.KubeWorker{Registries: names, Mirrors: mirrors}}
}

func (w *worker) ensure(t *testing.T, p nodeapi.KubePart) {
	t.Helper()
	if err := w.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// login is what the plugin gives kubelet for an image.
func (w *worker) login(image string) (name, secret, problem string) {
	var out, problems bytes.Buffer
	in := fmt.Sprintf(`{"kind":"CredentialProviderRequest","apiVersion":%q,"image":%q}`, credentials.APIVersion, image)
	if credentials.Main([]string{w.socket}, strings.NewReader(in), &out, &problems) != 0 {
		return "", "", problems.String()
	}
	var got struct {
		Auth map[string]struct{ Username, Password string }
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		return "", "", err.Error()
	}
	a := got.Auth[credentials.RegistryOf(image)]
	return a.Username, a.Password, ""
}

// resolve is what containerd does first with an image, by its own code and these files.
func (w *worker) resolve(ctx context.Context, image, name, secret string) error {
	hosts := config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(w.dir), Credentials: func(string) (string, string, error) { return name, secret, nil }})
	_, d, err := docker.NewResolver(docker.ResolverOptions{Hosts: hosts}).Resolve(ctx, image)
	if err == nil && d.Digest != digest.FromString(manifest) {
		err = fmt.Errorf("it is %s", d.Digest)
	}
	return err
}

// TestPull has containerd's own client pull as it is configured.
func TestPull(t *testing.T) {
	r := newRegion(t)
	w := newWorker(t, r)
	w.ensure(t, part("c1", []string{ownName, "127.0.0.1:5000"}, []string{"docker.io"}))
	for _, image := range []string{ownName + "/demo/web:1", "127.0.0.1:5000/demo/web:1"} {
		name, secret, problem := w.login(image)
		if problem != "" {
			t.Fatal(problem)
		}
		if err := w.resolve(t.Context(), image, name, secret); err != nil {
			t.Errorf("%s: %v", image, err)
		}
		if err := w.resolve(t.Context(), image, "", ""); err == nil {
			t.Errorf("%s is had without a password", image)
		}
		if err := w.resolve(t.Context(), image, name, "wrong"); err == nil {
			t.Errorf("%s is had with a wrong password", image)
		}
	}
	before := len(r.requests())
	if err := w.resolve(t.Context(), "docker.io/library/box:1", "somebody", "of-docker"); err != nil {
		t.Error(err)
	}
	if got, want := r.requests()[before:], []string{`HEAD /v2/library/box/manifests/1?ns=docker.io ""`}; !slices.Equal(got, want) {
		t.Errorf("of a mirror there is asked for %q, want %q", got, want)
	}
	for _, q := range r.requests()[:before] {
		if strings.Contains(q, namespaceKey+"=") {
			t.Errorf("the region's own registry is asked for another's images: %s", q)
		}
	}
	secret := w.now.relay.secret
	w.Close() // from when on nobody writes the log
	for _, hidden := range []string{password, secret, "of-docker"} {
		if strings.Contains(w.log.String(), hidden) || hidden == secret && strings.Contains(strings.Join(r.requests(), " "), hidden) {
			t.Errorf("%q is shown: %s; %q", hidden, w.log, r.requests())
		}
	}
}

// TestRelayRefuses whoever is not containerd, and whatever is not pulling.
func TestRelayRefuses(t *testing.T) {
	r := newRegion(t)
	w := newWorker(t, r)
	w.ensure(t, part("c1", []string{ownName}, []string{"docker.io"}))
	at := w.now.relay
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(at.cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	for _, c := range []struct {
		method, path, secret string
		want                 int
	}{
		{"GET", "/v2/library/box/manifests/1?ns=docker.io", at.secret, 200},
		{"GET", "/v2/library/box/manifests/1?ns=docker.io", "", 403},
		{"GET", "/v2/library/box/manifests/1?ns=docker.io", at.secret + "x", 403},
		{"GET", "/v2/token", "", 403},
		{"GET", "/v2/library/box/manifests/1?ns=quay.example", at.secret, 404},
		{"GET", "/v2/library/box/manifests/1", at.secret, 404},
		{"GET", "/identity/v3?ns=" + ownName, at.secret, 404},
		{"GET", "/mirror/docker.io/v2/library/box/manifests/1?ns=" + ownName, at.secret, 404},
		{"PUT", "/v2/demo/web/manifests/1?ns=" + ownName, at.secret, 405},
		{"POST", "/v2/demo/web/blobs/uploads/?ns=" + ownName, at.secret, 405},
		{"DELETE", "/v2/demo/web/manifests/1?ns=" + ownName, at.secret, 405},
		{"DELETE", "/v2/token", at.secret, 405},
	} {
		before := len(r.requests())
		q, err := http.NewRequestWithContext(t.Context(), c.method, at.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set(secretHeader, c.secret)
		a, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if came := len(r.requests()) > before; a.StatusCode != c.want || came != (c.want == 200) {
			t.Errorf("%s %s with %q: %s; it was passed on: %v", c.method, c.path, c.secret, a.Status, came)
		}
	}
	if _, err := http.Get(at.url + "/v2/"); err == nil {
		t.Error("the relay's certificate is believed by everybody")
	}
	r.http.Close()
	if err := w.resolve(t.Context(), ownName+"/demo/web:1", "n", "p"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a control plane: %v", err)
	}
}

// TestLogins are for the region's own registry, and for whom the control plane gives them.
func TestLogins(t *testing.T) {
	r := newRegion(t)
	w := newWorker(t, r)
	w.ensure(t, part("c1", []string{ownName}, []string{"docker.io"}))
	if fi, err := os.Stat(w.socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", fi, err)
	}
	for _, image := range []string{"docker.io/library/box:1", "192.0.2.1/demo/web", "192.0.2.10:5000/demo/web", "other.example/x"} {
		if _, secret, problem := w.login(image); secret != "" || !strings.Contains(problem, "not in the region's registry") {
			t.Errorf("%s: %q, %s", image, secret, problem)
		}
	}
	r.refuse = errs.Forbiddenf("node x does not work for cluster c1")
	if _, secret, problem := w.login(ownName + "/demo/web"); secret != "" || !strings.Contains(problem, "does not work for cluster c1") {
		t.Errorf("refused: %q, %s", secret, problem)
	}
	w.Close()
	if _, secret, problem := w.login(ownName + "/demo/web"); secret != "" || !strings.Contains(problem, "does not answer") {
		t.Errorf("without an agent: %q, %s", secret, problem)
	}
	w.ensure(t, part("c1", []string{ownName}, nil)) // another agent
	r.refuse = nil
	if _, secret, problem := w.login(ownName + "/demo/web"); secret != password {
		t.Errorf("after it came back: %s", problem)
	}
}

// TestFiles follow what is served, and go with the worker.
func TestFiles(t *testing.T) {
	w := newWorker(t, newRegion(t))
	files := func() (out []string) {
		t.Helper()
		err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return ignoreAbsent(err)
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
			out = append(out, strings.TrimPrefix(path, w.dir+"/"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	both := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, n+"/"+hostsFile, n+"/"+certFile)
		}
		return out
	}
	w.ensure(t, part("c1", []string{ownName}, []string{"docker.io", "quay.example", ownName}))
	if got, want := files(), both(ownName, "docker.io", "quay.example"); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if raw, err := os.ReadFile(filepath.Join(w.dir, ownName, hostsFile)); err != nil || !strings.HasPrefix(string(raw), "server = ") {
		t.Errorf("the region's own registry is looked for elsewhere: %s, %v", raw, err)
	}
	w.ensure(t, part("c1", []string{ownName}, []string{"docker.io"}))
	if got, want := files(), both(ownName, "docker.io"); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	for _, bad := range []string{"../x", "a/b", "..", ".", ""} {
		if err := w.Ensure(t.Context(), part("c1", []string{bad}, nil)); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
	if err := w.Ensure(t.Context(), part("c2", []string{ownName}, nil)); !errs.Is(err, errs.Conflict) {
		t.Errorf("another cluster: %v", err)
	}
	for range 2 {
		if err := w.Remove("c1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(w.socket); !os.IsNotExist(err) || len(files()) > 0 {
		t.Errorf("left are %v, %v", files(), err)
	}
	w.ensure(t, part("c2", []string{ownName}, nil))
}
