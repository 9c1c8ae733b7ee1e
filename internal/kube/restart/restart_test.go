package restart

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// world is an API with one node and its pods.
type world struct {
	mu    sync.Mutex
	heard string
	ready string
	gone  bool
	pods  map[string]string // Ready's status, by uid
	ends  string            // uid of a pod that is being deleted
}

func (w *world) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	condition := func(status string) any {
		return map[string]any{"phase": "Running", "conditions": []any{map[string]string{"type": "Initialized", "status": "True"}, map[string]string{"type": "Ready", "status": status, "lastHeartbeatTime": w.heard}}}
	}
	switch {
	case w.gone:
		rw.WriteHeader(http.StatusNotFound)
	case r.URL.Path == "/api/v1/nodes/node-1":
		_ = json.NewEncoder(rw).Encode(map[string]any{"status": condition(w.ready)})
	case r.URL.Path == "/api/v1/pods" && r.URL.Query().Get("fieldSelector") == "spec.nodeName=node-1":
		items := []any{}
		for uid, status := range w.pods {
			meta := map[string]string{"uid": uid, "namespace": "default", "name": uid}
			if uid == w.ends {
				meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
			}
			items = append(items, map[string]any{"metadata": meta, "status": condition(status)})
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
	default:
		rw.WriteHeader(http.StatusBadRequest)
	}
}

func looked(t *testing.T, w *world) *Node {
	t.Helper()
	srv := httptest.NewTLSServer(w)
	t.Cleanup(srv.Close)
	api, err := kubeapi.New(kubeapi.Config{Server: srv.URL, Token: "x", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	n, err := Look(t.Context(), api, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMissing tells what a node lacks that is started anew, step by step.
func TestMissing(t *testing.T) {
	w := &world{heard: "1", ready: "True", pods: map[string]string{"a": "True", "b": "False", "c": "True", "d": "True"}}
	n := looked(t, w)
	for i, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, "its kubelet has not told of itself since"}, // what the cluster says is of before
		{func() { w.heard, w.ready = "2", "False" }, "it is not ready"},
		{func() { w.heard, w.ready, w.pods["a"], w.pods["c"] = "3", "True", "False", "False" }, "pods are not ready that were: default/"},
		{func() { w.pods["a"], w.ends = "True", "c" }, ""}, // c ends, b was not ready before
		{func() { delete(w.pods, "d"); w.pods["new"] = "False" }, ""},
		{func() { w.gone = true }, ""},
	} {
		w.set(step.change)
		got, err := n.missing(t.Context())
		if err != nil || got != step.want && (step.want == "" || !strings.HasPrefix(got, step.want)) {
			t.Errorf("step %d: %q, %v, want %q", i, got, err, step.want)
		}
	}
}

// TestAwait ends when the node works again, or says what was missing at last.
func TestAwait(t *testing.T) {
	w := &world{heard: "1", ready: "True"}
	n := looked(t, w)
	limit, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Await(limit); err == nil || !strings.Contains(fmt.Sprint(err), "has not told of itself since") {
		t.Errorf("a kubelet that does not come back: %v", err)
	}
	w.set(func() { w.heard = "2" })
	if err := n.Await(t.Context()); err != nil {
		t.Error(err)
	}
}
