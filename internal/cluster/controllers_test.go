package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// TestControllers has a controller for each cluster, from when it has a control plane to
// when it is about to be deleted, with a client of its own.
func TestControllers(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	var runs, now, cleaned atomic.Int32
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
	}, Clean: func(ctx context.Context, id string) error {
		if err := w.db.Txn(ctx, func(tx *store.Tx) error { return w.svc.TxWorks(tx, id) }); !errs.Is(err, errs.Conflict) {
			t.Errorf("while cluster %s goes something may be made for it: %v", id, err)
		}
		if networks, _ := w.nets.count(); cleaned.Add(1) == 1 {
			if networks != 2 {
				t.Errorf("what was made is removed when there are %d networks", networks)
			}
			return errors.New("not yet")
		}
		return nil
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
	w.settled()
	if runs.Load() != 2 || now.Load() != 0 || cleaned.Load() != 2 {
		t.Errorf("controllers began %d times, %d work on, and %d removed what they made", runs.Load(), now.Load(), cleaned.Load())
	}
	if err := w.db.Txn(t.Context(), func(tx *store.Tx) error { return w.svc.TxWorks(tx, two) }); err != nil {
		t.Error(err)
	}
}
