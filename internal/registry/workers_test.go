package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// workers says of one worker that it works for a project, until it leaves.
type workers struct {
	project string
	left    atomic.Bool
}

var aWorker = Worker{Cluster: "c1", Node: "n1"}

func (x *workers) of(w Worker) (string, error) {
	if w != aWorker || x.left.Load() {
		return "", errs.Forbiddenf("node %s does not work for cluster %s", w.Node, w.Cluster)
	}
	return x.project, nil
}

func workerWorld(t *testing.T) (*world, *workers, as) {
	x := &workers{}
	w := newWorld(t, func(o *Options) { o.Workers = x.of })
	x.project = w.demo
	return w, x, w.worker(aWorker)
}

// worker is a client that has the password of one.
func (w *world) worker(who Worker) as {
	w.t.Helper()
	pass, err := w.svc.WorkerPassword(who)
	if err != nil {
		w.t.Fatal(err)
	}
	return as{w, WorkerName, pass}
}

// TestWorker: a machine that works for a cluster pulls what is the project's, by either name.
func TestWorker(t *testing.T) {
	w, _, worker := workerWorld(t)
	w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	w.ofOther("max").push("other/web", "1", "layer", "{}")
	worker.pull(200, "demo/web", "1")
	worker.pull(200, w.demo+"/web", "1")
	worker.want(200, "GET", "/v2/demo/web/blobs/"+sum("layer"), "")
	worker.pull(403, "other/web", "1")
	worker.pull(403, w.other+"/web", "1")
	if strings.Contains(w.log.String(), worker.pass) {
		t.Error("a password is in the log")
	}
}

// TestWorkerOnlyPulls, whatever it asks for.
func TestWorkerOnlyPulls(t *testing.T) {
	w, _, worker := workerWorld(t)
	w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	kept := w.kept()
	scopes := []string{"repository:demo/web:pull,push,delete,*", "repository:demo/new:push", "registry:catalog:*"}
	token, g := worker.token(scopes...)
	if g.status != 200 {
		t.Fatalf("%d %s", g.status, g.body)
	}
	bearer := []string{"Authorization", "Bearer " + token, "Content-Type", ociManifest, "Accept", ociManifest}
	if g := w.raw("GET", "/v2/demo/web/manifests/1", nil, bearer...); g.status != 200 {
		t.Errorf("pulling: %d %s", g.status, g.body)
	}
	for _, q := range [][3]string{
		{"POST", "/v2/demo/web/blobs/uploads/", ""},
		{"POST", "/v2/demo/new/blobs/uploads/?mount=" + sum("layer") + "&from=demo/web", ""},
		{"PUT", "/v2/demo/web/manifests/2", manifest("layer", "{}")},
		{"DELETE", "/v2/demo/web/manifests/1", ""},
		{"DELETE", "/v2/demo/web/manifests/" + sum(manifest("layer", "{}")), ""},
		{"GET", "/v2/_catalog", ""},
	} {
		if g := w.raw(q[0], q[1], strings.NewReader(q[2]), bearer...); g.status != 401 && g.status != 403 {
			t.Errorf("%s %s: %d %s", q[0], q[1], g.status, g.body)
		}
	}
	if now := w.kept(); now != kept {
		t.Errorf("there is %s, and was %s", now, kept)
	}
	for _, text := range []string{token, worker.pass} {
		if _, err := w.id.Authenticate(t.Context(), text); err == nil {
			t.Error("a worker's password or token opens everything else")
		}
		if g := w.raw("GET", "/v2/demo/web/manifests/1", nil, "X-Auth-Token", text); g.status != 401 {
			t.Errorf("as a token of identity's: %d", g.status)
		}
	}
	if g := w.raw("GET", "/v2/demo/web/manifests/1", nil, "Authorization", "Bearer "+worker.pass, "Accept", ociManifest); g.status != 401 {
		t.Errorf("a password as a token: %d", g.status)
	}
}

// TestWorkerEnds: nothing outlives the password, or what the machine works for.
func TestWorkerEnds(t *testing.T) {
	w, x, worker := workerWorld(t)
	w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	get := func(token string) int {
		return w.raw("GET", "/v2/demo/web/manifests/1", nil, "Authorization", "Bearer "+token, "Accept", ociManifest).status
	}
	token, _ := worker.token("repository:demo/web:pull")
	if s := get(token); s != 200 {
		t.Fatal(s)
	}
	x.left.Store(true)
	if s := get(token); s != 401 {
		t.Errorf("a token of a node that works for it no more: %d", s)
	}
	if _, g := worker.token(); g.status != 401 {
		t.Errorf("its password: %d", g.status)
	}
	x.left.Store(false)
	w.keystone("PATCH", "/projects/"+w.demo, map[string]any{"project": map[string]any{"enabled": false}})
	if s := get(token); s != 401 {
		t.Errorf("of a disabled project: %d", s)
	}
	w.keystone("PATCH", "/projects/"+w.demo, map[string]any{"project": map[string]any{"enabled": true}})
	for _, who := range []as{w.worker(Worker{"c1", "n2"}), w.worker(Worker{"c2", "n1"}), {w, WorkerName, "nonsense"}, {w, WorkerName, token}, {w, WorkerName, ""}, {w, "demo/" + WorkerName, worker.pass}} {
		if _, g := who.token(); g.status != 401 || g.code() != codeUnauthorized {
			t.Errorf("%s %.10s: %d %s", who.name, who.pass, g.status, g.body)
		}
	}
	w.later(WorkerTTL - time.Minute)
	last, g := worker.token("repository:demo/web:pull")
	var lasts struct {
		Expires int `json:"expires_in"`
	}
	if err := json.Unmarshal(g.body, &lasts); err != nil || g.status != 200 || get(last) != 200 || lasts.Expires < 1 || lasts.Expires > 60 {
		t.Errorf("shortly before its end: %d %s", g.status, g.body)
	}
	w.later(time.Minute)
	if s := get(last); s != 401 {
		t.Errorf("a token after the password's end: %d", s)
	}
	if _, g := worker.token(); g.status != 401 {
		t.Errorf("a password after its end: %d", g.status)
	}
}

// TestNoWorkers: without clusters there are no such passwords.
func TestNoWorkers(t *testing.T) {
	w := newWorld(t)
	if _, g := w.worker(aWorker).token(); g.status != 401 {
		t.Errorf("%d %s", g.status, g.body)
	}
}

// TestServeNode answers what comes by a node's link: the region's own images as anybody.
func TestServeNode(t *testing.T) {
	w, _, worker := workerWorld(t)
	w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	node := httptest.NewServer(http.HandlerFunc(w.svc.ServeNode))
	defer node.Close()
	w.url = node.URL
	g := w.raw("GET", "/v2/demo/web/manifests/1", nil)
	at, _ := url.Parse(node.URL)
	if want := `Bearer realm="https://` + at.Host + `/v2/token"`; g.status != 401 || !strings.HasPrefix(g.header.Get("WWW-Authenticate"), want) {
		t.Errorf("nobody: %d %s, want %s", g.status, g.header.Get("WWW-Authenticate"), want)
	}
	worker.pull(200, "demo/web", "1")
	if g := w.raw("GET", "/v2/demo/web/manifests/1?ns=docker.io", nil); g.status != 404 {
		t.Errorf("another registry's namespace: %d %s", g.status, g.body)
	}
}
