package cluster

import (
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

// fakeRegistry gives passwords that say whose they are.
type fakeRegistry struct{}

func (fakeRegistry) Names() []string    { return []string{"192.0.2.1:5000"} }
func (fakeRegistry) Mirrored() []string { return []string{"docker.io"} }
func (fakeRegistry) Login(cluster, node string) (*nodeapi.KubeLogin, error) {
	return &nodeapi.KubeLogin{Name: node, Password: cluster}, nil
}

// TestPullLogin is for a cluster's workers alone, and for its project, until they leave.
func TestPullLogin(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":1`)
	workers := w.svc.workers.By("cluster", id)
	if len(workers) != 1 {
		t.Fatalf("there are the workers %+v", workers)
	}
	node := workers[0].Node
	if got, err := w.svc.PullLogin(node, id); err != nil || *got != (nodeapi.KubeLogin{Name: node, Password: id}) {
		t.Errorf("a worker is given %+v, %v", got, err)
	}
	if project, err := w.svc.PullsFor(node, id); err != nil || project != project1 {
		t.Errorf("it pulls for %s, %v", project, err)
	}
	p := w.agents[node].has()[id].Worker
	if p == nil || !slices.Equal(p.Registries, []string{"192.0.2.1:5000"}) || !slices.Equal(p.Mirrors, []string{"docker.io"}) {
		t.Errorf("the worker is told of %+v", p)
	}
	refused := func(what, node, id string) {
		t.Helper()
		if got, err := w.svc.PullLogin(node, id); !errs.Is(err, errs.Forbidden) {
			t.Errorf("%s is given %+v, %v", what, got, err)
		}
		if project, err := w.svc.PullsFor(node, id); !errs.Is(err, errs.Forbidden) {
			t.Errorf("%s pulls for %s, %v", what, project, err)
		}
	}
	for _, other := range nodeNames {
		if other != node {
			refused("a node that does not work for the cluster", other, id)
		}
	}
	refused("nobody", "", id)
	refused("a worker of another cluster", node, "no-such-cluster")
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	refused("a worker of a cluster that is going", node, id)
	w.settled()
	refused("a worker of a cluster that is gone", node, id)
}
