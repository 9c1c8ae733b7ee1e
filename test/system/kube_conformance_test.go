//go:build kube

package system

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// suiteSets are regular expressions over the names of upstream's tests that count for
// conformance, and of those that are left out: SUITE names one, "ci" if it is not set.
var suiteSets = map[string]struct{ focus, skip string }{
	"ci":   {`\[sig-(storage|network|apps|scheduling)\].*\[Conformance\]`, suiteApart + "|" + suiteWaits},
	"full": {`\[Conformance\]`, suiteApart},
}

const (
	// suiteApart are tests that nothing may run beside, or that take many minutes.
	suiteApart = `\[Serial\]|\[Slow\]|\[Disruptive\]`
	// suiteWaits are tests that wait for minutes, for a minute's schedule or kubelet's next look.
	suiteWaits = `StatefulSet |CronJob |updates should be reflected|Atomic writer|session affinity|Job should (terminate|execute all|mark indexes|run a job to completion)|proportional scaling|rollover|delete old replica sets|eviction until`
)

// suiteLeast is how many of the set "ci" there are at least: a name of upstream's that has
// changed leaves none out unseen.
const suiteLeast = 150

// suiteProcs is how many tests run at once: they wait, most of the time. suiteAttempts is how
// often one is tried, as upstream's own runs do: many have limits of seconds.
const (
	suiteProcs    = 4
	suiteAttempts = 2
)

// TestKubeConformance runs upstream's own tests against a cluster of two workers.
func TestKubeConformance(t *testing.T) {
	name := cmp.Or(os.Getenv("SUITE"), "ci")
	set, ok := suiteSets[name]
	if !ok {
		set.focus = name
	}
	p := newPool(t, 2)
	k := &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--file", k.conf)
	k.load(suiteImages(t))
	dir := t.TempDir()
	if keep := os.Getenv("SUITE_REPORT"); keep != "" {
		dir = keep
	}
	err := k.suite(dir, set.focus, set.skip)
	if n := k.verdict(filepath.Join(dir, "junit.xml")); name == "ci" && n < suiteLeast {
		t.Errorf("%d are too few", n)
	}
	if err != nil {
		t.Error(err)
	}
}

// load gives images to each worker.
func (k *kube) load(images []image) {
	k.Helper()
	file := filepath.Join(k.TempDir(), "images.tar")
	archive(k.T, file, images)
	for _, h := range k.All {
		for _, socket := range must[[]string](k.T)(filepath.Glob(filepath.Join("/run/strata", region.Name(h.DataDir)+"-kube", "*/containerd.sock"))) {
			if out, err := exec.CommandContext(k.Context(), k.program("strata-kube"), "worker", "load", "--socket", socket, "--archive", file).CombinedOutput(); err != nil {
				k.Fatalf("%v: %s", err, out)
			}
		}
	}
}

// program is one that stands beside strata.
func (k *kube) program(name string) string {
	return filepath.Join(filepath.Dir(cloud.Program(k.T)), name)
}

// suite runs the tests, and leaves junit.xml in a directory.
func (k *kube) suite(dir, focus, skip string) error {
	k.Helper()
	log := must[*os.File](k.T)(os.Create(filepath.Join(dir, "log")))
	defer log.Close()
	cmd := exec.CommandContext(k.Context(), k.program("kube-suite/ginkgo"), "--procs", fmt.Sprint(suiteProcs), "--flake-attempts", fmt.Sprint(suiteAttempts), "--focus", focus, "--skip", skip, "--no-color", "--timeout=3h",
		k.program("kube-suite/e2e.test"), "--", "--kubeconfig="+k.conf, "--provider=skeleton", "--report-dir="+dir, "--ginkgo.junit-report="+filepath.Join(dir, "junit.xml"), "--dump-logs-on-failure=false",
		"--kubectl-path="+k.kubectlPath())
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("upstream's tests: %w; see %s", err, log.Name())
	}
	return nil
}

// kubectlPath is upstream's client by its own name.
func (k *kube) kubectlPath() string {
	path := filepath.Join(k.TempDir(), "kubectl")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexec %s kubectl \"$@\"\n", k.program("strata-kube")), 0o755); err != nil {
		k.Fatal(err)
	}
	return path
}

// verdict tells which tests failed, and how many passed.
func (k *kube) verdict(file string) (passed int) {
	k.Helper()
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Status  string `xml:"status,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(must[[]byte](k.T)(os.ReadFile(file)), &report); err != nil {
		k.Fatal(err)
	}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			switch {
			case !strings.HasPrefix(c.Name, "[It]"):
			case c.Status == "passed":
				passed++
			case c.Status != "skipped":
				k.Errorf("%s: %s", c.Name, c.Status)
				if c.Failure != nil {
					k.Logf("%.1000s", c.Failure.Message)
				}
			}
		}
	}
	k.Logf("%d of upstream's tests passed", passed)
	return passed
}
