package cluster

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

// TestUpgradeWaits has each worker work again before the next one's turn.
func TestUpgradeWaits(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":3`)
	var mu sync.Mutex
	var steps []string
	w.svc.Restart = func(_ context.Context, _ *kubeapi.Client, node string) (func(context.Context) error, error) {
		mu.Lock()
		defer mu.Unlock()
		if x := w.svc.workers.By("node", node); len(x) != 1 || x[0].Generation != 0 {
			t.Errorf("node %s is looked at when it is %+v", node, x)
		}
		steps = append(steps, "look at "+node)
		return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if x := w.svc.workers.By("node", node); len(x) != 1 || x[0].Generation != 1 {
				t.Errorf("node %s is waited for when it is %+v", node, x)
			}
			steps = append(steps, "await "+node)
			return nil
		}, nil
	}
	next := w.template("")
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/upgrade", `{"cluster_template":"`+next+`"}`).want(202)
	w.settled()
	var want []string
	for _, x := range w.svc.present(w.svc.workers.By("cluster", id)[0].GroupID) {
		want = append(want, "look at "+x.Node, "await "+x.Node)
	}
	if !slices.Equal(steps, want) {
		t.Errorf("it is done by %q, want %q", steps, want)
	}
}
