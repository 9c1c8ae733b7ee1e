package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestRegistryOfMembers has three control members: what is pushed by way of one is
// copied to all, and is there when the one that leads dies.
func TestRegistryOfMembers(t *testing.T) {
	p := newPoolOf(t, 3, 3, 0)
	p.awaitMembers(p.All[0], 3)
	lead := p.leader(p.All[0])
	other := p.other(lead)
	first := layout(t, "1", "shared", strings.Repeat("first ", 1<<20))
	p.push(other, first, "demo/web:1")
	p.copied(p.All, 4)

	if err := syscall.Kill(p.pid(lead), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.same(other, first, "demo/web:1")
	second := layout(t, "2", "shared", "second")
	p.push(other, second, "demo/web:2")
	p.copied(slices.DeleteFunc(slices.Clone(p.All), func(h *hosts.Host) bool { return h == lead }), 7)

	p.up(lead)
	p.awaitMembers(lead, 3)
	p.copied(p.All, 7)
	p.same(lead, second, "demo/web:2")
}

// registry gives the client's flags for a member, of the side src or dest.
func (p *pool) registry(h *hosts.Host, side string) []string {
	p.Helper()
	entry := must[*region.Clouds](p)(region.ReadClouds(filepath.Join(h.DataDir, region.CloudsFile))).Clouds["strata-demo"]
	certs := p.TempDir()
	if err := os.WriteFile(filepath.Join(certs, "ca.crt"), must[[]byte](p)(os.ReadFile(entry.CACert)), 0o600); err != nil {
		p.Fatal(err)
	}
	return []string{"copy", "--" + side + "-cert-dir", certs, "--" + side + "-creds", "demo/" + entry.Auth["username"] + ":" + entry.Auth["password"]}
}

func (p *pool) push(h *hosts.Host, dir, name string) {
	p.Helper()
	_, tag, _ := strings.Cut(name, ":")
	skopeo{t: p.T}.must(append(p.registry(h, "dest"), "oci:"+dir+":"+tag, "docker://"+h.Addr+":5000/"+name)...)
}

// same pulls an image by way of a member, which may be about to find the next leader,
// and compares it with what was pushed.
func (p *pool) same(h *hosts.Host, pushed, name string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	dir := p.TempDir()
	var last error
	err := wait.Until(ctx, name+" by way of "+h.Name, 200*time.Millisecond, func(context.Context) (bool, error) {
		_, last = skopeo{t: p.T}.run(append(p.registry(h, "src"), "docker://"+h.Addr+":5000/"+name, "oci:"+dir+":x")...)
		return last == nil, nil
	})
	if err != nil {
		p.Fatalf("%v: %v", err, last)
	}
	if out, err := exec.Command("diff", "-r", filepath.Join(pushed, "blobs"), filepath.Join(dir, "blobs")).CombinedOutput(); err != nil {
		p.Errorf("%s by way of %s is another image: %s", name, h.Name, out)
	}
}

// copied waits until each of the hosts has so many blobs, whole ones.
func (p *pool) copied(of []*hosts.Host, n int) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	var have []string
	err := wait.Until(ctx, fmt.Sprintf("%d blobs on %d hosts", n, len(of)), 100*time.Millisecond, func(context.Context) (bool, error) {
		have = nil
		good := 0
		for _, h := range of {
			whole := 0
			entries := must[[]os.DirEntry](p)(os.ReadDir(filepath.Join(h.DataDir, "registry", "blobs")))
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), "sha256-") {
					whole++
				}
			}
			have = append(have, fmt.Sprintf("%s: %d", h.Name, whole))
			if whole == n && len(entries) == n {
				good++
			}
		}
		return good == len(of), nil
	})
	if err != nil {
		p.Fatalf("%v: %v", err, have)
	}
}
