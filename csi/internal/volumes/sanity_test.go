//go:build sanity

package volumes

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// TestSanity is upstream's suite of tests for drivers, against the sockets of one that
// serves a cluster (STRATA_CSI_CONTROLLER, STRATA_CSI_NODE): TestDriverSuite of the system
// tests makes one and runs this, which nothing else does.
func TestSanity(t *testing.T) {
	controller, node := os.Getenv("STRATA_CSI_CONTROLLER"), os.Getenv("STRATA_CSI_NODE")
	if controller == "" || node == "" {
		t.Fatal("there is no driver: run TestDriverSuite of the system tests")
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
