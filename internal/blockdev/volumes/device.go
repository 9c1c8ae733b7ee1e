package volumes

import (
	"io"

	"github.com/strata-cloud/strata/internal/blockdev/nbd"
	"github.com/strata-cloud/strata/internal/errs"
)

// limited shows the first bytes of a device.
type limited struct {
	Device
	size int64
}

// Limit shows the first size bytes of the device.
func Limit(d Device, size int64) Device {
	if d.Size() <= size {
		return d
	}
	return limited{d, size}
}

func (l limited) Size() int64 { return l.size }

func (l limited) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(l.Device, 0, l.size).ReadAt(p, off)
}

func (l limited) Map(off, n int64) ([]nbd.Extent, error) {
	return l.Device.Map(off, min(n, l.size-off))
}

// stream reads a device from its begin to its end.
type stream struct {
	d    Device
	off  int64
	zero int64 // bytes from off on that read as zeroes, as far as is known
	data int64 // and those that must be read
}

// Stream gives the device's content, and closes it with itself. What the device
// says is zero is not read.
func Stream(d Device) io.ReadCloser { return &stream{d: d} }

func (s *stream) Read(p []byte) (int, error) {
	if s.off >= s.d.Size() {
		return 0, io.EOF
	}
	if s.zero == 0 && s.data == 0 {
		extents, err := s.d.Map(s.off, s.d.Size()-s.off)
		if err != nil {
			return 0, err
		}
		if e := extents[0]; e.Zero {
			s.zero = e.Length
		} else {
			s.data = e.Length
		}
	}
	if s.zero > 0 {
		p = p[:min(int64(len(p)), s.zero)]
		clear(p)
		s.zero -= int64(len(p))
		s.off += int64(len(p))
		return len(p), nil
	}
	p = p[:min(int64(len(p)), s.data)]
	n, err := s.d.ReadAt(p, s.off)
	s.data -= int64(n)
	s.off += int64(n)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, err
}

func (s *stream) Close() error { return s.d.Close() }

// ImageFormat gives qemu-img's options for an image that is not raw. Content of
// an encrypted volume is never put into a file in the clear, as making these needs.
func ImageFormat(format string, encrypted bool) ([]string, error) {
	options := map[string][]string{
		"qcow2": {"-O", "qcow2"},
		"vmdk":  {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		"vdi":   {"-O", "vdi"},
		"vhd":   {"-O", "vpc", "-o", "force_size=on"},
	}[format]
	switch {
	case options == nil:
		return nil, errs.Invalidf("a volume cannot be read in the format %q: use raw, qcow2, vmdk, vdi or vhd", format)
	case encrypted:
		return nil, errs.Invalidf("an encrypted volume can be read in the format raw only, not %s", format)
	}
	return options, nil
}
