package hypervisor_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestUEFI boots a guest through the UEFI firmware, as its kernel confirms.
func TestUEFI(t *testing.T) {
	needs.Root(t, "dropping privileges")
	if found, err := filepath.Glob("/usr/share/OVMF/OVMF_CODE*.fd"); err != nil || len(found) == 0 {
		needs.Missing(t, "the package ovmf is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := hypervisor.New(ctx, hypervisor.Config{
		Dir: filepath.Join(t.TempDir(), "instances"), UID: testUID, GID: testUID, Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const id = "6f70656e-7374-4163-8b00-0000000000ef"
	spec := hypervisortest.Tiny(t, d, id)
	spec.Firmware, spec.MemoryMiB, spec.CommandLine = "uefi", 192, spec.CommandLine+" loglevel=7"
	began := time.Now()
	if err := d.Start(ctx, spec, nil); err != nil {
		t.Fatal(err)
	}
	defer d.Remove(context.WithoutCancel(ctx), id)
	hypervisortest.AwaitConsole(ctx, t, d, id, "EFI v2")
	hypervisortest.AwaitConsole(ctx, t, d, id, "login:")
	t.Logf("log-in prompt after %v", time.Since(began).Round(10*time.Millisecond))
	if power, err := d.State(id); err != nil || power != nodeapi.PowerRunning {
		t.Errorf("state %s, %v", power, err)
	}
}
