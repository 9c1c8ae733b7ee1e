//go:build kube

package system

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestClusterVM makes a cluster whose workers are servers, has its pods reach each other, takes
// a server away, and leaves nothing of it.
func TestClusterVM(t *testing.T) {
	p := newPool(t, 1)
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.workerImage()
	c := p.clients("strata-demo")
	p.smallFlavor("kube.small", 1, 1024, 4)
	began := time.Now()
	p.strata(p.All[0], "cluster", "create", "one", "--servers", "--flavor", "kube.small", "--nodes", "2", "--timeout", "25")
	t.Logf("a cluster of two servers: %v", time.Since(began).Round(time.Second))
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--admin", "--file", k.conf)
	if names := k.serverNodes(); len(names) != 2 {
		t.Fatalf("the cluster has the nodes %v", names)
	}
	began = time.Now()
	k.must("apply", "-f", "testdata/kube/servers.yaml")
	k.must("-n", "kube-system", "wait", "--for=condition=Available", "deployment/coredns", "--timeout=600s") // it may have missed its deadline
	k.must("rollout", "status", "daemonset/who", "--timeout=600s")
	k.must("rollout", "status", "daemonset/ask", "--timeout=600s")
	t.Logf("pods that reach each other: %v", time.Since(began).Round(time.Second))
	began = time.Now()
	k.keeps(k.serverNodes())
	t.Logf("data that goes from one server to the other: %v", time.Since(began).Round(time.Second))
	p.strata(p.All[0], "cluster", "scale", "one", "1")
	if names := k.serverNodes(); len(names) != 1 {
		t.Errorf("after one is taken away there are the nodes %v", names)
	}
	if n := len(c.servers(t)); n != 1 {
		t.Errorf("there are %d servers", n)
	}
	began = time.Now()
	p.strata(p.All[0], "cluster", "delete", "one")
	t.Logf("the end of it: %v", time.Since(began).Round(time.Second))
	if left := c.clusterThings(t); len(left) > 0 {
		t.Errorf("of the cluster there are left: %v", left)
	}
	k.gone(p.All[0], "")
}

// keeps has a claim's data reach one node after the other.
func (k *kube) keeps(nodes []string) {
	k.Helper()
	k.apply(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`)
	for i, node := range nodes {
		k.apply(workPod(node, node, "/bin/busybox", "exec /busybox sleep 1000000", sleepsReady, "persistentVolumeClaim: {claimName: data}"))
		k.must("wait", "--for=condition=Ready", "pod/"+node, "--timeout=600s")
		k.must("exec", node, "--", "/busybox", "sh", "-c", "echo "+node+" >> /data/file; /busybox sync")
		if got := k.must("exec", node, "--", "/busybox", "cat", "/data/file"); got != strings.Join(nodes[:i+1], "\n")+"\n" {
			k.Errorf("on the %d. node there is %q", i+1, got)
		}
		k.must("delete", "pod", node, "--timeout=300s")
	}
	k.must("delete", "pvc", "data", "--timeout=300s")
	k.until("the volume to go", 5*time.Minute, func() (bool, error) {
		out, err := k.kubectl("get", "pv", "-o", "name")
		return out == "", err
	})
}

// workerImage puts the image of workers into the cloud.
func (p *pool) workerImage() {
	p.Helper()
	guesttest.Worker(p.T, filepath.Dir(cloud.Program(p.T))).Offer(p.T, p.All[0].DataDir)
	p.strata(p.All[0], "image", "build", guest.KindKubeWorker)
}

// smallFlavor makes a flavor that everybody may use.
func (p *pool) smallFlavor(name string, vcpus, mib, gib int) {
	p.Helper()
	must[*flavors.Flavor](p.T)(flavors.Create(p.Context(), p.clients("strata").compute, flavors.CreateOpts{Name: name, RAM: mib, VCPUs: vcpus, Disk: &gib}).Extract())
}

// serverNodes are the names of the cluster's nodes, all of which have to be ready.
func (k *kube) serverNodes() (names []string) {
	k.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	k.get(&list, "nodes")
	for _, x := range list.Items {
		names = append(names, x.Metadata.Name)
		for _, c := range x.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				k.Errorf("node %s is not ready", x.Metadata.Name)
			}
		}
		if !strings.HasPrefix(x.Metadata.Name, "one-") {
			k.Errorf("a node is called %s", x.Metadata.Name)
		}
	}
	return names
}

func (c clients) servers(t *testing.T) []servers.Server {
	t.Helper()
	pages, err := servers.List(c.compute, nil).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return must[[]servers.Server](t)(servers.ExtractServers(pages))
}

// clusterThings are what a cluster makes in its project.
func (c clients) clusterThings(t *testing.T) (left []string) {
	t.Helper()
	for _, s := range c.servers(t) {
		left = append(left, "server "+s.Name)
	}
	for _, p := range must[[]ports.Port](t)(ports.ExtractPorts(must[pagination.Page](t)(ports.List(c.network, nil).AllPages(t.Context())))) {
		if strings.HasPrefix(p.DeviceOwner, "container-infra") || strings.HasPrefix(p.Name, "one ") {
			left = append(left, "port "+p.Name)
		}
	}
	for _, g := range must[[]groups.SecGroup](t)(groups.ExtractGroups(must[pagination.Page](t)(groups.List(c.network, groups.ListOpts{}).AllPages(t.Context())))) {
		if strings.HasPrefix(g.Name, "kubernetes-") {
			left = append(left, "security group "+g.Name)
		}
	}
	for _, n := range must[[]networks.Network](t)(networks.ExtractNetworks(must[pagination.Page](t)(networks.List(c.network, nil).AllPages(t.Context())))) {
		if n.Name == "one" {
			left = append(left, "network "+n.Name)
		}
	}
	return left
}
