//go:build kube

package system

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/internal/guest"
)

// emulated is how many times longer pods of servers may take: a processor that is emulated
// does a tenth of the work, and two of them share this machine with all else.
const emulated = 8

// emulatedShop is what the shop's manifest says, and what it has to say instead where a processor
// is emulated: a probe takes more of it, and more time, and so does all else.
func emulatedShop() []string {
	return []string{
		"metadata: {name: web, namespace: shop}", `metadata: {name: web, namespace: shop, annotations: {loadbalancer.openstack.org/health-monitor-delay: "10", loadbalancer.openstack.org/health-monitor-timeout: "10"}}`,
		"periodSeconds: 1", "periodSeconds: 10, timeoutSeconds: 20",
		"cpu: 20m", "cpu: 30m",
		"seconds: 5", "seconds: 90",
		"      containers:", `      terminationGracePeriodSeconds: 150
      dnsConfig: {options: [{name: timeout, value: "30"}, {name: attempts, value: "5"}]}
      containers:`,
		"WindowSeconds: 15", "WindowSeconds: 60",
		"  selector: {matchLabels:", `  progressDeadlineSeconds: 3600
  selector: {matchLabels:`,
	}
}

// TestClusterStoryVM is TestClusterStory where the workers are servers.
func TestClusterStoryVM(t *testing.T) {
	p := newPool(t, 1)
	p.workerImage()
	p.smallFlavor("kube.small", 1, 1280, 4)
	s := newShop(p)
	s.slow = emulated
	s.workers = &serverWorkers{s, p.clients("strata-demo")}
	s.story("--servers", "--flavor", "kube.small", "--timeout", "25")
}

// serverWorkers are servers of the project.
type serverWorkers struct {
	*shop
	c clients
}

func (w *serverWorkers) ready(n int) {
	w.Helper()
	if names := w.serverNodes(); len(names) != n {
		w.Fatalf("the cluster has the nodes %v, want %d", names, n)
	}
}

// id is the server that a node is.
func (w *serverWorkers) id(node string) string {
	w.Helper()
	for _, x := range w.c.servers(w.T) {
		if x.Name == node {
			return x.ID
		}
	}
	w.Fatalf("no server is node %s", node)
	return ""
}

// lose ends a server as a fault of its host would.
func (w *serverWorkers) lose(node string) {
	w.Helper()
	name := []byte("guest=strata-" + w.id(node) + ",")
	for _, path := range must[[]string](w)(filepath.Glob("/proc/[0-9]*/cmdline")) {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(raw, name) {
			continue
		}
		if err := syscall.Kill(must[int](w)(strconv.Atoi(filepath.Base(filepath.Dir(path)))), syscall.SIGKILL); err != nil {
			w.Fatal(err)
		}
		return
	}
	w.Fatalf("node %s has no machine", node)
}

func (w *serverWorkers) find(node string) {
	w.Helper()
	if err := servers.Start(w.Context(), w.c.compute, w.id(node)).ExtractErr(); err != nil {
		w.Fatal(err)
	}
}

// renew makes another image of workers, as a newer Kubernetes would.
func (w *serverWorkers) renew() {
	w.Helper()
	admin := w.clients("strata").image
	for _, i := range must[[]images.Image](w)(images.ExtractImages(must[pagination.Page](w)(images.List(admin, images.ListOpts{Name: guest.KindKubeWorker}).AllPages(w.Context())))) {
		must[*images.Image](w)(images.Update(w.Context(), admin, i.ID, images.UpdateOpts{images.ReplaceImageName{NewName: "kube-worker-before"}}).Extract())
	}
	w.strata(w.All[0], "image", "build", guest.KindKubeWorker)
}

// served: the only database moves with its worker. Visits fail meanwhile; the shop opens again
// by itself and has forgotten none.
func (w *serverWorkers) served(v *visits) {
	w.Helper()
	began := time.Now()
	var n int
	w.until("the shop to be open on new workers", 4*time.Minute*w.slow, func() (bool, error) {
		_, now, err := w.visit(w.Context())
		n = now
		return err == nil, nil
	})
	w.Logf("while servers took the place of others: %v visits, and %d that failed; open %v after the upgrade", v.releases, len(v.failed), time.Since(began).Round(time.Second))
	if n <= v.last {
		w.Errorf("visit %d came after visit %d", n, v.last)
	}
}

func (w *serverWorkers) gone() {
	w.Helper()
	began := time.Now()
	w.until("servers to go", time.Minute, func() (bool, error) { return len(w.c.servers(w.T)) == 0, nil })
	w.Logf("its servers are gone after %v", time.Since(began).Round(time.Second))
	if left := w.c.clusterThings(w.T); len(left) > 0 {
		w.Errorf("of the cluster there are left: %v", left)
	}
}
