package cluster

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

// TestDrain has workers emptied before they leave a cluster that goes on, while they are
// still its nodes; and a delete wait for nobody's pods.
func TestDrain(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	var mu sync.Mutex
	var drained []string
	hang := false
	w.svc.Drain = func(ctx context.Context, _ *kubeapi.Client, node string) error {
		if len(w.svc.workers.By("node", node)) != 1 || w.svc.workers.By("node", node)[0].Leaving {
			t.Errorf("node %s is drained when it is a worker no more", node)
		}
		mu.Lock()
		drained = append(drained, node)
		wait := hang
		mu.Unlock()
		if wait {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	id := w.made(`,"name":"one","node_count":3`)
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":2}`).want(202)
	w.settled()
	if len(drained) != 1 || w.svc.workers.Len() != 2 || slices.ContainsFunc(w.svc.workers.All(), func(x *Worker) bool { return x.Node == drained[0] }) {
		t.Errorf("of three workers %v were drained, and there are %d", drained, w.svc.workers.Len())
	}
	mu.Lock()
	hang = true
	mu.Unlock()
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":1}`).want(202)
	w.until("the second drain", func() bool { mu.Lock(); defer mu.Unlock(); return len(drained) == 2 })
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled() // in less time than a drain may take
	if w.svc.clusters.Len() != 0 {
		t.Errorf("there are %d clusters", w.svc.clusters.Len())
	}
	if len(drained) != 2 {
		t.Errorf("a cluster that ends was drained: %v", drained)
	}
}
