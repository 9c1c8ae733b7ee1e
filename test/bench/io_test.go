package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// ioRounds is how often each way to a disk is measured; the ways take turns, and the
// best of each counts: what else the machine does only ever adds.
const ioRounds = 5

// ioInit is the only program of the measured guest: it writes and reads 64 MiB of
// its second disk, which fit into a server's small share of the host's cache, and
// says how many hundredths of a second each took.
const ioInit = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk
busybox mknod /dev/ttyS0 c 4 64 2>/dev/null
now() { # in 10 ms, since the start
	read -r t rest < /proc/uptime
	echo "${t%.*}${t#*.}"
}
measure() {
	what=$1
	times=$2
	shift 2
	begin=$(now)
	while [ $times -gt 0 ]; do
		busybox dd "$@" 2>/dev/null
		times=$((times - 1))
	done
	echo "strata-io $what $(($(now) - begin))" > /dev/ttyS0
}
while ! [ -b /dev/vdb ]; do usleep 10000; done
busybox dd if=/dev/zero of=/dev/vdb bs=1M count=64 conv=fsync 2>/dev/null
measure write 10 if=/dev/zero of=/dev/vdb bs=1M count=64 oflag=direct conv=fsync
measure read 40 if=/dev/vdb of=/dev/null bs=1M count=64 iflag=direct
measure write4k 2 if=/dev/zero of=/dev/vdb bs=4k count=16384 oflag=direct conv=fsync
measure read4k 2 if=/dev/vdb of=/dev/null bs=4k count=16384 iflag=direct
echo "strata-io end 0" > /dev/ttyS0
while :; do usleep 1000000; done
`

// ioKinds is what the guest measures, in the order of its report.
var ioKinds = []string{"write", "read", "write4k", "read4k"}

// TestGuestIO compares a guest's disk under Strata, in a local file and over NBD,
// with a plain QEMU's on the same file.
func TestGuestIO(t *testing.T) {
	c := cloud.Plan(t)
	c.Quiet = true
	c.Up()
	b := newBench(t, c)
	tiny := guesttest.Tiny(t)
	initrd := ioInitrd(t, tiny.Initrd)
	image := b.upload("io", "qcow2", tiny.Disk, map[string]string{"kernel_id": b.upload("io-kernel", "aki", tiny.Kernel, nil),
		"ramdisk_id": b.upload("io-ramdisk", "ari", initrd, nil), "os_command_line": guest.KernelArgs})
	b.post("/volume/v3/types", 200, `{"volume_type":{"name":"shared","extra_specs":{"multiattach":"<is> True"}}}`)
	local, shared := b.volume(`{"volume":{"size":1}}`), b.volume(`{"volume":{"size":1,"volume_type":"shared"}}`)
	took := map[string]map[string][]float64{"plain QEMU": {}, "local file": {}, "NBD": {}}
	for range ioRounds {
		add(took["local file"], b.guestIO(image, local))
		add(took["plain QEMU"], plainIO(t, tiny, initrd, volumeFile(t, c, local)))
		add(took["NBD"], b.guestIO(image, shared))
	}
	for _, kind := range ioKinds {
		plain := slices.Min(took["plain QEMU"][kind])
		b.row("guest "+kind+" by plain QEMU (best of "+strconv.Itoa(ioRounds)+")", "%.2f s", plain/100)
		for _, way := range []string{"local file", "NBD"} {
			b.row("guest "+kind+" through "+way+", ratio to plain QEMU", "%.2f", plain/slices.Min(took[way][kind]))
		}
	}
}

func add(to map[string][]float64, took map[string]float64) {
	for k, v := range took {
		to[k] = append(to[k], v)
	}
}

// ioInitrd is the image's initial ramdisk with another first program: the kernel
// unpacks one archive over the other.
func ioInitrd(t *testing.T, initrd string) string {
	t.Helper()
	base, err := os.ReadFile(initrd)
	if err != nil {
		t.Fatal(err)
	}
	var archive, packed bytes.Buffer
	for _, e := range []struct {
		name, data string
		mode       int
	}{{"init", ioInit, 0o100755}, {"TRAILER!!!", "", 0}} {
		fmt.Fprintf(&archive, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", 1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, 0, 0, len(e.name)+1, 0, e.name)
		archive.Write(make([]byte, -archive.Len()&3))
		archive.WriteString(e.data)
		archive.Write(make([]byte, -archive.Len()&3))
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(archive.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "io.initrd")
	if err := os.WriteFile(out, append(base, packed.Bytes()...), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

var ioLine = regexp.MustCompile(`strata-io (\w+) ([\d.]+)`)

// ioReport reads what the guest said; nil until it has said all.
func ioReport(console []byte) map[string]float64 {
	out := map[string]float64{}
	for _, m := range ioLine.FindAllSubmatch(console, -1) {
		out[string(m[1])], _ = strconv.ParseFloat(string(m[2]), 64) // digits, as matched
	}
	if len(out) <= len(ioKinds) {
		return nil
	}
	return out
}

// guestIO measures in a server with the volume.
func (b *bench) guestIO(image, volume string) map[string]float64 {
	b.Helper()
	id := b.boot(fmt.Sprintf(`{"server":{"name":"io","flavorRef":"42","imageRef":%q,"networks":"none","block_device_mapping_v2":[`+
		`{"source_type":"image","destination_type":"local","boot_index":0,"uuid":%q,"delete_on_termination":true},{"source_type":"volume","destination_type":"volume","boot_index":-1,"uuid":%q}]}}`, image, image, volume))
	var got map[string]float64
	var raw []byte
	b.Cleanup(func() {
		if got == nil {
			b.Logf("the guest said:\n%s", raw)
		}
	})
	b.await("the guest's measurements", func() bool {
		var err error
		if raw, err = os.ReadFile(filepath.Join(b.c.Dir, "instances", id, "console.log")); err != nil {
			b.Fatal(err)
		}
		got = ioReport(raw)
		return got != nil
	})
	b.remove(id)
	b.awaitStatus("/volume/v3/volumes/"+volume, "available")
	return got
}

// plainIO measures under a QEMU started by hand.
func plainIO(t *testing.T, tiny guesttest.Image, initrd, volume string) map[string]float64 {
	t.Helper()
	console := filepath.Join(t.TempDir(), "console")
	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,usb=off", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "128",
		"-kernel", tiny.Kernel, "-initrd", initrd, "-append", guest.KernelArgs, "-serial", "file:"+console,
		"-drive", "if=none,id=a,format=qcow2,snapshot=on,file="+tiny.Disk, "-device", "virtio-blk-pci,drive=a",
		"-drive", "if=none,id=b,format=qcow2,file="+volume, "-device", "virtio-blk-pci,drive=b")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // which says that it was killed
	}()
	var got map[string]float64
	err := wait.Until(t.Context(), "the plain guest's measurements", 100*time.Millisecond, func(context.Context) (bool, error) {
		raw, err := os.ReadFile(console)
		if err != nil && !os.IsNotExist(err) {
			return false, err
		}
		got = ioReport(raw)
		return got != nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// volumeFile finds a volume's file.
func volumeFile(t *testing.T, c *cloud.Cloud, id string) (found string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(c.Dir, "volumes"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, id) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("volume %s has no file (%v)", id, err)
	}
	return found
}
