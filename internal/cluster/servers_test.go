package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// fakeServers is the compute service. In each server a worker calls by its link, as the real
// one does.
type fakeServers struct {
	world *world
	ctx   context.Context
	group sync.WaitGroup

	mu    sync.Mutex
	made  map[string]*fakeServer
	fault string // of those that are made from now on
	full  bool   // the project's quota is used up
	image string // the region's; "": i
}

type fakeServer struct {
	spec  ServerSpec
	fault string
	end   context.CancelFunc
	works bool
}

func (s *fakeServers) Kind(_ context.Context, who *policy.Credentials, flavor, image string) (*ServerKind, Size, error) {
	if image != "" && image != "tiny" || flavor != "" && flavor != "m1.small" && flavor != "1" || who.ProjectID == project2 {
		return nil, Size{}, errs.NotFoundf("There is no image or flavor %s%s.", image, flavor)
	}
	return &ServerKind{FlavorID: "1", ImageID: cmp.Or(s.image, "i")}, Size{1, 2048}, nil
}

func (s *fakeServers) Make(_ context.Context, x ServerSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.made[x.ID] != nil:
		return nil
	case s.full:
		return errs.New(errs.QuotaExceeded, "Quota exceeded for instances")
	case x.FlavorID != "1" || x.ImageID == "" || x.ProjectID == "" || x.UserID == "" || x.Name == "":
		return fmt.Errorf("what server is that? %+v", x)
	}
	if _, ok := s.world.nets.Plug(x.Port); !ok {
		return fmt.Errorf("there is no port %s", x.Port)
	}
	v := &fakeServer{spec: x, fault: s.fault}
	s.made[x.ID] = v
	if s.fault != "" {
		v.end = func() {}
		return nil
	}
	ctx, end := context.WithCancel(s.ctx)
	v.end = end
	s.group.Go(func() { s.work(ctx, v) })
	return nil
}

// work is what runs in a server.
func (s *fakeServers) work(ctx context.Context, v *fakeServer) {
	for list := range s.world.svc.WatchServer(ctx, v.spec.Worker) {
		out := []nodeapi.KubeStatus{{ID: "of another", Rev: "x"}}
		works := false
		for _, p := range list {
			out = append(out, nodeapi.KubeStatus{ID: p.ID, Rev: p.Rev, API: &nodeapi.KubeAPI{Version: "of my own"}})
			works = p.Worker.Port != nil && p.Worker.Address.String() == "10.100.0.9" && len(p.Worker.Kubelet.Key) > 0
		}
		s.mu.Lock()
		v.works = works
		s.mu.Unlock()
		_ = s.world.svc.ReportServer(ctx, v.spec.Worker, out) // fails when it was dismissed
		s.tellAll(ctx)
	}
}

// tellAll has the control planes see what has changed.
func (s *fakeServers) tellAll(ctx context.Context) {
	for _, a := range s.world.agents {
		a.tell(ctx)
	}
}

func (s *fakeServers) Server(id string) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.made[id]; v != nil {
		return true, v.fault
	}
	return false, ""
}

func (s *fakeServers) Off(id string) bool { return !s.has(id) }

func (s *fakeServers) has(id string) bool { there, _ := s.Server(id); return there }

func (s *fakeServers) Remove(_ context.Context, _, _, id string) error {
	s.mu.Lock()
	v := s.made[id]
	delete(s.made, id)
	s.mu.Unlock()
	if v != nil {
		v.end()
		s.tellAll(s.ctx)
	}
	return nil
}

func (s *fakeServers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.made)
}

// working are the names of the servers that work for a cluster.
func (s *fakeServers) working(cluster string) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for _, v := range s.made {
		if v.works && v.spec.Cluster == cluster {
			out[v.spec.Name] = true
		}
	}
	return out
}

// serversTemplate makes a template of servers.
func (w *world) serversTemplate() string {
	w.t.Helper()
	return w.do("owner", "1.11", "POST", "/clustertemplates", `{"coe":"kubernetes","server_type":"vm"}`).want(201).str("uuid")
}

// TestServers takes a cluster of servers through its life.
func TestServers(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	var mu sync.Mutex
	var avoided []string
	w.svc.Avoid = func(_ context.Context, _ *kubeapi.Client, node string) error {
		mu.Lock()
		defer mu.Unlock()
		avoided = append(avoided, node)
		return nil
	}
	tpl := w.serversTemplate()
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+tpl+`","flavor_id":"none"}`).want(400)
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+tpl+`","name":"Big.One","node_count":2}`).want(202).str("uuid")
	w.settled()
	v := w.cluster(id)
	workers := w.svc.workers.By("cluster", id)
	if v["status"] != "CREATE_COMPLETE" || v["health_status"] != "HEALTHY" || len(workers) != 2 || w.servers.count() != 2 || len(w.claims.held) != 0 {
		t.Fatalf("%d workers, %d servers, %d claims: %v", len(workers), w.servers.count(), len(w.claims.held), v)
	}
	for _, x := range workers {
		if !strings.HasPrefix(x.Node, "big-one-") || len(x.Node) > 63 || x.Address != "10.100.0.9" {
			t.Errorf("a worker is %s at %s", x.Node, x.Address)
		}
	}
	w.clean(t)
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/upgrade", `{"cluster_template":"`+w.template("")+`"}`).want(409)
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/upgrade", `{"cluster_template":"`+tpl+`"}`).want(202)
	w.settled()
	if again := w.svc.workers.By("cluster", id); len(again) != 2 || again[0].Server != workers[0].Server && again[0].Server != workers[1].Server {
		t.Errorf("an upgrade with the same image has other servers: %+v", again)
	}
	w.servers.image = "newer"
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/upgrade", `{"cluster_template":"`+tpl+`"}`).want(202)
	w.settled()
	for _, x := range w.svc.workers.By("cluster", id) {
		if x.Image != "newer" || x.Server == workers[0].Server || x.Server == workers[1].Server {
			t.Errorf("after an upgrade of the image a worker is %s of %s", x.Node, x.Image)
		}
	}
	old := []string{workers[0].Node, workers[1].Node} // both before the first one goes, and who is left again
	slices.Sort(old)
	if len(avoided) != 3 || avoided[0] == avoided[1] || !slices.Equal(slices.Compact(slices.Sorted(slices.Values(avoided))), old) {
		t.Errorf("pods went elsewhere than to %v, for the sake of %v", avoided, old)
	}
	w.clean(t)
	workers = w.svc.workers.By("cluster", id)
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/nodegroups", `{"name":"more","node_count":1}`).want(202)
	w.settled()
	if v := w.cluster(id); v["status"] != "UPDATE_COMPLETE" || w.servers.count() != 3 {
		t.Errorf("%d servers, and %v", w.servers.count(), v)
	}
	gone := workers[0] // the user names a server that goes, as with upstream
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":1,"nodes_to_remove":["`+gone.Server+`"]}`).want(202)
	w.settled()
	if _, err := w.svc.workers.Get(gone.ID); !errs.Is(err, errs.NotFound) || w.servers.count() != 2 {
		t.Errorf("%d servers are left (%v)", w.servers.count(), err)
	}
	w.clean(t)
	left := w.svc.workers.By("cluster", id)[0]
	_ = w.servers.Remove(t.Context(), "", "", left.Server) // by somebody else
	if h := w.cluster(id); h["health_status"] != "UNHEALTHY" {
		t.Errorf("a server is gone, and the cluster is %v", h["health_status"])
	}
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	w.clean(t)
	if n := w.svc.clusters.Len() + w.svc.workers.Len() + w.servers.count(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// TestServersFail: servers that cannot be made, or cannot run, leave a cluster that says so.
func TestServersFail(t *testing.T) {
	for name, fail := range map[string]func(*fakeServers){"quota": func(s *fakeServers) { s.full = true }, "in error": func(s *fakeServers) { s.fault = "No valid host was found." }} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, saga.Options{}).start()
			fail(w.servers)
			id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.serversTemplate()+`","name":"one","node_count":2}`).want(202).str("uuid")
			w.settled()
			v := w.cluster(id)
			if reason := fmt.Sprint(v["status_reason"]); v["status"] != "CREATE_FAILED" || !strings.Contains(reason, "Quota exceeded") && !strings.Contains(reason, "No valid host") {
				t.Errorf("it is %v: %s", v["status"], reason)
			}
			w.clean(t)
		})
	}
}

// TestServerLink: what a server says is about itself, and only while it is a worker.
func TestServerLink(t *testing.T) {
	w, ctx := newWorld(t, saga.Options{}).start(), t.Context()
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.serversTemplate()+`","name":"one"}`).want(202).str("uuid")
	w.settled()
	metal := w.made(`,"name":"two"`)
	mine, other := w.svc.workers.By("cluster", id)[0], w.svc.workers.By("cluster", metal)[0]
	if _, _, err := w.svc.ServerWorker(other.ID); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a machine of the pool calls as a server: %v", err)
	}
	err := w.svc.ReportServer(ctx, mine.ID, []nodeapi.KubeStatus{{ID: metal, Rev: "forged"}, {ID: id, Rev: "r", Fault: strings.Repeat("ü", 5000), API: &nodeapi.KubeAPI{Version: "forged"}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.svc.reports.Get(mine.Node)
	if err != nil || len(r.Parts) != 1 || r.Parts[0].ID != id || r.Parts[0].API != nil || len(r.Parts[0].Fault) > mostText || !strings.HasPrefix(r.Parts[0].Fault, "üü") {
		t.Errorf("it is written as %+v, %v", r, err)
	}
	if server, err := w.svc.serverOf(mine.Node, id); err != nil || server == "" {
		t.Errorf("volumes of a server are for %q, %v", server, err)
	}
	if node, cluster := w.svc.NodeOfServer(mine.Server); node != mine.Node || cluster != id {
		t.Errorf("the server is node %q of cluster %q", node, cluster)
	}
	if server, err := w.svc.serverOf(other.Node, metal); err != nil || server != "" {
		t.Errorf("volumes of a machine are for server %q, %v", server, err)
	}
	if _, err := w.svc.serverOf(mine.Node, metal); !errs.Is(err, errs.NotFound) {
		t.Errorf("volumes of another cluster: %v", err)
	}
	if l, err := w.svc.PullLogin(mine.Node, id); err != nil || l.Name != mine.Node {
		t.Errorf("it pulls with %+v, %v", l, err)
	}
	if w.svc.dead(mine) || !w.svc.dead(&Worker{Server: "one-that-is-gone"}) {
		t.Error("a server that runs is dead, or one that is gone is not")
	}
	allowed := 0
	for ; allowed <= callBurst+callRate && w.svc.AllowServer(mine.ID) == nil; allowed++ {
	}
	if allowed < callBurst || allowed > callBurst+callRate {
		t.Errorf("%d calls in a moment", allowed)
	}
	stream := w.svc.WatchServer(ctx, mine.ID)
	if list := <-stream; len(list) != 1 || list[0].Control != nil || list[0].Worker == nil || len(list[0].Worker.Registries) != 1 || len(list[0].Worker.Mirrors) != 1 {
		t.Errorf("it is to do %+v", list)
	}
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	for range stream { // until it ends
	}
	w.settled()
	if err := w.svc.ReportServer(ctx, mine.ID, nil); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a server that is no worker any more: %v", err)
	}
}

// TestSagaServers has the sagas that make and remove servers disturbed at every point.
func TestSagaServers(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
			w, id := newWorld(t, opt), ""
			return &sagatest.World{Engine: w.engine,
				Begin: w.begun("POST", "/clusters", `{"cluster_template_id":"`+w.serversTemplate()+`","node_count":2}`, 202, &id),
				Check: func(t *testing.T, end *saga.Record) {
					w.clean(t)
					want := map[bool]int{true: 0, false: 2}[end.Phase == saga.Failed]
					if w.svc.workers.Len() != want || w.servers.count() != want {
						t.Errorf("%s: %d workers, %d servers", end.Phase, w.svc.workers.Len(), w.servers.count())
					}
				}}
		})
	})
	for name, count := range map[string]string{"grow": "3", "shrink": "1"} {
		t.Run(name, func(t *testing.T) {
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w, id := quietOf(t, opt, 2, (*world).serversTemplate)
				return &sagatest.World{Engine: w.engine, Begin: w.begun("POST", "/clusters/"+id+"/actions/resize", `{"node_count":`+count+`}`, 202, &id),
					Check: func(t *testing.T, _ *saga.Record) { w.clean(t) }}
			})
		})
	}
	t.Run("delete", func(t *testing.T) {
		sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
			w, id := quietOf(t, opt, 2, (*world).serversTemplate)
			return &sagatest.World{Engine: w.engine, Begin: w.begun("DELETE", "/clusters/"+id, "", 204, &id),
				Check: func(t *testing.T, end *saga.Record) {
					w.clean(t)
					if n := w.svc.clusters.Len() + w.svc.groups.Len() + w.svc.workers.Len() + w.servers.count(); n != 0 {
						t.Errorf("%s: %d records are left", end.Phase, n)
					}
				}}
		})
	})
}
