package hypervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/process"
	"github.com/strata-cloud/strata/internal/wait"
)

// kept are machines that are played by sleeping processes, and their leases.
type keptMachines struct {
	*testing.T
	dir, machines string
	leases        *Leases
}

func newKept(t *testing.T) *keptMachines {
	t.Helper()
	needs.Root(t, "tracing")
	k := &keptMachines{T: t, dir: filepath.Join(t.TempDir(), "leases"), machines: t.TempDir()}
	k.open()
	t.Cleanup(func() {
		if err := EndLeases(context.WithoutCancel(t.Context()), k.dir); err != nil {
			t.Error(err)
		}
	})
	return k
}

func (k *keptMachines) open() {
	k.Helper()
	var err error
	if k.leases, err = OpenLeases(k.dir, k.machines, true); err != nil {
		k.Fatal(err)
	}
}

// machine starts one; ended is closed when it has ended.
func (k *keptMachines) machine(n int) (id string, p process.ID, ended chan struct{}) {
	k.Helper()
	id = fmt.Sprintf("6f70656e-7374-4163-8b00-%012d", n)
	dir := filepath.Join(k.machines, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		k.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is always killed
		close(ended)
	}()
	k.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	p, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		k.Fatal(err)
	}
	raw, err := json.Marshal(machineState{Process: p})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, stateFile), raw, 0o600)
	}
	if err != nil {
		k.Fatal(err)
	}
	return id, p, ended
}

func (k *keptMachines) extend(id string, by time.Duration) {
	k.Helper()
	if err := k.leases.Extend(id, LeaseClock()+by); err != nil {
		k.Fatal(err)
	}
	if err := k.leases.Keep(k.Context()); err != nil {
		k.Fatal(err)
	}
}

// keeperPID is the process that keeps the leases.
func (k *keptMachines) keeperPID() int {
	k.Helper()
	raw, err := os.ReadFile(filepath.Join(k.dir, keeperLock))
	if err != nil {
		k.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(raw), &pid); err != nil {
		k.Fatal(err)
	}
	return pid
}

// traced waits until the process is traced, or is not.
func (k *keptMachines) traced(p process.ID, by int) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), 5*time.Second)
	defer cancel()
	want := fmt.Sprintf("TracerPid:\t%d\n", by)
	if err := wait.Until(ctx, want, 5*time.Millisecond, func(context.Context) (bool, error) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		return strings.Contains(string(raw), want), err
	}); err != nil {
		k.Fatal(err)
	}
}

// The keeper ends what has no lease any more, without anybody's help, and nothing else.
func TestKeeper(t *testing.T) {
	k := newKept(t)
	a, pa, endedA := k.machine(1)
	b, _, endedB := k.machine(2)
	_, pc, _ := k.machine(3) // without a lease
	const life = 700 * time.Millisecond
	k.extend(a, time.Hour)
	k.extend(b, life)
	k.traced(pa, k.keeperPID())
	<-time.After(life / 2)
	k.extend(b, life)
	begin := time.Now()
	select {
	case <-endedB:
	case <-time.After(life + 2*time.Second):
		t.Fatal("a machine without a lease runs on")
	}
	if took := time.Since(begin); took < life-10*time.Millisecond {
		t.Errorf("it was ended %s early", life-took)
	} else {
		t.Logf("ended %s after its lease", took-life)
	}
	if !pa.Alive() || !pc.Alive() {
		t.Error("others were ended too")
	}
	// Signals and job control are the machine's own matter.
	if err := unix.Kill(pa.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pa.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pa.PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-endedA:
	case <-time.After(2 * time.Second):
		t.Error("a signal does not arrive")
	}
}

// Who kills the keeper kills the machines, unless they run under no lease any more.
func TestKeeperKilled(t *testing.T) {
	k := newKept(t)
	a, pa, endedA := k.machine(1)
	b, pb, _ := k.machine(2)
	k.extend(a, time.Hour)
	k.extend(b, time.Hour)
	pid := k.keeperPID()
	k.traced(pa, pid)
	k.traced(pb, pid)
	if err := k.leases.Drop(b); err != nil {
		t.Fatal(err)
	}
	k.traced(pb, 0)
	for _, polite := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if err := unix.Kill(pid, polite); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(300 * time.Millisecond)
	if there, err := kept(k.dir); !there || err != nil {
		t.Fatalf("the keeper left (%v)", err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-endedA:
	case <-time.After(2 * time.Second):
		t.Fatal("the machine outlives its keeper")
	}
	if !pb.Alive() {
		t.Error("a machine without a lease was ended")
	}
	// One that is dying counts as one until its files are closed, after its machines ended.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := wait.Until(ctx, "another keeper", 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := k.leases.Keep(ctx)
		return k.keeperPID() != pid, err
	})
	if err != nil {
		t.Error(err)
	}
}

// Leases are read back, those of an earlier life of the host are over, and what is
// half written is no lease.
func TestLeaseFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	l, err := OpenLeases(dir, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	const id, old, half = "6f70656e-7374-4163-8b00-000000000001", "6f70656e-7374-4163-8b00-000000000002", "6f70656e-7374-4163-8b00-000000000003"
	for _, until := range []time.Duration{time.Hour, 2 * time.Hour, time.Minute} {
		if err := l.Extend(id, until); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{old: "7200000000000 7200000000000 another-boot\n", half: "7200000000000 7100000000000 " + process.BootID() + "\n", "other": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if l, err = OpenLeases(dir, t.TempDir(), false); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Duration{id: time.Minute, old: 0, half: -1} {
		until, ok := l.Until(name)
		if !ok {
			until = -1
		}
		if until != want {
			t.Errorf("the lease of %s ends at %s, want %s", name, until, want)
		}
	}
	if err := l.Drop(id); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Until(id); ok {
		t.Error("a lease that was dropped is there")
	}
}
