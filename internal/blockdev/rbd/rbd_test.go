//go:build ceph

package rbd

import (
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/blockdevtest"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/test/ceph"
)

// testUID is a user that owns nothing on any host.
const testUID = 64395

func TestConformance(t *testing.T) {
	begun := time.Now()
	c := ceph.New(t, "127.0.0.1")
	keyring := c.Keyring()
	t.Logf("Ceph came up in %s", time.Since(begun).Round(time.Millisecond))
	open := func(t *testing.T, dir string) *Driver {
		d, err := New(t.Context(), Config{Dir: dir, Conf: c.Conf(), Keyring: keyring, User: ceph.User, Pool: ceph.Pool, Tools: qemu.Tools{UID: testUID, GID: testUID}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	blockdevtest.Run(t, func(t *testing.T) *blockdevtest.Kit {
		dir := t.TempDir()
		return &blockdevtest.Kit{Driver: open(t, dir), Again: func() volumes.Driver { return open(t, dir) }}
	})
}
