package conformance

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// TestVolumeCommand drives block storage with the distribution's openstack command.
func TestVolumeCommand(t *testing.T) {
	c := cloud.Plan(t)
	c.Flags = []string{"--volume-pool", "second=" + filepath.Dir(c.Dir)}
	c.Up()
	c.Tiny()
	cmd := exec.Command("./volume.sh")
	cmd.Env = append(c.Env("strata"), "IMAGE=tiny")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
