package blockdev

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

type info struct {
	Format  string `json:"format"`
	Size    int64  `json:"virtual-size"`
	Backing string `json:"backing-filename"`
	Type    string `json:"backing-filename-format"`
}

func qemuInfo(t *testing.T, path string) info {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "--output=json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var i info
	if err := json.Unmarshal(out, &i); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestRootDisks(t *testing.T) {
	for name, image := range map[string][]byte{
		"qcow2": converted(t, "qcow2"), "raw": make([]byte, testSize), "vmdk": converted(t, "vmdk"), "vhd": converted(t, "vpc", "force_size=on"), "vhdx": converted(t, "vhdx"),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, images, dir := t.Context(), t.TempDir(), t.TempDir()
			source := filepath.Join(images, "image")
			if err := os.WriteFile(source, image, 0o600); err != nil {
				t.Fatal(err)
			}
			var base Base
			for range 2 {
				var err error
				if base, err = EnsureBase(ctx, source, filepath.Join(images, "base")); err != nil {
					t.Fatal(err)
				}
			}
			if base.VirtualSize != testSize {
				t.Errorf("base %+v", base)
			}
			for range 2 {
				if err := EnsureRoot(ctx, dir, "root", base, 1<<30); err != nil {
					t.Fatal(err)
				}
			}
			if got := qemuInfo(t, filepath.Join(dir, "root")); got != (info{"qcow2", 1 << 30, "root.base", string(base.Format)}) {
				t.Errorf("disk %+v", got)
			}
			// The directory moves and the image goes: the disk is still whole.
			moved := filepath.Join(t.TempDir(), "moved")
			if err := os.Rename(dir, moved); err != nil {
				t.Fatal(err)
			}
			os.RemoveAll(images)
			if out, err := exec.Command("qemu-img", "check", "-q", filepath.Join(moved, "root")).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if err := Grow(ctx, filepath.Join(moved, "root"), QCOW2, 2<<30); err != nil {
				t.Fatal(err)
			}
			if err := Grow(ctx, filepath.Join(moved, "root"), QCOW2, 1<<30); err != nil {
				t.Fatal(err)
			}
			if got := qemuInfo(t, filepath.Join(moved, "root")); got.Size != 2<<30 {
				t.Errorf("grown to %d", got.Size)
			}
			for range 2 {
				if err := Remove(moved, "root"); err != nil {
					t.Fatal(err)
				}
			}
			if left, _ := os.ReadDir(moved); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRootRefusals(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, testSize), 0o600); err != nil {
		t.Fatal(err)
	}
	base, err := EnsureBase(ctx, image, filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	machine := t.TempDir()
	for what, err := range map[string]error{
		"too small":  EnsureRoot(ctx, machine, "root", base, testSize-1),
		"path":       EnsureRoot(ctx, machine, "../root", base, testSize),
		"iso":        EnsureRoot(ctx, machine, "root", Base{Path: image, Format: ISO}, testSize),
		"no size":    EnsureEmpty(ctx, machine, "swap", 0, Swap, ""),
		"empty path": EnsureEmpty(ctx, machine, "a/b", 1<<20, Blank, ""),
	} {
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	base.Path = filepath.Join(dir, "gone")
	if err := EnsureRoot(ctx, machine, "root", base, testSize); err == nil {
		t.Error("a disk was made on a base that is gone")
	}
	if left, _ := os.ReadDir(machine); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	hostile := filepath.Join(dir, "hostile")
	if err := os.WriteFile(hostile, []byte("QED\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureBase(ctx, hostile, filepath.Join(dir, "base2")); !errs.Is(err, errs.Invalid) {
		t.Errorf("a hostile image: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "base2")); err == nil {
		t.Error("a hostile image became a base")
	}
}

func TestEmptyDisks(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	for name, content := range map[string]Content{"blank": Blank, "swap": Swap, "ext4": Ext4} {
		for range 2 {
			if err := EnsureEmpty(ctx, dir, name, 64<<20, content, "ephemeral0"); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(data) != 64<<20 {
			t.Fatalf("%s has %d bytes, %v", name, len(data), err)
		}
		if swap := string(data[4086:4096]) == "SWAPSPACE2"; swap != (content == Swap) {
			t.Errorf("%s: swap is %v", name, swap)
		}
		if ext := data[1080] == 0x53 && data[1081] == 0xef; ext != (content == Ext4) {
			t.Errorf("%s: ext4 is %v", name, ext)
		}
	}
}
