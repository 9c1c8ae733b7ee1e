//go:build kube

package system

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterStory is what clusters are for, from the first to the last day: an application
// of three tiers is deployed, found, reached, scaled, updated, survives a worker and an
// upgrade of the cluster, and goes without a trace.
func TestClusterStory(t *testing.T) {
	p := newPool(t, 3)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	p.keepers(p.All[0])
	p.without(p.All[0])
	s := &shop{published: &published{kube: &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}, c: p.clients("strata")}}
	began := time.Now()
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	t.Logf("a cluster of two workers: %v", time.Since(began).Round(100*time.Millisecond))
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--file", s.conf)
	s.load(shopImages(t))
	s.open()
	s.follows()
	s.updated()
	s.workerLost()
	s.upgraded()
	s.closed()
}

// shop is an application of three tiers in a cluster.
type shop struct {
	*published
	at string // where it is reached
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
	res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
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

// visitors come until end is called, each with a pause between its visits.
func (s *shop) visitors(n int, pause time.Duration) (end func() *visits) {
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

// open deploys the shop, and visits it.
func (s *shop) open() {
	s.Helper()
	began := time.Now()
	s.must("apply", "-f", "testdata/kube/shop.yaml")
	for _, tier := range []string{"db", "api", "web"} {
		s.in("rollout", "status", "deployment/"+tier, "--timeout=180s")
	}
	s.at = s.address("service", "web", "-n", "shop")
	s.until("a visit", time.Minute, func() (bool, error) { _, _, err := s.visit(s.Context()); return err == nil, nil })
	s.Logf("the shop is open at its load balancer: %v", time.Since(began).Round(100*time.Millisecond))
}

// follows has the API's tier follow the load, up and down.
func (s *shop) follows() {
	s.Helper()
	replicas := func(n int, limit time.Duration) {
		s.Helper()
		began := time.Now()
		s.until(fmt.Sprintf("%d copies of the API that are ready", n), limit, func() (bool, error) {
			out, err := s.kubectl("-n", "shop", "get", "deployment", "api", "-o", "jsonpath={.spec.replicas} {.status.readyReplicas}")
			return out == fmt.Sprintf("%d %d", n, n), err
		})
		s.Logf("%d copies of the API: %v", n, time.Since(began).Round(time.Second))
	}
	replicas(2, time.Minute)
	end := s.visitors(6, 50*time.Millisecond)
	replicas(10, 5*time.Minute)
	s.unharmed(end(), "while the API was scaled up")
	replicas(2, 5*time.Minute)
}

// updated brings a new release, without a visit that fails.
func (s *shop) updated() {
	s.Helper()
	end := s.visitors(2, 50*time.Millisecond)
	s.in("set", "env", "deployment/api", "RELEASE=second")
	s.in("rollout", "restart", "deployment/web")
	for _, tier := range []string{"api", "web"} {
		s.in("rollout", "status", "deployment/"+tier, "--timeout=180s")
	}
	s.until("the second release alone", time.Minute, func() (bool, error) {
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
	lost := s.All[slices.IndexFunc(s.All, func(h *hosts.Host) bool { return h.Name == node })]
	if err := s.Cut(lost); err != nil {
		s.Fatal(err)
	}
	began := time.Now()
	ready := func(want string) {
		s.Helper()
		s.until("node "+node+" to be "+want, 3*time.Minute, func() (bool, error) {
			out, err := s.kubectl("get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
			return (out == "True") == (want == "ready"), err
		})
	}
	ready("lost")
	s.Logf("the worker is known to be lost: %v", time.Since(began).Round(time.Second))
	var after int
	s.until("the shop to be open elsewhere", 4*time.Minute, func() (bool, error) {
		_, n, err := s.visit(s.Context())
		after = n
		return err == nil, nil
	})
	s.Logf("the shop is open again, with its database on the other worker: %v", time.Since(began).Round(time.Second))
	if after <= before {
		s.Errorf("visit %d came after visit %d", after, before)
	}
	if err := s.Join(lost); err != nil {
		s.Fatal(err)
	}
	ready("ready")
	s.until("the worker to be in service", time.Minute, func() (bool, error) {
		out, err := s.kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}")
		return out == "", err
	})
	s.until("the lost worker to let go of the volume", 3*time.Minute, func() (bool, error) { return len(mountsBelow(s.T, lost.DataDir+"/podmounts")) == 0, nil })
	s.in("rollout", "restart", "deployment/web", "deployment/api") // onto both workers again
	for _, tier := range []string{"api", "web"} {
		s.in("rollout", "status", "deployment/"+tier, "--timeout=180s")
	}
}

// upgraded has the cluster upgraded under the shop.
func (s *shop) upgraded() {
	s.Helper()
	end := s.visitors(2, 50*time.Millisecond)
	began := time.Now()
	s.strata(s.All[0], "cluster", "upgrade", "one")
	s.Logf("an upgrade, a worker at a time: %v", time.Since(began).Round(100*time.Millisecond))
	s.nodes(2)
	s.unharmed(end(), "while the cluster was upgraded")
}

// closed removes the shop and the cluster, of which nothing is left.
func (s *shop) closed() {
	s.Helper()
	s.must("delete", "namespace", "shop", "--timeout=180s")
	s.until("the volume to go", time.Minute, func() (bool, error) {
		list, err := volumes.ExtractVolumes(must[pagination.Page](s)(volumes.List(s.clients("strata-demo").volume, nil).AllPages(s.Context())))
		return len(list) == 0, err
	})
	s.strata(s.All[0], "cluster", "delete", "one")
	if left := s.left(); len(left) > 0 {
		s.Errorf("of the shop there are left: %v", left)
	}
	for _, h := range s.All {
		s.gone(h, "")
	}
}
