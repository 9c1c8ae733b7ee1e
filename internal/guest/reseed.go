package guest

import (
	"bytes"
	"encoding/binary"
)

// reseedProgram is a program for Linux on amd64 that has the kernel's random
// number generator take up at once what was mixed into its pool: it runs
// ioctl(open("/dev/urandom", O_WRONLY), RNDRESEEDCRNG) and exits with 0 when
// that went well. No program of the packages can, the kernel by itself does so
// within a minute, and Debian's cloud kernel has no driver for the generation id
// by which others notice that they are a clone.
func reseedProgram() []byte {
	const (
		base    = 0x400000
		headers = 64 + 56
	)
	code := []byte{
		0x31, 0xd2, // xor edx, edx
		0xbe, 1, 0, 0, 0, // mov esi, O_WRONLY
		0xbf, 0, 0, 0, 0, // mov edi, path
		0xb8, 2, 0, 0, 0, // mov eax, SYS_open
		0x0f, 0x05, // syscall
		0x89, 0xc7, // mov edi, eax
		0xbe, 0x07, 0x52, 0, 0, // mov esi, RNDRESEEDCRNG
		0xb8, 16, 0, 0, 0, // mov eax, SYS_ioctl
		0x0f, 0x05, // syscall
		0x31, 0xff, // xor edi, edi
		0x85, 0xc0, // test eax, eax
		0x40, 0x0f, 0x95, 0xc7, // setne dil
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x0f, 0x05, // syscall
	}
	binary.LittleEndian.PutUint32(code[8:], uint32(base+headers+len(code)))
	code = append(code, "/dev/urandom\x00"...)
	size := uint64(headers + len(code))

	var out bytes.Buffer
	out.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, v := range []any{
		uint16(2), uint16(62), uint32(1), // executable, x86-64
		uint64(base + headers), uint64(64), uint64(0), // entry, program headers, no sections
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000), // one segment, readable and executable
	} {
		binary.Write(&out, binary.LittleEndian, v) // to memory: cannot fail
	}
	out.Write(code)
	return out.Bytes()
}
