package hypervisor

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Spec is one machine as it is launched. File names are relative to the
// machine's directory (Driver.Dir), where the caller puts the files: a machine
// has no other place in the host's file system.
type Spec struct {
	ID          string `json:"id"` // the server's id, a UUID
	Name        string `json:"name"`
	VCPUs       int    `json:"vcpus"`
	MemoryMiB   int    `json:"memory_mib"`
	MachineType string `json:"machine_type"` // q35 (default) or pc
	Firmware    string `json:"firmware"`     // bios (default) or uefi
	Kernel      string `json:"kernel"`       // direct kernel boot; "" boots from the disks
	Initrd      string `json:"initrd"`
	CommandLine string `json:"command_line"`
	Disks       []Disk `json:"disks"` // in boot order
	NICs        []NIC  `json:"nics"`
	GuestAgent  bool   `json:"guest_agent,omitempty"` // the guest may have QEMU's agent: a channel to it

	// Template machines start only to be frozen (Driver.Freeze). Clone machines
	// have gone on from a template since their last start; the driver sets it.
	Template bool `json:"template,omitempty"`
	Clone    bool `json:"clone,omitempty"`

	// Ports is how many hot-plug ports the machine was started with, and
	// SCSIPort the one of its SCSI controller; 0: none. The driver sets both.
	Ports    int `json:"ports"`
	SCSIPort int `json:"scsi_port"`
}

// NIC is one network interface; its tap is handed over at start.
type NIC struct {
	ID    string `json:"id"` // the port's id
	MAC   string `json:"mac"`
	MTU   int    `json:"mtu"`   // 0: not announced
	Model string `json:"model"` // virtio (default), e1000, e1000e, rtl8139
	Port  int    `json:"port"`  // as Disk.Port
}

// nicModels maps a model's name, as images give it, to QEMU's device.
func nicDevice(model string) (string, bool) {
	dev, ok := map[string]string{
		"": "virtio-net-pci", "virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139",
	}[model]
	return dev, ok
}

var (
	idPattern  = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	macPattern = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)
)

// Validate refuses what no machine can be made of, before anything is touched.
func (s *Spec) Validate() error {
	switch {
	case !idPattern.MatchString(s.ID):
		return errs.Invalidf("machine id %q is not a UUID", s.ID)
	case s.VCPUs < 1 || s.VCPUs > 255:
		return errs.Invalidf("a machine has 1 to 255 vCPUs, not %d", s.VCPUs)
	case s.MemoryMiB < 1:
		return errs.Invalidf("a machine needs memory, not %d MiB", s.MemoryMiB)
	case s.MachineType != "" && s.MachineType != "q35" && s.MachineType != "pc":
		return errs.Invalidf("machine type %q is not supported: use q35 or pc", s.MachineType)
	case s.Firmware != "" && s.Firmware != "bios" && s.Firmware != "uefi":
		return errs.Invalidf("firmware %q is not supported: use bios or uefi", s.Firmware)
	case s.Kernel == "" && s.Initrd != "":
		return errs.Invalidf("a ramdisk needs a kernel")
	case strings.ContainsRune(s.CommandLine, 0):
		return errs.Invalidf("the kernel command line has a NUL byte")
	}
	for _, f := range []string{s.Kernel, s.Initrd} {
		if f != "" && !filepath.IsLocal(f) {
			return errs.Invalidf("file %q is not in the machine's directory", f)
		}
	}
	names := map[string]bool{}
	for i := range s.Disks {
		if err := s.Disks[i].validate(); err != nil {
			return err
		}
		if id := s.Disks[i].Name(); names[id] {
			return errs.Invalidf("disk %s is there twice", id)
		}
		names[s.Disks[i].Name()] = true
	}
	for i := range s.NICs {
		if err := s.NICs[i].validate(); err != nil {
			return err
		}
	}
	return nil
}

func (n *NIC) validate() error {
	if _, ok := nicDevice(n.Model); !ok {
		return errs.Invalidf("network card model %q is not supported", n.Model)
	}
	if !macPattern.MatchString(n.MAC) {
		return errs.Invalidf("%q is not a MAC address", n.MAC)
	}
	return nil
}
