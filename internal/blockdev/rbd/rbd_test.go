//go:build ceph

package rbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/blockdev/blockdevtest"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/wait"
)

// testUID is a user that owns nothing on any host.
const testUID = 64395

// cluster is a Ceph of one monitor and one OSD on loopback.
type cluster struct {
	*testing.T
	dir, fsid, addr string
}

func newCluster(t *testing.T) *cluster {
	for _, p := range []string{"ceph-mon", "ceph-osd", "ceph", "rbd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: make ceph-test installs Ceph", p)
		}
	}
	needs.Root(t, "QEMU's programs run as another user")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cluster{T: t, dir: t.TempDir(), fsid: uuid.NewString(), addr: l.Addr().String()}
	must(t, l.Close())
	must(t, os.WriteFile(c.path("ceph.conf"), []byte(c.conf()), 0o600))
	must(t, errors.Join(os.Mkdir(c.path("mon"), 0o700), os.Mkdir(c.path("osd"), 0o700)))
	c.run("ceph-authtool", "--create-keyring", c.path("keyring"), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	c.run("ceph-authtool", c.path("keyring"), "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *")
	c.run("monmaptool", "--create", "--add", "a", c.addr, "--fsid", c.fsid, c.path("monmap"))
	c.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", c.path("monmap"), "--keyring", c.path("keyring"))
	c.daemon("ceph-mon", "-i", "a", "-f")
	osd := uuid.NewString()
	c.run("ceph", "osd", "new", osd)
	must(t, os.WriteFile(c.path("osd/keyring"), c.run("ceph", "auth", "get-or-create", "osd.0", "mon", "allow profile osd", "osd", "allow *"), 0o600))
	c.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--keyring", c.path("osd/keyring"))
	c.daemon("ceph-osd", "-i", "0", "-f", "--keyring", c.path("osd/keyring"))
	c.run("ceph", "osd", "pool", "create", "volumes", "8")
	c.run("rbd", "pool", "init", "volumes")
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) conf() string {
	return fmt.Sprintf(`[global]
fsid = %[1]s
mon host = %[2]s
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
keyring = %[3]s/keyring
run dir = %[3]s
log file = %[3]s/$name.log
admin socket =
mon data = %[3]s/mon
osd data = %[3]s/osd
osd objectstore = bluestore
bluestore block size = 4294967296
osd memory target = 939524096
`, c.fsid, c.addr, c.dir)
}

// run runs a program of Ceph and gives what it prints.
func (c *cluster) run(program string, args ...string) []byte {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.path("ceph.conf"))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		c.Fatalf("%s %v: %v: %s", program, args, err, complaint.String())
	}
	return out
}

// daemon starts a program that ends with the test.
func (c *cluster) daemon(program string, args ...string) {
	c.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.path("ceph.conf"))
	must(c, cmd.Start())
	c.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func TestConformance(t *testing.T) {
	begun := time.Now()
	c := newCluster(t)
	keyring := c.run("ceph", "auth", "get-or-create", "client.strata", "mon", "profile rbd", "osd", "profile rbd pool=volumes")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, wait.Until(ctx, "the OSD", 50*time.Millisecond, func(context.Context) (bool, error) {
		return strings.Contains(string(c.run("ceph", "osd", "stat")), "1 up"), nil
	}))
	t.Logf("Ceph came up in %s", time.Since(begun).Round(time.Millisecond))
	open := func(t *testing.T, dir string) *Driver {
		d, err := New(t.Context(), Config{Dir: dir, Conf: []byte(fmt.Sprintf("[global]\nfsid = %s\nmon host = %s\n", c.fsid, c.addr)),
			Keyring: keyring, User: "strata", Pool: "volumes", Tools: qemu.Tools{UID: testUID, GID: testUID}})
		must(t, err)
		return d
	}
	blockdevtest.Run(t, func(t *testing.T) *blockdevtest.Kit {
		dir := t.TempDir()
		return &blockdevtest.Kit{Driver: open(t, dir), Again: func() volumes.Driver { return open(t, dir) }, NoCapacity: true} // a cluster without a manager counts nothing
	})
}
