package services

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

type object = map[string]any

// fakeAPI is a cluster's API with Services, Nodes and Events.
type fakeAPI struct {
	mu      sync.Mutex
	version int
	objects map[string]object // by path
	history []event           // all that happened, in the order of versions
	watches map[chan object]string
}

// event is a change of an object, as a watch tells of it.
type event struct {
	version int
	path    string
	body    object
}

// put writes an object and tells who watches.
func (f *fakeAPI) put(path string, o object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write(path, o)
}

func (f *fakeAPI) write(path string, o object) {
	f.version++
	m := o["metadata"].(object)
	m["resourceVersion"] = fmt.Sprint(f.version)
	kind := "MODIFIED"
	if f.objects[path] == nil {
		kind = "ADDED"
	}
	f.objects[path] = o
	if final, _ := m["finalizers"].([]any); m["deletionTimestamp"] != nil && len(final) == 0 {
		delete(f.objects, path)
		kind = "DELETED"
	}
	e := event{f.version, path, object{"type": kind, "object": o}}
	f.history = append(f.history, e)
	for w, plural := range f.watches {
		if strings.Contains(path, "/"+plural+"/") {
			w <- e.body
		}
	}
}

func merge(into, from object) {
	for k, v := range from {
		sub, ok := v.(object)
		old, had := into[k].(object)
		switch {
		case v == nil:
			delete(into, k)
		case ok && had:
			merge(old, sub)
		default:
			into[k] = v
		}
	}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	plural := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case r.URL.Query().Get("watch") != "":
		f.watch(w, r, plural)
	case r.Method == "GET":
		f.mu.Lock()
		defer f.mu.Unlock()
		items := []object{}
		for _, path := range slices.Sorted(maps.Keys(f.objects)) {
			if strings.Contains(path, "/"+plural+"/") {
				items = append(items, f.objects[path])
			}
		}
		json.NewEncoder(w).Encode(object{"metadata": object{"resourceVersion": fmt.Sprint(f.version)}, "items": items})
	case r.Method == "PATCH":
		var change object
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		path := strings.TrimSuffix(r.URL.Path, "/status")
		f.mu.Lock()
		defer f.mu.Unlock()
		now, there := f.objects[path]
		if !there && !strings.Contains(path, "/events/") {
			http.Error(w, `{"message":"not found"}`, 404)
			return
		}
		if m, ok := change["metadata"].(object); ok && there && m["resourceVersion"] != nil && m["resourceVersion"] != now["metadata"].(object)["resourceVersion"] {
			http.Error(w, `{"message":"conflict"}`, http.StatusConflict)
			return
		}
		next := object{}
		raw, _ := json.Marshal(now)
		json.Unmarshal(raw, &next)
		if next == nil {
			next = object{}
		}
		merge(next, change)
		f.write(path, next)
	}
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, plural string) {
	ch := make(chan object, 1000)
	f.mu.Lock()
	f.watches[ch] = plural
	for _, e := range f.history { // what has happened since the list
		if since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")); e.version > since && strings.Contains(e.path, "/"+plural+"/") {
			ch <- e.body
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watches, ch)
		f.mu.Unlock()
	}()
	w.(http.Flusher).Flush()
	for {
		select {
		case e := <-ch:
			f.mu.Lock()
			raw, _ := json.Marshal(e)
			f.mu.Unlock()
			w.Write(raw)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// region is what makes load balancers, and remembers them.
type region struct {
	mu        sync.Mutex
	balancers map[string]Balancer
	floating  map[string]Floating // by id
	refuse    error
	closed    bool // no way out
	serves    bool
	made      int
}

func (r *region) Ensure(_ context.Context, b *Balancer, guard func(tx *store.Tx) error) (*State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, r.refuse
	}
	if err := guard(nil); err != nil {
		return nil, err
	}
	if _, ok := r.balancers[b.ID]; !ok {
		r.made++
	}
	r.balancers[b.ID] = *b
	at := netip.MustParseAddr("10.100.0.9")
	if b.Address.IsValid() {
		at = b.Address
	}
	st := &State{Port: "port of " + b.ID, Address: at, Serves: r.serves}
	if b.IPv6 {
		st.Address6 = netip.MustParseAddr("fd00::9")
	}
	return st, nil
}

func (r *region) Expose(_ context.Context, port string, f *Floating) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return netip.Addr{}, nil
	}
	r.floating[f.ID] = *f
	if f.Address.IsValid() {
		return f.Address, nil
	}
	return netip.MustParseAddr("203.0.113.7"), nil
}

func (r *region) DropBalancers(_ context.Context, _ string, keep []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.balancers, func(id string, _ Balancer) bool { return !slices.Contains(keep, id) })
	return nil
}

func (r *region) DropFloating(_ context.Context, _ string, keep []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.floating, func(id string, f Floating) bool { return !slices.Contains(keep, id) && !f.Keep })
	return nil
}

func (r *region) count() (balancers, floating int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.balancers), len(r.floating)
}

func (r *region) set(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
}

type clusters struct{}

func (clusters) Places(string) map[string]cluster.Place {
	out := map[string]cluster.Place{}
	for name, n := range map[string]string{"n1": "11", "n2": "12", "gone": "13"} {
		out[name] = cluster.Place{Four: netip.MustParseAddr("10.100.0." + n), Six: netip.MustParseAddr("fd00::" + n)}
	}
	return out
}

func (clusters) TxWorks(*store.Tx, string) error { return nil }

// world is the controller of a cluster with two nodes.
type world struct {
	*testing.T
	api    *fakeAPI
	region *region
	c      cluster.Controller
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, api: &fakeAPI{objects: map[string]object{}, watches: map[chan object]string{}},
		region: &region{balancers: map[string]Balancer{}, floating: map[string]Floating{}, serves: true}}
	srv := httptest.NewTLSServer(w.api)
	t.Cleanup(srv.Close)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	api, err := kubeapi.New(kubeapi.Config{Server: srv.URL, Token: "t", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	w.c = New(Config{DB: db, Region: w.region, Clusters: clusters{}, Log: slog.New(slog.DiscardHandler)})
	for _, name := range []string{"n1", "n2", "elsewhere"} {
		w.api.put("/api/v1/nodes/"+name, object{"metadata": object{"name": name}})
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := w.c.Run(ctx, cluster.Target{ID: "c1", Name: "one", ProjectID: "p", Network: "net", Subnet: "sub", Subnet6: "sub6"}, api); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); api.Close(); group.Wait(); srv.CloseClientConnections() })
	return w
}

const servicePath = "/api/v1/namespaces/default/services/"

// service makes or changes one; spec is merged into a plain one.
func (w *world) service(name string, spec object, annotations object) {
	w.Helper()
	o := object{"metadata": object{"name": name, "namespace": "default", "uid": "uid-" + name, "annotations": annotations},
		"spec": object{"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ipFamilies": []any{"IPv4"},
			"ports": []any{object{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}}}}
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	if old := w.api.objects[servicePath+name]; old != nil {
		o["status"] = old["status"]
		o["metadata"].(object)["finalizers"] = old["metadata"].(object)["finalizers"]
	}
	merge(o["spec"].(object), spec)
	w.api.write(servicePath+name, o)
}

// delete asks for a Service's end.
func (w *world) delete(name string) {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	raw, _ := json.Marshal(w.api.objects[servicePath+name])
	var o object
	json.Unmarshal(raw, &o)
	o["metadata"].(object)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	w.api.write(servicePath+name, o)
}

// at is where a Service says that it is reached.
func (w *world) at(name string) string {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	raw, _ := json.Marshal(w.api.objects[servicePath+name])
	var s service
	json.Unmarshal(raw, &s)
	out := ""
	for _, i := range s.Status.LoadBalancer.Ingress {
		out += " " + i.IP + i.Hostname
	}
	return strings.TrimSpace(out)
}

func (w *world) event(reason string) string {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	for path, o := range w.api.objects {
		if strings.Contains(path, "/events/") && o["reason"] == reason {
			return o["message"].(string)
		}
	}
	return ""
}

func (w *world) until(what string, is func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, 5*time.Millisecond, func(context.Context) (bool, error) { return is(), nil }); err != nil {
		w.Fatal(err)
	}
}

// balancer is a Service's.
func (w *world) balancer(name string) (Balancer, bool) {
	w.region.mu.Lock()
	defer w.region.mu.Unlock()
	b, ok := w.region.balancers[idOf("c1", "uid-"+name)]
	return b, ok
}
