//go:build ceph

// Package ceph starts a Ceph cluster for tests, from the distribution's packages.
package ceph

import (
	"context"
	"encoding/json"
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

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/wait"
)

// Cluster is a Ceph of one monitor, one manager and one OSD.
type Cluster struct {
	*testing.T
	dir, fsid, addr, net string
}

// Pool and User are a pool for volumes and who may use it.
const (
	Pool = "volumes"
	User = "strata"
)

// New starts a cluster that ends with the test, at an address of this machine.
func New(t *testing.T, ip string) *Cluster {
	for _, p := range []string{"ceph-mon", "ceph-osd", "ceph-mgr", "ceph", "rbd"} {
		if _, err := exec.LookPath(p); err != nil {
			needs.Missing(t, "%s is missing: make ceph-test installs Ceph", p)
		}
	}
	needs.Root(t, "QEMU's programs run as another user")
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	must(t, err)
	c := &Cluster{T: t, dir: t.TempDir(), fsid: uuid.NewString(), addr: l.Addr().String(), net: ip}
	must(t, l.Close())
	must(t, os.WriteFile(c.path("ceph.conf"), []byte(c.conf()), 0o600))
	must(t, errors.Join(os.Mkdir(c.path("mon"), 0o700), os.Mkdir(c.path("osd"), 0o700), os.Mkdir(c.path("mgr"), 0o700)))
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
	must(t, os.WriteFile(c.path("mgr/keyring"), c.run("ceph", "auth", "get-or-create", "mgr.a", "mon", "allow profile mgr", "osd", "allow *"), 0o600))
	c.daemon("ceph-mgr", "-i", "a", "-f", "--keyring", c.path("mgr/keyring"))
	c.run("ceph", "osd", "pool", "create", Pool, "8")
	c.run("rbd", "pool", "init", Pool)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, wait.Until(ctx, "Ceph to count what its OSD has", 100*time.Millisecond, func(context.Context) (bool, error) {
		var df struct {
			Stats struct {
				Total float64 `json:"total_bytes"`
			} `json:"stats"`
		}
		return json.Unmarshal(c.run("ceph", "df", "--format=json"), &df) == nil && df.Stats.Total > 0, nil
	}))
	return c
}

// Conf is the configuration of a client.
func (c *Cluster) Conf() []byte {
	return fmt.Appendf(nil, "[global]\nfsid = %s\nmon host = %s\n", c.fsid, c.addr)
}

// Keyring has the key of User.
func (c *Cluster) Keyring() []byte {
	c.Helper()
	return c.run("ceph", "auth", "get-or-create", "client."+User, "mon", "profile rbd", "mgr", "profile rbd", "osd", "profile rbd pool="+Pool)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) conf() string {
	return fmt.Sprintf(`[global]
fsid = %[1]s
mon host = %[2]s
public addr = %[4]s
cluster addr = %[4]s
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
mgr data = %[3]s/mgr
mgr initial modules =
osd objectstore = bluestore
bluestore block size = 4294967296
osd memory target = 939524096
`, c.fsid, c.addr, c.dir, c.net)
}

// run runs a program of Ceph and gives what it prints.
func (c *Cluster) run(program string, args ...string) []byte {
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
func (c *Cluster) daemon(program string, args ...string) {
	c.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.path("ceph.conf"))
	must(c, cmd.Start())
	c.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
