package fsmount

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/needs"
)

// disk is a device of a file of so many bytes, which begins with head.
func disk(t *testing.T, size int64, head []byte) (device *os.File, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	device = get[*os.File](t)(attachLoop(file, false, unix.LO_FLAGS_AUTOCLEAR))
	t.Cleanup(func() { device.Close() })
	return device, file
}

// TestMountDevice makes a file system on what is blank alone, finds it again with what is in
// it, and has it grow with its disk.
func TestMountDevice(t *testing.T) {
	needs.Root(t, "file systems are mounted")
	const size = 320 << 20 // the least that XFS takes; ext4 grows in use with CAP_SYS_RESOURCE alone
	dev, file := disk(t, size, nil)
	dir, form := filepath.Join(t.TempDir(), "v1"), Form{Kind: xfs, At: filepath.Join(t.TempDir(), "at")}
	mount := func() {
		t.Helper()
		if err := MountDevice(t.Context(), dir, dev.Name(), form); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	t.Cleanup(func() { _ = unix.Unmount(form.At, unix.MNT_DETACH) }) // it may be unmounted
	mount()                                                          // repeated
	kept := filepath.Join(form.At, "kept")
	if err := os.WriteFile(kept, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(form.At, 0); err != nil {
		t.Fatal(err)
	}
	mount()
	if raw, err := os.ReadFile(kept); err != nil || string(raw) != "data" {
		t.Errorf("mounted again there is %q, %v", raw, err)
	}
	blocks := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(form.At, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks
	}
	before := blocks()
	if err := GrowDevice(t.Context(), "v1", dev.Name(), 2*size); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a disk that has not grown: %v", err)
	}
	if err := os.Truncate(file, 2*size); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatal(err)
	}
	if err := GrowDevice(t.Context(), "v1", dev.Name(), 2*size); err != nil || blocks() < before*3/2 {
		t.Errorf("it had %d blocks and has %d, %v", before, blocks(), err)
	}
}

// TestMountDeviceKeeps: what holds data without a signature, such as a database's own, is
// never formatted.
func TestMountDeviceKeeps(t *testing.T) {
	needs.Root(t, "file systems are mounted")
	head := append(make([]byte, headSize-4), "data"...)
	dev, file := disk(t, 64<<20, head)
	at := filepath.Join(t.TempDir(), "at")
	if err := MountDevice(t.Context(), filepath.Join(t.TempDir(), "v1"), dev.Name(), Form{At: at}); !errs.Is(err, errs.Conflict) {
		_ = unix.Unmount(at, unix.MNT_DETACH) // the test has failed already
		t.Errorf("mounting it: %v", err)
	}
	if raw := get[[]byte](t)(os.ReadFile(file)); !bytes.HasPrefix(raw, head) || bytes.Count(raw[headSize:], []byte{0}) != len(raw)-headSize {
		t.Error("it was written to")
	}
}
