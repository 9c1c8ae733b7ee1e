package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/wait"
)

// TestKilledWhileContainersLeave kills the engine while containers begin and end: what
// was half made, or half removed, is gone after the next start, and addresses, names and
// shims are free again.
func TestKilledWhileContainersLeave(t *testing.T) {
	d := newDock(t)
	d.must("network", "create", "--subnet", "10.77.0.0/28", "narrow")
	for round := range 4 {
		for i := range 4 {
			cmd := d.command("run", "--rm", "--name", fmt.Sprintf("r%d-%d", round, i), "--network", "narrow", "busybox", "true")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go cmd.Wait() // it fails with the engine, or has been quicker
		}
		if err := wait.Pause(t.Context(), time.Duration(round+1)*120*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		d.cloud.Kill()
		d.cloud.Up()
		// One that was made and not started is kept, as with dockerd's --live-restore.
		for _, id := range strings.Fields(d.must("ps", "-aq")) {
			d.must("rm", "-f", id)
		}
		d.nothingLeft(t)
	}
	for range 20 { // more often than there are addresses
		d.must("run", "--rm", "--network", "narrow", "--ip", "10.77.0.9", "busybox", "true")
	}
	d.must("network", "rm", "narrow")
	d.nothingLeft(t)
}

// nothingLeft waits until there is nothing of containers but namespaces that wait for the next.
func (d *dock) nothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	d.eventually("nothing to be left of containers", func() bool {
		left = must[[]string](t)(netns.List(d.cloud.Name() + "-c-"))
		for _, glob := range []string{"containers/containers/*", "containers/records/containers/*", "containers/containerd/state/io.containerd.runtime.v2.task/moby/*"} {
			left = append(left, must[[]string](t)(filepath.Glob(filepath.Join(d.cloud.Dir, glob)))...)
		}
		left = append(left, must[[]string](t)(filepath.Glob(filepath.Join("/run/strata", d.cloud.Name(), "notes/*")))...)
		for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/mounts")))) {
			if strings.HasPrefix(line, "overlay "+d.cloud.Dir) {
				left = append(left, line)
			}
		}
		return len(left) == 0
	})
}
