package node

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestReadDisk reads the disk of a running, a paused and a stopped machine, also
// after a crash in the middle of a read.
func TestReadDisk(t *testing.T) {
	needs.Root(t, "dropping privileges")
	h := newHands(t)
	d, err := hypervisor.New(t.Context(), hypervisor.Config{Dir: h.dir, UID: 64399, GID: 64399, Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	a, err := New(Options{ID: "n", Control: h, Machines: d, Plane: h, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	spec := hypervisortest.Tiny(t, d, id)
	dir := filepath.Join(h.dir, id)
	if err := os.Link(filepath.Join(dir, "base"), filepath.Join(dir, "disk.base")); err != nil { // as the agent has it
		t.Fatal(err)
	}
	a.wanted[id] = &nodeapi.Instance{ID: id, Disks: []nodeapi.Disk{{Name: "disk"}}}
	if err := d.Start(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	defer d.Remove(t.Context(), id)
	hypervisortest.AwaitConsole(t.Context(), t, d, id, "login:")
	read := func() {
		t.Helper()
		r, err := a.ReadDisk(t.Context(), id, "disk")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		image := filepath.Join(t.TempDir(), "image")
		out, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(out, r); err == nil {
			err = out.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		tool(t, "qemu-img", "check", "-q", image)
		// The guest wrote to its file system since it booted from the base.
		if err := exec.Command("qemu-img", "compare", "-q", image, filepath.Join(dir, "base")).Run(); err == nil {
			t.Error("the image is as the base was")
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*"+readSuffix)); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
	read()
	// A crash left the snapshot and the half of an image.
	if err := d.SnapshotDisk(t.Context(), id, "disk", readSnapshot); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disk"+readSuffix), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	read()
	if err := d.Stop(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	read()
	out, err := exec.Command("qemu-img", "snapshot", "-l", filepath.Join(dir, "disk")).Output()
	if err != nil || len(out) > 0 {
		t.Errorf("snapshots left: %s, %v", out, err)
	}
	if _, err := a.ReadDisk(t.Context(), id, "../other"); !errs.Is(err, errs.NotFound) {
		t.Errorf("reading a path: %v", err)
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
