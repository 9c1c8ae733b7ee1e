package cluster

import (
	"context"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// begun makes a request that answers with a cluster's id.
func (w *world) begun(method, path, body string, status int, id *string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		a := w.do("owner", "1.11", method, path, body).want(status)
		if *id == "" {
			*id = a.str("uuid")
		}
		return *id, nil
	}
}

func TestSagaCreate(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, id := newWorld(t, opt), ""
		return &sagatest.World{Engine: w.engine,
			Begin: w.begun("POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`","node_count":2}`, 202, &id),
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				v := w.cluster(id)
				want, workers := string(CreateComplete), 2
				if end.Phase == saga.Failed {
					want, workers = string(CreateFailed), 0
				}
				if v["status"] != want || w.svc.workers.Len() != workers || (v["api_address"] != nil) != (workers > 0) {
					t.Errorf("%s: %d workers and %v", end.Phase, w.svc.workers.Len(), v)
				}
			}}
	})
}

// quiet makes a cluster with an engine that nothing disturbs, and gives the world of one
// that the options disturb, over the same store.
func quiet(t *testing.T, opt saga.Options, nodes int) (*world, string) {
	t.Helper()
	return quietOf(t, opt, nodes, func(w *world) string { return w.template("") })
}

func quietOf(t *testing.T, opt saga.Options, nodes int, template func(*world) string) (*world, string) {
	t.Helper()
	var disturb func(saga.Point) error
	ask := opt.Intercept
	opt.Intercept = func(p saga.Point) error {
		if disturb == nil {
			return nil
		}
		return disturb(p)
	}
	w := newWorld(t, opt)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.engine.Run(ctx)
	}()
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+template(w)+`","name":"one","node_count":`+text(nodes)+`}`).want(202).str("uuid")
	w.settled()
	stop()
	<-ended
	disturb = ask
	return w, id
}

func TestSagaDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, id := quiet(t, opt, 2)
		return &sagatest.World{Engine: w.engine, Begin: w.begun("DELETE", "/clusters/"+id, "", 204, &id),
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if n := w.svc.clusters.Len() + w.svc.groups.Len() + w.svc.workers.Len(); n != 0 {
					t.Errorf("%s: %d records are left", end.Phase, n)
				}
			}}
	})
}

func TestSagaResize(t *testing.T) {
	for name, nodes := range map[string][2]int{"grow": {1, 3}, "shrink": {3, 1}} {
		t.Run(name, func(t *testing.T) {
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w, id := quiet(t, opt, nodes[0])
				return &sagatest.World{Engine: w.engine, Begin: w.begun("POST", "/clusters/"+id+"/actions/resize", `{"node_count":`+text(nodes[1])+`}`, 202, &id),
					Check: func(t *testing.T, _ *saga.Record) {
						w.clean(t)
						end := w.engine.Of(id)[0] // before it was the create
						v := w.cluster(id)
						want := UpdateComplete
						if end.Phase == saga.Failed {
							want = UpdateFailed
						}
						if v["status"] != string(want) || v["node_count"] != float64(w.svc.workers.Len()) || want == UpdateComplete && v["node_count"] != float64(nodes[1]) {
							t.Errorf("%s: %d workers and %v", end.Phase, w.svc.workers.Len(), v)
						}
						if name == "grow" && want == UpdateFailed && w.svc.workers.Len() != nodes[0] {
							t.Errorf("%d workers are left of %d", w.svc.workers.Len(), nodes[0])
						}
					}}
			})
		})
	}
}

func TestSagaUpgrade(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, id := quiet(t, opt, 2)
		next := w.template("")
		return &sagatest.World{Engine: w.engine, Begin: w.begun("POST", "/clusters/"+id+"/actions/upgrade", `{"cluster_template":"`+next+`"}`, 202, &id),
			Check: func(t *testing.T, _ *saga.Record) {
				w.clean(t)
				end := w.engine.Of(id)[0] // before it was the create
				c, err := w.svc.clusters.Get(id)
				if err != nil {
					t.Fatal(err)
				}
				if end.Phase == saga.Failed {
					if c.Status != UpdateFailed {
						t.Errorf("it is %s", c.Status)
					}
					return
				}
				if c.Status != UpdateComplete || c.TemplateID != next || c.Generation != 1 {
					t.Errorf("it is %s of %s, generation %d", c.Status, c.TemplateID, c.Generation)
				}
				for _, x := range w.svc.workers.All() {
					if x.Generation != 1 {
						t.Errorf("the worker on %s was not upgraded", x.Node)
					}
				}
			}}
	})
}

func TestSagaDropGroup(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, id := quiet(t, opt, 1)
		g := w.svc.newGroup(&Cluster{ID: id, ProjectID: project1}, GroupFields{Name: "more", Role: workerRole, NodeCount: 1})
		g.Size = leastWorker
		if err := w.svc.groups.Create(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		c, err := w.svc.clusters.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.svc.converge(t.Context(), &job{Cluster: c.ID, Group: g.ID}); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: w.engine, Begin: w.begun("DELETE", "/clusters/"+id+"/nodegroups/more", "", 204, &id),
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if c, err := w.svc.clusters.Get(id); err != nil || c.Status != UpdateComplete || w.svc.workers.Len() != 1 || w.svc.groups.Len() != 2 {
					t.Errorf("%s: %v, %d workers, %d groups", end.Phase, c.Status, w.svc.workers.Len(), w.svc.groups.Len())
				}
			}}
	})
}
