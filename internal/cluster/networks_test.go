package cluster

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// fakeNetworks is the network service: what was made there.
type fakeNetworks struct {
	db *store.DB

	mu    sync.Mutex
	made  map[string][]netip.Prefix // networks, by id
	ports map[string]PortSpec
	used  bool // by others: networks are not removed
	out   string
}

func (n *fakeNetworks) Make(ctx context.Context, project, name string, cidrs []netip.Prefix, out string, also func(tx *store.Tx, network, router string) error) error {
	id := uuid.NewString()
	if err := n.db.Txn(ctx, func(tx *store.Tx) error { return also(tx, id, "r-"+id) }); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made[id] = cidrs
	n.out = out
	return nil
}

func (n *fakeNetworks) Drop(ctx context.Context, network, router string, also func(tx *store.Tx) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.ports {
		if p.NetworkID == network || n.used {
			return errs.Conflictf("in use")
		}
	}
	if n.used || router != "r-"+network {
		return errs.Conflictf("in use")
	}
	if err := n.db.Txn(ctx, also); err != nil {
		return err
	}
	delete(n.made, network)
	return nil
}

func (n *fakeNetworks) Subnet(_ *policy.Credentials, network, subnet string) (*PodNetwork, error) {
	p := &PodNetwork{ID: "private-id", SubnetID: "private-subnet", CIDR: netip.MustParsePrefix("192.168.0.0/20")}
	switch network {
	case "private":
	case "dual":
		p.SubnetID6, p.CIDR6 = "private-subnet6", netip.MustParsePrefix("fd00:7::/64")
	default:
		return nil, errs.NotFoundf("no network")
	}
	return p, nil
}

func (n *fakeNetworks) EnsurePort(_ context.Context, p PortSpec) (*nodeapi.ContainerPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, ok := n.ports[p.ID]; ok && old != p {
		return nil, errs.Conflictf("port %s is another's", p.ID)
	}
	n.ports[p.ID] = p
	return &nodeapi.ContainerPort{ID: p.ID}, nil
}

func (n *fakeNetworks) Plug(port string) (nodeapi.ContainerPort, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.ports[port]
	out := nodeapi.ContainerPort{ID: port}
	if p.Server {
		out.Addrs = []netip.Prefix{netip.MustParsePrefix("10.100.0.9/16")}
	}
	return out, ok
}

func (n *fakeNetworks) DropPorts(_ context.Context, cluster, node string, match func(id string, pod bool) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.ports, func(id string, p PortSpec) bool {
		return p.Cluster == cluster && (node == "" || p.Node == node) && match(id, p.Behind != "")
	})
	return nil
}

func (n *fakeNetworks) PodPorts(cluster, node string) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, p := range n.ports {
		if p.Cluster == cluster && p.Node == node && p.Behind != "" {
			out = append(out, id)
		}
	}
	return out
}

func (n *fakeNetworks) External(_, ref string) (string, error) {
	if ref != "public" {
		return "", errs.NotFoundf("no network")
	}
	return "public-id", nil
}

func (n *fakeNetworks) Balancers(string) []nodeapi.KubeBalancer { return nil }

func (n *fakeNetworks) count() (networks, ports int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.made), len(n.ports)
}

// TestPodPorts has nodes ask for ports of pods: those that work for the cluster get them.
func TestPodPorts(t *testing.T) {
	w, ctx := newWorld(t, saga.Options{}).start(), t.Context()
	id := w.made(`,"name":"one","node_count":2`)
	workers := w.svc.workers.By("cluster", id)
	if networks, ports := w.nets.count(); networks != 1 || ports != 3 {
		t.Fatalf("a cluster of two nodes has %d networks, %d ports", networks, ports)
	}
	mine := workers[0]
	part := w.agents[mine.Node].has()[id]
	if part.Worker == nil || part.Worker.Port == nil || part.Worker.Port.ID != mine.Port || part.PodCIDR.String() != defaultPods {
		t.Errorf("a worker is told: %+v", part.Worker)
	}
	pod := nodeapi.KubePod{Sandbox: "s1", Device: "eth0", Namespace: "default", Name: "web"}
	var got []string
	for range 2 { // repeated
		p, err := w.svc.PodPort(ctx, mine.Node, id, pod)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.ID)
	}
	if got[0] != got[1] {
		t.Errorf("a repetition makes another port: %v", got)
	}
	if p := w.nets.ports[got[0]]; p.Behind != mine.Port || p.Name != "default/web" || p.ProjectID != project1 {
		t.Errorf("the port: %+v", p)
	}
	if p, err := w.svc.PodPort(ctx, workers[1].Node, id, pod); err != nil || p.ID == got[0] {
		t.Errorf("the same sandbox on another node: %v, %v", p, err)
	}
	stranger := ""
	for _, n := range nodeNames {
		if !slices.ContainsFunc(workers, func(w *Worker) bool { return w.Node == n }) {
			stranger = n
		}
	}
	for what, ask := range map[string][2]string{"a node that works for none": {stranger, id}, "another cluster": {mine.Node, uuid.NewString()}, "nobody": {"", id}} {
		if _, err := w.svc.PodPort(ctx, ask[0], ask[1], pod); !errs.Is(err, errs.Forbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, node := range []string{stranger, workers[1].Node} {
		if err := w.svc.DropPodPort(ctx, node, id, got[0]); err != nil || len(w.svc.PodPorts(mine.Node, id)) != 1 {
			t.Errorf("node %s takes another's port: %v", node, err)
		}
	}
	if err := w.svc.DropPodPort(ctx, mine.Node, id, mine.Port); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.nets.Plug(mine.Port); !ok {
		t.Error("a node's own port is removed as a pod's")
	}
	if err := w.svc.DropPodPort(ctx, mine.Node, id, got[0]); err != nil || len(w.svc.PodPorts(mine.Node, id)) != 0 {
		t.Errorf("%v", err)
	}
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	if networks, ports := w.nets.count(); networks+ports != 0 {
		t.Errorf("there are left %d networks, %d ports", networks, ports)
	}
}

// TestFixedNetwork has a cluster on a network that is there already, which stays, and one
// whose network others use in the end.
func TestFixedNetwork(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":1,"fixed_network":"private"`)
	part := w.agents[w.svc.workers.By("cluster", id)[0].Node].has()[id]
	if networks, _ := w.nets.count(); networks != 0 || part.PodCIDR.String() != "192.168.0.0/20" || part.Worker.Pods[0] != part.PodCIDR {
		t.Errorf("%d networks are made, and pods are in %s", networks, part.PodCIDR)
	}
	t1 := w.template("")
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+t1+`","fixed_network":"none"}`).want(400)
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+t1+`","fixed_network":"private","labels":{"service_cluster_ip_range":"192.168.0.0/16"}}`).want(400)
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template(`,"external_network_id":"none"`)+`"}`).want(400)
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template(`,"external_network_id":"public"`)+`","name":"out","node_count":0}`).want(202)
	w.settled()
	if w.nets.out != "public-id" {
		t.Errorf("the cluster's router leads to %q", w.nets.out)
	}
	w.do("owner", "1.11", "DELETE", "/clusters/out", "").want(204)
	w.settled()
	other := w.made(`,"name":"two","node_count":1`)
	w.nets.mu.Lock()
	w.nets.used = true
	w.nets.mu.Unlock()
	w.do("owner", "1.11", "DELETE", "/clusters/"+other, "").want(204)
	w.settled()
	if networks, ports := w.nets.count(); networks != 1 || ports != 0 || w.svc.clusters.Len() != 0 {
		t.Errorf("%d clusters, %d networks, %d ports are left", w.svc.clusters.Len(), networks, ports)
	}
}
