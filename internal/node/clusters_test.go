package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// clusterWorld plays the control plane and the machine.
type clusterWorld struct {
	wanted chan []nodeapi.KubePart

	mu      sync.Mutex
	deaf    bool
	reports [][]nodeapi.KubeStatus
	runs    map[string]string // rev, by cluster
	ensured int
	fault   error
	api     nodeapi.KubeAPI
}

func (w *clusterWorld) Clusters(context.Context) <-chan []nodeapi.KubePart { return w.wanted }

func (w *clusterWorld) ReportClusters(_ context.Context, list []nodeapi.KubeStatus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return errors.New("nobody hears")
	}
	w.reports = append(w.reports, list)
	return nil
}

func (w *clusterWorld) Ensure(_ context.Context, p nodeapi.KubePart) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ensured++
	if w.fault == nil {
		w.runs[p.ID] = p.Rev
	}
	return w.fault
}

func (w *clusterWorld) API(context.Context, nodeapi.KubePart) *nodeapi.KubeAPI {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.api
	return &a
}

func (w *clusterWorld) Sealed(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "last of " + id + " " + w.runs[id]
}

func (w *clusterWorld) Remove(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.runs, id)
	return nil
}

func (w *clusterWorld) List() (ids []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.runs {
		ids = append(ids, id)
	}
	return ids, nil
}

func (w *clusterWorld) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// last is the last report, and how many there were.
func (w *clusterWorld) last() ([]nodeapi.KubeStatus, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.reports) == 0 {
		return nil, 0
	}
	return w.reports[len(w.reports)-1], len(w.reports)
}

func TestClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &clusterWorld{wanted: make(chan []nodeapi.KubePart), runs: map[string]string{"stray": "0"}, api: nodeapi.KubeAPI{Fault: "not yet"}}
		c := NewClusters(w, w, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { c.Run(ctx) })
		<-time.After(time.Minute)
		if _, n := w.last(); n != 0 || len(w.runs) != 1 {
			t.Errorf("before it knows what is wanted: %d reports, %v", n, w.runs)
		}
		w.wanted <- []nodeapi.KubePart{{ID: "a", Rev: "1", Control: &nodeapi.KubeControl{}}}
		synctest.Wait()
		got, n := w.last()
		if n != 1 || len(got) != 1 || got[0].Rev != "1" || got[0].Fault != "" || got[0].API == nil || got[0].API.Fault != "not yet" || len(w.runs) != 1 {
			t.Errorf("the first of %d reports is %+v; there are %v", n, got, w.runs)
		}
		w.set(func() { w.api = nodeapi.KubeAPI{Version: "v1"} })
		<-time.After(clusterSoon)
		synctest.Wait()
		if got, _ := w.last(); got[0].API.Fault != "" {
			t.Errorf("that it is ready is not told: %+v", got)
		}
		_, before := w.last()
		ensured := w.ensured
		<-time.After(10 * clusterResync)
		synctest.Wait()
		if _, n := w.last(); n != before || w.ensured-ensured < 9 {
			t.Errorf("while nothing changes: %d reports, looked after %d times", n-before, w.ensured-ensured)
		}
		w.wanted <- []nodeapi.KubePart{{ID: "a", Rev: "1s", Control: &nodeapi.KubeControl{Sealed: true}}}
		synctest.Wait()
		if got, _ := w.last(); len(got) != 1 || got[0].Rev != "1s" || got[0].API != nil || got[0].Sealed != "last of a 1s" {
			t.Errorf("about to move it says %+v", got)
		}
		w.set(func() { w.fault, w.deaf = errors.New("broken"), true })
		w.wanted <- []nodeapi.KubePart{{ID: "a", Rev: "2"}}
		synctest.Wait()
		w.set(func() { w.deaf = false })
		<-time.After(reportAgain)
		synctest.Wait()
		if got, _ := w.last(); len(got) != 1 || got[0].Rev != "2" || got[0].Fault != "broken" || got[0].API != nil {
			t.Errorf("with a fault it says %+v", got)
		}
		w.set(func() { w.fault = nil })
		w.wanted <- []nodeapi.KubePart{}
		synctest.Wait()
		if got, _ := w.last(); len(got) != 0 || len(w.runs) != 0 {
			t.Errorf("after the end it says %+v and has %v", got, w.runs)
		}
		_, before = w.last()
		w.wanted <- []nodeapi.KubePart{} // whoever asks anew is told anew
		synctest.Wait()
		if _, n := w.last(); n != before+1 {
			t.Errorf("a control plane that asks again gets %d reports", n-before)
		}
		stop()
		close(w.wanted)
		group.Wait()
	})
}

// TestClustersAgain begins over what an earlier agent left: nothing is said before all
// was looked at.
func TestClustersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &clusterWorld{wanted: make(chan []nodeapi.KubePart), runs: map[string]string{"a": "1", "b": "1"}}
		c := NewClusters(w, w, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { c.Run(ctx) })
		w.wanted <- []nodeapi.KubePart{{ID: "a", Rev: "1"}, {ID: "c", Rev: "1"}}
		synctest.Wait()
		var ids []string
		for _, st := range w.reports[0] {
			ids = append(ids, st.ID)
		}
		if !slices.Equal(ids, []string{"a", "c"}) {
			t.Errorf("the first report is of %v", ids)
		}
		if _, ok := w.runs["b"]; ok {
			t.Error("what is not wanted stays")
		}
		stop()
		close(w.wanted)
		group.Wait()
	})
}
