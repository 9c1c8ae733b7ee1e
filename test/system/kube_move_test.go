//go:build kube

package system

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterMoves brings a cluster's control plane from one control member to another, with
// all that it knows, and once more when the member that has it is lost.
func TestClusterMoves(t *testing.T) {
	p := newPoolOf(t, 5, 3, 0)
	p.awaitMembers(p.All[0], 3)
	for _, h := range p.members() {
		p.without(h)
	}
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	k.login()
	k.workload()
	k.must("create", "configmap", "before")
	from := k.host()
	to := p.members()[(slices.Index(p.members(), from)+1)%3]

	end := k.asks()
	began := time.Now()
	p.strata(p.All[0], "cluster", "move", "one", "--to", to.Name)
	t.Logf("from member to member: %v", time.Since(began).Round(100*time.Millisecond))
	k.login()
	t.Logf("the API answers again after %v", end())
	if at := k.host(); at != to {
		t.Fatalf("the control plane is on %s", at.Name)
	}
	k.knows("before")
	k.until("the old member to have nothing of the cluster", time.Minute, func() (bool, error) { return len(k.controlOf(from)) == 0, nil })
	k.gone(from, "")
	if _, err := p.try(from, "node", "remove", to.Name); err == nil || !strings.Contains(err.Error(), "strata cluster move") {
		t.Errorf("the member that has the control plane is removed: %v", err)
	}
	k.lost(to)
	p.strata(from, "cluster", "delete", "one")
	if err := p.Join(to); err != nil {
		t.Fatal(err)
	}
	p.awaitNodes(5)
	for _, h := range p.All {
		k.until(h.Name+" to have nothing of the cluster", time.Minute, func() (bool, error) { return len(k.controlOf(h)) == 0, nil })
		k.gone(h, "")
	}
}

// lost has the member that has the control plane cut off: it begins with its newest copy
// elsewhere, which does not know what was made since.
func (k *kube) lost(at *hosts.Host) {
	k.Helper()
	left := slices.DeleteFunc(slices.Clone(k.members()), func(h *hosts.Host) bool { return h == at })
	k.until("copies on the other members", time.Minute, func() (bool, error) {
		for _, h := range left {
			if list, err := filepath.Glob(filepath.Join(h.DataDir, "snapshots", "clusters", "*")); err != nil || len(list) == 0 {
				return false, err
			}
		}
		return true, nil
	})
	k.must("create", "configmap", "after")
	if err := k.Cut(at); err != nil {
		k.Fatal(err)
	}
	k.awaitNodesAt(left[0], len(k.All)-1)
	if _, err := k.try(left[0], "cluster", "move", "one"); err == nil || !strings.Contains(err.Error(), "--copy") {
		k.Errorf("what is lost is moved: %v", err)
	}
	began := time.Now()
	k.strata(left[0], "cluster", "move", "one", "--copy")
	k.Logf("from a copy, the member being lost: %v", time.Since(began).Round(100*time.Millisecond))
	k.loginAt(left[0])
	if now := k.host(); now == at {
		k.Fatal("the control plane is where it was")
	}
	k.knows("before")
	if _, err := k.kubectl("get", "configmap", "after"); err == nil {
		k.Error("a copy has what was made after it")
	}
}

func (k *kube) login() { k.Helper(); k.loginAt(k.All[0]) }

// loginAt has a kubeconfig for where the API is now.
func (k *kube) loginAt(h *hosts.Host) {
	k.Helper()
	k.strata(h, "cluster", "kubeconfig", "one", "--admin", "--file", k.conf)
}

// controlOf are the control planes that a host has.
func (k *kube) controlOf(h *hosts.Host) []string {
	k.Helper()
	return must[[]string](k.T)(filepath.Glob(filepath.Join(h.DataDir, "kube", "*", "control")))
}

// host is the member that has the control plane.
func (k *kube) host() *hosts.Host {
	k.Helper()
	at := strings.TrimSpace(k.must("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	for _, h := range k.members() {
		if strings.HasPrefix(at, "https://"+h.Addr+":") && len(k.controlOf(h)) == 1 {
			return h
		}
	}
	k.Fatalf("no member has the API at %s", at)
	return nil
}

// knows holds that the cluster has what was made in it, that its pods run as they did, and
// that new ones do.
func (k *kube) knows(configmap string) {
	k.Helper()
	k.must("get", "configmap", configmap)
	k.until("the worker to call where the control plane is", 2*time.Minute, func() (bool, error) {
		_, err := k.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=1s")
		return err == nil, nil
	})
	k.undisturbed()
	name := fmt.Sprintf("new-%d", time.Now().Unix())
	k.must("create", "deployment", name, "--image", "localhost/strata/pause:1")
	k.must("rollout", "status", "deployment/"+name, "--timeout=120s")
	k.must("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
}

// asks asks the API again and again until end is called, which tells for how long it has not
// answered at most.
func (k *kube) asks() (end func() time.Duration) {
	var mu sync.Mutex
	last, gap, done := time.Now(), time.Duration(0), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := k.kubectl("get", "--raw", "/readyz", "--request-timeout=1s"); err == nil {
				mu.Lock()
				gap, last = max(gap, time.Since(last)), time.Now()
				mu.Unlock()
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() time.Duration {
		mu.Lock()
		before := last
		mu.Unlock()
		k.until("an answer", time.Minute, func() (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return last.After(before), nil
		})
		close(done)
		group.Wait()
		return gap.Round(100 * time.Millisecond)
	}
}
