package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/wait"
)

const (
	imageID  = "11111111-1111-4111-8111-111111111111"
	project1 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"
	project2 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2"
)

var owner = &policy.Credentials{UserID: "u1", ProjectID: project1, Roles: []string{"member", "reader"}}

// people are who the tokens of the tests belong to.
var people = map[string]*policy.Credentials{
	"owner":  owner,
	"reader": {UserID: "u3", ProjectID: project1, Roles: []string{"reader"}},
	"other":  {UserID: "u2", ProjectID: project2, Roles: []string{"member", "reader"}},
	"admin":  {UserID: "a", ProjectID: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9", Roles: []string{"admin", "member", "reader"}},
}

type tokens struct{}

func (tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := people[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "no such token")
}

// world is a volume service with one simulated node.
type world struct {
	t       testing.TB
	db      *store.DB
	engine  *saga.Engine
	svc     *Service
	node    *nodestest.Agent
	images  *fakeImages
	servers *fakeServers
	handler http.Handler
}

func newWorld(t testing.TB, opt saga.Options) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, engine: saga.New(db, opt), images: &fakeImages{made: map[string]string{}}, servers: &fakeServers{}}
	reg := nodes.New(db)
	w.svc = New(Options{DB: db, Sagas: w.engine, Nodes: reg, Images: w.images, Servers: w.servers, Log: log})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.node = &nodestest.Agent{Info: nodeapi.NodeInfo{ID: "node-1", Host: "node-1"}}
	if err := w.node.Register(t.Context(), db, reg); err != nil {
		t.Fatal(err)
	}
	rules, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Auth: tokens{}, Policy: rules, Log: log, Metrics: rest.NewMetrics()}
	if w.handler, err = kit.Handler(w.svc.API()); err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs the sagas until the test ends.
func (w *world) start() *world {
	ctx, stop := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = w.engine.Run(ctx) })
	w.t.Cleanup(func() { stop(); group.Wait() })
	return w
}

// settled waits until no saga is open.
func (w *world) settled() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, "the sagas' ends", time.Millisecond, func(context.Context) (bool, error) { return w.engine.Open() == 0, nil }); err != nil {
		w.t.Fatal(err)
	}
}

// answer is what a request got.
type answer struct {
	t      testing.TB
	what   string
	status int
	raw    []byte
	body   map[string]any
}

// do makes a request at a microversion; who names a token.
func (w *world) do(who, version, method, path, body string) *answer {
	w.t.Helper()
	req := httptest.NewRequest(method, "/volume/v3"+path, bytes.NewReader([]byte(body)))
	req.Header.Set("X-Auth-Token", who)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", "volume "+version)
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	a := &answer{t: w.t, what: method + " " + path + " " + body, status: rec.Code, raw: rec.Body.Bytes()}
	if len(a.raw) > 0 {
		if err := json.Unmarshal(a.raw, &a.body); err != nil {
			w.t.Fatalf("%s: %v: %s", a.what, err, a.raw)
		}
	}
	return a
}

// want demands the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.raw)
	}
	return a
}

// in is the object under the key.
func (a *answer) in(key string) map[string]any {
	a.t.Helper()
	m, ok := a.body[key].(map[string]any)
	if !ok {
		a.t.Fatalf("%s: no %s in %s", a.what, key, a.raw)
	}
	return m
}

// volume makes a volume and waits for it.
func (w *world) volume(fields string) string {
	w.t.Helper()
	id := w.do("owner", "3.70", "POST", "/volumes", `{"volume":{`+fields+`}}`).want(202).in("volume")["id"].(string)
	w.settled()
	return id
}

// status is a volume's.
func (w *world) status(id string) block.Status {
	w.t.Helper()
	v, err := w.svc.Volumes.Get(id)
	if err != nil {
		return "gone"
	}
	return v.Status
}

// clean demands that the node has what the records say, and nothing else.
func (w *world) clean(t testing.TB) {
	t.Helper()
	var want []string
	for _, v := range w.svc.Volumes.All() {
		if v.Node != "" {
			want = append(want, v.ID)
		}
	}
	slices.Sort(want)
	if have := w.node.Volumes(); !slices.Equal(have, want) {
		t.Errorf("the node has the volumes %v, the records %v", have, want)
	}
}

// fakeImages knows one image and keeps what is uploaded.
type fakeImages struct {
	mu   sync.Mutex
	made map[string]string
}

func (*fakeImages) Image(_ context.Context, _ *policy.Credentials, id string) (*Image, error) {
	if id != imageID {
		return nil, errs.NotFoundf("no image %s", id)
	}
	return &Image{ID: id, Name: "tiny", Status: "active", Format: "qcow2", Container: "bare", Size: 10 << 20, Virtual: 3 << 29, MinDisk: 1, Properties: map[string]string{"os": "linux"}}, nil
}

func (*fakeImages) Named(_ context.Context, _ *policy.Credentials, name string) (string, error) {
	if name != "tiny" {
		return "", errs.NotFoundf("no image %s", name)
	}
	return imageID, nil
}

func (f *fakeImages) EnsureImage(_ context.Context, n NewImage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made[n.ID] += ""
	return nil
}

func (f *fakeImages) Upload(_ context.Context, id string, data io.Reader) error {
	raw, err := io.ReadAll(data)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made[id] = string(raw)
	return err
}

func (f *fakeImages) Discard(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.made, id)
	return nil
}

// fakeServers keeps which servers were told that a volume grew, by which requests.
type fakeServers struct {
	mu   sync.Mutex
	told []string
}

func (f *fakeServers) VolumeExtended(_ *store.Tx, server, request, _, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, server+" "+request)
	return nil
}
