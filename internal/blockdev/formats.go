package blockdev

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

var (
	qcowMagic = []byte("QFI\xfb")
	vmdkMagic = []byte("KDMV")
	vhdxMagic = []byte("vhdxfile")
	vhdMagic  = []byte("conectix")
	vdiMagic  = []byte{0x7f, 0x10, 0xda, 0xbe}
)

const (
	vdiMagicAt = 0x40
	isoMagicAt = 32769
)

// The incompatible features of qcow2 (docs/interop/qcow2.txt in QEMU).
const (
	qcowDirty       = 1 << 0
	qcowCorrupt     = 1 << 1
	qcowDataFile    = 1 << 2
	qcowCompression = 1 << 3
	qcowExtendedL2  = 1 << 4
	qcowHeader      = 104
)

func truncated(f Format) error { return errs.Invalidf("the %s image is cut off", f) }

func (in *Inspector) qcow2() (int64, error) {
	h := in.at(0, 72)
	if h == nil {
		return 0, truncated(QCOW2)
	}
	version := binary.BigEndian.Uint32(h[4:])
	size := int64(binary.BigEndian.Uint64(h[24:]))
	switch {
	case version != 2 && version != 3:
		return 0, errs.Invalidf("qcow2 images of version %d are not supported", version)
	case binary.BigEndian.Uint64(h[8:]) != 0 || binary.BigEndian.Uint32(h[16:]) != 0:
		return size, errs.Invalidf("the qcow2 image has a backing file")
	case binary.BigEndian.Uint32(h[32:]) != 0:
		return size, errs.Invalidf("the qcow2 image is encrypted")
	case version == 2:
		return size, nil
	}
	if h = in.at(0, qcowHeader); h == nil {
		return size, truncated(QCOW2)
	}
	features := binary.BigEndian.Uint64(h[72:])
	switch {
	case features&qcowDataFile != 0:
		return size, errs.Invalidf("the qcow2 image has an external data file")
	case features&qcowCorrupt != 0:
		return size, errs.Invalidf("the qcow2 image is marked as corrupt")
	case features&^(qcowDirty|qcowCompression|qcowExtendedL2) != 0:
		return size, errs.Invalidf("the qcow2 image has unknown features %#x", features)
	}
	return size, nil
}

// vmdkDescriptor is where a sparse VMDK's header says its descriptor is.
func vmdkDescriptor(head []byte) (int64, int) {
	if len(head) < 64 {
		return 0, 0
	}
	at, n := binary.LittleEndian.Uint64(head[28:]), binary.LittleEndian.Uint64(head[36:])
	if at == 0 || n == 0 || n > maxRegion/512 || at > 1<<40 {
		return 0, 0
	}
	return int64(at) * 512, int(n) * 512
}

// vmdkExtent is an extent's line: access, sectors, type and file name.
var vmdkExtent = regexp.MustCompile(`^(RW|RDONLY|NOACCESS)\s+(\d+)\s+(\S+)(?:\s+"([^"]*)")?`)

func (in *Inspector) vmdk() (int64, error) {
	h := in.at(0, 64)
	if h == nil || !bytes.HasPrefix(h, vmdkMagic) {
		return 0, errs.Invalidf("the vmdk image is only a descriptor, or of an old kind: its data is elsewhere")
	}
	size := int64(binary.LittleEndian.Uint64(h[12:])) * 512
	if version := binary.LittleEndian.Uint32(h[4:]); version < 1 || version > 3 {
		return 0, errs.Invalidf("vmdk images of version %d are not supported", version)
	}
	if capacity := binary.LittleEndian.Uint64(h[12:]); capacity > 1<<53 {
		return 0, errs.Invalidf("the vmdk image says it has %d sectors", capacity)
	}
	at, n := vmdkDescriptor(h)
	desc := in.at(at, n)
	if n == 0 || desc == nil {
		return size, errs.Invalidf("the vmdk image has no descriptor where its header says")
	}
	text, _, _ := strings.Cut(string(desc), "\x00")
	return size, checkVMDK(text)
}

// checkVMDK reads the descriptor: only kinds whose data is all in this file are
// taken, with one sparse extent and no parent.
func checkVMDK(text string) error {
	kind, extents := "", 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if m := vmdkExtent.FindStringSubmatch(line); m != nil {
			extents++
			if m[1] != "RW" || m[3] != "SPARSE" {
				return errs.Invalidf("the vmdk image has an extent of type %s %s", m[1], m[3])
			}
			if strings.ContainsAny(m[4], `/\`) {
				return errs.Invalidf("the vmdk image has an extent in another place")
			}
			continue
		}
		key, val, ok := strings.Cut(line, "=")
		val = strings.Trim(strings.TrimSpace(val), `"`)
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case !ok:
		case key == "createtype" && kind != "":
			return errs.Invalidf("the vmdk image has two types")
		case key == "createtype":
			kind = val
		case key == "parentcid" && !strings.EqualFold(val, "ffffffff"), key == "parentfilenamehint":
			return errs.Invalidf("the vmdk image has a parent")
		}
	}
	if kind != "monolithicSparse" && kind != "streamOptimized" {
		return errs.Invalidf("vmdk images of type %q are not supported", kind)
	}
	if extents != 1 {
		return errs.Invalidf("the vmdk image has %d extents, not one", extents)
	}
	return nil
}

func (in *Inspector) vdi() (int64, error) {
	h := in.at(0, 0x178)
	if h == nil {
		return 0, truncated(VDI)
	}
	size := int64(binary.LittleEndian.Uint64(h[0x170:]))
	if kind := binary.LittleEndian.Uint32(h[0x4c:]); kind != 1 && kind != 2 {
		return size, errs.Invalidf("the vdi image is of type %d: only dynamic and fixed ones stand alone", kind)
	}
	return size, nil
}

func (in *Inspector) vhd() (int64, error) {
	h := in.at(0, footerSize)
	if !bytes.HasPrefix(h, vhdMagic) {
		h = in.tail
	}
	if len(h) < footerSize {
		return 0, truncated(VHD)
	}
	size := int64(binary.BigEndian.Uint64(h[48:]))
	if kind := binary.BigEndian.Uint32(h[60:]); kind != 2 && kind != 3 {
		return size, errs.Invalidf("the vhd image is of type %d: only dynamic and fixed ones stand alone", kind)
	}
	return size, nil
}

// VHDX's structures (MS-VHDX) are found by GUID, in their order of bytes on disk.
const (
	vhdxRegionTable  = 192 << 10
	vhdxMetadataGUID = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
	vhdxSizeGUID     = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
	vhdxParamsGUID   = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
	vhdxEntrySize    = 32
	vhdxMaxEntries   = 2047
)

// vhdxEntry finds an entry by GUID in a table of count entries.
func vhdxEntry(table []byte, count int, guid string) []byte {
	for i := range min(count, vhdxMaxEntries) {
		if (i+1)*vhdxEntrySize > len(table) {
			break
		}
		if e := table[i*vhdxEntrySize:]; string(e[:16]) == guid {
			return e[:vhdxEntrySize]
		}
	}
	return nil
}

// vhdxMetadata is where the region table says the metadata is.
func vhdxMetadata(head []byte) (int64, int) {
	if len(head) < vhdxRegionTable+64<<10 {
		return 0, 0
	}
	table := head[vhdxRegionTable : vhdxRegionTable+64<<10]
	if !bytes.HasPrefix(table, []byte("regi")) {
		return 0, 0
	}
	e := vhdxEntry(table[16:], int(binary.LittleEndian.Uint32(table[8:])), vhdxMetadataGUID)
	if e == nil {
		return 0, 0
	}
	at, n := binary.LittleEndian.Uint64(e[16:]), binary.LittleEndian.Uint32(e[24:])
	if at > 1<<50 {
		return 0, 0
	}
	return int64(at), int(min(n, maxRegion))
}

func (in *Inspector) vhdx() (int64, error) {
	at, n := vhdxMetadata(in.head)
	meta := in.at(at, n)
	if n < 64<<10 || meta == nil || !bytes.HasPrefix(meta, []byte("metadata")) {
		return 0, errs.Invalidf("the vhdx image has no metadata where its header says")
	}
	count := int(binary.LittleEndian.Uint16(meta[10:]))
	item := func(guid string, size int) []byte {
		e := vhdxEntry(meta[32:], count, guid)
		if e == nil {
			return nil
		}
		at := int(binary.LittleEndian.Uint32(e[16:]))
		if at+size > len(meta) {
			return nil
		}
		return meta[at : at+size]
	}
	size, params := item(vhdxSizeGUID, 8), item(vhdxParamsGUID, 8)
	if size == nil || params == nil {
		return 0, errs.Invalidf("the vhdx image does not say its size")
	}
	virtual := int64(binary.LittleEndian.Uint64(size))
	if binary.LittleEndian.Uint32(params[4:])&2 != 0 {
		return virtual, errs.Invalidf("the vhdx image has a parent")
	}
	return virtual, nil
}
