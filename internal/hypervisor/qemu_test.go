package hypervisor_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
)

func TestMain(m *testing.M) {
	hypervisor.ProbeMain()
	hypervisor.KeeperMain()
	os.Exit(m.Run())
}

// testUID is a user that owns nothing on any host.
const testUID = 64399

func TestQEMU(t *testing.T) {
	needs.Root(t, "dropping privileges")
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("QEMU is missing: install the package qemu-system-x86")
	}
	groups, err := cgroup.New("strata-test-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Logf("without cgroups: %v", err)
		groups = nil
	}
	dir := filepath.Join(t.TempDir(), "a-directory-that-only-root-enters-and-whose-name-is-too-long-for-the-path-of-a-unix-socket-in-it")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	hypervisortest.Run(t, func(t *testing.T) hypervisor.Driver {
		d, err := hypervisor.New(t.Context(), hypervisor.Config{
			Dir: filepath.Join(dir, "instances"), UID: testUID, GID: testUID, Accel: hypervisor.TCG, Cgroups: groups,
			Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
	if groups == nil {
		return
	}
	if left, err := groups.List(); err != nil || len(left) > 0 {
		t.Errorf("cgroups left behind: %v, %v", left, err)
	}
	if err := groups.RemoveParent(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestProbeRemembers(t *testing.T) {
	dir := t.TempDir()
	accel, reason := hypervisor.Probe(t.Context(), dir)
	t.Logf("%s: %s", accel, reason)
	if accel != hypervisor.KVM && accel != hypervisor.TCG || reason == "" {
		t.Fatalf("probe said %q, %q", accel, reason)
	}
	path := filepath.Join(dir, "accelerator.json")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if a, r := hypervisor.Probe(t.Context(), dir); a != accel || r != reason {
		t.Errorf("second probe said %q, %q", a, r)
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Error("the second probe ran again")
	}
}

func TestQEMUMove(t *testing.T) {
	needs.Root(t, "dropping privileges")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	host := func(name string) hypervisortest.Open {
		groups, err := cgroup.New("strata-test-" + strconv.Itoa(os.Getpid()) + name)
		if err != nil {
			t.Logf("without cgroups: %v", err)
			groups = nil
		} else {
			t.Cleanup(func() {
				if err := groups.RemoveParent(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		return func(t *testing.T) hypervisor.Driver {
			d, err := hypervisor.New(context.Background(), hypervisor.Config{Dir: filepath.Join(dir, name), UID: testUID, GID: testUID,
				Accel: hypervisor.TCG, Cgroups: groups, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	hypervisortest.RunMove(t, host("one"), host("two"))
}
