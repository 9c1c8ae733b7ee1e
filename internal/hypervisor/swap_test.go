package hypervisor_test

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestSwapDisk changes the file that a running machine has as a disk: with success,
// without, and with a driver that ends in between.
func TestSwapDisk(t *testing.T) {
	needs.Root(t, "dropping privileges")
	ctx, id := t.Context(), uuid.NewString()
	at := filepath.Join(t.TempDir(), "instances")
	open := func() *hypervisor.QEMU {
		d, err := hypervisor.New(context.Background(), hypervisor.Config{Dir: at, UID: testUID, GID: testUID, Accel: hypervisor.TCG, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
		d.Close()
	})
	dir, err := d.Dir(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(dir, name), "64M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	disk := hypervisor.Disk{ID: "volume", File: "one", Format: "qcow2", Pluggable: true}
	spec := hypervisor.Spec{ID: id, VCPUs: 1, MemoryMiB: 32, Disks: []hypervisor.Disk{disk}}
	if err := d.Start(ctx, spec, nil); err != nil {
		t.Fatal(err)
	}
	is := func(file, swapping string) {
		t.Helper()
		now, err := d.Spec(id)
		power, perr := d.State(id)
		if err != nil || perr != nil || len(now.Disks) != 1 || now.Disks[0].File != file || power != nodeapi.PowerRunning || d.Swapping(id) != swapping {
			t.Errorf("the machine is %s with %+v, swapping %q; %v, %v", power, now.Disks, d.Swapping(id), err, perr)
		}
	}
	free := func(name string, want bool) { // a disk that nobody has open can be opened
		t.Helper()
		out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "read 0 512", filepath.Join(dir, name)).CombinedOutput()
		if (err == nil) != want {
			t.Errorf("%s is free: %v, want %v: %s", name, err == nil, want, out)
		}
	}
	two := disk
	two.File = "two"
	err = d.SwapDisk(ctx, id, "volume", func(context.Context) (hypervisor.Disk, error) {
		free("one", true)
		return two, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	is("two", "")
	free("two", false)
	broken := errors.New("no")
	if err := d.SwapDisk(ctx, id, "volume", func(context.Context) (hypervisor.Disk, error) { return disk, broken }); !errors.Is(err, broken) {
		t.Errorf("opening it fails: %v", err)
	}
	is("two", "")
	absent := disk
	absent.File = "three"
	if err := d.SwapDisk(ctx, id, "volume", func(context.Context) (hypervisor.Disk, error) { return absent, nil }); err == nil {
		t.Error("a disk that is not there was opened")
	}
	is("two", "")
	free("two", false)
	if err := d.SwapDisk(ctx, id, "another", func(context.Context) (hypervisor.Disk, error) { return disk, nil }); !errs.Is(err, errs.NotFound) {
		t.Errorf("a disk that it does not have: %v", err)
	}
	// The driver ends while the disk is closed.
	err = d.SwapDisk(ctx, id, "volume", func(context.Context) (hypervisor.Disk, error) {
		d.Close()
		return disk, nil
	})
	if err == nil {
		t.Error("it went on without a driver")
	}
	d = open()
	is("two", "volume")
	free("two", true)
	for what, err := range map[string]error{"resume": d.Resume(ctx, id), "pause": d.Pause(ctx, id), "reboot": d.Reboot(ctx, id, 0), "send": d.Send(ctx, id, hypervisor.Departure{Live: true})} {
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("%s without a disk: %v", what, err)
		}
	}
	if err := d.SwapDisk(ctx, id, "volume", nil); err != nil {
		t.Fatal(err)
	}
	is("two", "")
	free("two", false)
}
