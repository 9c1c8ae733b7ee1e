//go:build kube

package system

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestClusterDay2 makes one cluster of Kubernetes, and does with it what follows the first
// day: people log in, load is measured and followed, nodes come and go, what breaks is found.
func TestClusterDay2(t *testing.T) {
	p := newPool(t, 3)
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "1", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--admin", "--file", k.conf)
	k.nodes(1)
	for _, s := range []struct {
		name string
		run  func(*kube)
	}{{"Identity", (*kube).identity}, {"Top", (*kube).top}, {"Horizontal", (*kube).horizontal}} {
		t.Run(s.name, func(t *testing.T) {
			own, pool := *k, *k.pool
			pool.T, own.pool = t, &pool
			s.run(&own)
		})
	}
}

// top asks what nodes and pods take.
func (k *kube) top() {
	k.Helper()
	k.until("what the node takes", 90*time.Second, func() (bool, error) {
		out, err := k.kubectl("top", "nodes", "--no-headers")
		return err == nil && len(strings.Fields(out)) == 5 && strings.HasSuffix(strings.Fields(out)[3], "Mi"), nil
	})
	k.until("what a pod takes", 60*time.Second, func() (bool, error) {
		out, err := k.kubectl("-n", "kube-system", "top", "pods", "-l", "k8s-app=kube-dns", "--no-headers")
		return err == nil && len(strings.Split(strings.TrimSpace(out), "\n")) == 2, nil
	})
	if got := k.must("get", "apiservice", "v1beta1.metrics.k8s.io", "-o", "jsonpath={.spec.insecureSkipTLSVerify}"); got == "true" {
		k.Error("the server of metrics is believed without a certificate")
	}
}

// horizontal has a deployment follow its load.
func (k *kube) horizontal() {
	k.Helper()
	k.must("apply", "-f", "testdata/kube/busy.yaml")
	k.must("rollout", "status", "deployment/busy", "--timeout=60s")
	replicas := func() int {
		n, err := strconv.Atoi(k.must("get", "deployment", "busy", "-o", "jsonpath={.spec.replicas}"))
		if err != nil {
			k.Fatal(err)
		}
		return n
	}
	k.must("create", "configmap", "flags", "--from-literal=busy=yes")
	k.must("annotate", "pods", "-l", "app=busy", "now=1") // has kubelet look at the volumes
	k.until("more copies under load", 4*time.Minute, func() (bool, error) { return replicas() > 2, nil })
	k.must("delete", "configmap", "flags")
	k.must("rollout", "restart", "deployment/busy")
	k.until("fewer copies without", 4*time.Minute, func() (bool, error) { return replicas() == 2, nil })
	k.must("delete", "-f", "testdata/kube/busy.yaml")
}
