package ingress

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// fakeAPI is a cluster's API that shows objects, and keeps what it is told.
type fakeAPI struct {
	mu      sync.Mutex
	version int
	objects map[string]string // lists of items, by plural
	changed chan struct{}     // closed when they change
	patches []string          // requests that change something; merges with what they say
	gone    string            // a path that is not there any more
}

func newFakeAPI(t *testing.T) (*fakeAPI, *kubeapi.Client) {
	t.Helper()
	f := &fakeAPI{objects: map[string]string{}, changed: make(chan struct{})}
	s := httptest.NewTLSServer(f)
	t.Cleanup(s.Close)
	api, err := kubeapi.New(kubeapi.Config{Server: s.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), Manager: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return f, api
}

// set shows other objects; who watches is told to list anew.
func (f *fakeAPI) set(plural string, items ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	f.objects[plural] = strings.Join(items, ",")
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeAPI) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.patches)
}

// ServeHTTP implements http.Handler.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") != "" {
		f.watch(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodGet {
		fmt.Fprintf(w, `{"metadata":{"resourceVersion":"%d"},"items":[%s]}`, f.version, f.objects[path.Base(r.URL.Path)])
		return
	}
	if r.URL.Path == f.gone {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	said := r.Method + " " + r.URL.Path
	if r.Header.Get("Content-Type") == "application/merge-patch+json" {
		var body json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&body)
		said += " " + string(body)
	}
	f.patches = append(f.patches, said)
	fmt.Fprint(w, "{}")
}

// watch has who watches list anew as soon as something is another than in the list.
func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	changed, now := f.changed, fmt.Sprint(f.version)
	f.mu.Unlock()
	if r.URL.Query().Get("resourceVersion") == now {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
	fmt.Fprint(w, `{"type":"ERROR","object":{"code":410}}`)
}

// parsed reads what the controller would have been shown.
func parsed[T any](t *testing.T, items ...string) (out []T) {
	t.Helper()
	if err := json.Unmarshal([]byte("["+strings.Join(items, ",")+"]"), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	ourClass   = `{"metadata":{"name":"strata"},"spec":{"controller":"` + kube.IngressController + `"}}`
	theirClass = `{"metadata":{"name":"nginx"},"spec":{"controller":"k8s.io/ingress-nginx"}}`
	bare       = `{"metadata":{"name":"bare","namespace":"d"},"spec":{}}`
	ours       = `{"metadata":{"name":"ours","namespace":"d"},"spec":{"ingressClassName":"strata"}}`
	theirs     = `{"metadata":{"name":"theirs","namespace":"d"},"spec":{"ingressClassName":"nginx"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}`
	noted      = `{"metadata":{"name":"noted","namespace":"d","annotations":{"kubernetes.io/ingress.class":"strata"}},"spec":{}}`
	both       = `{"metadata":{"name":"both","namespace":"d","annotations":{"kubernetes.io/ingress.class":"strata"}},"spec":{"ingressClassName":"nginx"}}`
	done       = `{"metadata":{"name":"done","namespace":"d"},"spec":{"ingressClassName":"strata"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}}`
)

// service is the one in front of the program, as it was given in a revision.
func service(revision string, addresses string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":%q,"annotations":{%q:%q}},"status":{"loadBalancer":{"ingress":[%s]}}}`, kube.IngressService, kube.SystemNamespace, kube.GivenNote, revision, addresses)
}

// status is what an Ingress is told.
func status(name, addresses string) string {
	return `PATCH /apis/networking.k8s.io/v1/namespaces/d/ingresses/` + name + `/status {"status":{"loadBalancer":{"ingress":[` + addresses + `]}}}`
}

// TestOurs are Ingresses whose class is of our controller, by field before annotation.
func TestOurs(t *testing.T) {
	k := &keeper{classes: parsed[class](t, ourClass, theirClass), ingresses: parsed[object](t, bare, ours, theirs, noted, both, done)}
	var got []string
	for _, in := range k.ours() {
		got = append(got, in.Metadata.Name)
	}
	if want := []string{"ours", "noted", "done"}; !slices.Equal(got, want) {
		t.Errorf("ours are %v, want %v", got, want)
	}
}

// TestSync does what is missing and no more.
func TestSync(t *testing.T) {
	now, at := kube.IngressRevision(), `{"ip":"203.0.113.1"}`
	for what, c := range map[string]struct {
		ingresses []string
		services  []string
		want      []string
		gives     bool
	}{
		"none of ours":              {[]string{bare, theirs}, nil, nil, false},
		"the first":                 {[]string{ours}, nil, nil, true},
		"another revision":          {[]string{ours}, []string{service("r0", at)}, nil, true},
		"an address":                {[]string{ours, noted, theirs, bare}, []string{service(now, at)}, []string{status("ours", at), status("noted", at)}, false},
		"it is known":               {[]string{done}, []string{service(now, at)}, nil, false},
		"no address yet":            {[]string{ours}, []string{service(now, "")}, nil, false},
		"the address is gone":       {[]string{done}, []string{service(now, "")}, []string{status("done", "")}, false},
		"a service of another name": {[]string{ours}, []string{strings.Replace(service(now, at), kube.SystemNamespace, "d", 1)}, nil, true},
	} {
		t.Run(what, func(t *testing.T) {
			f, api := newFakeAPI(t)
			k := &keeper{api: api, classes: parsed[class](t, ourClass, theirClass), ingresses: parsed[object](t, c.ingresses...), services: parsed[object](t, c.services...)}
			if err := k.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := f.told()
			if c.gives {
				last := "PATCH /api/v1/namespaces/" + kube.SystemNamespace + "/services/" + kube.IngressService
				if len(got) < 2 || got[len(got)-1] != last || slices.Contains(got[:len(got)-1], last) {
					t.Errorf("it is given %v, want the service at the end", got)
				}
			} else if !slices.Equal(got, c.want) {
				t.Errorf("it is told %v, want %v", got, c.want)
			}
		})
	}
}

// TestSyncGone: an Ingress that is deleted meanwhile keeps nobody from the others.
func TestSyncGone(t *testing.T) {
	f, api := newFakeAPI(t)
	f.gone = "/apis/networking.k8s.io/v1/namespaces/d/ingresses/ours/status"
	k := &keeper{api: api, classes: parsed[class](t, ourClass), ingresses: parsed[object](t, ours, noted), services: parsed[object](t, service(kube.IngressRevision(), `{"ip":"203.0.113.1"}`))}
	if err := k.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := f.told(), []string{status("noted", `{"ip":"203.0.113.1"}`)}; !slices.Equal(got, want) {
		t.Errorf("it is told %v, want %v", got, want)
	}
}

// TestRun follows a cluster from its first Ingress to its address.
func TestRun(t *testing.T) {
	f, api := newFakeAPI(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- New(slog.New(slog.DiscardHandler)).Run(ctx, cluster.Target{ID: "c1"}, api) }()
	await := func(what string, is func() bool) {
		t.Helper()
		limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := wait.Until(limit, what, 5*time.Millisecond, func(context.Context) (bool, error) { return is(), nil }); err != nil {
			t.Fatalf("%v: %v", err, f.told())
		}
	}
	f.set("ingressclasses", ourClass)
	f.set("ingresses", bare)
	f.set("ingresses", ours)
	await("the program", func() bool {
		return slices.Contains(f.told(), "PATCH /api/v1/namespaces/"+kube.SystemNamespace+"/services/"+kube.IngressService)
	})
	f.set("services", service(kube.IngressRevision(), `{"hostname":"www.example.org"}`))
	await("its address", func() bool { return slices.Contains(f.told(), status("ours", `{"hostname":"www.example.org"}`)) })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
