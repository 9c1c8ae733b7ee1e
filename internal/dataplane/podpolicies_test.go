package dataplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
)

// clusterAPI is the API of a cluster, as far as policies depend on it: lists that are one
// object a page, and watches.
type clusterAPI struct {
	testing.TB
	set    *authority.Set
	reader *authority.Pair
	url    string

	mu      sync.Mutex
	version int
	objects map[string]map[string]json.RawMessage // by kind's path and name
	events  map[string][]apiEvent
	changed chan struct{}
	down    bool
	srv     *httptest.Server
}

type apiEvent struct {
	version int
	Type    string          `json:"type"`
	Object  json.RawMessage `json:"object"`
}

const (
	apiNamespaces = "/api/v1/namespaces"
	apiPods       = "/api/v1/pods"
	apiPolicies   = "/apis/networking.k8s.io/v1/networkpolicies"
)

func newClusterAPI(t testing.TB) *clusterAPI {
	a := &clusterAPI{TB: t, objects: map[string]map[string]json.RawMessage{}, events: map[string][]apiEvent{}, changed: make(chan struct{})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	host, err := netns.Current()
	must(err)
	defer host.Close()
	must(loopback(host))
	a.set, err = authority.New("c1")
	must(err)
	a.reader, err = a.set.Cluster.Issue(authority.Leaf{Name: "strata:policies", Client: true})
	must(err)
	own, err := a.set.Cluster.Issue(authority.Leaf{Name: "api", Hosts: []string{"127.0.0.1"}, Server: true})
	must(err)
	pair, err := tls.X509KeyPair(own.Cert, own.Key)
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.set.Cluster.Cert)
	a.srv = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	a.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	a.srv.StartTLS()
	t.Cleanup(func() { a.srv.CloseClientConnections(); a.srv.Close() })
	a.url = a.srv.URL
	a.put(apiNamespaces, "default", `{"metadata":{"name":"default","labels":{"kubernetes.io/metadata.name":"default"}}}`)
	return a
}

// put has an object there, or with "" not any more.
func (a *clusterAPI) put(kind, name, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	old, had := a.objects[kind][name]
	verb := "ADDED"
	if text == "" {
		verb, text = "DELETED", string(old)
	} else if had {
		verb = "MODIFIED"
	}
	text = strings.Replace(text, `"metadata":{`, fmt.Sprintf(`"metadata":{"resourceVersion":"%d",`, a.version), 1)
	if a.objects[kind] == nil {
		a.objects[kind] = map[string]json.RawMessage{}
	}
	a.objects[kind][name] = json.RawMessage(text)
	if verb == "DELETED" {
		delete(a.objects[kind], name)
	}
	a.events[kind] = append(a.events[kind], apiEvent{a.version, verb, json.RawMessage(text)})
	close(a.changed)
	a.changed = make(chan struct{})
}

// setDown has the API not answer, and ends its connections.
func (a *clusterAPI) setDown(down bool) {
	a.mu.Lock()
	a.down = down
	a.mu.Unlock()
	a.srv.CloseClientConnections()
}

func (a *clusterAPI) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	switch {
	case down:
		http.Error(w, "not now", http.StatusServiceUnavailable)
	case r.TLS.PeerCertificates[0].Subject.CommonName != "strata:policies":
		http.Error(w, "who?", http.StatusForbidden)
	case r.FormValue("watch") == "":
		a.list(w, r)
	default:
		a.watch(r.Context(), w, r)
	}
}

func (a *clusterAPI) list(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var items []json.RawMessage
	names, next := slices.Sorted(maps.Keys(a.objects[r.URL.Path])), ""
	for i, n := range names {
		if n > r.FormValue("continue") {
			items = append(items, a.objects[r.URL.Path][n])
			if i+1 < len(names) {
				next = n
			}
			break
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(a.version), "continue": next}, "items": items})
}

func (a *clusterAPI) watch(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	var from int
	if _, err := fmt.Sscan(r.FormValue("resourceVersion"), &from); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for e := json.NewEncoder(w); ctx.Err() == nil; {
		a.mu.Lock()
		events, changed := a.events[r.URL.Path], a.changed
		a.mu.Unlock()
		for _, ev := range events {
			if ev.version > from {
				from = ev.version
				_ = e.Encode(ev)
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (a *clusterAPI) pod(name string, addrs ...string) {
	var ips []string
	for _, x := range addrs {
		ips = append(ips, `{"ip":"`+x+`"}`)
	}
	a.put(apiPods, name, fmt.Sprintf(`{"metadata":{"namespace":"default","name":%q,"uid":"u","labels":{"app":%q}},"spec":{"containers":[{"ports":[{"name":"web","containerPort":7000}]}]},"status":{"phase":"Running","podIPs":[%s]}}`, name, name, strings.Join(ips, ",")))
}

func (a *clusterAPI) policy(name, spec string) {
	a.put(apiPolicies, name, `{"metadata":{"namespace":"default","name":"`+name+`"},"spec":`+spec+`}`)
}

// TestPodPolicies has policies of a cluster's API let pods through, and not.
func TestPodPolicies(t *testing.T) {
	needs.Root(t, "this test")
	api := newClusterAPI(t)
	w := newWorkersOf(t, api, false)
	pods := map[string]*pod{}
	for name, host := range map[string]int{"a": 0, "b": 1, "c": 0} {
		api.pod(name)
		pods[name] = w.add(host, name)
		api.pod(name, pods[name].addr)
		w.hosts[0].serveIn(pods[name].ns, 7000)
		w.hosts[0].serveIn(pods[name].ns, 7001)
	}
	dial := func(from, to string, port int) error {
		ns := w.hosts[1].host // of b's node
		if from != "" {
			ns = pods[from].ns
		}
		return ns.Do(func() error {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", pods[to].addr, port), 300*time.Millisecond)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	reach := func(what string, want bool, from, to string, port int) {
		t.Helper()
		w.hosts[0].eventually(fmt.Sprintf("%s: %q to %s port %d: %v", what, from, to, port, want), func() bool { return (dial(from, to, port) == nil) == want })
	}
	reach("no policy", true, "a", "b", 7000)
	kept, r, _ := talks(t, "before", func() (c net.Conn, err error) {
		err = pods["a"].ns.Do(func() error { c, err = net.Dial("tcp", pods["b"].addr+":7000"); return err })
		return c, err
	})
	api.policy("deny", `{"podSelector":{},"policyTypes":["Ingress"]}`)
	for _, from := range []string{"a", "c"} {
		reach("default deny", false, from, "b", 7000)
	}
	reach("default deny, on one node", false, "a", "c", 7000)
	reach("its node's probe", true, "", "b", 7000)
	if !echoes(kept, r, "after the policy") {
		t.Error("a policy ends what was established")
	}
	api.policy("allow", `{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"a"}}}],"ports":[{"port":"web"}]}]}`)
	reach("allowed", true, "a", "b", 7000)
	reach("another port", false, "a", "b", 7001)
	reach("another pod", false, "c", "b", 7000)

	t.Run("without API and agent", func(t *testing.T) {
		w.nets[0].Close()
		w.nets[1].Close()
		api.setDown(true)
		w.open(0)
		w.open(1)
		if dial("c", "b", 7000) == nil || dial("a", "b", 7000) != nil {
			t.Error("an agent that does not know the policies yet changes them")
		}
		api.setDown(false)
		api.policy("allow", `{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"c"}}}]}]}`)
		reach("the other way round", true, "c", "b", 7001)
		reach("the other way round", false, "a", "b", 7000)
	})
	api.put(apiPolicies, "deny", "")
	api.put(apiPolicies, "allow", "")
	reach("no policy any more", true, "a", "c", 7000)
	api.policy("egress", fmt.Sprintf(`{"podSelector":{"matchLabels":{"app":"a"}},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.1.0/24","except":["%s/32"]}}],"ports":[{"port":7000,"endPort":7000}]}]}`, pods["c"].addr))
	reach("egress", true, "a", "b", 7000)
	reach("egress, another port", false, "a", "b", 7001)
	reach("egress, excepted", false, "a", "c", 7000)
	reach("egress of another", true, "c", "a", 7000)

	t.Run("a pod comes under its policies", func(t *testing.T) {
		api.policy("deny", `{"podSelector":{"matchLabels":{"app":"d"}}}`)
		api.pod("d")
		d := w.add(1, "d")
		pods["d"] = d
		w.hosts[0].serveIn(d.ns, 7000)
		if dial("c", "d", 7000) == nil {
			t.Error("a new pod is open")
		}
		if dial("", "d", 7000) != nil {
			t.Error("a new pod is closed to its node")
		}
	})
}
