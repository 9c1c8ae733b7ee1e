package conformance

import (
	"os/exec"
	"testing"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestOpenStackCommand tells the main job to the distribution's openstack command.
func TestOpenStackCommand(t *testing.T) {
	c := cloud.New(t)
	image := guesttest.Tiny(t)
	a := c.Auth("strata")
	cmd := exec.Command("./openstack.sh")
	cmd.Env = append(c.Env("strata"), "IMAGE="+image.Disk, "KERNEL="+image.Kernel, "RAMDISK="+image.Initrd, "CMDLINE="+guest.KernelArgs,
		"ADMIN_USERNAME="+a["username"], "ADMIN_PASSWORD="+a["password"], "ADMIN_PROJECT="+a["project_name"])
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
