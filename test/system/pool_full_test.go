package system

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestNodeDiskFull fills the disk of one node of two: creates there fail and say why,
// what runs there goes on under its lease, and the other node is as before.
func TestNodeDiskFull(t *testing.T) {
	p := newPoolOn(t, 2, 2200)
	f := &failing{mover: &mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}}
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	f.create(t)
	must[map[string]string](t)(servers.UpdateMetadata(t.Context(), f.compute, f.server, servers.MetadataOpts{"HA_Enabled": "True"}).Extract())
	f.toBeta()
	beta := f.beta()
	before := f.pids(beta, f.server)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(beta.DataDir, &fs); err != nil {
		t.Fatal(err)
	}
	const left = 48 << 20 // guests write a little, and their machines stand still when they cannot
	fill(t, filepath.Join(beta.DataDir, "filler"), int64(fs.Bavail)*fs.Bsize-left)
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("no system "), left/5), 0o600); err != nil {
		t.Fatal(err)
	}
	image := f.upload(t, "large", large, "raw", nil)
	id := must[*servers.Server](t)(servers.Create(t.Context(), f.compute, servers.CreateOpts{Name: "late", ImageRef: image, FlavorRef: "42", AvailabilityZone: "nova:beta",
		Networks: []servers.Network{{UUID: f.network}}}, nil).Extract()).ID
	s := f.awaitServer(t, id, "ERROR")
	if !strings.Contains(s.Fault.Message, "no space left on device") {
		t.Errorf("its fault is %q", s.Fault.Message)
	}
	other := must[*servers.Server](t)(servers.Create(t.Context(), f.compute, servers.CreateOpts{Name: "other", ImageRef: f.stack.image, FlavorRef: "42", AvailabilityZone: "nova:alpha",
		Networks: []servers.Network{{UUID: f.network}}}, nil).Extract()).ID
	f.awaitServer(t, other, "ACTIVE")
	<-time.After(nodes.LeaseTTL + nodes.LeaseMargin)
	if now := f.pids(beta, f.server); len(before) != 1 || len(now) != 1 || now[0] != before[0] {
		t.Errorf("the server there was %v and is %v", before, now)
	}
	f.logIn(f.address)
	for _, x := range []string{id, other} {
		if err := servers.Delete(t.Context(), f.compute, x).ExtractErr(); err != nil {
			t.Fatal(err)
		}
		f.awaitGone(t, x)
	}
	f.taken = append(f.taken, image)
	f.destroy(t)
}
