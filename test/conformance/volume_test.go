package conformance

import (
	"os/exec"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// TestVolumeCommand drives block storage with the distribution's openstack command.
func TestVolumeCommand(t *testing.T) {
	c := cloud.New(t)
	c.Must("image", "build", "tiny")
	cmd := exec.Command("./volume.sh")
	cmd.Env = append(c.Env("strata"), "IMAGE=tiny")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
