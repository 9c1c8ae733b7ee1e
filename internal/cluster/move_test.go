package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// fakeCopies are the copies that members have.
type fakeCopies struct {
	mu   sync.Mutex
	made []kube.Copy
}

func (f *fakeCopies) make(cluster string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	x, _ := kube.ParseCopy(kube.CopyName(cluster, time.Now()))
	f.made = append(f.made, x)
	return x.Name
}

func (f *fakeCopies) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.made, func(x kube.Copy) bool { return x.Name == name })
}

// Newest implements Copies.
func (f *fakeCopies) Newest(_ context.Context, cluster string) (string, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range slices.Backward(f.made) {
		if x.Cluster == cluster {
			return x.Name, x.Made, nil
		}
	}
	return "", time.Time{}, errs.NotFoundf("no copy")
}

// TestMove brings a control plane to another member and back, with its last state, and its
// workers to where it is.
func TestMove(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.pool.members = 2
	id := w.made(`,"name":"one","node_count":2`)
	before, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	other := nodeNames[1-slices.Index(nodeNames, before.Member)]
	for _, to := range []string{"", before.Member} {
		m, err := w.svc.Move(t.Context(), "one", Moving{To: to})
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.svc.clusters.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"": other, before.Member: before.Member}[to]
		if m.To != want || c.Member != want || m.Address != c.Address || c.Sealed || c.Status != UpdateComplete || !w.copies.has(c.State) || m.Copy.IsZero() {
			t.Errorf("moved to %q: %+v, %+v", to, m, c)
		}
		if p := w.svc.Parts(want); p[slices.IndexFunc(p, func(p nodeapi.KubePart) bool { return p.Control != nil })].Control.State != c.State {
			t.Errorf("node %s is told %+v", want, p)
		}
		for _, x := range w.svc.workers.By("cluster", id) {
			if p := w.svc.worker(x); p == nil || p.URL != "https://"+c.Address {
				t.Errorf("worker %s is told %+v", x.Node, p)
			}
		}
		w.clean(t)
	}
}

// TestMoveOfWhatIsLost has a control plane begin with the newest copy when its member is lost.
func TestMoveOfWhatIsLost(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":1`)
	if _, err := w.svc.Move(t.Context(), "one", Moving{}); !errs.Is(err, errs.NoCapacity) {
		t.Errorf("with one member: %v", err)
	}
	w.pool.members = 2
	w.reg.Connect("node-1", nil)
	if _, err := w.svc.Move(t.Context(), id, Moving{}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "--copy") {
		t.Errorf("of a member that is away: %v", err)
	}
	if _, err := w.svc.Move(t.Context(), id, Moving{Copy: true}); !errs.Is(err, errs.NotFound) {
		t.Errorf("without a copy: %v", err)
	}
	w.copies.make("another")
	name := w.copies.make(id)
	m, err := w.svc.Move(t.Context(), id, Moving{Copy: true})
	if err != nil || m.From != "node-1" || m.To != "node-2" {
		t.Fatalf("%+v, %v", m, err)
	}
	if c, err := w.svc.clusters.Get(id); err != nil || c.State != name || c.Member != "node-2" {
		t.Errorf("it is %+v, %v", c, err)
	}
	if got := w.svc.Hosted("node-2"); !slices.Equal(got, []string{"one"}) || len(w.svc.Hosted("node-1")) > 0 {
		t.Errorf("node-2 hosts %v", got)
	}
}

func TestMoveRefuses(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.pool.members = 2
	id := w.made(`,"name":"one","node_count":1`)
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		ref  string
		m    Moving
		kind errs.Kind
	}{
		"no such cluster": {"two", Moving{}, errs.NotFound},
		"no such member":  {"one", Moving{To: "node-3"}, errs.NotFound},
		"where it is":     {"one", Moving{To: c.Member}, errs.Conflict},
	} {
		if _, err := w.svc.Move(t.Context(), x.ref, x.m); !errs.Is(err, x.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.svc.clusters.Update(t.Context(), id, func(c *Cluster) error { c.turn(UpdateInProgress, ""); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.Move(t.Context(), "one", Moving{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("while it is updated: %v", err)
	}
}

// TestSagaMove ends on either member, whole, wherever it is disturbed.
func TestSagaMove(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, id := quiet(t, opt, 2)
		w.pool.members = 2
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				c, err := w.svc.clusters.Get(id)
				if err != nil {
					return "", err
				}
				return id, w.svc.beginMove(ctx, "a", job{Cluster: id, Move: &move{From: c.Member, FromAddress: c.Address, To: "node-2"}})
			},
			Check: func(t *testing.T, _ *saga.Record) {
				w.clean(t)
				end := w.engine.Of(id)[0] // before it was the create
				c, err := w.svc.clusters.Get(id)
				if err != nil {
					t.Fatal(err)
				}
				status, member := UpdateComplete, "node-2"
				if end.Phase == saga.Failed {
					status, member = UpdateFailed, "node-1"
				}
				if c.Status != status || c.Member != member || c.Sealed || member == "node-2" && !w.copies.has(c.State) || !strings.HasPrefix(c.Address, w.pool.Address(member).String()+":") {
					t.Errorf("%s: it is %+v", end.Phase, c)
				}
			}}
	})
}
