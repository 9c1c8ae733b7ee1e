package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// world is the registry and the identity service over HTTP, with users:
// PROJECT/rita reads, PROJECT/max is a member, PROJECT/mona a manager; the projects are
// demo and other.
type world struct {
	t     *testing.T
	db    *store.DB
	id    *identity.Service
	svc   *Service
	url   string
	log   *lockedBuffer
	admin string // a token of identity's
	demo  string // ids of projects
	other string
	roles map[string]string
	users map[string]string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fromIdentity is the region's adapter.
type fromIdentity struct{ *identity.Service }

func (f fromIdentity) SignIn(ctx context.Context, in SignIn) (string, *policy.Credentials, error) {
	return f.Service.SignIn(ctx, identity.SignIn(in))
}

func (f fromIdentity) HasProject(ctx context.Context, id string) bool {
	_, err := f.Project(ctx, id)
	return err == nil
}

func (f fromIdentity) ProjectName(ctx context.Context, id string) (string, error) {
	p, err := f.ActiveProject(ctx, id)
	if err != nil {
		return "", err
	}
	return p.Name, nil
}

const password = "a password"

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, log: &lockedBuffer{}, roles: map[string]string{}, users: map[string]string{}}
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if w.db, err = store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if w.id, err = identity.New(w.db, identity.Options{PublicURL: "http://cloud.example", BcryptCost: bcrypt.MinCost, TokenTTL: 1000 * time.Hour, Log: log}); err != nil {
		t.Fatal(err)
	}
	o := Options{DB: w.db, Log: log, Dir: t.TempDir(), Identity: fromIdentity{w.id}}
	for _, f := range change {
		f(&o)
	}
	w.svc = New(o)
	if w.svc.Policy, err = policy.New("", identity.Policies(), Policies()); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.id.Bootstrap(t.Context(), identity.BootstrapOptions{AdminPassword: password, DemoPassword: password}); err != nil {
		t.Fatal(err)
	}
	w.start()
	kit := &rest.Kit{Auth: w.id, Policy: w.svc.Policy, Log: log, AuthURL: "/identity/v3"}
	apis, err := kit.Handler(w.id.APIs()...)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", rest.NewMetrics().Count("registry", w.svc))
	mux.Handle(MirrorPath, w.svc)
	mux.Handle("/", apis)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.people()
	return w
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(cancel)
	if err := w.svc.Start(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) people() {
	w.t.Helper()
	var err error
	if w.admin, _, err = w.id.SignIn(w.t.Context(), identity.SignIn{Project: "admin", User: "admin", Secret: password}); err != nil {
		w.t.Fatal(err)
	}
	demo, _ := w.id.ProjectNamed(identity.DefaultDomain, "demo")
	w.demo, w.other = demo.ID, w.project("other", "default")
	for _, role := range w.keystone("GET", "/roles", nil)["roles"].([]any) {
		w.roles[role.(map[string]any)["name"].(string)] = role.(map[string]any)["id"].(string)
	}
	for user, role := range map[string]string{"rita": "reader", "max": "member", "mona": "manager"} {
		for name, project := range map[string]string{"demo": w.demo, "other": w.other} {
			w.user(name+"-"+user, "default", project, role)
		}
	}
}

func (w *world) project(name, domain string) string {
	w.t.Helper()
	return w.keystone("POST", "/projects", map[string]any{"project": map[string]any{"name": name, "domain_id": domain}})["project"].(map[string]any)["id"].(string)
}

func (w *world) user(name, domain, project, role string) {
	w.t.Helper()
	u := w.keystone("POST", "/users", map[string]any{"user": map[string]any{"name": name, "domain_id": domain, "password": password}})["user"].(map[string]any)["id"].(string)
	w.users[name] = u
	w.keystone("PUT", "/projects/"+project+"/users/"+u+"/roles/"+w.roles[role], nil)
}

// keystone sends a request of the administrator's, or of whoever's token it is, that has to succeed.
func (w *world) keystone(method, path string, body any, token ...string) map[string]any {
	w.t.Helper()
	raw, _ := json.Marshal(body)
	q, _ := http.NewRequest(method, w.url+"/v3"+path, bytes.NewReader(raw))
	q.Header.Set("X-Auth-Token", append(token, w.admin)[0])
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(a.Body)
	if a.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %d %s", method, path, a.StatusCode, text)
	}
	var out map[string]any
	_ = json.Unmarshal(text, &out)
	return out
}

// as is a client who gets a token for whatever it is challenged to, as docker does.
type as struct {
	w          *world
	name, pass string
}

func (w *world) as(name string) as { return as{w, name, password} }

// demo and other give the well-known people: who is rita, max or mona.
func (w *world) ofDemo(who string) as  { return w.as("demo/demo-" + who) }
func (w *world) ofOther(who string) as { return w.as("other/other-" + who) }

// got is an answer.
type got struct {
	status int
	header http.Header
	body   []byte
}

// code is the first error's.
func (g got) code() string {
	var e struct{ Errors []struct{ Code string } }
	if json.Unmarshal(g.body, &e) != nil || len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Code
}

func (w *world) raw(method, path string, body io.Reader, header ...string) got {
	w.t.Helper()
	q, err := http.NewRequest(method, w.url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if q.URL, err = url.Parse(w.url + path); err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := client.Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return got{a.StatusCode, a.Header, text}
}

// token asks for one.
func (a as) token(scopes ...string) (string, got) {
	a.w.t.Helper()
	q := url.Values{"scope": scopes, "service": {"x"}}
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth(a.name, a.pass)
	g := a.w.raw("GET", "/v2/token?"+q.Encode(), nil, "Authorization", r.Header.Get("Authorization"))
	var t struct{ Token string }
	_ = json.Unmarshal(g.body, &t)
	return t.Token, g
}

// do sends a request; body may be sent twice.
func (a as) do(method, path, body string, header ...string) got {
	a.w.t.Helper()
	g := a.w.raw(method, path, strings.NewReader(body), header...)
	if g.status != 401 {
		return g
	}
	token, t := a.token(challenged(g)...)
	if t.status != 200 {
		return t
	}
	return a.w.raw(method, path, strings.NewReader(body), append(header, "Authorization", "Bearer "+token)...)
}

// challenged is the scope that a client is told to ask for.
func challenged(g got) []string {
	_, rest, ok := strings.Cut(g.header.Get("WWW-Authenticate"), `scope="`)
	if !ok {
		return nil
	}
	scope, _, _ := strings.Cut(rest, `"`)
	return []string{scope}
}

// want is do with an expected status.
func (a as) want(status int, method, path, body string, header ...string) got {
	a.w.t.Helper()
	g := a.do(method, path, body, header...)
	if g.status != status {
		a.w.t.Errorf("%s: %s %s: %d %s, want %d", a.name, method, path, g.status, g.body, status)
	}
	return g
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

func sum(text string) string { return digest.FromString(text).String() }

// manifest is of an image with these layers, whose config is the last.
func manifest(layers ...string) string {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	var all []descriptor
	for _, l := range layers {
		all = append(all, descriptor{"application/vnd.oci.image.layer.v1.tar", sum(l), len(l)})
	}
	config := all[len(all)-1]
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	raw, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": all[:len(all)-1]})
	return string(raw)
}

// layer uploads one as docker does: POST, PATCH, PUT.
func (a as) layer(repo, content string) got {
	a.w.t.Helper()
	g := a.do("POST", "/v2/"+repo+"/blobs/uploads/", "")
	if g.status != 202 {
		return g
	}
	g = a.do("PATCH", g.header.Get("Location"), content, "Content-Type", "application/octet-stream")
	if g.status != 202 {
		return g
	}
	return a.do("PUT", g.header.Get("Location")+"&digest="+url.QueryEscape(sum(content)), "")
}

// push pushes an image with these layers and gives its digest.
func (a as) push(repo, tag string, layers ...string) string {
	a.w.t.Helper()
	for _, l := range layers {
		if g := a.do("HEAD", "/v2/"+repo+"/blobs/"+sum(l), ""); g.status == 200 {
			continue
		}
		if g := a.layer(repo, l); g.status != 201 {
			a.w.t.Fatalf("pushing a layer to %s as %s: %d %s", repo, a.name, g.status, g.body)
		}
	}
	m := manifest(layers...)
	g := a.want(201, "PUT", "/v2/"+repo+"/manifests/"+tag, m, "Content-Type", ociManifest)
	if d := g.header.Get("Docker-Content-Digest"); d != sum(m) {
		a.w.t.Errorf("the manifest's digest is %s, want %s", d, sum(m))
	}
	return sum(m)
}

// pull gets a manifest.
func (a as) pull(status int, repo, ref string) got {
	a.w.t.Helper()
	return a.want(status, "GET", "/v2/"+repo+"/manifests/"+ref, "", "Accept", ociManifest)
}

// later makes the service believe that time has passed.
func (w *world) later(d time.Duration) {
	before := w.svc.now
	w.svc.mu.Lock()
	defer w.svc.mu.Unlock()
	w.svc.now = func() time.Time { return before().Add(d) }
}

// sweepAll does what the sweeper does.
func (w *world) sweepAll() {
	w.t.Helper()
	for _, key := range w.svc.unwanted() {
		if err := w.svc.sweep(w.t.Context(), key); err != nil && !errs.Is(err, errs.NotFound) {
			w.t.Errorf("%s: %v", key, err)
		}
	}
}

// kept are how many blobs and links there are.
func (w *world) kept() string {
	return fmt.Sprintf("%d blobs, %d links", w.svc.blobs.Len(), w.svc.links.Len())
}
