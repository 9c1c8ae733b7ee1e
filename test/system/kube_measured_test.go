//go:build kube

package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	kubesys "github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Pods of the measurement: so many one after the other, and at once.
const (
	podsInTurn = 50
	podsAtOnce = 100
)

// TestClusterMeasured tells how long a cluster of two workers and its pods take, and how
// much memory. It holds that all come to run, whatever the time.
func TestClusterMeasured(t *testing.T) {
	p := newPool(t, 3)
	p.without(p.All[0])
	m := &measured{kube: &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}}
	m.created()
	raw := must[[]byte](t)(os.ReadFile(m.conf))
	m.api = must[*kubeapi.Client](t)(kubeapi.New(must[kubeapi.Config](t)(kubeapi.FromKubeconfig(raw))))
	t.Cleanup(m.api.Close)
	m.inTurn()
	m.atOnce()
	m.memory()
	p.strata(p.All[0], "cluster", "delete", "one")
}

// measured is a cluster that is measured.
type measured struct {
	*kube
	api *kubeapi.Client
}

// created makes the cluster, and tells when its API answers and when a pod runs.
func (m *measured) created() {
	m.Helper()
	began := time.Now()
	since := func(what string) { m.Logf("%s: %v", what, time.Since(began).Round(100*time.Millisecond)) }
	m.strata(m.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5", "--no-wait")
	m.soon("the API", time.Minute, func() (bool, error) {
		if _, err := m.try(m.All[0], "cluster", "kubeconfig", "one", "--admin", "--file", m.conf); err != nil {
			return false, nil
		}
		_, err := m.kubectl("get", "--raw", "/readyz")
		return err == nil, nil
	})
	since("the API answers after")
	m.soon("a pod", time.Minute, func() (bool, error) {
		_, err := m.kubectl("run", "first", "--image="+kubesys.SandboxImage, "--image-pull-policy=Never")
		return err == nil, nil
	})
	m.must("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
	since("the first pod runs after")
	m.soon("two workers", time.Minute, func() (bool, error) {
		out, err := m.kubectl("get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		return out == "True True", err
	})
	since("both workers take pods after")
	m.soon("the end of the create", time.Minute, func() (bool, error) {
		return strings.Contains(m.strata(m.All[0], "cluster", "show", "one"), "CREATE_COMPLETE"), nil
	})
	m.must("delete", "pod", "first", "--now")
	m.must("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
}

// ready are the pods with a label that are ready, by name, as they become so.
func (m *measured) ready(ctx context.Context, label string) <-chan []pod {
	return kubeapi.Follow[pod](ctx, m.api, kubeapi.Pods, label, func(err error) { m.Log(err) })
}

func isReady(p pod) bool {
	return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Ready
}

// inTurn starts pods one after the other.
func (m *measured) inTurn() {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 5*time.Minute)
	defer cancel()
	told := m.ready(ctx, "app=turn")
	<-told
	var took []time.Duration
	for i := range podsInTurn {
		name := fmt.Sprintf("turn-%d", i)
		began := time.Now()
		if err := m.api.Create(ctx, kubeapi.Pods, "default", "", "", map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]any{"app": "turn"}},
			"spec": map[string]any{"terminationGracePeriodSeconds": 1, "containers": []any{map[string]any{"name": "one", "image": kubesys.SandboxImage, "imagePullPolicy": "Never"}}}}); err != nil {
			m.Fatal(err)
		}
		for list := range told {
			if slices.ContainsFunc(list, func(p pod) bool { return p.Metadata.Name == name && isReady(p) }) {
				break
			}
		}
		if ctx.Err() != nil {
			m.Fatalf("pod %s does not become ready", name)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	round := func(i int) time.Duration { return took[i].Round(10 * time.Millisecond) }
	m.Logf("%d pods in turn, from the request until ready: p50 %v, p99 %v, from %v to %v", len(took), round(len(took)/2), round(len(took)*99/100), round(0), round(len(took)-1))
	m.must("delete", "pods", "-l", "app=turn", "--now")
}

// atOnce starts many pods together, and ends them.
func (m *measured) atOnce() {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 5*time.Minute)
	defer cancel()
	told := m.ready(ctx, "app=many")
	<-told
	began := time.Now()
	m.must("create", "deployment", "many", "--image="+kubesys.SandboxImage, fmt.Sprintf("--replicas=%d", podsAtOnce))
	last := 0
	for list := range told {
		ready := len(slices.DeleteFunc(list, func(p pod) bool { return !isReady(p) }))
		if ready/25 > last/25 {
			m.Logf("%d pods at once: %d are ready after %v", podsAtOnce, ready, time.Since(began).Round(100*time.Millisecond))
		}
		if last = ready; ready == podsAtOnce {
			break
		}
	}
	if last != podsAtOnce {
		m.Fatalf("%d of %d pods are ready", last, podsAtOnce)
	}
	began = time.Now()
	m.must("delete", "deployment", "many", "--cascade=foreground", "--timeout=300s")
	m.Logf("%d pods are gone after %v", podsAtOnce, time.Since(began).Round(100*time.Millisecond))
}

// memory tells what the programs take, by name.
func (m *measured) memory() {
	m.Helper()
	base := []byte(filepath.Dir(m.All[0].DataDir))
	for _, file := range must[[]string](m.T)(filepath.Glob("/proc/[0-9]*/cmdline")) {
		raw, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(raw, base) {
			continue
		}
		args := strings.Split(string(raw), "\x00")
		name := filepath.Base(args[0])
		if name == "strata-kube" && len(args) > 1 {
			name = args[1]
		}
		if name != "strata-shim" && name != "containerd-shim-runc-v2" {
			m.Logf("%s takes %s", name, memory(filepath.Dir(file)))
		}
	}
}
