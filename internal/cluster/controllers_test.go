package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

// TestControllers has a controller for each cluster, from when it has a control plane to
// when it is about to be deleted, with a client of its own.
func TestControllers(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	var runs, now atomic.Int32
	var clients sync.Map
	w.svc.Controllers = []Controller{{Name: "test", Run: func(ctx context.Context, c Target, api *kubeapi.Client) error {
		if c.Name != "one" && c.Name != "two" || c.ProjectID != project1 || c.Network == "" {
			t.Errorf("a controller is told of %+v", c)
		}
		clients.Store(c.ID, api)
		runs.Add(1)
		now.Add(1)
		<-ctx.Done()
		now.Add(-1)
		return ctx.Err()
	}}}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { w.svc.Run(ctx) })
	one := w.made(`,"name":"one","node_count":1`)
	two := w.made(`,"name":"two","node_count":0`)
	w.until("the controllers", func() bool { return now.Load() == 2 })
	for _, id := range []string{one, two} {
		if _, ok := clients.Load(id); !ok {
			t.Errorf("there is no controller of %s", id)
		}
	}
	w.do("owner", "1.11", "DELETE", "/clusters/"+one, "").want(204)
	w.until("the end of one", func() bool { return now.Load() == 1 })
	stop()
	group.Wait()
	if runs.Load() != 2 || now.Load() != 0 {
		t.Errorf("controllers began %d times, and %d work on", runs.Load(), now.Load())
	}
}
