package hypervisortest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// newDisk makes an empty qcow2 disk in the machine's directory; with a key it
// is encrypted.
func newDisk(t *testing.T, dir, name, key string) {
	t.Helper()
	args := []string{"create", "-q", "-f", "qcow2"}
	if key != "" {
		args = append(args, "--object", "secret,id=k,data="+key, "-o", "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10")
	}
	args = append(args, filepath.Join(dir, name), "64M")
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	for try := 0; try < 5 && bytes.Contains(out, []byte("accurate CPU usage")); try++ { // of a virtual machine's clock
		out, err = exec.Command("qemu-img", args...).CombinedOutput()
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func imageInfo(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "-U", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// plug changes the devices of a guest from its very start on.
func plug(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d := open(t)
	spec := Tiny(t, d, serverID)
	dir, err := d.Dir(serverID)
	must(t, err)
	for _, name := range []string{"first", "second", "third"} {
		newDisk(t, dir, name, "")
	}
	const key = "correct horse battery staple"
	newDisk(t, dir, "secret", key)
	spec.Disks = append(spec.Disks, hypervisor.Disk{ID: "first", File: "first", Format: "qcow2", Pluggable: true})
	must(t, d.Start(ctx, spec, nil))
	defer func() { must(t, d.Remove(context.WithoutCancel(ctx), serverID)); d.Close() }()

	// The firmware does not hear of the request: it is repeated.
	must(t, d.UnplugDisk(ctx, serverID, "first"))
	must(t, d.UnplugDisk(ctx, serverID, "first"))
	AwaitConsole(ctx, t, d, serverID, "login:")

	second := hypervisor.Disk{ID: "2a3b4c5d-0000-4000-8000-00000000abcd", File: "second", Format: "qcow2", Serial: "2a3b4c5d",
		Limits: &nodeapi.IOLimits{TotalIOPS: 500, TotalBytes: 8 << 20}}
	luks := hypervisor.Disk{ID: "secret", File: "secret", Format: "qcow2", Encrypted: true, Key: []byte(key)}
	scsi := hypervisor.Disk{ID: "third", File: "third", Format: "qcow2", Bus: "scsi"}
	for _, disk := range []hypervisor.Disk{second, luks, scsi, second} {
		must(t, d.PlugDisk(ctx, serverID, disk))
	}
	wrong := luks
	wrong.ID, wrong.File, wrong.Key = "wrong", "again", []byte("another key")
	newDisk(t, dir, "again", key)
	if err := d.PlugDisk(ctx, serverID, wrong); err == nil || strings.Contains(err.Error(), string(wrong.Key)) {
		t.Errorf("a disk was opened with a wrong key: %v", err)
	}
	if err := d.PlugDisk(ctx, serverID, hypervisor.Disk{ID: "sata", File: "third", Format: "qcow2", Bus: "sata"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("plugging a SATA disk: %v", err)
	}
	if err := d.UnplugDisk(ctx, serverID, "disk"); !errs.Is(err, errs.Conflict) {
		t.Errorf("unplugging the root disk: %v", err)
	}
	noSecrets(t, dir, key)
	live(ctx, t, d, dir, second)

	// A suspended machine comes back with what was plugged in.
	must(t, d.Suspend(ctx, serverID))
	if err := d.Restore(ctx, serverID, nil, nil); err == nil {
		t.Fatal("an encrypted disk was opened without its key")
	}
	must(t, d.Restore(ctx, serverID, nil, []hypervisor.Disk{luks}))
	noSecrets(t, dir, key)
	d.Close()
	d = open(t)
	has(t, d, "disk", second.ID, "secret", "third")
	for _, id := range []string{second.ID, "secret", "third"} {
		must(t, d.UnplugDisk(ctx, serverID, id))
	}
	has(t, d, "disk")
	must(t, d.PlugDisk(ctx, serverID, luks)) // under the name that it had before
}

// live changes a disk while the guest has it.
func live(ctx context.Context, t *testing.T, d hypervisor.Driver, dir string, disk hypervisor.Disk) {
	t.Helper()
	for range 2 {
		must(t, d.ResizeDisk(ctx, serverID, disk.ID, 96<<20))
		must(t, d.ResizeDisk(ctx, serverID, disk.ID, 64<<20)) // never smaller
		must(t, d.SnapshotDisk(ctx, serverID, disk.ID, "a-snapshot"))
	}
	info := imageInfo(t, filepath.Join(dir, disk.File))
	if !strings.Contains(info, "virtual size: 96 MiB") || strings.Count(info, "a-snapshot") != 1 {
		t.Errorf("after a resize and a snapshot: %s", info)
	}
	for range 2 {
		must(t, d.DeleteDiskSnapshot(ctx, serverID, disk.ID, "a-snapshot"))
	}
	for range 2 {
		must(t, d.SnapshotDisks(ctx, serverID, map[string]string{disk.ID: "of-all"}))
	}
	if info := imageInfo(t, filepath.Join(dir, disk.File)); strings.Count(info, "of-all") != 1 {
		t.Errorf("after a snapshot of all disks: %s", info)
	}
	must(t, d.DeleteDiskSnapshot(ctx, serverID, disk.ID, "of-all"))
	if err := d.SnapshotDisks(ctx, serverID, map[string]string{disk.ID: "of-all", "nothing": "of-all"}); !errs.Is(err, errs.NotFound) || strings.Contains(imageInfo(t, filepath.Join(dir, disk.File)), "of-all") {
		t.Errorf("snapshots of a disk and of one that is not there: %v", err)
	}
	must(t, d.LimitDisk(ctx, serverID, disk.ID, &nodeapi.IOLimits{ReadIOPS: 100, WriteIOPS: 50, WriteIOPSMax: 100}))
	must(t, d.LimitDisk(ctx, serverID, disk.ID, nil))
	if err := d.SnapshotDisk(ctx, serverID, "nothing", "s"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a snapshot of a disk that is not there: %v", err)
	}
}

// noSecrets looks for the key in everything that others could read: files and command line.
func noSecrets(t *testing.T, dir, key string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "key-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	state, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil || bytes.Contains(state, []byte(key)) {
		t.Errorf("the key is in the state: %v", err)
	}
}

// has compares the machine's disks by id.
func has(t *testing.T, d hypervisor.Driver, want ...string) {
	t.Helper()
	spec, err := d.Spec(serverID)
	must(t, err)
	var got []string
	for _, disk := range spec.Disks {
		got = append(got, disk.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the machine has the disks %v, want %v", got, want)
	}
}
