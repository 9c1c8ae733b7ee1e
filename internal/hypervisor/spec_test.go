package hypervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func goodSpec() Spec {
	return Spec{
		ID: "6f70656e-7374-4163-8b00-0000000000aa", VCPUs: 2, MemoryMiB: 256,
		Disks: []Disk{{File: "root", Format: "qcow2", Bootable: true}},
		NICs:  []NIC{{ID: "p", MAC: "fa:16:3e:00:00:01", MTU: 1450}},
	}
}

func TestSpecRefusesBadInput(t *testing.T) {
	good := goodSpec()
	if err := good.Validate(); err != nil {
		t.Fatalf("a good spec is refused: %v", err)
	}
	for name, spoil := range map[string]func(*Spec){
		"id":            func(s *Spec) { s.ID = "../x" },
		"no cpus":       func(s *Spec) { s.VCPUs = 0 },
		"no memory":     func(s *Spec) { s.MemoryMiB = 0 },
		"machine":       func(s *Spec) { s.MachineType = "q35,accel=xen" },
		"firmware":      func(s *Spec) { s.Firmware = "coreboot" },
		"outside disk":  func(s *Spec) { s.Disks[0].File = "../other/root" },
		"absolute disk": func(s *Spec) { s.Disks[0].File = "/etc/shadow" },
		"format":        func(s *Spec) { s.Disks[0].Format = "vmdk" },
		"bus":           func(s *Spec) { s.Disks[0].Bus = "floppy" },
		"kernel":        func(s *Spec) { s.Kernel = "/boot/vmlinuz" },
		"only ramdisk":  func(s *Spec) { s.Initrd = "initrd" },
		"mac":           func(s *Spec) { s.NICs[0].MAC = "fa:16:3e:00:00:01,fd=9" },
		"nic":           func(s *Spec) { s.NICs[0].Model = "ne2k" },
		"NUL":           func(s *Spec) { s.CommandLine = "a\x00b" },
	} {
		t.Run(name, func(t *testing.T) {
			s := goodSpec()
			spoil(&s)
			if err := s.Validate(); !errs.Is(err, errs.Invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	s := goodSpec()
	s.Disks = append(s.Disks,
		Disk{File: "data", Format: "raw", Bus: "scsi", Serial: "a,b-very-long-serial-number-of-a-volume"},
		Disk{File: "iso", Format: "raw", CDROM: true, ReadOnly: true})
	s.assignPorts()
	args := commandLine(&s, TCG, 3, nil)
	all := strings.Join(args, " ")
	for _, want := range []string{
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "tcg,thread=multi,tb-size=32",
		"product=OpenStack Nova,uuid=" + s.ID, "tap,id=" + s.NICs[0].netdev() + ",fd=3", `"host_mtu":1450`, `"bus":"rp1"`,
		`"drive":"` + s.Disks[0].node() + `","driver":"virtio-blk-pci"`,
		`"bus":"scsi0.0"`, `"serial":"ab-very-long-serial`, `"bus":"ide.0"`, `"driver":"ide-cd"`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing from %s", want, all)
		}
	}
	if !slices.Contains(commandLine(&s, KVM, 3, nil), "host") {
		t.Error("hardware acceleration without the host's processor")
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\nb\n", 5, "a\nb\n"}, {"a\nb\n", 0, "a\nb\n"},
		{"", 3, ""}, {"\n\n\n", 1, "\n"}, {"one", 1, "one"},
	} {
		if got := string(lastLines([]byte(c.in), c.n)); got != c.want {
			t.Errorf("last %d lines of %q are %q, want %q", c.n, c.in, got, c.want)
		}
	}
}

func TestConsoleIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	line := []byte(strings.Repeat("x", 99) + "\n")
	if err := os.WriteFile(path, bytes.Repeat(line, 100_000), 0o600); err != nil { // 10 MB
		t.Fatal(err)
	}
	if err := trimConsole(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.TrimLeft(data, "\x00")
	if len(kept) < consoleKept || len(kept) > consoleLimit || !bytes.HasSuffix(kept, line) {
		t.Errorf("%d bytes are kept", len(kept))
	}
}
