package cluster

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/cluster/autoscale"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

// TestScan has a group grow for a pod that waits, and shrink when it has gone.
func TestScan(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":1,"labels":{"auto_scaling_enabled":"true","max_node_count":2,"scale_down_unneeded_time":"1ns"}`)
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if how := scalingOf(c); !how.on || how.unneeded != time.Nanosecond || how.part != defaultPart {
		t.Errorf("it is to scale as %+v", how)
	}
	var mu sync.Mutex
	var events []string
	api := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Reason, Message, Type string }
		_ = json.NewDecoder(r.Body).Decode(&e)
		mu.Lock()
		defer mu.Unlock()
		events = append(events, path.Dir(r.URL.Path)+" "+e.Reason+" "+e.Message)
	}))
	defer api.Close()
	client, err := kubeapi.New(kubeapi.Config{Server: api.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a := &scaler{Service: w.svc, target: Target{ID: id}, api: client, since: map[string]time.Time{}, told: map[string]string{}}
	group, err := w.svc.defaultWorkers(id)
	if err != nil {
		t.Fatal(err)
	}
	look := func(pods ...string) {
		t.Helper()
		a.nodes, a.pods = nil, nil
		for _, x := range w.svc.present(group.ID) {
			var n autoscale.Node
			if err := json.Unmarshal(fmt.Appendf(nil, `{"metadata":{"name":%q},"status":{"allocatable":{"cpu":"2","memory":"2Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True"}]}}`, x.Node), &n); err != nil {
				t.Fatal(err)
			}
			a.nodes = append(a.nodes, n)
		}
		for _, text := range pods {
			var p autoscale.Pod
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				t.Fatal(err)
			}
			a.pods = append(a.pods, p)
		}
		if err := a.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.settled()
	}
	count := func() int {
		g, err := w.svc.groups.Get(group.ID)
		if err != nil {
			t.Fatal(err)
		}
		return g.NodeCount
	}
	waits := func(name, cpu string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"d","uid":%q},"spec":{"containers":[{"resources":{"requests":{"cpu":%q}}}]},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]}}`, name, name, cpu)
	}
	first := w.svc.present(group.ID)[0].Node
	busy := fmt.Sprintf(`{"metadata":{"name":"busy","namespace":"d","uid":"b"},"spec":{"nodeName":%q,"containers":[{"resources":{"requests":{"cpu":"1500m"}}}]},"status":{"phase":"Running"}}`, first)
	look(busy, waits("big", "3"))
	look(busy, waits("big", "3")) // told once
	if count() != 1 {
		t.Fatalf("for a pod that no node takes it has %d nodes", count())
	}
	look(busy, waits("w", "1"))
	if count() != 2 || len(w.svc.present(group.ID)) != 2 {
		t.Fatalf("it has %d nodes, and workers %v", count(), w.svc.present(group.ID))
	}
	a.grew = time.Time{}
	look(busy)
	look(busy)
	if left := w.svc.present(group.ID); count() != 1 || len(left) != 1 || left[0].Node != first {
		t.Errorf("it has %d nodes, workers %v", count(), left)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"/api/v1/namespaces/d/events NotTriggerScaleUp pod didn't trigger scale-up: 1 a new node would not take it",
		"/api/v1/namespaces/d/events TriggeredScaleUp pod triggered scale-up: [{default-worker 1->2 (max: 2)}]",
		"/api/v1/namespaces/default/events ScaleDown node removed by cluster autoscaler"}
	if strings.Join(events, "\n") != strings.Join(want, "\n") {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
}

// TestBounds reads how few and how many nodes a group may have.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		g           Group
		least, most int
	}{
		{Group{}, 0, 0},
		{Group{Default: true}, 1, 0},
		{Group{Default: true, GroupFields: GroupFields{Labels: Labels{minLabel: "2", maxLabel: json.Number("5")}}}, 2, 5},
		{Group{Default: true, GroupFields: GroupFields{MinNodeCount: 3, MaxNodeCount: ptr(4), Labels: Labels{minLabel: "2", maxLabel: "5"}}}, 3, 4},
		{Group{GroupFields: GroupFields{MaxNodeCount: ptr(4), Labels: Labels{maxLabel: "5"}}}, 0, 4},
	} {
		if least, most := c.g.bounds(); least != c.least || most != c.most {
			t.Errorf("%+v: %d to %d", c.g, least, most)
		}
	}
}
