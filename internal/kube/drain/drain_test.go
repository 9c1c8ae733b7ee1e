package drain

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

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// cluster is the API of one with a node n.
type cluster struct {
	mu      sync.Mutex
	pods    []string // in JSON
	refuse  int      // evictions that a budget refuses yet
	said    []string
	stuck   bool   // pods that are asked to go stay
	taints  []byte // of the node, in JSON
	refused int
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Method == "PATCH":
		var b struct{ Spec map[string]any }
		_ = json.NewDecoder(r.Body).Decode(&b)
		if taints := b.Spec["taints"]; taints != nil {
			if c.refuse > 0 {
				c.refuse--
				w.WriteHeader(http.StatusConflict)
				return
			}
			c.taints, _ = json.Marshal(taints)
			return
		}
		c.said = append(c.said, fmt.Sprint(r.URL.Path, " ", b.Spec["unschedulable"]))
	case r.Method == "GET" && strings.HasPrefix(r.URL.Path, "/api/v1/nodes/"):
		if r.URL.Path != "/api/v1/nodes/n" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"metadata":{"name":"n","resourceVersion":"7"},"spec":{"taints":%s}}`, c.taints)
	case r.Method == "GET":
		if got := r.URL.Query().Get("fieldSelector"); got != "spec.nodeName=n" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(c.pods, ","))
	case r.Method == "POST" && c.refuse > 0:
		c.refuse--
		c.refused++
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"message":"the budget says no"}`)
	case r.Method == "POST":
		var b struct {
			Kind, APIVersion string
			DeleteOptions    struct{ Preconditions struct{ UID string } }
		}
		_ = json.NewDecoder(r.Body).Decode(&b)
		c.said = append(c.said, r.URL.Path+" "+b.APIVersion+" "+b.Kind+" "+b.DeleteOptions.Preconditions.UID)
		if !c.stuck {
			c.pods = c.pods[:2] // what stays
		}
	}
}

func serve(t *testing.T, c *cluster) *kubeapi.Client {
	t.Helper()
	s := httptest.NewTLSServer(c)
	t.Cleanup(s.Close)
	api, err := kubeapi.New(kubeapi.Config{Server: s.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api
}

const (
	daemon = `{"metadata":{"name":"d","namespace":"x","uid":"1","ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","controller":true}]}}`
	ended  = `{"metadata":{"name":"e","namespace":"x","uid":"2"},"status":{"phase":"Succeeded"}}`
	goes   = `{"metadata":{"name":"g","namespace":"x","uid":"3","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","controller":true}]},"status":{"phase":"Running"}}`
	mirror = `{"metadata":{"name":"m","namespace":"x","uid":"4","annotations":{"kubernetes.io/config.mirror":"y"}}}`
)

// TestNode drains a node whose budget refuses once.
func TestNode(t *testing.T) {
	c := &cluster{pods: []string{daemon, ended, goes}, refuse: 1}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := Node(ctx, serve(t, c), "n"); err != nil {
		t.Fatal(err)
	}
	want := []string{"/api/v1/nodes/n true", "/api/v1/namespaces/x/pods/g/eviction policy/v1 Eviction 3"}
	if d := cmp.Diff(want, c.said); d != "" || c.refused != 1 {
		t.Errorf("refused %d times; %s", c.refused, d)
	}
}

// TestAvoid adds to the taints that there are, once, also when somebody else writes at the
// same time.
func TestAvoid(t *testing.T) {
	c := &cluster{taints: []byte(`[{"key":"other","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]`), refuse: 1}
	api := serve(t, c)
	for range 2 {
		if err := Avoid(t.Context(), api, "n"); err != nil {
			t.Fatal(err)
		}
		want := `[{"effect":"NoExecute","key":"other","timeAdded":"2026-01-01T00:00:00Z"},{"effect":"PreferNoSchedule","key":"strata.cloud/outdated"}]`
		if string(c.taints) != want {
			t.Errorf("its taints are %s", c.taints)
		}
	}
	if err := Avoid(t.Context(), api, "gone"); err != nil {
		t.Errorf("a node that is not there: %v", err)
	}
}

// TestStuck says which pod does not go, and why.
func TestStuck(t *testing.T) {
	for _, c := range []*cluster{{pods: []string{mirror, daemon, goes}, stuck: true}, {pods: []string{mirror, daemon, goes}, refuse: 1000}} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := Node(ctx, serve(t, c), "n")
		cancel()
		want := map[bool]string{true: "pod x/g: it ends", false: "pod x/g: the budget says no"}[c.stuck]
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %q", err, want)
		}
		if len(c.said) > 2 {
			t.Errorf("asked more than once: %v", c.said)
		}
	}
}

func TestUncordon(t *testing.T) {
	c := &cluster{}
	if err := Uncordon(t.Context(), serve(t, c), "n"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/api/v1/nodes/n <nil>"}, c.said); d != "" {
		t.Error(d)
	}
}
