//go:build kube

package system

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClustersBeside has the same pods do the same on machines and on servers of the same
// machines, and tells what either takes: processor, network and disk. It holds that the work
// is done, whatever the time.
func TestClustersBeside(t *testing.T) {
	p := newPool(t, 2)
	p.workerImage()
	p.smallFlavor("kube.small", 1, 1024, 4)
	machines := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.strata(p.All[0], "cluster", "create", "machines", "--nodes", "2", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "machines", "--admin", "--file", machines.conf)
	machines.work("on machines", fromDebian(t, "busybox-static", "bin/busybox"))
	p.strata(p.All[0], "cluster", "delete", "machines") // what is idle takes the processor too

	servers := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.strata(p.All[0], "cluster", "create", "servers", "--servers", "--flavor", "kube.small", "--nodes", "2", "--timeout", "25")
	p.strata(p.All[0], "cluster", "kubeconfig", "servers", "--admin", "--file", servers.conf)
	servers.work("on servers", "/bin/busybox")
	p.strata(p.All[0], "cluster", "delete", "servers")
}

// works are what a pod is timed with; $SERVE is a pod of another node.
var works = []struct{ name, command string }{
	{"the digest of 256 MiB", "/busybox dd if=/dev/zero bs=1M count=256 | /busybox sha256sum > /dev/null"},
	{"200 processes", "i=0; while [ $i -lt 200 ]; do /busybox true; i=$((i+1)); done"},
	{"128 MiB written and flushed", "/busybox dd if=/dev/zero of=/data/f bs=1M count=128 conv=fsync"},
	{"64 MiB from a pod on another node", "echo GET /file HTTP/1.0 | /busybox nc $SERVE 8080 > /dev/null"},
	{"50 requests to it", "i=0; while [ $i -lt 50 ]; do echo GET /small HTTP/1.0 | /busybox nc $SERVE 8080 > /dev/null; i=$((i+1)); done"},
}

// work times pods; busybox is where nodes have it.
func (k *kube) work(where, busybox string) {
	k.Helper()
	names := strings.Fields(k.must("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	if len(names) != 2 {
		k.Fatalf("%s: the nodes are %v", where, names)
	}
	k.apply(workPod("serve", names[0], busybox, "/busybox dd if=/dev/zero of=/data/file bs=1M count=64; echo small > /data/small; exec /busybox httpd -f -p 8080 -h /data", "{tcpSocket: {port: 8080}, periodSeconds: 1}", "emptyDir: {}"))
	k.must("wait", "--for=condition=Ready", "pod/serve", "--timeout=300s")
	began := time.Now()
	k.apply(workPod("work", names[1], busybox, "exec /busybox sleep 1000000", sleepsReady, "emptyDir: {}"))
	k.must("wait", "--for=condition=Ready", "pod/work", "--timeout=300s")
	k.Logf("%s: a pod, from the request until ready: %v", where, time.Since(began).Round(10*time.Millisecond))
	serve := k.must("get", "pod", "serve", "-o", "jsonpath={.status.podIP}")
	for _, w := range works {
		out := k.must("exec", "work", "--", "/busybox", "env", "SERVE="+serve, "/busybox", "sh", "-c", fmt.Sprintf("/busybox time -f took=%%e /busybox sh -c '%s' 2>&1", w.command))
		_, took, ok := strings.Cut(out, "took=")
		if !ok {
			k.Fatalf("%s: %s: %s", where, w.name, out)
		}
		k.Logf("%s: %s: %s s", where, w.name, strings.TrimSpace(took))
	}
}

// apply gives the cluster a manifest.
func (k *kube) apply(manifest string) {
	k.Helper()
	file := filepath.Join(k.TempDir(), "manifest.yaml")
	write(k.T, file, manifest)
	k.must("apply", "-f", file)
}

// sleepsReady is the readiness of a pod that others have do things.
const sleepsReady = "{exec: {command: [/busybox, 'true']}, periodSeconds: 1, timeoutSeconds: 60}"

// workPod is a pod on a node with a volume at /data; busybox is where the node has it.
func workPod(name, node, busybox, command, probe, data string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - name: one
    image: localhost/strata/pause:1
    imagePullPolicy: Never
    command: [/busybox, sh, -c, %q]
    readinessProbe: %s
    volumeMounts:
    - {name: busybox, mountPath: /busybox, readOnly: true}
    - {name: data, mountPath: /data}
  volumes:
  - {name: busybox, hostPath: {path: %s, type: File}}
  - {name: data, %s}
`, name, node, command, probe, busybox, data)
}
