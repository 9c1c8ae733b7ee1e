package system

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// qemuImage is what qemu-img makes; FILE stands for the image and DIR for its directory.
func qemuImage(t *testing.T, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for i := range args {
		args[i] = strings.NewReplacer("FILE", filepath.Join(dir, "image"), "DIR", dir).Replace(args[i])
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
	return must[[]byte](t)(os.ReadFile(filepath.Join(dir, "image")))
}

// sized is a qcow2 image whose header claims so many bytes.
func sized(image []byte, bytes uint64) []byte {
	image = append([]byte(nil), image...)
	binary.BigEndian.PutUint64(image[24:], bytes)
	return image
}

// TestHostileImages uploads what would make a host open files of the owner's
// choice, and what is broken. None is stored, and the image can be tried again.
func TestHostileImages(t *testing.T) {
	w := newWorld(t)
	plain := qemuImage(t, "create", "-q", "-f", "qcow2", "FILE", "10M")
	w.ids["I"] = w.emptyImage(t, "qcow2")
	w.ids["V"] = w.emptyImage(t, "vmdk")
	w.ids["R"] = w.emptyImage(t, "raw")
	w.unchanged(t, func() {
		for _, x := range []struct {
			name, into string
			content    []byte
			want       string
		}{
			{"backing file", "I", qemuImage(t, "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", "FILE", "10M"), "backing file"},
			{"backing file in an image declared raw", "R", qemuImage(t, "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", "FILE", "10M"), "backing file"},
			{"data file", "I", qemuImage(t, "create", "-q", "-f", "qcow2", "-o", "data_file=DIR/data,data_file_raw=on", "FILE", "10M"), "data file"},
			{"VMDK of several files", "V", qemuImage(t, "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "FILE", "10M"), "only a descriptor"},
			{"VMDK of a device", "V", []byte("# Disk DescriptorFile\nversion=1\ncreateType=\"fullDevice\"\nRW 20480 FLAT \"/dev/vda\" 0\n"), "only a descriptor"},
			{"cut off", "I", plain[:50], "cut off"},
			{"raw declared as qcow2", "I", bytes.Repeat([]byte("raw"), 5000), "does not match"},
			{"8 EiB", "I", sized(plain, 1<<63), "negative size"},
		} {
			t.Run(x.name, func(t *testing.T) {
				a := w.upload(t, w.ids[x.into], x.content)
				if said := a.said(t, "image"); a.status != 415 || !strings.Contains(said, x.want) {
					t.Errorf("%d %s, want 415 with %q", a.status, said, x.want)
				}
				if a := ask(t, w.user.image, "GET", "images/"+w.ids[x.into], ""); !bytes.Contains(a.body, []byte(`"status":"queued"`)) {
					t.Errorf("afterwards the image is %s", a.body)
				}
			})
		}
	})
	if a := w.upload(t, w.ids["I"], plain); a.status != 204 {
		t.Errorf("a good image after all: %d %s", a.status, a.body)
	}
}

func (w *world) upload(t *testing.T, id string, content []byte) answer {
	t.Helper()
	sc := *w.user.image
	sc.MoreHeaders = map[string]string{"Content-Type": "application/octet-stream"}
	return ask(t, &sc, "PUT", "images/"+id+"/file", string(content))
}
