// Package hypervisortest is the conformance suite of hypervisor drivers. It
// boots the tiny guest for real.
package hypervisortest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// Open opens a driver; opening it again must find the machines of the first.
type Open func(t *testing.T) hypervisor.Driver

// serverID is the machine of the suite.
const serverID = "6f70656e-7374-4163-8b00-000000000001"

// bootLimit is how long a guest may take under emulation on a busy host.
const bootLimit = 120 * time.Second

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Run("Life", func(t *testing.T) { life(t, open) })
	t.Run("Plug", func(t *testing.T) { plug(t, open) })
	t.Run("Clone", func(t *testing.T) { clone(t, open) })
	t.Run("Crash", func(t *testing.T) { crash(t, open) })
	t.Run("Lost", func(t *testing.T) { lost(t, open) })
	t.Run("Absent", func(t *testing.T) { absent(t, open) })
	t.Run("BadStart", func(t *testing.T) { badStart(t, open) })
}

// Tiny puts the tiny guest into the machine's directory and describes it,
// booting its kernel directly.
func Tiny(t *testing.T, d hypervisor.Driver, id string) hypervisor.Spec {
	t.Helper()
	img := guesttest.Tiny(t)
	dir, err := d.Dir(id)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{img.Kernel: "kernel", img.Initrd: "initrd", img.Disk: "base"} {
		link(t, from, filepath.Join(dir, to))
	}
	cmd := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "disk", "1G")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return hypervisor.Spec{
		GuestAgent: true, // a channel that nobody in the guest listens to
		ID:         id, Name: "test", VCPUs: 1, MemoryMiB: 128, Kernel: "kernel", Initrd: "initrd", CommandLine: guest.KernelArgs,
		Disks: []hypervisor.Disk{{File: "disk", Format: "qcow2", Bootable: true}},
	}
}

// link makes a hard link, or a copy when the directories are on two file systems.
func link(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func life(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	d := open(t)
	spec := Tiny(t, d, serverID)
	start := time.Now()
	must(t, d.Start(ctx, spec, nil))
	t.Logf("Start returned after %v", time.Since(start).Round(time.Millisecond))
	must(t, d.Start(ctx, spec, nil)) // a second start changes nothing
	expect(t, d, nodeapi.PowerRunning)
	AwaitConsole(ctx, t, d, serverID, "login:")
	t.Logf("log-in prompt after %v", time.Since(start).Round(10*time.Millisecond))
	reach(ctx, t, d)

	must(t, d.Pause(ctx, serverID))
	must(t, d.Pause(ctx, serverID))
	if starved, err := d.Retry(ctx, serverID); starved || err != nil {
		t.Errorf("a paused guest starves: %v, %v", starved, err)
	}
	expect(t, d, nodeapi.PowerPaused)
	must(t, d.Resume(ctx, serverID))
	expect(t, d, nodeapi.PowerRunning)

	must(t, d.Suspend(ctx, serverID))
	must(t, d.Suspend(ctx, serverID))
	expect(t, d, nodeapi.PowerSuspended)
	d.Close()
	d = open(t)
	expect(t, d, nodeapi.PowerSuspended)
	must(t, d.Restore(ctx, serverID, nil, nil))
	expect(t, d, nodeapi.PowerRunning)

	d.Close() // the machine outlives its driver
	d = open(t)
	expect(t, d, nodeapi.PowerRunning)
	if got, err := d.Spec(serverID); err != nil || !reflect.DeepEqual(got.Disks[0], spec.Disks[0]) {
		t.Errorf("spec after adoption %+v, %v", got, err)
	}

	// The restored guest hears the power button, and boots again: its console
	// says so twice since the restore emptied the log.
	must(t, d.Reboot(ctx, serverID, bootLimit))
	AwaitConsole(ctx, t, d, serverID, "login:")
	expect(t, d, nodeapi.PowerRunning)
	if log, err := d.ConsoleLog(serverID, 0); err != nil || !bytes.Contains(log, []byte("shutting down")) {
		t.Errorf("the guest did not shut down before its reboot: %v\n%s", err, log)
	}
	if log, err := d.ConsoleLog(serverID, 2); err != nil || strings.Count(string(log), "\n") > 2 {
		t.Errorf("two lines of the console are %q, %v", log, err)
	}

	start = time.Now()
	must(t, d.Stop(ctx, serverID, bootLimit))
	t.Logf("Stop took %v", time.Since(start).Round(time.Millisecond))
	expect(t, d, nodeapi.PowerStopped)
	must(t, d.Stop(ctx, serverID, 0))
	must(t, d.Remove(ctx, serverID))
	must(t, d.Remove(ctx, serverID))
	if _, err := d.State(serverID); !errs.Is(err, errs.NotFound) {
		t.Errorf("state after removal: %v", err)
	}
	d.Close()
}

// crash ends the process from outside and waits for the event.
func crash(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := open(t)
	defer d.Close()
	must(t, d.Start(ctx, Tiny(t, d, serverID), nil))
	pid := process(t, mustDir(t, d, serverID))
	if err := pid.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-d.Events():
			if e.Power != nodeapi.PowerCrashed {
				continue
			}
			if e.ID != serverID || e.Reason == "" {
				t.Errorf("event %+v", e)
			}
			expect(t, d, nodeapi.PowerCrashed)
			must(t, d.Remove(ctx, serverID))
			return
		case <-ctx.Done():
			t.Fatal("no event of the crash")
		}
	}
}

// lost cuts a machine: it is lost then, also to a driver that was not there; one that
// was stopped, or whose guest shut down, is not.
func lost(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d := open(t)
	defer func() { d.Close() }()
	is := func(want bool, when string) {
		t.Helper()
		if got, err := d.Lost(serverID); got != want || err != nil {
			t.Errorf("%s: lost %v (%v)", when, got, err)
		}
	}
	spec := Tiny(t, d, serverID)
	is(false, "never started")
	must(t, d.Start(ctx, spec, nil))
	is(false, "running")
	must(t, d.Cut(ctx, serverID))
	must(t, d.Cut(ctx, serverID))
	gone := func() {
		t.Helper()
		must(t, wait.Until(ctx, "the machine to end", 5*time.Millisecond, func(context.Context) (bool, error) {
			p, err := d.State(serverID)
			return p != nodeapi.PowerRunning, err
		}))
	}
	gone()
	is(true, "cut")
	must(t, d.Start(ctx, spec, nil))
	pid := process(t, mustDir(t, d, serverID))
	d.Close()
	if err := pid.Kill(); err != nil {
		t.Fatal(err)
	}
	d = open(t)
	gone()
	is(true, "killed while nobody looked")
	must(t, d.Start(ctx, spec, nil))
	must(t, d.Stop(ctx, serverID, 0))
	is(false, "stopped")
	must(t, d.Start(ctx, spec, nil))
	AwaitConsole(ctx, t, d, serverID, "login:")
	d.Close() // whoever sees the end is not who started it
	d = open(t)
	must(t, d.Stop(ctx, serverID, bootLimit))
	is(false, "shut down")
	must(t, d.Remove(ctx, serverID))
	must(t, d.Cut(ctx, serverID))
}

func absent(t *testing.T, open Open) {
	ctx := t.Context()
	d := open(t)
	defer d.Close()
	const nobody = "00000000-0000-4000-8000-000000000000"
	for what, err := range map[string]error{
		"stop": d.Stop(ctx, nobody, 0), "reboot": d.Reboot(ctx, nobody, 0), "pause": d.Pause(ctx, nobody),
		"suspend": d.Suspend(ctx, nobody), "restore": d.Restore(ctx, nobody, nil, nil),
	} {
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("%s of a machine that is not there: %v", what, err)
		}
	}
	must(t, d.Remove(ctx, nobody))
	if _, err := d.State("../../etc"); !errs.Is(err, errs.NotFound) {
		t.Errorf("state of a path: %v", err)
	}
}

// badStart gives QEMU a disk that is none.
func badStart(t *testing.T, open Open) {
	d := open(t)
	defer d.Close()
	spec := Tiny(t, d, serverID)
	dir, err := d.Dir(serverID)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "disk"), []byte("not a qcow2 image"), 0o600))
	err = d.Start(t.Context(), spec, nil)
	if err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("starting from a broken disk: %v", err)
	}
	expect(t, d, nodeapi.PowerStopped)
	must(t, d.Remove(t.Context(), serverID))
}

// AwaitConsole waits until the machine's console has said text.
func AwaitConsole(ctx context.Context, t *testing.T, d hypervisor.Driver, id, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	var log []byte
	err := wait.Until(ctx, "the console to say "+text, 20*time.Millisecond, func(context.Context) (bool, error) {
		var err error
		log, err = d.ConsoleLog(id, 0)
		return bytes.Contains(log, []byte(text)), err
	})
	if err != nil {
		t.Fatalf("%v; the console said:\n%s", err, log)
	}
}

// process finds the machine's process by the directory that it works in.
func process(t *testing.T, dir string) *os.Process {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != dir {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		must(t, err)
		p, err := os.FindProcess(pid)
		must(t, err)
		return p
	}
	t.Fatalf("no process works in %s", dir)
	return nil
}

func expect(t *testing.T, d hypervisor.Driver, want nodeapi.Power) {
	t.Helper()
	if got, err := d.State(serverID); err != nil || got != want {
		t.Fatalf("state %s, %v; want %s", got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
