//go:build kube

package system

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// gate has a control plane whose machine is no worker reach all that is in its cluster.
func (k *kube) gate() {
	k.Helper()
	if strings.Contains(k.must("get", "nodes", "-o", "name"), "node/"+k.All[0].Name) {
		k.Fatal("the control plane's member is a worker")
	}
	at := k.gateAddress()
	k.serveInPods()
	k.reachesPods(at)
	k.reachesKubelets()
	k.judgedUnderPolicies(at)
	if err := syscall.Kill(k.pid(k.All[0]), syscall.SIGKILL); err != nil {
		k.Fatal(err)
	}
	k.up(k.All[0])
	k.awaitNodes(len(k.All))
	k.until("the way to pods after the member's agent was killed", time.Minute, func() (bool, error) {
		_, err := k.kubectl("get", "--raw", "/api/v1/namespaces/gate/services/web:80/proxy/")
		return err == nil, nil
	})
	k.reachesPods(at)
	k.reachesKubelets()
	k.olderMetrics()
	k.must("delete", "validatingwebhookconfiguration/gate.test", "apiservice/v1.gate.test", "namespace/gate")
}

// gateAddress is where pods see the control plane.
func (k *kube) gateAddress() string {
	k.Helper()
	page := must[pagination.Page](k.T)(ports.List(k.clients("strata").network, ports.ListOpts{DeviceOwner: "container-infra:gate"}).AllPages(k.Context()))
	list := must[[]ports.Port](k.T)(ports.ExtractPorts(page))
	if len(list) != 1 || list[0].Status != "ACTIVE" || len(list[0].FixedIPs) != 1 {
		k.Fatalf("the ports of control planes are %+v", list)
	}
	return list[0].FixedIPs[0].IPAddress
}

// applied applies a manifest of which parts are to be filled in.
func (k *kube) applied(file string, values ...string) {
	k.Helper()
	raw := must[[]byte](k.T)(os.ReadFile(filepath.Join("testdata", "kube", file)))
	path := filepath.Join(k.TempDir(), file)
	if err := os.WriteFile(path, []byte(strings.NewReplacer(values...).Replace(string(raw))), 0o600); err != nil {
		k.Fatal(err)
	}
	k.must("apply", "-f", path)
}

// serveInPods has a webhook, an aggregated API and a server in pods.
func (k *kube) serveInPods() {
	k.Helper()
	program := filepath.Join(filepath.Dir(k.All[0].DataDir), "gate")
	build := exec.CommandContext(k.Context(), "go", "build", "-o", program, "./testdata/gate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		k.Fatalf("%v: %s", err, out)
	}
	set := must[*authority.Set](k.T)(authority.New("gate"))
	pair := must[*authority.Pair](k.T)(set.Cluster.Issue(authority.Leaf{Name: "web", Hosts: []string{"web.gate.svc"}, Server: true}))
	code := base64.StdEncoding.EncodeToString
	k.applied("gate.yaml", "$PROGRAM", program, "$CA", code(set.Cluster.Cert), "$CERT", code(pair.Cert), "$KEY", code(pair.Key))
	k.must("-n", "gate", "rollout", "status", "deployment/web", "--timeout=90s")
}

// reachesPods asks all that is in pods by way of the API.
func (k *kube) reachesPods(gate string) {
	k.Helper()
	if got := k.must("get", "--raw", "/api/v1/namespaces/gate/services/web:80/proxy/"); !strings.HasPrefix(got, "web-") || !strings.HasSuffix(got, " for "+gate) {
		k.Errorf("by the service there is %q", got)
	}
	for _, name := range strings.Fields(k.must("-n", "gate", "get", "pods", "-o", "jsonpath={.items[*].metadata.name}")) {
		if got := k.must("get", "--raw", "/api/v1/namespaces/gate/pods/"+name+":8080/proxy/"); got != name+" for "+gate {
			k.Errorf("pod %s says %q", name, got)
		}
	}
	k.until("the aggregated API", time.Minute, func() (bool, error) {
		got, err := k.kubectl("get", "apiservice", "v1.gate.test", "-o", `jsonpath={.status.conditions[?(@.type=="Available")].status}`)
		return got == "True", err
	})
	if got := k.must("get", "--raw", "/apis/gate.test/v1/clients"); !strings.Contains(got, `"name":"`+gate+`"`) {
		k.Errorf("the aggregated API says %s", got)
	}
	k.judged(gate)
	if _, err := k.kubectl("get", "--raw", "/api/v1/namespaces/gate/services/web:81/proxy/"); err == nil {
		k.Error("a port that the service does not have answers")
	}
}

// judged has a webhook in a pod refuse one thing, and let another pass.
func (k *kube) judged(gate string) {
	k.Helper()
	if _, err := k.kubectl("-n", "gate", "create", "secret", "generic", "refused"); err == nil || !strings.Contains(err.Error(), "judged for "+gate) {
		k.Errorf("what the webhook refuses: %v", err)
	}
	k.must("-n", "gate", "create", "secret", "generic", "passed")
	k.must("-n", "gate", "delete", "secret", "passed")
}

// reachesKubelets reads a pod's log, runs a program in it, and has a port of it here.
func (k *kube) reachesKubelets() {
	k.Helper()
	if got := k.must("-n", "gate", "logs", "deployment/web"); !strings.HasPrefix(got, "serving\n") {
		k.Errorf("the log is %q", got)
	}
	if got := k.must("-n", "gate", "exec", "deployment/web", "--", "/strata-kube", "kubectl", "version", "--client"); !strings.Contains(got, "Client Version") {
		k.Errorf("a program in the pod prints %q", got)
	}
	ctx, cancel := context.WithTimeout(k.Context(), 30*time.Second)
	defer cancel()
	program := filepath.Join(filepath.Dir(cloud.Program(k.T)), "strata-kube")
	cmd := exec.CommandContext(ctx, program, "kubectl", "--kubeconfig", k.conf, "-n", "gate", "port-forward", "deployment/web", ":8080")
	out := must[io.ReadCloser](k.T)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()
	line, err := bufio.NewReader(out).ReadString('\n')
	var local int
	if _, scan := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d", &local); err != nil || scan != nil {
		k.Fatalf("kubectl port-forward says %q, %v", line, err)
	}
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", local))
	if err != nil {
		k.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || !strings.HasPrefix(string(body), "web-") {
		k.Errorf("by the port that is forwarded there is %q, %v", body, err)
	}
}

// judgedUnderPolicies denies all in the webhook's namespace, and then allows the control plane.
func (k *kube) judgedUnderPolicies(gate string) {
	k.Helper()
	k.applied("gate-policy.yaml", "$GATE", "192.0.2.200")
	k.must("-n", "gate", "rollout", "restart", "deployment/web") // connections that there are go on
	k.must("-n", "gate", "rollout", "status", "deployment/web", "--timeout=90s")
	k.until("a webhook that nobody reaches", time.Minute, func() (bool, error) {
		_, err := k.kubectl("-n", "gate", "create", "secret", "generic", "refused")
		return err != nil && strings.Contains(err.Error(), "failed calling webhook"), nil
	})
	k.applied("gate-policy.yaml", "$GATE", gate)
	k.until("a webhook that the control plane reaches", time.Minute, func() (bool, error) {
		_, err := k.kubectl("-n", "gate", "create", "secret", "generic", "refused")
		return err != nil && strings.Contains(err.Error(), "judged for "+gate), nil
	})
	k.must("-n", "gate", "delete", "networkpolicies", "--all")
}

// olderMetrics gives the cluster the service of metrics that clusters had before, as if it
// were one of them: it is given the one that works with gates.
func (k *kube) olderMetrics() {
	k.Helper()
	applied := must[[]string](k.T)(filepath.Glob(filepath.Join(k.All[0].DataDir, "kube", "*", "control", "addons")))
	if len(applied) != 1 {
		k.Fatalf("what the cluster was given is told by %v", applied)
	}
	k.must("-n", "kube-system", "delete", "service/metrics-server", "endpointslice/metrics-server")
	k.must("apply", "--server-side", "--field-manager=strata", "-f", "testdata/kube/metrics-before.yaml")
	if err := os.Remove(applied[0]); err != nil {
		k.Fatal(err)
	}
	k.until("the service that works with gates", time.Minute, func() (bool, error) {
		got, err := k.kubectl("-n", "kube-system", "get", "service", "metrics-server", "-o", "jsonpath={.spec.type} {.spec.clusterIP} {.spec.externalName}")
		return strings.TrimSpace(got) == "ClusterIP None", err
	})
	k.top()
}

// gateless holds that a host has no gate.
func (k *kube) gateless(dataDir string) {
	k.Helper()
	if left := must[[]string](k.T)(filepath.Glob("/run/netns/" + region.Name(dataDir) + "-gate-*")); len(left) > 0 {
		k.Errorf("there is left %v", left)
	}
}
