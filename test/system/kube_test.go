//go:build kube

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	kubesys "github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterMetal makes a cluster of Kubernetes on machines of a pool, uses it, scales and
// upgrades it, loses an agent for a while, and leaves nothing of it.
func TestClusterMetal(t *testing.T) {
	p := newPool(t, 3)
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	began := time.Now()
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	t.Logf("a cluster of two workers: %v", time.Since(began).Round(100*time.Millisecond))
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--admin", "--file", k.conf)
	first := k.nodes(2)
	if got := p.strata(p.All[0], "kubectl", "--cluster", "one", "get", "nodes", "-o", "name"); len(strings.Fields(got)) != 2 {
		t.Errorf("strata kubectl says %q", got)
	}
	k.workload()
	k.must("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s") // pods that have asked the API by its service
	k.application()
	k.agentDies(first)
	p.strata(p.All[0], "cluster", "scale", "one", "3")
	k.nodes(3)
	began = time.Now()
	p.strata(p.All[0], "cluster", "upgrade", "one", "--batch", "3")
	t.Logf("an upgrade: %v", time.Since(began).Round(100*time.Millisecond))
	k.nodes(3)
	k.undisturbed()
	p.strata(p.All[0], "cluster", "scale", "one", "1")
	stays := k.nodes(1)
	for _, h := range p.All {
		if !slices.Contains(stays, h.Name) {
			k.gone(h, "worker")
		}
	}
	began = time.Now()
	p.strata(p.All[0], "cluster", "delete", "one")
	t.Logf("the end of it: %v", time.Since(began).Round(100*time.Millisecond))
	for _, h := range p.All {
		k.gone(h, "")
	}
	for _, path := range []string{"/var/lib/kubelet", "/var/log/containers", "/run/strata/strata-kube"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
}

// kube is a cluster's administrator.
type kube struct {
	*pool
	conf string
}

// kubectl runs upstream's client and gives what it printed.
func (k *kube) kubectl(args ...string) (string, error) {
	program := filepath.Join(filepath.Dir(cloud.Program(k.T)), "strata-kube")
	cmd := exec.CommandContext(k.Context(), program, append([]string{"kubectl", "--kubeconfig", k.conf}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(k.conf))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (k *kube) must(args ...string) string {
	k.Helper()
	out, err := k.kubectl(args...)
	if err != nil {
		k.Fatal(err)
	}
	return out
}

// get reads what kubectl get says.
func (k *kube) get(to any, args ...string) {
	k.Helper()
	if err := json.Unmarshal([]byte(k.must(append([]string{"get", "-o", "json"}, args...)...)), to); err != nil {
		k.Fatal(err)
	}
}

// until waits for something that kubectl says. It asks for a fifth of the time at most: to
// start kubectl takes a processor, of which what is waited for has need.
func (k *kube) until(what string, limit time.Duration, is func() (bool, error)) {
	k.Helper()
	k.soon(what, limit, func() (bool, error) {
		began := time.Now()
		ok, err := is()
		if err == nil && !ok {
			err = wait.Pause(k.Context(), min(4*time.Since(began), 5*time.Second))
		}
		return ok, err
	})
}

// soon is until for what is timed: it asks again at once.
func (k *kube) soon(what string, limit time.Duration, is func() (bool, error)) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), limit)
	defer cancel()
	if err := wait.Until(ctx, what, 200*time.Millisecond, func(context.Context) (bool, error) { return is() }); err != nil {
		k.Fatal(err)
	}
}

// nodes are the cluster's, which have to be so many, of the version that is installed.
func (k *kube) nodes(n int) (names []string) {
	k.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				NodeInfo  struct{ KubeletVersion, ContainerRuntimeVersion string }
				Addresses []struct{ Type, Address string }
			}
		}
	}
	k.get(&list, "nodes")
	version := strings.Fields(k.must("version", "--client"))[2]
	for _, x := range list.Items {
		names = append(names, x.Metadata.Name)
		i := slices.IndexFunc(k.All, func(h *hosts.Host) bool { return h.Name == x.Metadata.Name })
		if i < 0 || len(x.Status.Addresses) == 0 || x.Status.Addresses[0].Address != k.All[i].Addr {
			k.Errorf("node %s is at %v", x.Metadata.Name, x.Status.Addresses)
		}
		if x.Status.NodeInfo.KubeletVersion != version || !strings.HasPrefix(x.Status.NodeInfo.ContainerRuntimeVersion, "containerd://") {
			k.Errorf("node %s has %+v, want version %s", x.Metadata.Name, x.Status.NodeInfo, version)
		}
	}
	if len(names) != n {
		k.Fatalf("the cluster has the nodes %v, want %d", names, n)
	}
	return names
}

// pod is one of the workload's.
type pod struct {
	Metadata struct{ Name string }
	Spec     struct{ NodeName string }
	Status   struct {
		Phase             string
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
			ContainerID  string
		}
	}
}

func (k *kube) pods() (list []pod) {
	k.Helper()
	var l struct{ Items []pod }
	k.get(&l, "pods", "-l", "app=host")
	return l.Items
}

// application has one deployed, updated, scaled, rolled back and deleted without a manifest.
func (k *kube) application() {
	k.Helper()
	app := func(want string, args ...string) {
		k.Helper()
		if out := k.strata(k.All[0], append([]string{"app"}, args...)...); !regexp.MustCompile(want).MatchString(out) {
			k.Errorf("strata app %s says %q, want %s", strings.Join(args, " "), out, want)
		}
	}
	app(`web +web +2/2 +`+kubesys.SandboxImage+` +1 `, "deploy", "web", "--image", kubesys.SandboxImage, "--port", "80", "--replicas", "2")
	app(`2/2 +\S+ +2 `, "deploy", "web", "--image", kubesys.SandboxImage, "--port", "80", "--replicas", "2", "--env", "A=1")
	app(`3/3 `, "scale", "web", "3")
	app(`3/3 +\S+ +3 `, "rollback", "web")
	if got := k.must("-n", "web", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}"); strings.Contains(got, "A") {
		k.Errorf("after the rollback the environment is %s", got)
	}
	k.until("three pods behind the service", time.Minute, func() (bool, error) { // besides, for a while, those that end
		got, err := k.kubectl("-n", "web", "get", "endpointslices", "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
		return got == "true true true", err
	})
	app("", "delete", "web")
	if _, err := k.kubectl("get", "namespace", "web"); err == nil {
		k.Error("the application's namespace is left")
	}
}

// workload runs a pod in each node's own network, reads its log, and has it ask the API by
// the service's address, through kube-proxy.
func (k *kube) workload() {
	k.Helper()
	k.must("apply", "-f", "testdata/kube/host.yaml")
	k.must("rollout", "status", "daemonset/host", "--timeout=60s")
	list := k.pods()
	if len(list) != 2 {
		k.Fatalf("there are the pods %+v", list)
	}
	for _, x := range list {
		k.until("the log of "+x.Metadata.Name, 10*time.Second, func() (bool, error) {
			log, err := k.kubectl("logs", x.Metadata.Name)
			return strings.Contains(log, "CoreDNS"), err
		})
		out := k.must("exec", x.Metadata.Name, "--", "/strata-kube", "kubectl", "get", "--raw", "/readyz")
		if strings.TrimSpace(out) != "ok" {
			k.Errorf("a pod on %s is told %q by the API", x.Spec.NodeName, out)
		}
	}
}

// agentDies kills the agent of a worker: its pods go on, and it finds them again.
func (k *kube) agentDies(workers []string) {
	k.Helper()
	i := slices.IndexFunc(k.All, func(h *hosts.Host) bool { return h != k.All[0] && slices.Contains(workers, h.Name) })
	if i < 0 {
		k.Fatalf("of the workers %v none is without the control plane", workers)
	}
	if err := syscall.Kill(k.pid(k.All[i]), syscall.SIGKILL); err != nil {
		k.Fatal(err)
	}
	k.awaitNodes(len(k.All) - 1)
	k.up(k.All[i])
	k.awaitNodes(len(k.All))
	k.undisturbed()
}

// undisturbed holds that every pod runs as it did in the beginning.
func (k *kube) undisturbed() {
	k.Helper()
	k.must("rollout", "status", "daemonset/host", "--timeout=60s")
	for _, x := range k.pods() {
		if s := x.Status.ContainerStatuses; x.Status.Phase != "Running" || len(s) != 1 || !s[0].Ready || s[0].RestartCount != 0 {
			k.Errorf("pod %s on %s is %+v", x.Metadata.Name, x.Spec.NodeName, x.Status)
		}
	}
}

// gone holds that nothing of a cluster is left on a host; or of its part, if it has a name.
func (k *kube) gone(h *hosts.Host, part string) {
	k.Helper()
	dir := filepath.Join(h.DataDir, "kube")
	if left := must[[]string](k.T)(filepath.Glob(filepath.Join(dir, "*", part))); len(left) > 0 {
		k.Errorf("in %s there is %v", dir, left)
	}
	own := regexp.MustCompile(regexp.QuoteMeta(dir) + "/[^/]*/" + part)
	for _, glob := range []string{"/proc/[0-9]*/cmdline", "/proc/self/mountinfo"} {
		for _, file := range must[[]string](k.T)(filepath.Glob(glob)) {
			if raw, err := os.ReadFile(file); err == nil && own.Match(raw) {
				k.Errorf("on %s there is %s: %.300q", h.Name, file, raw)
			}
		}
	}
	name := region.Name(h.DataDir) + "-kube"
	run := "/run/strata/" + name
	if part != "" && h == k.All[0] { // whose control plane goes on, and has a socket there
		run += "/*/containerd.sock"
	}
	for _, glob := range []string{filepath.Join(h.DataDir, "kubelet"), "/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name, run} {
		if left := must[[]string](k.T)(filepath.Glob(glob)); len(left) > 0 {
			k.Errorf("on %s there is %v", h.Name, left)
		}
	}
	if part == "" {
		k.gateless(h.DataDir)
	}
	tables, err := h.Command(k.Context(), "nft", "list", "tables").Output()
	if err != nil || bytes.Contains(tables, []byte("kube-proxy")) {
		k.Errorf("on %s there are %s, %v", h.Name, tables, err)
	}
}
