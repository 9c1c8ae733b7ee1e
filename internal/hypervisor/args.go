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
	vncSocket     = "vnc.sock"
	agentSocket   = "agent.sock"
	consoleFile   = "console.log"
	qemuLogFile   = "qemu.log"
	memoryFile    = "memory.img"
	stateFile     = "state.json"
	varsFile      = "uefi-vars.fd"
)

// spareSlots is how many devices can be plugged into a running machine beyond
// those it started with. Each costs the guest some boot time.
const spareSlots = 12

// tcgCacheMiB is QEMU's translation cache under emulation. An eighth of the memory is its own
// default, of which a small guest needs no more than the least: but what runs in a large one
// (a kubelet beside containerd) would be translated again and again in as little.
func tcgCacheMiB(s *Spec) int { return min(max(s.MemoryMiB/8, 32), 512) }

// videoMiB is enough for 1920 by 1080 pixels.
const videoMiB = 8

// defaultCommandLine is used with a kernel that comes without one; as upstream's
// libvirt driver has it.
const defaultCommandLine = "root=/dev/vda console=tty0 console=ttyS0"

// argBuilder collects QEMU's command line.
type argBuilder struct {
	args []string
	q35  bool
	boot int
	sata int
}

func (b *argBuilder) add(args ...string) { b.args = append(b.args, args...) }

// addJSON adds an option whose value is an object, which any text may be in.
func (b *argBuilder) addJSON(option string, value map[string]any) {
	text, _ := json.Marshal(value) // strings, numbers and booleans: cannot fail
	b.add(option, string(text))
}

// assignPorts gives each device that can be unplugged a port of its own, unless
// it has one since an earlier start. NICs come first, so that a disk more or
// less does not rename them; disks behind a pluggable one follow it, so that
// the guest finds all disks in order.
func (s *Spec) assignPorts() {
	if s.Ports > 0 {
		return
	}
	next := 0
	take := func() int { next++; return next }
	for i := range s.NICs {
		s.NICs[i].Port = 0
		if s.onPort(s.NICs[i].Model) {
			s.NICs[i].Port = take()
		}
	}
	s.SCSIPort = 0
	pluggable := false
	for i := range s.Disks {
		d := &s.Disks[i]
		pluggable = pluggable || d.Pluggable
		switch d.Port = 0; {
		case d.Bus == "scsi" && s.SCSIPort == 0:
			s.SCSIPort = take()
		case d.onVirtio() && pluggable:
			d.Port = take()
		}
	}
	s.Ports = next + spareSlots
	if !s.q35() {
		s.Ports = max(next, min(s.Ports, 0x20-firstPortSlot))
	}
}

// onPort tells whether a NIC of the model can be plugged into a running machine.
// On q35 conventional PCI devices cannot.
func (s *Spec) onPort(model string) bool {
	dev, _ := nicDevice(model)
	return !s.q35() || strings.HasPrefix(dev, "virtio") || dev == "e1000e"
}

func (s *Spec) q35() bool { return s.MachineType != "pc" }

// freePort finds a port that nothing is on; 0: none is left.
func (s *Spec) freePort() int {
	used := map[int]bool{s.SCSIPort: true}
	for _, d := range s.Disks {
		used[d.Port] = true
	}
	for _, n := range s.NICs {
		used[n.Port] = true
	}
	for p := 1; p <= s.Ports; p++ {
		if !used[p] {
			return p
		}
	}
	return 0
}

// firstPortSlot is the first slot of the root bus that ports are in: devices
// that QEMU places itself come before.
const firstPortSlot = 0x10

// port is the bus of a port: a PCIe root port on q35, a slot of pc's only bus,
// which hot-plugs by ACPI.
func (s *Spec) port(n int) map[string]any {
	switch {
	case n == 0:
		return nil
	case s.q35():
		return map[string]any{"bus": "rp" + strconv.Itoa(n)}
	}
	return map[string]any{"bus": "pci.0", "addr": fmt.Sprintf("0x%x", firstPortSlot-1+n)}
}

// ports makes q35's root ports, eight in a slot.
func (b *argBuilder) ports(s *Spec) {
	if !b.q35 {
		return
	}
	for i := range s.Ports {
		b.add("-device", fmt.Sprintf("pcie-root-port,id=rp%d,chassis=%d,bus=pcie.0,multifunction=on,addr=0x%x.%d",
			i+1, i+1, firstPortSlot+i/8, i%8))
	}
}

// memoryKiB is the size of the guest's memory. An emulated guest has 8 KiB more than
// whole MiB: QEMU before 8.2.2 forgets which pages such a guest has written to while
// it is moved, but only in blocks of whole 256 KiB, for which it takes a short cut
// ("physmem: Fix migration dirty bitmap coherency with TCG memory access" mended it).
func memoryKiB(s *Spec, accel Accel) int {
	if accel == KVM {
		return s.MemoryMiB << 10
	}
	return s.MemoryMiB<<10 + 8
}

// commandLine is QEMU's command line for the machine; the NICs' taps are
// descriptors from firstFD on, in order.
func commandLine(s *Spec, accel Accel, firstFD int, uefi *uefiFiles) []string {
	b := &argBuilder{q35: s.q35()}
	machine := "q35"
	if !b.q35 {
		machine = "pc"
	}
	b.add("-name", "guest=strata-"+s.ID+",debug-threads=on", "-nodefaults", "-no-user-config", "-display", "vnc=unix:"+vncSocket, "-vga", "none",
		"-machine", machine+",usb=off,hpet=off")
	sku := ""
	if s.Template {
		sku = ",sku=" + TemplateSKU
		b.memoryFrom(memoryKiB(s, accel), FrozenMemory, true)
	}
	if accel == KVM {
		b.add("-accel", "kvm", "-cpu", "host")
	} else {
		b.add("-accel", "tcg,thread=multi,tb-size="+strconv.Itoa(tcgCacheMiB(s)), "-cpu", "max")
	}
	b.add("-m", fmt.Sprintf("size=%dK", memoryKiB(s, accel)), "-smp", strconv.Itoa(s.VCPUs), "-uuid", s.ID,
		"-smbios", "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid="+s.ID+",serial="+s.ID+",family=Virtual Machine"+sku,
		"-rtc", "base=utc,driftfix=slew", "-boot", "strict=on",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "socket,id=monitor,path="+monitorSocket+",server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=serial0,path="+serialSocket+",server=on,wait=off,logfile="+consoleFile+",logappend=on",
		"-device", "isa-serial,chardev=serial0", "-device", "virtio-rng-pci", "-device", "VGA,vgamem_mb="+strconv.Itoa(videoMiB))
	if uefi != nil {
		b.add("-drive", "if=pflash,format=raw,readonly=on,file="+uefi.code, "-drive", "if=pflash,format=raw,file="+varsFile)
	}
	if s.Kernel != "" {
		b.kernel(s)
	}
	b.agent(s)
	if s.Template || s.Clone {
		b.add("-device", "vmgenid,guid=auto") // tells the guest's random numbers to begin anew
	}
	b.ports(s)
	if s.SCSIPort > 0 {
		b.addJSON("-device", s.scsiController())
	}
	for i := range s.Disks {
		b.disk(s, &s.Disks[i])
	}
	for i := range s.NICs {
		b.nic(s, &s.NICs[i], firstFD+i)
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

// scsiBus is the only SCSI bus of a machine.
const scsiBus = "scsi0"

func (s *Spec) scsiController() map[string]any {
	p := map[string]any{"driver": "virtio-scsi-pci", "id": scsiBus}
	for k, v := range s.port(s.SCSIPort) {
		p[k] = v
	}
	return p
}

func (b *argBuilder) disk(s *Spec, d *Disk) {
	for _, o := range d.objects() {
		b.addJSON("-object", o.byFile())
	}
	for _, n := range d.nodes() {
		b.addJSON("-blockdev", n)
	}
	bus := s.port(d.Port)
	switch {
	case d.Bus == "scsi":
		bus = map[string]any{"bus": scsiBus + ".0"}
	case !d.onVirtio():
		bus = b.ideBus()
	}
	props := d.deviceProps(bus)
	if d.Bootable {
		b.boot++
		props["bootindex"] = b.boot
	}
	b.addJSON("-device", props)
}

// ideBus takes the next port: of q35's own SATA controller, or of pc's own two IDE channels.
func (b *argBuilder) ideBus() map[string]any {
	n := b.sata
	b.sata++
	if b.q35 {
		return map[string]any{"bus": "ide." + strconv.Itoa(n)}
	}
	return map[string]any{"bus": "ide." + strconv.Itoa(n/2), "unit": n % 2}
}

func (n *NIC) netdev() string { return qemuID("nic", n.ID) }
func (n *NIC) device() string { return n.netdev() + "-dev" }

// deviceProps describes the guest's network card.
func (n *NIC) deviceProps(bus map[string]any) map[string]any {
	dev, _ := nicDevice(n.Model)
	p := map[string]any{"driver": dev, "id": n.device(), "netdev": n.netdev(), "mac": n.MAC, "romfile": ""}
	if dev == "virtio-net-pci" && n.MTU > 0 {
		p["host_mtu"] = n.MTU
	}
	for k, v := range bus {
		p[k] = v
	}
	return p
}

func (b *argBuilder) nic(s *Spec, n *NIC, fd int) {
	b.add("-netdev", fmt.Sprintf("tap,id=%s,fd=%d", n.netdev(), fd))
	b.addJSON("-device", n.deviceProps(s.port(n.Port)))
}
