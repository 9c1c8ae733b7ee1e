package conformance

import (
	"os/exec"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// TestLoadBalancerCommand drives load balancers with the distribution's openstack command.
func TestLoadBalancerCommand(t *testing.T) {
	c := cloud.New(t)
	cmd := exec.Command("./loadbalancer.sh")
	cmd.Env = c.Env("strata")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
