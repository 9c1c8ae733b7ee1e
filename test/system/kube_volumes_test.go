//go:build kube

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterVolumes has the pods of a cluster keep their data on volumes of the project,
// which follow them, grow, are copied and go with their claims, whatever dies.
func TestClusterVolumes(t *testing.T) {
	k := newKubeVolumes(t)
	p := k.pool
	for _, h := range p.All[1:] {
		k.load(h)
	}
	k.must("apply", "-f", "testdata/kube/volumes.yaml", "-f", "testdata/kube/volume-writer.yaml")
	t.Run("first", func(t *testing.T) { k.in(t).first() })
	t.Run("moves", func(t *testing.T) { k.in(t).moves() })
	t.Run("grows", func(t *testing.T) { k.in(t).grows() })
	t.Run("copies", func(t *testing.T) { k.in(t).copies() })
	t.Run("device", func(t *testing.T) { k.in(t).device() })
	t.Run("agent dies", func(t *testing.T) { k.in(t).agentDies() })
	t.Run("refused", func(t *testing.T) { k.in(t).refused() })
	t.Run("host is lost", func(t *testing.T) { k.in(t).lost() })
	t.Run("removed", func(t *testing.T) { k.in(t).removed() })
	p.strata(p.All[0], "cluster", "delete", "one")
	for _, h := range p.All {
		k.gone(h, "")
		if left := mountsBelow(t, h.DataDir+"/podmounts"); len(left) > 0 {
			t.Errorf("mounts are left on %s: %v", h.Name, left)
		}
	}
	for _, v := range k.list() {
		if v.Status != "available" || len(v.Attachments) > 0 {
			t.Errorf("after the cluster volume %s is %s, %+v", v.Name, v.Status, v.Attachments)
		}
	}
}

// TestDriverSuite runs upstream's suite for drivers of volumes (csi-test's sanity) against a
// cluster's.
func TestDriverSuite(t *testing.T) { newKubeVolumes(t).sanity() }

// newKubeVolumes makes a cluster of two workers without the host that keeps the volumes: a
// worker that is lost takes none along.
func newKubeVolumes(t *testing.T) *kubeVolumes {
	p := newPool(t, 3)
	k := &kubeVolumes{kube: &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}}
	p.keepers(p.All[0])
	p.without(p.All[0])
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--file", k.conf)
	k.nodes(2)
	return k
}

// kubeVolumes is a cluster's administrator, who looks at the project's volumes as well.
type kubeVolumes struct{ *kube }

func (k *kubeVolumes) in(t *testing.T) *kubeVolumes {
	p := *k.pool
	p.T = t
	return &kubeVolumes{&kube{pool: &p, conf: k.conf}}
}

// busybox is the image of the test's pods.
const busybox = "localhost/test/busybox:1"

// load gives a worker the image.
func (k *kubeVolumes) load(h *hosts.Host) {
	k.Helper()
	at := must[[]string](k.T)(filepath.Glob("/run/strata/" + region.Name(h.DataDir) + "-kube/*/containerd.sock"))
	if len(at) != 1 {
		k.Fatalf("on %s containerd is at %v", h.Name, at)
	}
	program := filepath.Join(filepath.Dir(cloud.Program(k.T)), "strata-kube")
	if out, err := exec.Command(program, "worker", "load", "--socket", at[0], "--image", busybox, "--program", fromDebian(k.T, "busybox-static", "bin/busybox")).CombinedOutput(); err != nil {
		k.Fatalf("loading %s: %v: %s", busybox, err, out)
	}
}

// list are the project's volumes.
func (k *kubeVolumes) list() []volumes.Volume {
	k.Helper()
	pages, err := volumes.List(k.clients("strata-demo").volume, nil).AllPages(k.Context())
	if err != nil {
		k.Fatal(err)
	}
	return must[[]volumes.Volume](k.T)(volumes.ExtractVolumes(pages))
}

// of is the volume of a claim.
func (k *kubeVolumes) of(claim string) *volumes.Volume {
	k.Helper()
	for _, v := range k.list() {
		if v.Metadata["csi.storage.k8s.io/pvc/name"] == claim {
			return &v
		}
	}
	return nil
}

// says waits for a program in a pod to print something.
func (k *kubeVolumes) says(want, pod string, args ...string) {
	k.Helper()
	var out string
	var err error
	ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
	defer cancel()
	if wait.Until(ctx, want, 200*time.Millisecond, func(context.Context) (bool, error) {
		out, err = k.kubectl(append([]string{"exec", pod, "--", "/busybox"}, args...)...)
		return err == nil && strings.TrimSpace(out) == want, nil
	}) != nil {
		k.Fatalf("%v in %s says %q, %v; want %q", args, pod, out, err, want)
	}
}

func (k *kubeVolumes) runs(pods ...string) {
	k.Helper()
	for _, pod := range pods {
		if out, err := k.kubectl("wait", "--for=condition=Ready", "pod/"+pod, "--timeout=120s"); err != nil {
			events, _ := k.kubectl("get", "events", "-o", "custom-columns=:.involvedObject.name,:.reason,:.message")
			k.Fatalf("pod %s: %s %v\n%s", pod, out, err, events)
		}
	}
}

// on is the host that a pod runs on.
func (k *kubeVolumes) on(pod string) *hosts.Host {
	k.Helper()
	name := k.must("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	i := slices.IndexFunc(k.All, func(h *hosts.Host) bool { return h.Name == name })
	if i < 0 {
		k.Fatalf("pod %s is on %q", pod, name)
	}
	return k.All[i]
}

// pod makes one with a claim, on a host or on any.
func (k *kubeVolumes) pod(name, claim, host string) {
	k.Helper()
	on := ""
	if host != "" {
		on = "\n  nodeSelector: {kubernetes.io/hostname: " + host + "}"
	}
	file := filepath.Join(k.TempDir(), "pod.yaml")
	text := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1%s
  containers:
  - name: main
    image: %s
    imagePullPolicy: Never
    securityContext: {runAsUser: 0}
    command: [/busybox, sleep, "100000"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: %s}
`, name, on, busybox, claim)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		k.Fatal(err)
	}
	k.must("apply", "-f", file)
}

// claim makes one; source is more of its specification, in JSON.
func (k *kubeVolumes) claim(name, size, source string) {
	k.Helper()
	file := filepath.Join(k.TempDir(), "claim.yaml")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":%q},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":%q}}%s}}`, name, size, source)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		k.Fatal(err)
	}
	k.must("apply", "-f", file)
}

// first looks at what claims and pods with volumes have become.
func (k *kubeVolumes) first() {
	began := time.Now()
	k.runs("writer", "raw", "grows")
	k.Logf("pods with new volumes run: %v", time.Since(began).Round(100*time.Millisecond))
	v := k.of("data")
	if v == nil || v.Size != 1 || v.Status != "in-use" || !strings.HasPrefix(v.Name, "pvc-") || v.Metadata["csi.storage.k8s.io/pvc/namespace"] != "default" ||
		v.Metadata["csi.storage.k8s.io/pv/name"] != v.Name || v.Metadata["csi.strata.cloud/cluster"] == "" {
		k.Fatalf("the volume: %+v", v)
	}
	if err := volumes.Delete(k.Context(), k.clients("strata-demo").volume, v.ID, nil).ExtractErr(); err == nil {
		k.Error("a volume that a pod has was deleted")
	}
	k.says("1000 2000", "writer", "stat", "-c", "%u %g", "/data/log")
	k.says("xfs", "grows", "sh", "-c", `/busybox awk '$2=="/data" {print $3}' /proc/mounts`)
	if out := k.must("get", "storageclass", "strata", "-o", "jsonpath={.metadata.annotations}"); !strings.Contains(out, `is-default-class":"true`) {
		k.Errorf("the default class: %s", out)
	}
}

// moves has a pod with its data come back on the other node.
func (k *kubeVolumes) moves() {
	was := k.on("writer")
	other := k.All[1]
	if other == was {
		other = k.All[2]
	}
	k.must("delete", "pod", "writer")
	began := time.Now()
	k.pod("reader", "data", other.Name)
	k.runs("reader")
	k.Logf("a pod has its volume on another node: %v", time.Since(began).Round(100*time.Millisecond))
	k.says("whole", "reader", "sh", "-c", `/busybox awk '$1!=NR {exit 1} END {if (NR>10) print "whole"}' /data/log`)
	k.must("delete", "pod", "reader")
}

// grows has volumes become larger: with XFS while they are in use, with ext4 then as well,
// or where the kernel does not let us when they are mounted again.
func (k *kubeVolumes) grows() {
	size := func(pod string) int {
		out := k.must("exec", pod, "--", "/busybox", "df", "-m", "/data")
		f := strings.Fields(out)
		n, err := strconv.Atoi(f[len(f)-5])
		if err != nil {
			k.Fatalf("df says %q", out)
		}
		return n
	}
	larger := func(claim string) {
		k.must("patch", "pvc", claim, "-p", `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`)
	}
	pid := k.must("get", "pod", "grows", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	began := time.Now()
	larger("grows")
	k.until("the file system to grow", 2*time.Minute, func() (bool, error) { return size("grows") > 1800, nil })
	k.Logf("a file system in use has grown: %v", time.Since(began).Round(100*time.Millisecond))
	if got := k.must("get", "pod", "grows", "-o", "jsonpath={.status.containerStatuses[0].containerID}"); got != pid {
		k.Error("the pod was started anew")
	}
	larger("data")
	k.pod("larger", "data", "")
	k.runs("larger")
	k.until("the file system to be larger", 2*time.Minute, func() (bool, error) { return size("larger") > 1800, nil })
	if v := k.of("data"); v.Size != 2 {
		k.Errorf("the volume has %d GiB", v.Size)
	}
	k.must("exec", "larger", "--", "/busybox", "sh", "-c", "echo kept > /data/file; /busybox sync")
}

// copies takes a snapshot of a volume in use, and makes volumes from that and from another.
func (k *kubeVolumes) copies() {
	file := filepath.Join(k.TempDir(), "snapshot.yaml")
	if err := os.WriteFile(file, []byte(`{"apiVersion":"snapshot.storage.k8s.io/v1","kind":"VolumeSnapshot","metadata":{"name":"then"},"spec":{"source":{"persistentVolumeClaimName":"data"}}}`), 0o600); err != nil {
		k.Fatal(err)
	}
	k.must("apply", "-f", file)
	k.must("wait", "--for=jsonpath={.status.readyToUse}=true", "volumesnapshot/then", "--timeout=60s")
	k.must("exec", "larger", "--", "/busybox", "sh", "-c", "echo later > /data/file; /busybox sync")
	k.claim("restored", "2Gi", `,"dataSource":{"apiGroup":"snapshot.storage.k8s.io","kind":"VolumeSnapshot","name":"then"}`)
	k.claim("cloned", "2Gi", `,"dataSource":{"kind":"PersistentVolumeClaim","name":"data"}`)
	k.pod("restored", "restored", "")
	k.pod("cloned", "cloned", "")
	k.runs("restored", "cloned")
	k.says("kept", "restored", "cat", "/data/file")
	k.says("later", "cloned", "cat", "/data/file")
	k.must("delete", "pod", "restored", "cloned", "larger")
	k.must("delete", "pvc", "restored", "cloned")
	k.must("delete", "volumesnapshot", "then")
	k.until("the copies to go", time.Minute, func() (bool, error) { return k.of("restored") == nil && k.of("cloned") == nil, nil })
	pages, err := snapshots.List(k.clients("strata-demo").volume, nil).AllPages(k.Context())
	if err != nil {
		k.Fatal(err)
	}
	if left := must[[]snapshots.Snapshot](k.T)(snapshots.ExtractSnapshots(pages)); len(left) > 0 {
		k.Errorf("snapshots are left: %+v", left)
	}
}

// device has a pod read what another one wrote to the block device.
func (k *kubeVolumes) device() {
	k.says("of the device", "raw", "sh", "-c", "/busybox head -n1 /dev/volume")
	k.must("delete", "pod", "raw")
}

// agentDies kills the agent of a node while a pod writes.
func (k *kubeVolumes) agentDies() {
	k.must("apply", "-f", "testdata/kube/volume-writer.yaml")
	k.runs("writer")
	h := k.on("writer")
	lines := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(k.must("exec", "writer", "--", "/busybox", "sh", "-c", "/busybox wc -l < /data/log")))
		if err != nil {
			k.Fatal(err)
		}
		return n
	}
	if err := syscall.Kill(k.pid(h), syscall.SIGKILL); err != nil {
		k.Fatal(err)
	}
	before := lines()
	k.until("more to be written without the agent", 20*time.Second, func() (bool, error) { return lines() > before+20, nil })
	k.up(h)
	k.awaitNodes(3)
	before = lines()
	k.until("more to be written", 20*time.Second, func() (bool, error) { return lines() > before+20, nil })
}

// event waits for one about an object.
func (k *kubeVolumes) event(object, want string) {
	k.Helper()
	var out string
	ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
	defer cancel()
	if wait.Until(ctx, want, time.Second, func(context.Context) (bool, error) {
		out = k.must("get", "events", "--field-selector", "involvedObject.name="+object, "-o", "jsonpath={.items[*].message}")
		return strings.Contains(out, want), nil
	}) != nil {
		k.Errorf("of %s there are the events %s; want %q", object, out, want)
	}
}

// refused asks for what cannot be: the claim's events say why.
func (k *kubeVolumes) refused() {
	k.claim("huge", "900Ti", "")
	k.event("huge", "exceeds")
	k.claim("small", "1Gi", `,"dataSource":{"kind":"PersistentVolumeClaim","name":"data"}`)
	k.event("small", "greater than or equal")
	k.claim("many", "1Gi", `,"storageClassName":"many"`)
	file := filepath.Join(k.TempDir(), "class.yaml")
	if err := os.WriteFile(file, []byte(`{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"many"},"provisioner":"csi.strata.cloud","parameters":{"color":"red"}}`), 0o600); err != nil {
		k.Fatal(err)
	}
	k.must("apply", "-f", file)
	k.event("many", "color")
	k.must("delete", "pvc", "huge", "small", "many")
}

// lost cuts a worker off: it is given up, its pod comes back elsewhere with its data, and the
// worker writes no more.
func (k *kubeVolumes) lost() {
	h := k.on("writer")
	k.must("delete", "pod", "writer", "grows")
	k.pod("stays", "data", h.Name)
	k.runs("stays")
	k.must("exec", "stays", "--", "/busybox", "sh", "-c", "echo before > /data/file; /busybox sync")
	if err := k.Cut(h); err != nil {
		k.Fatal(err)
	}
	began := time.Now()
	k.until("the node to be not ready", 3*time.Minute, func() (bool, error) {
		out := k.must("get", "node", h.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out != "True", nil
	})
	k.Logf("the node is not ready: %v", time.Since(began).Round(time.Second))
	k.until("the pod to be gone", 2*time.Minute, func() (bool, error) {
		out, err := k.kubectl("get", "pod", "stays", "--ignore-not-found", "-o", "name")
		return out == "", err
	})
	other := k.All[1]
	if other == h {
		other = k.All[2]
	}
	k.pod("moved", "data", other.Name)
	k.runs("moved")
	k.Logf("the pod has its data elsewhere: %v after the host was lost", time.Since(began).Round(time.Second))
	k.says("before", "moved", "cat", "/data/file")
	k.must("exec", "moved", "--", "/busybox", "sh", "-c", "echo after | /busybox dd of=/data/file conv=fsync") // a sync of all would wait for the other host, whose kernel this is
	if err := k.Join(h); err != nil {
		k.Fatal(err)
	}
	k.until("the node to be ready", 2*time.Minute, func() (bool, error) {
		out := k.must("get", "node", h.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out == "True", nil
	})
	k.until("the node to be in service", time.Minute, func() (bool, error) {
		out, err := k.kubectl("get", "node", h.Name, "-o", "jsonpath={.spec.taints}")
		return out == "", err
	})
	k.until("the worker to let go of the volume", 3*time.Minute, func() (bool, error) { return len(mountsBelow(k.T, h.DataDir+"/podmounts")) == 0, nil })
	k.says("after", "moved", "cat", "/data/file")
}

// removed has volumes go with their claims.
func (k *kubeVolumes) removed() {
	k.must("delete", "pod", "--all")
	k.must("delete", "pvc", "--all")
	k.until("the volumes to go", 2*time.Minute, func() (bool, error) { return len(k.list()) == 0, nil })
	k.claim("left", "1Gi", "")
	k.pod("left", "left", "")
	k.runs("left")
}

// sanity runs upstream's suite for drivers against the cluster's.
func (k *kubeVolumes) sanity() {
	h := k.All[1]
	sock := func(h *hosts.Host, glob string) string {
		at := must[[]string](k.T)(filepath.Glob("/run/strata/" + region.Name(h.DataDir) + "-kube/" + glob))
		if len(at) != 1 {
			k.Fatalf("on %s there are the sockets %v", h.Name, at)
		}
		return at[0]
	}
	cmd := exec.CommandContext(k.Context(), "go", "test", "-tags", "sanity", "-count=1", "-timeout", "20m", "-run", "TestSanity", "-v", "./internal/volumes", "-ginkgo.no-color")
	cmd.Dir = "../../csi"
	cmd.Env = append(os.Environ(), "STRATA_CSI_CONTROLLER="+sock(k.All[0], "*-control/csi.sock"), "STRATA_CSI_NODE="+sock(h, "*/csi.sock"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		k.Errorf("upstream's suite: %v\n%s", err, out[max(0, len(out)-12000):])
		return
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Passed") || strings.HasPrefix(line, "Ran ") {
			k.Log(strings.TrimSpace(line))
		}
	}
}

// without has no new work go to a host.
func (x *pool) without(h *hosts.Host) {
	x.Helper()
	c := x.clients("strata").compute
	all, err := services.List(c, services.ListOpts{Binary: "nova-compute", Host: h.Name}).AllPages(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	for _, s := range must[[]services.Service](x)(services.ExtractServices(all)) {
		if err := services.Update(x.Context(), c, s.ID, services.UpdateOpts{Status: services.ServiceDisabled}).Err; err != nil {
			x.Fatal(err)
		}
	}
}
