package guesttest

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestTinyImage checks the finished image from outside; that it boots is
// tested where QEMU is driven.
func TestTinyImage(t *testing.T) {
	needs.Root(t, "building images")
	img := Tiny(t)
	for _, f := range []string{img.Disk, img.Kernel, img.Initrd} {
		if st, err := os.Stat(f); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
	if st, err := os.Stat(img.Disk); err == nil && st.Size() > 34<<20 {
		t.Errorf("the image has %d MiB, more than 34", st.Size()>>20)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", img.Disk, raw).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	head := make([]byte, 512)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if head[510] != 0x55 || head[511] != 0xaa || head[446] != 0x80 || head[450] != 0x83 {
		t.Error("no bootable Linux partition in the master boot record")
	}
	start, size := binary.LittleEndian.Uint32(head[454:]), binary.LittleEndian.Uint32(head[458:])
	if st, _ := f.Stat(); int64(start+size)*512 != st.Size() {
		t.Errorf("partition of %d sectors at %d on a disk of %d", size, start, st.Size()/512)
	}
	if err := exec.Command("/sbin/e2fsck", "-fn", raw+"?offset="+"1048576").Run(); err != nil {
		t.Errorf("filesystem is not clean: %v", err)
	}
}
