package configdrive_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/configdrive"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const guestScript = `#!/bin/sh
mkdir -p /run/t && mount -t iso9660 -o ro /dev/disk/by-label/config-2 /run/t
(cd /run/t && find . -type f | sort | sed 's/^/FILE /')
grep -c s3cret /run/t/openstack/latest/meta_data.json | sed 's/^/PASSWORDS /'
cmp /run/t/openstack/latest/user_data /run/t/ec2/2009-04-04/user-data && echo SAME
hostname | sed 's/^/HOST /'
cut -d' ' -f3 /home/strata/.ssh/authorized_keys | sed 's/^/KEY /'
echo DONE
`

// TestGuestReadsTheDrive boots Linux with a drive and looks through its eyes.
func TestGuestReadsTheDrive(t *testing.T) {
	needs.Root(t, "dropping privileges")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := hypervisor.New(ctx, hypervisor.Config{
		Dir: filepath.Join(t.TempDir(), "instances"), UID: 64398, GID: 64398, Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	inst := &nodeapi.Instance{
		ID: "6f70656e-7374-4163-8b00-0000000000cd", Name: "drive",
		Guest: nodeapi.GuestConfig{
			Hostname: "drive-test.novalocal", AdminPass: "s3cret", UserData: []byte(guestScript),
			Keys: []nodeapi.Key{{Name: "k", Type: "ssh", PublicKey: "ssh-ed25519 AAAA somebody"}},
		},
	}
	spec := hypervisortest.Tiny(t, d, inst.ID)
	dir, err := d.Dir(inst.ID)
	if err != nil {
		t.Fatal(err)
	}
	drive := filepath.Join(dir, "config.iso")
	if err := configdrive.Ensure(inst, drive); err != nil {
		t.Fatal(err)
	}
	spec.Disks = append(spec.Disks, hypervisor.Disk{File: "config.iso", Format: "raw", ReadOnly: true})
	if err := d.Start(ctx, spec, nil); err != nil {
		t.Fatal(err)
	}
	defer d.Remove(context.WithoutCancel(ctx), inst.ID)
	hypervisortest.AwaitConsole(ctx, t, d, inst.ID, "DONE")
	log, err := d.ConsoleLog(inst.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	console := strings.ReplaceAll(string(log), "\r", "")
	for _, want := range []string{
		"FILE ./openstack/latest/meta_data.json", "FILE ./openstack/latest/network_data.json", "FILE ./openstack/latest/vendor_data2.json",
		"FILE ./openstack/2018-08-27/user_data", "FILE ./ec2/2009-04-04/meta-data.json", "FILE ./ec2/latest/user-data",
		"PASSWORDS 1", "SAME", "HOST drive-test", "KEY somebody", "metadata from the config drive",
	} {
		if !strings.Contains(console, want+"\n") {
			t.Errorf("the guest did not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(console)
	}
}
