package hypervisortest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// otherID is a second machine of the suite, and templateID the one that is frozen.
const (
	otherID    = "6f70656e-7374-4163-8b00-000000000002"
	templateID = "6f70656e-7374-4163-8b00-00000000000f"
)

// clone freezes a machine and has two others go on from it.
func clone(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	d := open(t)
	from, disk := freeze(ctx, t, d)
	spec := cloneSpec(t, d, serverID, disk)
	cold := spec
	cold.NICs = []hypervisor.NIC{{ID: "n", MAC: "fa:16:3e:00:00:01"}}
	if err := d.Clone(ctx, cold, from); !errs.Is(err, errs.Invalid) {
		t.Errorf("cloning with a network card: %v", err)
	}
	start := time.Now()
	must(t, d.Clone(ctx, spec, from))
	t.Logf("Clone returned after %v", time.Since(start).Round(time.Millisecond))
	must(t, d.Clone(ctx, spec, from)) // a second one changes nothing
	must(t, d.Clone(ctx, cloneSpec(t, d, otherID, disk), from))
	expect(t, d, nodeapi.PowerRunning)
	must(t, d.Pause(ctx, otherID))
	halve(t, mustDir(t, d, otherID))
	// Those that run need neither the template nor the driver.
	must(t, from.Memory.Close())
	must(t, from.Devices.Close())
	d.Close()
	d = open(t)
	defer d.Close()
	defer func() { must(t, d.Remove(context.WithoutCancel(ctx), serverID)) }()
	expect(t, d, nodeapi.PowerRunning)
	if got, err := d.State(otherID); err != nil || got != nodeapi.PowerStopped {
		t.Errorf("a clone that was cut in half is %s, %v", got, err)
	}
	must(t, d.Remove(ctx, otherID))

	must(t, d.Pause(ctx, serverID))
	must(t, d.Resume(ctx, serverID))
	must(t, d.Suspend(ctx, serverID))
	expect(t, d, nodeapi.PowerSuspended)
	must(t, d.Restore(ctx, serverID, nil, nil))
	expect(t, d, nodeapi.PowerRunning)
	newDisk(t, mustDir(t, d, serverID), "more", "")
	must(t, d.PlugDisk(ctx, serverID, hypervisor.Disk{ID: "more", File: "more", Format: "qcow2"}))
	must(t, d.UnplugDisk(ctx, serverID, "more"))

	// The guest hears the power button, and boots as any other.
	must(t, d.Reboot(ctx, serverID, bootLimit))
	AwaitConsole(ctx, t, d, serverID, "login:")
	if log, err := d.ConsoleLog(serverID, 0); err != nil || !bytes.Contains(log, []byte("shutting down")) || bytes.Contains(log, []byte("to be cloned")) {
		t.Errorf("the console of a clone: %v\n%s", err, log)
	}
	must(t, d.Stop(ctx, serverID, bootLimit))
	must(t, d.Start(ctx, spec, nil))
	if s, err := d.Spec(serverID); err != nil || s.Clone {
		t.Errorf("a clone that is started again is still one: %+v, %v", s, err)
	}
	AwaitConsole(ctx, t, d, serverID, "login:")
}

// halve makes the machine look as if its driver had died before the guest ran.
func halve(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "state.json")
	raw, err := os.ReadFile(path)
	must(t, err)
	var state map[string]any
	must(t, json.Unmarshal(raw, &state))
	state["cloning"] = true
	raw, err = json.Marshal(state)
	must(t, err)
	must(t, os.WriteFile(path, raw, 0o600))
}

// freeze makes a template of the tiny guest and gives it with its disk.
func freeze(ctx context.Context, t *testing.T, d hypervisor.Driver) (hypervisor.Frozen, string) {
	t.Helper()
	spec := Tiny(t, d, templateID)
	before, err := d.Shape(spec)
	must(t, err)
	must(t, d.Start(ctx, spec, nil))
	if err := d.Freeze(ctx, templateID); !errs.Is(err, errs.Conflict) {
		t.Errorf("freezing a machine that is no template: %v", err)
	}
	must(t, d.Stop(ctx, templateID, 0))
	spec.Template = true
	must(t, d.Start(ctx, spec, nil))
	AwaitConsole(ctx, t, d, templateID, "ready to be cloned")
	must(t, d.Freeze(ctx, templateID))
	if got, err := d.State(templateID); err != nil || got != nodeapi.PowerStopped {
		t.Errorf("a frozen machine is %s, %v", got, err)
	}
	shapes(t, d, spec, before)
	dir, kept := mustDir(t, d, templateID), t.TempDir()
	for _, name := range []string{hypervisor.FrozenMemory, hypervisor.FrozenDevices} {
		must(t, os.Rename(filepath.Join(dir, name), filepath.Join(kept, name)))
	}
	disk := filepath.Join(kept, "disk")
	if out, err := exec.Command("qemu-img", "convert", "-O", "qcow2", filepath.Join(dir, "disk"), disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, d.Remove(ctx, templateID))
	return sealed(t, kept), disk
}

// sealed opens what Freeze left, and tries to write to it.
func sealed(t *testing.T, dir string) hypervisor.Frozen {
	t.Helper()
	memory, err := hypervisor.SealMemory(filepath.Join(dir, hypervisor.FrozenMemory))
	must(t, err)
	if _, err := memory.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the memory of a template can be written to")
	}
	if _, err := unix.Mmap(int(memory.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("the memory of a template can be mapped to be written to")
	}
	devices, err := os.Open(filepath.Join(dir, hypervisor.FrozenDevices))
	must(t, err)
	return hypervisor.Frozen{Memory: memory, Devices: devices}
}

// shapes are the same for machines that differ in their identity alone.
func shapes(t *testing.T, d hypervisor.Driver, s hypervisor.Spec, want string) {
	t.Helper()
	s.Name, s.ID = "another", otherID
	if got, err := d.Shape(s); err != nil || got != want {
		t.Errorf("shape %s, %v; want %s", got, err, want)
	}
	for what, change := range map[string]func(*hypervisor.Spec){
		"memory": func(s *hypervisor.Spec) { s.MemoryMiB++ }, "processors": func(s *hypervisor.Spec) { s.VCPUs++ },
		"command line": func(s *hypervisor.Spec) { s.CommandLine += " x" }, "machine type": func(s *hypervisor.Spec) { s.MachineType = "pc" },
		"disks": func(s *hypervisor.Spec) { s.Disks = append(s.Disks[:1:1], hypervisor.Disk{File: "x", Format: "raw"}) },
	} {
		other := s
		change(&other)
		if got, err := d.Shape(other); err != nil || got == want {
			t.Errorf("another %s has the same shape (%v)", what, err)
		}
	}
}

// cloneSpec puts the files of a clone into its machine's directory.
func cloneSpec(t *testing.T, d hypervisor.Driver, id, disk string) hypervisor.Spec {
	t.Helper()
	spec := Tiny(t, d, id)
	dir := mustDir(t, d, id)
	must(t, os.Remove(filepath.Join(dir, "disk")))
	link(t, disk, filepath.Join(dir, "template"))
	must(t, os.Chmod(filepath.Join(dir, "template"), 0o644))
	cmd := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", "template", "-F", "qcow2", "disk")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, strings.TrimSpace(string(out)))
	}
	return spec
}

func mustDir(t *testing.T, d hypervisor.Driver, id string) string {
	t.Helper()
	dir, err := d.Dir(id)
	must(t, err)
	return dir
}
