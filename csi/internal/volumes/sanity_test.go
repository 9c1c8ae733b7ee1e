package volumes

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// TestSanity is upstream's suite of tests for drivers, against the sockets of one that
// serves a cluster: the system test starts it there (STRATA_CSI_CONTROLLER, STRATA_CSI_NODE).
func TestSanity(t *testing.T) {
	controller, node := os.Getenv("STRATA_CSI_CONTROLLER"), os.Getenv("STRATA_CSI_NODE")
	if controller == "" || node == "" {
		t.Skip("there is no driver: TestDriverSuite of the system tests runs this with one")
	}
	config := sanity.NewTestConfig()
	config.Address, config.ControllerAddress = "unix://"+node, "unix://"+controller
	dir := t.TempDir()
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize, config.TestVolumeExpandSize = 1<<30, 2<<30
	config.IDGen = &sanity.DefaultIDGenerator{}
	config.IdempotentCount = 2
	sanity.Test(t, config)
}
