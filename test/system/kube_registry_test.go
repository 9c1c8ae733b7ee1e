//go:build kube

package system

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterRegistry runs pods from the region's registry, without secrets in the cluster, and
// from one that it mirrors. Another project's cluster has none of the first.
func TestClusterRegistry(t *testing.T) {
	p := newPool(t, 2)
	first := p.All[0]
	o := newOtherRegistry(t, first.Addr[:strings.LastIndexByte(first.Addr, '.')]+".1")
	s := &podImages{pool: p, other: o, archive: filepath.Join(t.TempDir(), "image.tar"), at: first.Addr + ":5000"}
	program := suiteLayer(t, func(t *testing.T, root string) {
		put(t, filepath.Join(filepath.Dir(cloud.Program(t)), "strata-pause"), filepath.Join(root, "pause"))
	})
	pack := func(file, user string) { // who knows one of them has not all of the other
		archive(t, file, []image{{name: "localhost/box:1", layers: []*layer{program}, user: user, entry: []string{"/pause"}}})
	}
	box := filepath.Join(t.TempDir(), "box.tar")
	pack(s.archive, "65535:65535")
	pack(box, "65533:65533")
	skopeo{t, o.cloud}.must("copy", "--dest-tls-verify=false", "--dest-creds", o.creds, "docker-archive:"+box+":localhost/box:1", "docker://"+o.cloud.Listen+"/library/box:1")
	p.strata(first, "down")
	p.strata(first, "up", "--detach", "--listen", s.at, "--cluster-listen", first.Addr+":5001", "--name", first.Name, "--public-cidr", p.public, "--registry-mirror", "docker.io=http://"+o.addr)
	o.logins(t, first.DataDir)
	p.awaitNodes(2)
	s.push("strata-demo", "demo/web:1")
	s.push("strata", "admin/web:1")

	one, two := s.cluster("one", "strata-demo"), s.cluster("two", "strata")
	one.runs("web", s.at+"/demo/web:1")
	if out := p.strata(first, "app", "deploy", "shop", "--image", s.at+"/demo/web:1"); !strings.Contains(out, "1/1") {
		t.Errorf("strata app deploy says %s", out)
	}
	one.runs("box", "box:1")
	if o.gets("/blobs/") == 0 {
		t.Error("the mirrored image did not come from its registry")
	}
	two.runs("web", s.at+"/admin/web:1")
	two.runsNot("thief", s.at+"/demo/web:1", "403")
	one.runsNot("thief", s.at+"/admin/web:1", "403")
	s.agentsDie()
	one.runs("again", s.at+"/demo/web:1")
	two.runs("again", s.at+"/admin/web:1")
	s.nothingTold()
	for name, entry := range map[string]string{"one": "strata-demo", "two": "strata"} {
		p.strata(first, "cluster", "delete", name, "--cloud", entry)
	}
	for _, h := range p.All {
		one.gone(h, "")
	}
}

// podImages is a pool with an image for its clusters.
type podImages struct {
	*pool
	other   *otherRegistry
	archive string // that docker save could have written
	at      string // the region's registry
}

func (s *podImages) source() string { return "docker-archive:" + s.archive + ":localhost/box:1" }

// push pushes the image as the user of an entry of clouds.yaml.
func (s *podImages) push(entry, name string) {
	s.Helper()
	dir := s.TempDir()
	raw := must[[]byte](s)(os.ReadFile(filepath.Join(s.All[0].DataDir, "ca.crt")))
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), raw, 0o600); err != nil {
		s.Fatal(err)
	}
	auth := must[*region.Clouds](s)(region.ReadClouds(filepath.Join(s.All[0].DataDir, region.CloudsFile))).Clouds[entry].Auth
	skopeo{s.T, s.other.cloud}.must("copy", "--dest-cert-dir", dir, "--dest-creds", auth["project_name"]+"/"+auth["username"]+":"+auth["password"], s.source(), "docker://"+s.at+"/"+name)
}

// cluster makes one of one node for the project of an entry of clouds.yaml.
func (s *podImages) cluster(name, entry string) *kube {
	s.Helper()
	k := &kube{pool: s.pool, conf: filepath.Join(s.TempDir(), "kubeconfig")}
	s.strata(s.All[0], "cluster", "create", name, "--nodes", "1", "--timeout", "5", "--cloud", entry)
	s.strata(s.All[0], "cluster", "kubeconfig", name, "--admin", "--file", k.conf, "--cloud", entry)
	k.nodes(1)
	return k
}

// runs has a pod of an image start, which is pulled.
func (k *kube) runs(name, image string) {
	k.Helper()
	k.must("run", name, "--image", image, "--image-pull-policy=Always", "--restart=Never")
	if out, err := k.kubectl("wait", "pod/"+name, "--for=condition=Ready", "--timeout=60s"); err != nil {
		k.Fatalf("%s: %v, %s: %s", image, err, out, k.events(name))
	}
	k.must("delete", "pod", name, "--now", "--wait=false")
}

// runsNot has a pod wait for an image that it may not have.
func (k *kube) runsNot(name, image, why string) {
	k.Helper()
	k.must("run", name, "--image", image, "--restart=Never")
	k.until("the refusal of "+image, time.Minute, func() (bool, error) {
		return strings.Contains(k.events(name), why), nil
	})
	if got := k.must("get", "pod", name, "-o", "jsonpath={.status.phase}"); got != "Pending" {
		k.Errorf("%s: the pod is %s", image, got)
	}
	k.must("delete", "pod", name, "--now", "--wait=false")
}

func (k *kube) events(pod string) string {
	k.Helper()
	return k.must("get", "events", "--field-selector", "involvedObject.name="+pod, "-o", "jsonpath={.items[*].message}")
}

// agentsDie kills all agents: those that come back serve images again.
func (s *podImages) agentsDie() {
	s.Helper()
	for _, h := range s.All {
		if err := syscall.Kill(s.pid(h), syscall.SIGKILL); err != nil {
			s.Fatal(err)
		}
	}
	for _, h := range s.All {
		s.up(h)
	}
	s.awaitNodes(len(s.All))
	for _, h := range s.All {
		s.relays(h)
	}
}

// relays waits until an agent has told its worker's containerd where it is.
func (s *podImages) relays(h *hosts.Host) {
	s.Helper()
	k := &kube{pool: s.pool}
	began := time.Now()
	k.until("images on "+h.Name, time.Minute, func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(h.DataDir, "kube", "*", "worker", "registries", s.at, "hosts.toml"))
		if err != nil || len(files) != 1 {
			return false, err
		}
		raw, err := os.ReadFile(files[0])
		if err != nil {
			return false, err
		}
		_, rest, _ := strings.Cut(string(raw), "https://")
		at, _, _ := strings.Cut(rest, `"`)
		out, err := h.Command(s.Context(), "ss", "-Htln", "src", at).Output()
		return err == nil && len(bytes.TrimSpace(out)) > 0, nil
	})
	s.Logf("images are served on %s after %v", h.Name, time.Since(began).Round(100*time.Millisecond))
}

// nothingTold holds that no password of a worker is in a log or a file.
func (s *podImages) nothingTold() {
	s.Helper()
	for _, h := range s.All {
		for _, glob := range []string{"strata.log", "kube/*/*/*/log", "kube/*/worker/config/*", "kube/*/worker/registries/*/*"} {
			for _, file := range must[[]string](s)(filepath.Glob(filepath.Join(h.DataDir, glob))) {
				if raw, err := os.ReadFile(file); err == nil && bytes.Contains(raw, []byte("strata-worker")) {
					s.Errorf("%s names who pulls", file)
				}
			}
		}
	}
}
