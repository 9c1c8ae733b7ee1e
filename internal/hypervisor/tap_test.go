package hypervisor_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/wait"
)

// TestTapByDescriptor boots a guest on a tap of a network namespace that QEMU
// could not open itself, and waits for the guest's first packets on it.
func TestTapByDescriptor(t *testing.T) {
	needs.Root(t, "making taps")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	ns, err := netns.New()
	if err != nil {
		needs.Missing(t, "no network namespaces here: %v", err)
	}
	defer ns.Close()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap-test"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR, Queues: 1}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	defer tap.Fds[0].Close()
	if err := netlink.LinkSetUp(tap); err != nil {
		t.Fatal(err)
	}
	d, err := hypervisor.New(ctx, hypervisor.Config{
		Dir: filepath.Join(t.TempDir(), "instances"), UID: testUID, GID: testUID, Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const id = "6f70656e-7374-4163-8b00-0000000000ee"
	spec := hypervisortest.Tiny(t, d, id)
	spec.NICs = []hypervisor.NIC{{ID: "port", MAC: "fa:16:3e:12:34:56", MTU: 1400}}
	if err := d.Start(ctx, spec, tap.Fds); err != nil {
		t.Fatal(err)
	}
	defer d.Remove(context.WithoutCancel(ctx), id)
	err = wait.Until(ctx, "a packet of the guest", 50*time.Millisecond, func(context.Context) (bool, error) {
		l, err := netlink.LinkByName("tap-test")
		return err == nil && l.Attrs().Statistics.RxPackets > 1, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx, spec, nil); err == nil {
		t.Error("a machine with a NIC was accepted without its tap")
	}
}
