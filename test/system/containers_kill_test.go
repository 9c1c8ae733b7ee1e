package system

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killedUnder is how many containers run when the engine is killed.
const killedUnder = 30

// TestKilledUnderContainers kills the engine under many containers: every one runs
// on, is taken over, has a log without a gap, and tells its own exit code, whether it
// ended while the engine was away or after.
func TestKilledUnderContainers(t *testing.T) {
	d := newDock(t)
	n := killedUnder
	if s := os.Getenv("STRATA_KILLED_UNDER"); s != "" {
		n = must[int](t)(strconv.Atoi(s))
	}
	begun := time.Now()
	d.each("start", n, func(d *dock, i int) {
		d.must("run", "-d", "--network", "none", "--name", fmt.Sprintf("c%d", i), "busybox", "sh", "-c", fmt.Sprintf("trap 'exit %d' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done", i%100+1))
	})
	pids := d.pids()
	t.Logf("%d containers after %s", len(pids), time.Since(begun).Round(time.Millisecond))
	d.cloud.Kill()
	for i := range n { // every third ends while no one looks
		if i%3 == 0 {
			if err := syscall.Kill(pids[fmt.Sprintf("/c%d", i)], syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	begun = time.Now()
	d.cloud.Up()
	again := d.pids()
	t.Logf("taken over after %s, resident %s", time.Since(begun).Round(time.Millisecond), resident(t, d.cloud.Pid))
	for name, pid := range pids {
		if i := must[int](t)(strconv.Atoi(name[2:])); i%3 != 0 && again[name] != pid {
			t.Errorf("%s: process %d is now %d", name, pid, again[name])
		}
	}
	d.each("end", n, func(d *dock, i int) {
		name := fmt.Sprintf("c%d", i)
		if i%3 != 0 {
			d.must("stop", name)
		}
		d.eventually(name+" to have ended", func() bool { return d.inspect(name, ".State.Status") == "exited" })
		if code := d.inspect(name, ".State.ExitCode"); code != fmt.Sprint(i%100+1) {
			d.t.Errorf("%s: exit code %s", name, code)
		}
		lines := strings.Fields(d.must("logs", name))
		for j, l := range lines {
			if l != fmt.Sprint(j+1) {
				d.t.Errorf("%s: line %d of its log is %s", name, j+1, l)
				break
			}
		}
		if len(lines) == 0 {
			d.t.Errorf("%s has no log", name)
		}
		d.must("rm", name)
	})
}

// each does something for several containers, a few at a time.
func (d *dock) each(what string, n int, f func(d *dock, i int)) {
	d.t.Run(what, func(t *testing.T) {
		for i := range n {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				f(&dock{t: t, cloud: d.cloud, cli: d.cli}, i)
			})
		}
	})
}

// pids are the first processes of containers that run, by name.
func (d *dock) pids() map[string]int {
	d.t.Helper()
	var list []struct {
		Name  string
		State struct{ Pid int }
	}
	ids := strings.Fields(d.must("ps", "-aq"))
	if err := json.Unmarshal([]byte(d.must(append([]string{"inspect"}, ids...)...)), &list); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]int{}
	for _, c := range list {
		out[c.Name] = c.State.Pid
	}
	return out
}

// resident is the memory that a process has.
func resident(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}
