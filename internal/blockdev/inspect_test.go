package blockdev

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

const testSize = 10 << 20

// qemuImage makes an image with qemu-img.
func qemuImage(t testing.TB, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	for i, a := range args {
		if a == "FILE" {
			args[i] = path
		}
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func created(t testing.TB, format string, opts ...string) []byte {
	args := []string{"create", "-q", "-f", format, "FILE", "10M"}
	for _, o := range opts {
		args = append(args, "-o", o)
	}
	return qemuImage(t, args...)
}

// converted makes an image with data in it.
func converted(t testing.TB, format string, opts ...string) []byte {
	raw := filepath.Join(t.TempDir(), "raw")
	data := make([]byte, testSize)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(data[1<<20 : 3<<20])
	if err := os.WriteFile(raw, data, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"convert", "-f", "raw", "-O", format}
	for _, o := range opts {
		args = append(args, "-o", o)
	}
	return qemuImage(t, append(args, raw, "FILE")...)
}

func iso() []byte {
	b := make([]byte, 64<<10)
	copy(b[isoMagicAt-1:], "\x01CD001\x01")
	return b
}

func TestFormats(t *testing.T) {
	for name, c := range map[string]struct {
		image  []byte
		format Format
		size   int64
	}{
		"raw":                 {make([]byte, 1<<20), Raw, 1 << 20},
		"empty":               {nil, Raw, 0},
		"tiny":                {[]byte("x"), Raw, 1},
		"qcow2":               {created(t, "qcow2"), QCOW2, testSize},
		"qcow2 v2":            {created(t, "qcow2", "compat=0.10"), QCOW2, testSize},
		"qcow2 zstd":          {converted(t, "qcow2", "compression_type=zstd"), QCOW2, testSize},
		"qcow2 extended":      {created(t, "qcow2", "extended_l2=on"), QCOW2, testSize},
		"vmdk":                {converted(t, "vmdk"), VMDK, testSize},
		"vmdk stream":         {converted(t, "vmdk", "subformat=streamOptimized"), VMDK, testSize},
		"vdi":                 {converted(t, "vdi"), VDI, testSize},
		"vdi static":          {created(t, "vdi", "static=on"), VDI, testSize},
		"vhd":                 {converted(t, "vpc", "force_size=on"), VHD, testSize},
		"vhd fixed":           {created(t, "vpc", "subformat=fixed,force_size=on"), VHD, testSize},
		"vhdx":                {converted(t, "vhdx"), VHDX, testSize},
		"iso":                 {iso(), ISO, 64 << 10},
		"almost qcow2":        {append([]byte("QFI"), make([]byte, 1000)...), Raw, 1003},
		"vhd magic at byte 1": {append([]byte("xconectix"), make([]byte, 2000)...), Raw, 2009},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Inspect(bytes.NewReader(c.image))
			if err != nil {
				t.Fatal(err)
			}
			if got.Format != c.format || got.VirtualSize != c.size || got.Size != int64(len(c.image)) || got.Safe() != nil {
				t.Errorf("got %+v, want %s of %d", got, c.format, c.size)
			}
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, c.image, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if file, err := inspectFile(f); err != nil || file != got {
				t.Errorf("as a file %+v, %v; streamed %+v", file, err, got)
			}
		})
	}
}

// spoiled changes a copy of an image.
func spoiled(image []byte, change func([]byte)) []byte {
	b := bytes.Clone(image)
	change(b)
	return b
}

func TestHostileImagesAreRefused(t *testing.T) {
	q3, vmdk, vdi, vhd, vhdx := created(t, "qcow2"), created(t, "vmdk"), created(t, "vdi"), created(t, "vpc"), created(t, "vhdx")
	be, le := binary.BigEndian, binary.LittleEndian
	descriptor := func(from, to string) []byte {
		b := bytes.Replace(vmdk, []byte(from), []byte(to), 1)
		if bytes.Equal(b, vmdk) {
			t.Fatalf("%q is not in the vmdk image", from)
		}
		return b
	}
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, q3, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"qcow2 backing file":    {qemuImage(t, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", "FILE"), "backing file"},
		"qcow2 data file":       {created(t, "qcow2", "data_file="+filepath.Join(t.TempDir(), "data"), "data_file_raw=on"), "external data file"},
		"qcow2 unknown feature": {spoiled(q3, func(b []byte) { be.PutUint64(b[72:], 1<<40) }), "unknown features"},
		"qcow2 corrupt":         {spoiled(q3, func(b []byte) { be.PutUint64(b[72:], qcowCorrupt) }), "corrupt"},
		"qcow2 version":         {spoiled(q3, func(b []byte) { be.PutUint32(b[4:], 9) }), "version 9"},
		"qcow2 encrypted":       {spoiled(q3, func(b []byte) { be.PutUint32(b[32:], 2) }), "encrypted"},
		"qcow2 size":            {spoiled(q3, func(b []byte) { be.PutUint64(b[24:], 1<<63) }), "negative"},
		"qcow2 cut off":         {q3[:60], "cut off"},
		"qcow2 v3 cut off":      {q3[:80], "cut off"},
		"qcow 1":                {spoiled(q3, func(b []byte) { be.PutUint32(b[4:], 1) }), "qcow are not supported"},
		"vmdk flat":             {[]byte("# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/shadow\" 0\n"), "elsewhere"},
		"vmdk type":             {descriptor("monolithicSparse", "monolithicFlat\"\n"), "monolithicFlat"},
		"vmdk extent type":      {descriptor("SPARSE", "FLAT  "), "extent of type RW FLAT"},
		"vmdk parent":           {descriptor("parentCID=ffffffff", "parentCID=12345678"), "parent"},
		"vmdk descriptor far":   {spoiled(vmdk, func(b []byte) { le.PutUint64(b[28:], 1<<30) }), "no descriptor"},
		"vmdk descriptor huge":  {spoiled(vmdk, func(b []byte) { le.PutUint64(b[36:], 1<<60) }), "no descriptor"},
		"vmdk capacity":         {spoiled(vmdk, func(b []byte) { le.PutUint64(b[12:], 1<<60) }), "sectors"},
		"vmdk version":          {spoiled(vmdk, func(b []byte) { le.PutUint32(b[4:], 7) }), "version 7"},
		"vdi differencing":      {spoiled(vdi, func(b []byte) { le.PutUint32(b[0x4c:], 4) }), "type 4"},
		"vdi cut off":           {vdi[:0x100], "cut off"},
		"vhd differencing":      {spoiled(vhd, func(b []byte) { be.PutUint32(b[60:], 4) }), "type 4"},
		"vhdx cut off":          {vhdx[:100<<10], "no metadata"},
		"vhdx parent": {spoiled(vhdx, func(b []byte) {
			i := bytes.Index(b, []byte(vhdxParamsGUID))
			j := bytes.Index(b, []byte("metadata"))
			b[j+int(le.Uint32(b[i+16:]))+4] |= 2
		}), "parent"},
		"luks": {append([]byte("LUKS\xba\xbe\x00\x01"), make([]byte, 600)...), "luks are not supported"},
		"qed":  {append([]byte("QED\x00"), make([]byte, 600)...), "qed are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Inspect(bytes.NewReader(c.image))
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Safe(); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: safe says %v, want %q", got.Format, err, c.says)
			}
		})
	}
}

func TestVMDKDescriptor(t *testing.T) {
	good := "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 20480 SPARSE \"a.vmdk\"\n"
	if err := checkVMDK(good); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{
		"RW 1 SPARSE \"b.vmdk\"", "RW 1 FLAT \"/etc/shadow\" 0", "createType=\"streamOptimized\"", "parentFileNameHint=\"x\"", " RDONLY 1 SPARSE \"c\"",
	} {
		if checkVMDK(good+more+"\n") == nil {
			t.Errorf("%q is accepted", more)
		}
	}
	for _, bad := range []string{"", strings.ReplaceAll(good, "a.vmdk", "../a.vmdk"), strings.ReplaceAll(good, "RW 20480", "#")} {
		if checkVMDK(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzInspector checks that nothing an image says makes the inspector fail,
// and that the sizes of the pieces it comes in change nothing.
func FuzzInspector(f *testing.F) {
	for _, format := range []string{"qcow2", "vmdk", "vdi", "vpc"} {
		b := created(f, format)
		f.Add(b[:min(len(b), 4096)], uint16(100))
	}
	f.Add([]byte("# Disk DescriptorFile\n"), uint16(1))
	vhdx := created(f, "vhdx")
	vhdx = vhdx[:min(len(vhdx), 3<<20)]
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		for _, image := range [][]byte{data, spoiled(vhdx, func(b []byte) { copy(b[vhdxRegionTable:], data) })} {
			whole, err := Inspect(bytes.NewReader(image))
			if err != nil {
				t.Fatal(err)
			}
			in := NewInspector()
			for rest := image; len(rest) > 0; {
				n := min(len(rest), int(piece)+1+len(image)/1024)
				in.Write(rest[:n])
				rest = rest[n:]
			}
			got := in.Result()
			if got.Format != whole.Format || got.VirtualSize != whole.VirtualSize || got.Size != whole.Size || (got.Safe() == nil) != (whole.Safe() == nil) {
				t.Errorf("in pieces by %d: %+v, whole: %+v", piece, got, whole)
			}
			if whole.Safe() == nil && whole.VirtualSize < 0 {
				t.Errorf("a negative size is safe: %+v", whole)
			}
		}
	})
}

func BenchmarkInspector(b *testing.B) {
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	in := NewInspector()
	for b.Loop() {
		in.Write(chunk)
	}
}
