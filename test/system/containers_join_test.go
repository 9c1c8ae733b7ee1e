package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
)

// TestJoinContainers says at the joining whether a host has a container engine.
func TestJoinContainers(t *testing.T) {
	if _, err := exec.LookPath("runc"); err != nil {
		needs.Missing(t, "containers need runc: make deps")
	}
	p := newPool(t, 2)
	host := p.All[1]
	socket := filepath.Join(host.DataDir, region.DockerSocket)
	p.strata(host, "reset", "--yes")
	tok := p.tokenFor(nodes.RoleNode)
	p.strata(host, "join", tok.Address, "--token", tok.Token, "--name", "other", "--containers", "off", "--detach")
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("without an engine: %v", err)
	}
	p.strata(host, "down")
	if _, err := p.try(host, "up", "--detach", "--containers-listen", host.Addr+":2376"); err == nil || !strings.Contains(err.Error(), "control member") {
		t.Errorf("a listener on a node: %v", err)
	}
	p.strata(host, "up", "--detach", "--containers", "on")
	cmd := exec.Command(dockerCLI(t), "ps", "-q")
	cmd.Env = []string{"DOCKER_HOST=unix://" + socket, "HOME=" + t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("docker ps: %v: %s", err, out)
	}
	p.strata(host, "reset", "--yes")
	for _, args := range [][]string{{"--containers", "maybe"}, {"--containers-listen", "nowhere"}, {"--containers", "off", "--containers-listen", host.Addr + ":2376"}} {
		if _, err := p.try(host, append([]string{"join", tok.Address, "--token", tok.Token, "--name", "third", "--detach"}, args...)...); err == nil || !strings.Contains(err.Error(), "--containers") {
			t.Errorf("join %v: %v", args, err)
		}
	}
	if _, err := os.Stat(host.DataDir); !os.IsNotExist(err) {
		t.Errorf("what was refused left %s (%v)", host.DataDir, err)
	}
}
