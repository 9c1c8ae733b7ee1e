package blockdev

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func TestEnsureCopy(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	tool(t, "qemu-img", "create", "-q", "-f", "raw", image, "1M")
	base, err := EnsureBase(t.Context(), image, filepath.Join(dir, "base"))
	if err == nil {
		err = EnsureRoot(t.Context(), dir, "root", base, 4<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-io", "-c", "write -P 7 2M 64k", "-f", "qcow2", filepath.Join(dir, "root"))
	for range 2 {
		if err := EnsureCopy(t.Context(), dir, "copy", "root"); err != nil {
			t.Fatal(err)
		}
	}
	if err := EnsureSize(t.Context(), dir, "copy", 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir, "root"); err != nil { // the copy stands alone
		t.Fatal(err)
	}
	tool(t, "qemu-io", "-c", "read -P 7 2M 64k", "-c", "read -P 0 7M 64k", "-f", "qcow2", filepath.Join(dir, "copy"))
	if err := EnsureCopy(t.Context(), dir, "other", "root"); err == nil {
		t.Error("a disk that is not there was copied")
	}
}
