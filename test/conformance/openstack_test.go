package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestOpenStackCommand tells the main job to the distribution's openstack command.
func TestOpenStackCommand(t *testing.T) {
	c := cloud.New(t)
	image := filepath.Join(t.TempDir(), "tiny.qcow2")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := guest.Build(t.Context(), guest.Options{Kind: guest.KindTiny, Output: image, WorkDir: filepath.Join(cache, "strata-test", "work")}); err != nil {
		t.Fatal(err)
	}
	a := c.Auth("strata")
	cmd := exec.Command("./openstack.sh")
	cmd.Env = append(c.Env("strata"), "IMAGE="+image, "KERNEL="+guest.KernelPath(image), "RAMDISK="+guest.InitrdPath(image), "CMDLINE="+guest.KernelArgs,
		"ADMIN_USERNAME="+a["username"], "ADMIN_PASSWORD="+a["password"], "ADMIN_PROJECT="+a["project_name"])
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
