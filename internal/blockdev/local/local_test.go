package local

import (
	"testing"

	"github.com/strata-cloud/strata/internal/blockdev/blockdevtest"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/needs"
)

// nobody is the user that QEMU's programs run as in tests.
const nobody = 65534

func newDriver(t testing.TB, dir string) *Driver {
	t.Helper()
	d, err := New(t.Context(), dir, qemu.Tools{UID: nobody, GID: nobody})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	needs.Root(t, "QEMU's programs run as another user")
	blockdevtest.Run(t, func(t *testing.T) *blockdevtest.Kit {
		dir := t.TempDir()
		return &blockdevtest.Kit{Driver: newDriver(t, dir), Again: func() volumes.Driver { return newDriver(t, dir) }, Dir: dir, Encryption: true}
	})
}
