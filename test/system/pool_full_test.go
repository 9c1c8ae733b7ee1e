package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestNodeDiskFull fills the disk of one node of two: creates there fail and say why,
// what runs there goes on under its lease, and the other node is as before. A guest
// that writes stands still until there is room, and loses nothing.
func TestNodeDiskFull(t *testing.T) {
	p := newPoolOn(t, 2, 2200)
	f := &failing{mover: &mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}}
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	f.create(t)
	must[map[string]string](t)(servers.UpdateMetadata(t.Context(), f.compute, f.server, servers.MetadataOpts{"HA_Enabled": "True"}).Extract())
	f.toBeta()
	guest := f.logIn(f.address)
	beta := f.beta()
	before := f.pids(beta, f.server)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(beta.DataDir, &fs); err != nil {
		t.Fatal(err)
	}
	const left = 48 << 20 // guests write a little, and their machines stand still when they cannot
	filler := filepath.Join(beta.DataDir, "filler")
	fill(t, filler, int64(fs.Bavail)*fs.Bsize-left)
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
	f.starves(t, guest, filler)
	for _, x := range []string{id, other} {
		if err := servers.Delete(t.Context(), f.compute, x).ExtractErr(); err != nil {
			t.Fatal(err)
		}
		f.awaitGone(t, x)
	}
	f.taken = append(f.taken, image)
	f.destroy(t)
}

// starves has the guest write more than there is room for, until the filler is gone.
func (f *failing) starves(t *testing.T, guest *cloud.Guest, filler string) {
	t.Helper()
	const mib = 100
	wrote := make(chan error, 1)
	go func() {
		_, err := guest.Run(fmt.Sprintf("yes strata | head -c %d > ~/large && sync", mib<<20))
		wrote <- err
	}()
	await(t, "the guest to stand still", func() bool {
		if len(wrote) > 0 {
			t.Fatalf("the guest wrote all: %v", <-wrote)
		}
		return must[*servers.Server](t)(servers.Get(t.Context(), f.compute, f.server).Extract()).PowerState == servers.PAUSED
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-wrote:
		if err != nil {
			t.Errorf("writing once there is room: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the guest does not go on")
	}
	if size := strings.TrimSpace(f.logIn(f.address).Must("stat -c %s ~/large")); size != strconv.Itoa(mib<<20) {
		t.Errorf("it wrote %s bytes", size)
	}
}
