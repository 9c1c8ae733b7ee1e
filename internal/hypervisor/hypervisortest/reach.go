package hypervisortest

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
)

// reach talks to the running guest in the ways that operators and users do.
func reach(ctx context.Context, t *testing.T, d hypervisor.Driver) {
	t.Helper()
	for kind, want := range map[string]string{hypervisor.ConsoleVNC: "RFB 003.008\n", hypervisor.ConsoleSerial: "login"} {
		c, err := d.Console(ctx, serverID, kind)
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(bootLimit)))
		if kind == hypervisor.ConsoleSerial {
			_, err := c.Write([]byte("\n")) // getty asks again
			must(t, err)
		}
		r, said := bufio.NewReader(c), ""
		for !strings.Contains(said, want) && err == nil {
			var b byte
			b, err = r.ReadByte()
			said += string(b)
		}
		c.Close()
		if err != nil {
			t.Errorf("the %s console said %q: %v", kind, said, err)
		}
	}
	if _, err := d.Console(ctx, serverID, "spice"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a console of an unknown kind: %v", err)
	}
	diag, err := d.Diagnostics(ctx, serverID)
	must(t, err)
	if len(diag.CPUs) != 1 || diag.CPUs[0].TimeNS <= 0 || len(diag.Disks) != 1 || diag.Disks[0].ReadBytes == 0 || diag.UsedMiB == 0 {
		t.Errorf("diagnostics %+v", diag)
	}
	t.Logf("QEMU holds %d of %d MiB", diag.UsedMiB, diag.MemoryMiB)
	if err := d.SetPassword(ctx, serverID, "root", "secret"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a password for a guest without an agent: %v", err)
	}
	must(t, d.Interrupt(ctx, serverID))
	AwaitConsole(ctx, t, d, serverID, "NMI")
}
