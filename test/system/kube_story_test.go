//go:build kube

package system

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterStory is what clusters are for, from the first to the last day: an application
// of three tiers is pushed, deployed, found, reached, scaled, updated, survives a worker and
// an upgrade of the cluster, and goes without a trace. The workers are machines of the pool.
func TestClusterStory(t *testing.T) {
	p := newPool(t, 3)
	p.keepers(p.All[0])
	p.without(p.All[0])
	s := newShop(p)
	s.workers = &machineWorkers{s}
	s.story("--timeout", "5")
}

// workers are what a cluster runs on, where that makes a difference.
type workers interface {
	// ready are the cluster's nodes, which have to be so many.
	ready(n int)
	// lose cuts a node off, find has it back.
	lose(node string)
	find(node string)
	// renew makes a reason for an upgrade, served holds what that may do to visits.
	renew()
	served(v *visits)
	// gone holds that nothing is left of the cluster.
	gone()
}

// shop is an application of three tiers in a cluster.
type shop struct {
	*published
	workers workers
	slow    time.Duration // how many times longer the workers may take than machines do
	at      string        // where it is reached
}

func newShop(p *pool) *shop {
	p.Helper()
	if err := p.Route(p.public, p.All[0]); err != nil {
		p.Fatal(err)
	}
	return &shop{published: &published{kube: &kube{pool: p, conf: filepath.Join(p.TempDir(), "kubeconfig")}, c: p.clients("strata")}, slow: 1}
}

// story is the whole of it, in a cluster that is made with these flags.
func (s *shop) story(flags ...string) {
	s.Helper()
	began := time.Now()
	s.strata(s.All[0], append([]string{"cluster", "create", "one", "--nodes", "2"}, flags...)...)
	s.Logf("a cluster of two workers: %v", time.Since(began).Round(100*time.Millisecond))
	s.strata(s.All[0], "cluster", "kubeconfig", "one", "--file", s.conf)
	s.open(s.push(shopImages(s.T)))
	s.follows()
	s.updated()
	s.workerLost()
	s.upgraded()
	s.closed()
}

// push has the region's registry have the images, and tells what their names begin with there.
func (s *shop) push(list []image) string {
	s.Helper()
	first := s.All[0]
	auth := must[*region.Clouds](s)(region.ReadClouds(filepath.Join(first.DataDir, region.CloudsFile))).Clouds["strata-demo"].Auth
	at := must[*url.URL](s)(url.Parse(auth["auth_url"])).Host + "/" + auth["project_name"]
	for _, i := range list {
		file := filepath.Join(s.TempDir(), "image.tar")
		archive(s.T, file, []image{i})
		cmd := first.Command(s.Context(), "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", auth["project_name"]+"/"+auth["username"]+":"+auth["password"], "docker-archive:"+file+":"+i.name, "docker://"+at+"/"+filepath.Base(i.name))
		if out, err := cmd.CombinedOutput(); err != nil {
			s.Fatalf("pushing %s: %v: %s", i.name, err, out)
		}
	}
	return at
}

// rolled waits for a release of a tier.
func (s *shop) rolled(tiers ...string) {
	s.Helper()
	for _, tier := range tiers {
		s.in("rollout", "status", "deployment/"+tier, fmt.Sprintf("--timeout=%v", 3*time.Minute*s.slow))
	}
}

// in is a namespace's kubectl.
func (s *shop) in(args ...string) string {
	s.Helper()
	return s.must(append([]string{"-n", "shop"}, args...)...)
}

// visit is one, with its number and the release that answered.
func (s *shop) visit(ctx context.Context) (release string, n int, err error) {
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.at+"/", nil)
	if err != nil {
		return "", 0, err
	}
	res, err := (&http.Client{Transport: tr, Timeout: s.patience()}).Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return "", 0, err
	}
	release, number, _ := strings.Cut(strings.TrimSpace(string(body)), " ")
	if n, err = strconv.Atoi(number); err != nil || res.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("%s: %.200q", res.Status, body)
	}
	return release, n, nil
}

// visits is what came of many.
type visits struct {
	sync.Mutex
	releases map[string]int
	failed   []string
	slowest  time.Duration
	last     int // number of a visit
}

// patience is how long a visitor waits: what is slow is not what fails.
func (s *shop) patience() time.Duration {
	if s.slow > 1 {
		return 5 * time.Minute
	}
	return 10 * time.Second
}

// visitors come until end is called, each with a pause between its visits. Emulated workers
// are kept as busy by a third of them.
func (s *shop) visitors(n int) (end func() *visits) {
	pause := 50 * time.Millisecond
	if s.slow > 1 {
		n, pause = (n+2)/3, time.Second
	}
	v := &visits{releases: map[string]int{}}
	ctx, cancel := context.WithCancel(s.Context())
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for ctx.Err() == nil {
				v.count(s.visit)
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	return func() *visits { cancel(); group.Wait(); return v }
}

// count makes one visit, which nothing cuts short.
func (v *visits) count(visit func(context.Context) (string, int, error)) {
	began := time.Now()
	release, n, err := visit(context.Background())
	v.Lock()
	defer v.Unlock()
	v.slowest = max(v.slowest, time.Since(began))
	if err != nil {
		v.failed = append(v.failed, fmt.Sprintf("%s after %v: %v", time.Now().Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
		return
	}
	v.releases[release]++
	v.last = max(v.last, n)
}

// unharmed holds that no visit has failed.
func (s *shop) unharmed(v *visits, while string) {
	s.Helper()
	s.Logf("%s: %v visits, the slowest took %v", while, v.releases, v.slowest.Round(time.Millisecond))
	if len(v.failed) > 0 || len(v.releases) == 0 {
		s.Errorf("%s %d visits failed: %q", while, len(v.failed), v.failed[:min(len(v.failed), 5)])
	}
}

// open deploys the shop from a registry, and visits it.
func (s *shop) open(registry string) {
	s.Helper()
	began := time.Now()
	text := string(must[[]byte](s)(os.ReadFile("testdata/kube/shop.yaml")))
	words := []string{"REGISTRY", registry}
	if s.slow > 1 {
		words = append(words, emulatedShop()...)
	}
	s.apply(strings.NewReplacer(words...).Replace(text))
	s.rolled("db", "api", "web")
	s.at = s.address("service", "web", "-n", "shop")
	s.until("a visit", time.Minute*s.slow, func() (bool, error) { _, _, err := s.visit(s.Context()); return err == nil, nil })
	s.Logf("the shop is open at its load balancer: %v", time.Since(began).Round(100*time.Millisecond))
}

// follows has the API's tier follow the load, up and down.
func (s *shop) follows() {
	s.Helper()
	replicas := func(n int, limit time.Duration) {
		s.Helper()
		began := time.Now()
		s.until(fmt.Sprintf("%d copies of the API that are ready", n), limit*s.slow, func() (bool, error) {
			out, err := s.kubectl("-n", "shop", "get", "deployment", "api", "-o", "jsonpath={.spec.replicas} {.status.readyReplicas}")
			return out == fmt.Sprintf("%d %d", n, n), err
		})
		s.Logf("%d copies of the API: %v", n, time.Since(began).Round(time.Second))
	}
	replicas(2, time.Minute)
	end := s.visitors(6)
	replicas(10, 5*time.Minute)
	s.unharmed(end(), "while the API was scaled up")
	replicas(2, 5*time.Minute)
}

// updated brings a new release, without a visit that fails.
func (s *shop) updated() {
	s.Helper()
	end := s.visitors(2)
	s.in("set", "env", "deployment/api", "RELEASE=second")
	s.in("rollout", "restart", "deployment/web")
	s.rolled("api", "web")
	s.until("the second release alone", time.Minute*s.slow, func() (bool, error) {
		out, err := s.kubectl("-n", "shop", "get", "pods", "-l", "app=api", "-o", "jsonpath={.items[*].spec.containers[0].env[0].value}")
		return err == nil && !strings.Contains(out, "first"), err
	})
	v := end()
	s.unharmed(v, "while the second release came")
	if v.releases["second"] == 0 {
		s.Errorf("no visit was answered by the second release: %v", v.releases)
	}
}

// workerLost cuts off the worker that has the database: the shop is open again on the other
// one, without anybody's help, and has forgotten no visit.
func (s *shop) workerLost() {
	s.Helper()
	_, before, err := s.visit(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	node := s.in("get", "pods", "-l", "app=db", "-o", "jsonpath={.items[0].spec.nodeName}")
	s.workers.lose(node)
	began := time.Now()
	ready := func(want string) {
		s.Helper()
		s.until("node "+node+" to be "+want, 3*time.Minute*s.slow, func() (bool, error) {
			out, err := s.kubectl("get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
			return (out == "True") == (want == "ready"), err
		})
	}
	ready("lost")
	s.Logf("the worker is known to be lost: %v", time.Since(began).Round(time.Second))
	var after int
	s.until("the shop to be open elsewhere", 4*time.Minute*s.slow, func() (bool, error) {
		ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second*s.slow) // it may be on its way to who is lost
		defer cancel()
		_, n, err := s.visit(ctx)
		after = n
		return err == nil, nil
	})
	s.Logf("the shop is open again, with its database on the other worker: %v", time.Since(began).Round(time.Second))
	if after <= before {
		s.Errorf("visit %d came after visit %d", after, before)
	}
	s.workers.find(node)
	ready("ready")
	s.until("the worker to be in service", time.Minute*s.slow, func() (bool, error) {
		out, err := s.kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}")
		return out == "", err
	})
	s.in("rollout", "restart", "deployment/web", "deployment/api") // onto both workers again
	s.rolled("api", "web")
}

// upgraded has the cluster upgraded under the shop.
func (s *shop) upgraded() {
	s.Helper()
	s.workers.renew()
	_, before, err := s.visit(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	end := s.visitors(2)
	began := time.Now()
	s.strata(s.All[0], "cluster", "upgrade", "one")
	s.Logf("an upgrade, a worker at a time: %v", time.Since(began).Round(100*time.Millisecond))
	s.workers.ready(2)
	v := end()
	v.last = max(v.last, before)
	s.workers.served(v)
}

// closed removes the shop and the cluster, of which nothing is left.
func (s *shop) closed() {
	s.Helper()
	s.must("delete", "namespace", "shop", fmt.Sprintf("--timeout=%v", 3*time.Minute*s.slow))
	s.until("the volume to go", time.Minute*s.slow, func() (bool, error) {
		list, err := volumes.ExtractVolumes(must[pagination.Page](s)(volumes.List(s.clients("strata-demo").volume, nil).AllPages(s.Context())))
		return len(list) == 0, err
	})
	s.strata(s.All[0], "cluster", "delete", "one")
	if left := s.left(); len(left) > 0 {
		s.Errorf("of the shop there are left: %v", left)
	}
	for _, h := range s.All {
		s.kube.gone(h, "")
	}
	s.workers.gone()
}

// machineWorkers are machines of the pool.
type machineWorkers struct{ *shop }

func (w *machineWorkers) ready(n int) { w.nodes(n) }

func (w *machineWorkers) host(node string) *hosts.Host {
	return w.All[slices.IndexFunc(w.All, func(h *hosts.Host) bool { return h.Name == node })]
}

func (w *machineWorkers) lose(node string) {
	w.Helper()
	if err := w.Cut(w.host(node)); err != nil {
		w.Fatal(err)
	}
}

func (w *machineWorkers) find(node string) {
	w.Helper()
	h := w.host(node)
	if err := w.Join(h); err != nil {
		w.Fatal(err)
	}
	w.until("the lost worker to let go of the volume", 3*time.Minute, func() (bool, error) { return len(mountsBelow(w.T, h.DataDir+"/podmounts")) == 0, nil })
}

func (w *machineWorkers) renew() {}

// served: pods stay where they are, and so none fails.
func (w *machineWorkers) served(v *visits) {
	w.Helper()
	w.unharmed(v, "while the cluster was upgraded")
}

func (w *machineWorkers) gone() {}
