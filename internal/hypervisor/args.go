package hypervisor

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Names of files in a machine's directory that are ours.
const (
	monitorSocket = "qmp.sock"
	serialSocket  = "serial.sock"
	consoleFile   = "console.log"
	qemuLogFile   = "qemu.log"
	memoryFile    = "memory.img"
	stateFile     = "state.json"
	varsFile      = "uefi-vars.fd"
)

// spareSlots is how many devices can be plugged into a running machine beyond
// those it started with. Each costs the guest some boot time.
const spareSlots = 4

// tcgCacheMiB is QEMU's translation cache under emulation: beyond it a small
// guest gains nothing, QEMU's own default is hundreds of MiB.
const tcgCacheMiB = 32

// defaultCommandLine is used with a kernel that comes without one; as upstream's
// libvirt driver has it.
const defaultCommandLine = "root=/dev/vda console=tty0 console=ttyS0"

// argBuilder collects QEMU's command line.
type argBuilder struct {
	args  []string
	ports int // PCIe root ports so far
	q35   bool
	boot  int
	sata  int
	scsi  bool
}

func (b *argBuilder) add(args ...string) { b.args = append(b.args, args...) }

// slot makes a root port, so that its device can be unplugged, and returns
// the bus property for it.
func (b *argBuilder) slot() string {
	if !b.q35 {
		return ""
	}
	b.ports++
	id := "rp" + strconv.Itoa(b.ports)
	b.add("-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,slot=%d,bus=pcie.0", id, b.ports, b.ports))
	return ",bus=" + id
}

// commandLine is QEMU's command line for the machine; the NICs' taps are
// descriptors from firstFD on, in order.
func commandLine(s *Spec, accel Accel, firstFD int, uefi *uefiFiles) []string {
	b := &argBuilder{q35: s.MachineType != "pc"}
	machine := "q35"
	if !b.q35 {
		machine = "pc"
	}
	b.add("-name", "guest=strata-"+s.ID+",debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-machine", machine+",usb=off,hpet=off")
	if accel == KVM {
		b.add("-accel", "kvm", "-cpu", "host")
	} else {
		b.add("-accel", "tcg,thread=multi,tb-size="+strconv.Itoa(tcgCacheMiB), "-cpu", "max")
	}
	b.add("-m", fmt.Sprintf("size=%dM", s.MemoryMiB), "-smp", strconv.Itoa(s.VCPUs), "-uuid", s.ID,
		"-smbios", "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid="+s.ID+",serial="+s.ID+",family=Virtual Machine",
		"-rtc", "base=utc,driftfix=slew", "-boot", "strict=on",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "socket,id=monitor,path="+monitorSocket+",server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=serial0,path="+serialSocket+",server=on,wait=off,logfile="+consoleFile+",logappend=on",
		"-device", "isa-serial,chardev=serial0", "-device", "virtio-rng-pci")
	if uefi != nil {
		b.add("-drive", "if=pflash,format=raw,readonly=on,file="+uefi.code, "-drive", "if=pflash,format=raw,file="+varsFile)
	}
	if s.Kernel != "" {
		b.kernel(s)
	}
	for i := range s.Disks {
		b.disk(i, &s.Disks[i])
	}
	for i := range s.NICs {
		b.nic(i, &s.NICs[i], firstFD+i)
	}
	for range spareSlots {
		b.slot()
	}
	return b.args
}

func (b *argBuilder) kernel(s *Spec) {
	cmdline := s.CommandLine
	if cmdline == "" {
		cmdline = defaultCommandLine
	}
	b.add("-kernel", s.Kernel, "-append", cmdline)
	if s.Initrd != "" {
		b.add("-initrd", s.Initrd)
	}
}

// blockNode describes a disk's two block nodes: the file and its format.
func blockNode(name string, d *Disk) []string {
	file := map[string]any{
		"driver": "file", "node-name": name + "-file", "filename": d.File, "read-only": d.ReadOnly,
		"discard": "unmap", "auto-read-only": false,
	}
	format := map[string]any{
		"driver": d.Format, "node-name": name, "file": name + "-file", "read-only": d.ReadOnly, "discard": "unmap",
	}
	f, _ := json.Marshal(file)   // plain strings and booleans: cannot fail
	g, _ := json.Marshal(format) // the same
	return []string{"-blockdev", string(f), "-blockdev", string(g)}
}

func (b *argBuilder) disk(i int, d *Disk) {
	name := "disk" + strconv.Itoa(i)
	b.add(blockNode(name, d)...)
	opts := ",drive=" + name + ",id=" + name + "-dev"
	if d.Serial != "" {
		opts += ",serial=" + strings.ReplaceAll(d.Serial[:min(20, len(d.Serial))], ",", "")
	}
	if d.Bootable {
		b.boot++
		opts += ",bootindex=" + strconv.Itoa(b.boot)
	}
	media := "hd"
	if d.CDROM {
		media = "cd"
	}
	switch d.Bus {
	case "scsi":
		if !b.scsi {
			b.scsi = true
			b.add("-device", "virtio-scsi-pci,id=scsi0")
		}
		b.add("-device", "scsi-"+media+",bus=scsi0.0"+opts)
	case "sata", "ide":
		b.add("-device", "ide-"+media+",bus="+b.ideBus()+opts)
	default:
		if d.CDROM { // a drive that ejects needs a bus that knows of drives
			b.add("-device", "ide-cd,bus="+b.ideBus()+opts)
			return
		}
		b.add("-device", "virtio-blk-pci"+opts)
	}
}

// ideBus takes the next port: of q35's own SATA controller, or of pc's own two IDE channels.
func (b *argBuilder) ideBus() string {
	n := b.sata
	b.sata++
	if b.q35 {
		return "ide." + strconv.Itoa(n)
	}
	return fmt.Sprintf("ide.%d,unit=%d", n/2, n%2)
}

func (b *argBuilder) nic(i int, n *NIC, fd int) {
	name := "nic" + strconv.Itoa(i)
	dev, _ := nicDevice(n.Model)
	opts := fmt.Sprintf("%s,netdev=%s,id=%s-dev,mac=%s,romfile=", dev, name, name, n.MAC)
	if dev == "virtio-net-pci" && n.MTU > 0 {
		opts += ",host_mtu=" + strconv.Itoa(n.MTU)
	}
	b.add("-netdev", fmt.Sprintf("tap,id=%s,fd=%d", name, fd))
	if strings.HasPrefix(dev, "virtio") || dev == "e1000e" {
		opts += b.slot()
	}
	b.add("-device", opts)
}
