//go:build kube

package system

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// TestClusterDay2 makes one cluster of Kubernetes, and does with it what follows the first
// day: people log in, load is measured and followed, nodes come and go, what breaks is found.
// The control plane's machine is no worker of it.
func TestClusterDay2(t *testing.T) {
	p := newPool(t, 3)
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.without(p.All[0])
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "1", "--timeout", "5",
		"--label", "auto_scaling_enabled=true", "--label", "max_node_count=2", "--label", "scale_down_unneeded_time=20s")
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--admin", "--file", k.conf)
	k.nodes(1)
	for _, s := range []struct {
		name string
		run  func(*kube)
	}{{"Identity", (*kube).identity}, {"Top", (*kube).top}, {"Gate", (*kube).gate}, {"Horizontal", (*kube).horizontal}, {"Autoscaling", (*kube).autoscaling}, {"Check", (*kube).checked}} {
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

// autoscaling has the cluster's nodes follow its pods.
func (k *kube) autoscaling() {
	k.Helper()
	k.must("apply", "-f", "testdata/kube/big.yaml")
	nodes := func() int { return len(strings.Fields(k.must("get", "nodes", "-o", "name"))) }
	began := time.Now()
	k.until("a second node", 3*time.Minute, func() (bool, error) { return nodes() == 2, nil })
	k.must("rollout", "status", "deployment/big", "--timeout=120s")
	k.Logf("a pod that found no place runs on a new node after %v", time.Since(began).Round(time.Second))
	if got := k.must("get", "events", "--field-selector", "reason=TriggeredScaleUp", "-o", "jsonpath={.items[*].message}"); !strings.Contains(got, "default-worker 1->2 (max: 2)") {
		k.Errorf("the pod was told %q", got)
	}
	k.must("scale", "deployment", "big", "--replicas=4")
	k.until("a pod that cannot be helped", time.Minute, func() (bool, error) {
		out, err := k.kubectl("get", "events", "--field-selector", "reason=NotTriggerScaleUp", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(out, "max node group size reached"), err
	})
	k.must("scale", "deployment", "big", "--replicas=0")
	began = time.Now()
	k.until("one node again", 4*time.Minute, func() (bool, error) { return nodes() == 1, nil })
	k.Logf("a node that has nothing to do is gone after %v", time.Since(began).Round(time.Second))
	k.must("delete", "-f", "testdata/kube/big.yaml")
	k.until("the end of the resize", time.Minute, func() (bool, error) {
		return strings.Contains(k.strata(k.All[0], "cluster", "show", "one"), "UPDATE_COMPLETE"), nil
	})
	k.must("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
}

// checked breaks things, which the check finds.
func (k *kube) checked() {
	k.Helper()
	k.found("")
	k.must("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=0")
	k.found(`name server`)
	k.must("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=2")
	k.must("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
	k.must("run", "nothing", "--image=127.0.0.1:1/nothing:1")
	k.found(`image 127\.0\.0\.1:1/nothing:1`)
	k.must("delete", "pod", "nothing", "--now")
	k.fullQuota()
	pid := k.kubelet()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		k.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it may have gone
	k.found(`worker .*: kubelet`)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		k.Fatal(err)
	}
	k.found("")
}

// found waits until the check fails for what matches, or with "" for nothing.
func (k *kube) found(want string) {
	k.Helper()
	re := regexp.MustCompile(want)
	last := ""
	defer func() {
		if k.Failed() {
			k.Logf("the check said %s", last)
		}
	}()
	k.until("the check to find "+want, 2*time.Minute, func() (bool, error) {
		out, err := k.try(k.All[0], "--output", "json", "cluster", "check", "one")
		last = out
		var list []struct{ Check, Verdict, Seen, Fix string }
		if json.Unmarshal([]byte(out), &list) != nil || len(list) < 5 {
			return false, nil
		}
		failed, hit := 0, false
		for _, f := range list {
			if f.Verdict != "FAIL" {
				continue
			}
			failed++
			hit = hit || re.MatchString(f.Check) && f.Seen != "" && f.Fix != ""
		}
		if (err != nil) != (failed > 0) {
			k.Errorf("of %d failed checks it says %v", failed, err)
		}
		return want == "" && failed == 0 || want != "" && hit, nil
	})
}

// fullQuota has no port left for a pod.
func (k *kube) fullQuota() {
	k.Helper()
	admin := k.clients("strata")
	ctx := k.Context()
	project := must[[]projects.Project](k.T)(projects.ExtractProjects(must[pagination.Page](k.T)(projects.List(admin.identity, projects.ListOpts{Name: "demo"}).AllPages(ctx))))[0].ID
	now := must[*quotas.QuotaDetailSet](k.T)(quotas.GetDetail(ctx, admin.network, project).Extract()).Port
	set := func(n int) {
		if _, err := quotas.Update(ctx, admin.network, project, quotas.UpdateOpts{Port: &n}).Extract(); err != nil {
			k.Error(err)
		}
	}
	set(now.Used)
	defer set(now.Limit)
	k.found(`quota of ports`)
}

// kubelet is the process of the worker's.
func (k *kube) kubelet() int {
	k.Helper()
	for _, file := range must[[]string](k.T)(filepath.Glob("/proc/[0-9]*/cmdline")) {
		raw, err := os.ReadFile(file)
		args := bytes.Split(raw, []byte{0})
		if err != nil || len(args) < 3 || string(args[1]) != "kubelet" || !bytes.Contains(raw, []byte(filepath.Dir(k.All[0].DataDir))) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			return pid
		}
	}
	k.Fatal("there is no kubelet")
	return 0
}
