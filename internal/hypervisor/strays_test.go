package hypervisor_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/hypervisor"
)

// A process that was started just before a crash is known by no record, only by
// where it works. The next life ends it, and its control group can be removed.
func TestStrayProcess(t *testing.T) {
	const id = "5f0c3c1e-7a52-4b0e-8f8b-1d1f6f3f2a10"
	dir := t.TempDir()
	home := filepath.Join(dir, id)
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.New("strata-stray-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := groups.Ensure(id, cgroup.Limits{MemoryBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	stray := exec.Command("sleep", "600")
	stray.Dir = home
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	if err := groups.Add(id, stray.Process.Pid); err != nil {
		t.Fatal(err)
	}
	d, err := hypervisor.New(t.Context(), hypervisor.Config{Dir: dir, UID: testUID, GID: testUID, Accel: hypervisor.TCG, Cgroups: groups, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := <-ended; err == nil {
		t.Error("the stray process ended by itself")
	}
	if err := d.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	if left, err := groups.List(); err != nil || len(left) > 0 {
		t.Errorf("control groups are left: %v %v", left, err)
	}
	if err := groups.RemoveParent(t.Context()); err != nil {
		t.Error(err)
	}
}
