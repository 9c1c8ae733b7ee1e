package hypervisor

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Numbers of linux/kvm.h for x86-64.
const (
	kvmCreateVM        = 0xAE01
	kvmGetVCPUMmapSize = 0xAE04
	kvmCreateVCPU      = 0xAE41
	kvmSetMemory       = 0x4020AE46
	kvmRun             = 0xAE80
	kvmSetRegs         = 0x4090AE82
	kvmGetSregs        = 0x8138AE83
	kvmSetSregs        = 0x4138AE84
	kvmExitIO          = 2
	sregsSize          = 312
	regsSize           = 144
	segmentSize        = 24
)

// probeCode loops 65,535 times in long mode and leaves by port I/O.
var probeCode = [...]byte{
	0xb9, 0xff, 0xff, 0x00, 0x00, // mov ecx, 65535
	0xff, 0xc9, // dec ecx
	0x75, 0xfc, // jnz -4
	0xe6, 0x10, // out 0x10, al
	0xf4, // hlt
}

const (
	probeMemory = 2 << 20
	probeCodeAt = 0x1000
	probePML4   = 0x2000
	probePDPT   = 0x3000
	probePD     = 0x4000
)

// runProbeGuest runs the code in a guest of its own and tells how long it took.
func runProbeGuest() (time.Duration, error) {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer dev.Close()
	vm, err := ioctl(int(dev.Fd()), kvmCreateVM, 0)
	if err != nil {
		return 0, fmt.Errorf("making a guest: %w", err)
	}
	defer unix.Close(vm)
	mem, err := unix.Mmap(-1, 0, probeMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	fillProbeMemory(mem)
	if err := setMemory(vm, mem); err != nil {
		return 0, fmt.Errorf("giving the guest memory: %w", err)
	}
	cpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return 0, fmt.Errorf("making a processor: %w", err)
	}
	defer unix.Close(cpu)
	size, err := ioctl(int(dev.Fd()), kvmGetVCPUMmapSize, 0)
	if err != nil {
		return 0, err
	}
	shared, err := unix.Mmap(cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(shared)
	if err := setProbeRegisters(cpu); err != nil {
		return 0, fmt.Errorf("setting registers: %w", err)
	}
	start := time.Now()
	for {
		_, err := ioctl(cpu, kvmRun, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("running the guest: %w", err)
		}
		break
	}
	took := time.Since(start)
	if reason := binary.LittleEndian.Uint32(shared[8:]); reason != kvmExitIO {
		return 0, fmt.Errorf("%w: %d", errProbeExit, reason)
	}
	return took, nil
}

// fillProbeMemory writes the code and page tables that map the memory onto itself.
func fillProbeMemory(mem []byte) {
	copy(mem[probeCodeAt:], probeCode[:])
	const present, write, large = 1, 2, 0x80
	binary.LittleEndian.PutUint64(mem[probePML4:], probePDPT|present|write)
	binary.LittleEndian.PutUint64(mem[probePDPT:], probePD|present|write)
	binary.LittleEndian.PutUint64(mem[probePD:], present|write|large)
}

// setProbeRegisters puts the processor into 64-bit mode at the code.
func setProbeRegisters(cpu int) error {
	sregs := make([]byte, sregsSize)
	if err := ioctlBuf(cpu, kvmGetSregs, sregs); err != nil {
		return err
	}
	for i := range 6 { // cs, ds, es, fs, gs, ss
		code, kind := byte(0), byte(3)
		if i == 0 {
			code, kind = 1, 11
		}
		seg := sregs[i*segmentSize:]
		binary.LittleEndian.PutUint64(seg, 0)
		binary.LittleEndian.PutUint32(seg[8:], 0xffffffff)
		binary.LittleEndian.PutUint16(seg[12:], uint16(8*(2-int(code))))
		// type, present, dpl, db, s, l, g, avl
		copy(seg[14:22], []byte{kind, 1, 0, 1 - code, 1, code, 1, 0})
	}
	const crs = 8*segmentSize + 32
	binary.LittleEndian.PutUint64(sregs[crs:], 0x80000033) // CR0: PG NE ET MP PE
	binary.LittleEndian.PutUint64(sregs[crs+16:], probePML4)
	binary.LittleEndian.PutUint64(sregs[crs+24:], 0x20)  // CR4: PAE
	binary.LittleEndian.PutUint64(sregs[crs+40:], 0x500) // EFER: LME LMA
	if err := ioctlBuf(cpu, kvmSetSregs, sregs); err != nil {
		return err
	}
	regs := make([]byte, regsSize)
	binary.LittleEndian.PutUint64(regs[16*8:], probeCodeAt) // rip
	binary.LittleEndian.PutUint64(regs[17*8:], 2)           // rflags: always one
	return ioctlBuf(cpu, kvmSetRegs, regs)
}
