package blockdev

import (
	"bytes"
	"io"

	"github.com/strata-cloud/strata/internal/errs"
)

// Format is the format of a disk image, by the name that the image API uses.
type Format string

// The formats that are recognised. Luks, QED and QCOW can be told apart from
// raw data, so that they are not taken for it.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VDI   Format = "vdi"
	VHD   Format = "vhd"
	VHDX  Format = "vhdx"
	ISO   Format = "iso"
	LUKS  Format = "luks"
	QED   Format = "qed"
	QCOW  Format = "qcow"
)

// Image is what an inspection found.
type Image struct {
	Format      Format
	VirtualSize int64 // bytes that a guest sees
	Size        int64 // bytes of the image itself
	unsafe      error
}

// Safe is an errs.Invalid error when the image must not be used: it is broken,
// or it would make the host open files that its owner names.
func (i Image) Safe() error { return i.unsafe }

const (
	headSize   = 512 << 10 // has every fixed header, and VHDX's region tables
	footerSize = 512       // VHD's
	maxRegion  = 1 << 20   // of the parts that headers point to
)

// Inspector looks at an image while it streams past. It is an io.Writer that
// never fails, and keeps at most 1.5 MiB.
type Inspector struct {
	size   int64
	head   []byte
	region []byte // what the headers pointed to
	from   int64  // where region starts; 0 when there is none
	want   int
	tail   []byte
}

// NewInspector starts an inspection.
func NewInspector() *Inspector { return &Inspector{} }

// Inspect looks at a whole image.
func Inspect(r io.Reader) (Image, error) {
	in := NewInspector()
	if _, err := io.Copy(in, r); err != nil {
		return Image{}, err
	}
	return in.Result(), nil
}

// Write takes the image's next bytes.
func (in *Inspector) Write(p []byte) (int, error) {
	n := len(p)
	in.keepTail(p)
	if room := headSize - len(in.head); room > 0 {
		k := min(room, len(p))
		in.head = append(in.head, p[:k]...)
		in.size += int64(k)
		p = p[k:]
		if len(in.head) == headSize {
			in.from, in.want = pointsTo(in.head)
		}
	}
	if len(p) > 0 && in.want > len(in.region) && in.from >= headSize {
		at := in.from + int64(len(in.region)) // the next byte that is wanted
		if skip := at - in.size; skip < int64(len(p)) {
			q := p[skip:]
			in.region = append(in.region, q[:min(len(q), in.want-len(in.region))]...)
		}
	}
	in.size += int64(len(p))
	return n, nil
}

func (in *Inspector) keepTail(p []byte) {
	if len(p) >= footerSize {
		in.tail = append(in.tail[:0], p[len(p)-footerSize:]...)
		return
	}
	in.tail = append(in.tail, p...)
	if extra := len(in.tail) - footerSize; extra > 0 {
		in.tail = append(in.tail[:0], in.tail[extra:]...)
	}
}

// at returns n bytes of the image from offset, or nil when they were not kept.
func (in *Inspector) at(offset int64, n int) []byte {
	if n < 0 || n > maxRegion || offset < 0 {
		return nil
	}
	for _, part := range []struct {
		from int64
		data []byte
	}{{0, in.head}, {in.from, in.region}} {
		if rel := offset - part.from; rel >= 0 && rel+int64(n) <= int64(len(part.data)) {
			return part.data[rel : rel+int64(n)]
		}
	}
	return nil
}

// pointsTo tells which further part of the image has to be kept.
func pointsTo(head []byte) (from int64, n int) {
	switch {
	case bytes.HasPrefix(head, vmdkMagic):
		return vmdkDescriptor(head)
	case bytes.HasPrefix(head, vhdxMagic):
		return vhdxMetadata(head)
	}
	return 0, 0
}

// Result tells what has been written so far.
func (in *Inspector) Result() Image {
	img := Image{Format: in.detect(), Size: in.size}
	img.VirtualSize, img.unsafe = in.examine(img.Format)
	if img.unsafe == nil && img.VirtualSize < 0 {
		img.unsafe = errs.Invalidf("the %s image says it has a negative size", img.Format)
	}
	if img.unsafe != nil {
		img.VirtualSize = max(0, img.VirtualSize)
	}
	return img
}

func (in *Inspector) detect() Format {
	h := in.head
	switch {
	case bytes.HasPrefix(h, qcowMagic):
		if len(h) >= 8 && h[4]|h[5]|h[6] == 0 && h[7] == 1 {
			return QCOW
		}
		return QCOW2
	case bytes.HasPrefix(h, vmdkMagic), bytes.HasPrefix(h, []byte("COWD")), bytes.HasPrefix(h, []byte("# Disk DescriptorFile")):
		return VMDK
	case bytes.HasPrefix(h, vhdxMagic):
		return VHDX
	case bytes.HasPrefix(h, vhdMagic), bytes.HasPrefix(in.tail, vhdMagic) && in.size >= 2*footerSize:
		return VHD
	case bytes.HasPrefix(h, []byte("LUKS\xba\xbe")):
		return LUKS
	case bytes.HasPrefix(h, []byte("QED\x00")):
		return QED
	case bytes.Equal(in.at(vdiMagicAt, 4), vdiMagic):
		return VDI
	case bytes.Equal(in.at(isoMagicAt, 5), []byte("CD001")):
		return ISO
	}
	return Raw
}

func (in *Inspector) examine(f Format) (int64, error) {
	switch f {
	case QCOW2:
		return in.qcow2()
	case VMDK:
		return in.vmdk()
	case VDI:
		return in.vdi()
	case VHD:
		return in.vhd()
	case VHDX:
		return in.vhdx()
	case ISO:
		return in.size, nil
	case LUKS, QED, QCOW:
		return 0, errs.Invalidf("images of format %s are not supported", f)
	}
	return in.size, nil
}
