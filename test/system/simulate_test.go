package system

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/simulate"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// simulation is strata simulate in a directory of its own.
func simulation(t *testing.T, args ...string) (cmd *exec.Cmd, dir string) {
	dir = filepath.Join(t.TempDir(), "simulation")
	return exec.Command(cloud.Program(t), append([]string{"simulate", "--data-dir", dir}, args...)...), dir
}

// leftover compares the machine with how it was before, and looks for processes and files.
func leftover(t *testing.T, before machine, name, dir string) {
	t.Helper()
	if diff := cmp.Diff(before, look(t, name)); diff != "" {
		t.Errorf("the machine is not as before (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
	if out, err := exec.Command("pgrep", "-f", "--", "--data-dir "+dir).Output(); err == nil {
		t.Errorf("processes are left: %s", out)
	}
}

// TestSimulate lets 20 simulated nodes run 200 servers on a real control plane.
func TestSimulate(t *testing.T) {
	cmd, dir := simulation(t, "--nodes", "20", "--servers", "200", "--parallel", "16", "--output", "json")
	name := region.Name(filepath.Join(dir, "region"))
	before := look(t, name)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	var r simulate.Result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Join.Done != 20 || r.Create.Done != 200 || r.Create.Failed != 0 || r.Delete.Done != 20 || r.Delete.Failed != 0 || len(r.Faults) != 0 {
		t.Errorf("joined %d, created %d (%d failed), deleted %d (%d failed): %v", r.Join.Done, r.Create.Done, r.Create.Failed, r.Delete.Done, r.Delete.Failed, r.Faults)
	}
	for what, d := range map[string]time.Duration{"assigned": r.Assigned.P50, "told": r.Told.P50, "active": r.Active.P50, "back": r.Restart.Back, "start": r.Start} {
		if d <= 0 {
			t.Errorf("no time was measured for %s", what)
		}
	}
	if r.Assigned.Of != 200 || r.Assigned.P50 > r.Active.P50 || r.Empty.PSS <= 0 || r.Create.CPU <= 0 || r.StoreSize <= 0 {
		t.Errorf("the figures cannot be: %s", out)
	}
	leftover(t, before, name, dir)
}

// TestSimulateInterrupted ends one in the middle of its work.
func TestSimulateInterrupted(t *testing.T) {
	cmd, dir := simulation(t, "--nodes", "20", "--servers", "20000")
	name := region.Name(filepath.Join(dir, "region"))
	before := look(t, name)
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := wait.Until(ctx, "servers to be made", 10*time.Millisecond, func(context.Context) (bool, error) {
		return strings.Contains(said.String(), "servers: "), nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was interrupted and says that all is well")
	}
	leftover(t, before, name, dir)
}
