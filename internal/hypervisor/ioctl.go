package hypervisor

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctl(fd int, req, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// ioctlBuf is ioctl with a structure laid out in buf.
func ioctlBuf(fd int, req uintptr, buf []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&buf[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// setMemory makes mem the guest's physical memory from address 0.
func setMemory(vm int, mem []byte) error {
	region := make([]byte, 32) // slot, flags, guest address, size, user address
	binary.LittleEndian.PutUint64(region[16:], uint64(len(mem)))
	binary.LittleEndian.PutUint64(region[24:], uint64(uintptr(unsafe.Pointer(&mem[0]))))
	return ioctlBuf(vm, kvmSetMemory, region)
}
