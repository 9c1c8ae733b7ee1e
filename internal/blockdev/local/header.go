package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/strata-cloud/strata/internal/errs"
)

// header is what we need of a qcow2 file, read without QEMU: that takes no key and
// works while a machine has the file open (docs/interop/qcow2.txt in QEMU).
type header struct {
	size      int64
	crypt     uint32
	snapshots []snapshot
}

// snapshot is an entry of the file's snapshot table.
type snapshot struct {
	name string
	size int64
}

const (
	maxSnapshots    = 65536
	maxTable        = 16 << 20
	snapshotEntry   = 40
	cryptLUKS       = 2
	extraHasSize    = 16
	snapshotSizeEnd = 8 // of the extra data's first field, the size of a saved memory
)

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	h, err := parseHeader(f)
	if err != nil {
		return h, fmt.Errorf("reading a volume's header: %w", err)
	}
	return h, nil
}

func parseHeader(f io.ReaderAt) (header, error) {
	var h header
	b := make([]byte, 72)
	if _, err := f.ReadAt(b, 0); err != nil {
		return h, err
	}
	if string(b[:4]) != "QFI\xfb" || binary.BigEndian.Uint32(b[4:]) < 3 {
		return h, errors.New("this is no qcow2 file of version 3")
	}
	h.size, h.crypt = int64(binary.BigEndian.Uint64(b[24:])), binary.BigEndian.Uint32(b[32:])
	n := binary.BigEndian.Uint32(b[60:])
	if n > maxSnapshots {
		return h, fmt.Errorf("%d snapshots are too many", n)
	}
	// The table's length is not written anywhere: read on as entries need it.
	r := io.NewSectionReader(f, int64(binary.BigEndian.Uint64(b[64:])), maxTable)
	for range n {
		s, err := parseSnapshot(r)
		if err != nil {
			return h, fmt.Errorf("the snapshot table: %w", err)
		}
		h.snapshots = append(h.snapshots, s)
	}
	return h, nil
}

func parseSnapshot(r *io.SectionReader) (snapshot, error) {
	b := make([]byte, snapshotEntry)
	if _, err := io.ReadFull(r, b); err != nil {
		return snapshot{}, err
	}
	id, name, extra := int(binary.BigEndian.Uint16(b[12:])), int(binary.BigEndian.Uint16(b[14:])), binary.BigEndian.Uint32(b[36:])
	if extra < extraHasSize || extra > 1024 {
		return snapshot{}, fmt.Errorf("an entry has %d more bytes", extra)
	}
	n := int(extra) + id + name
	padded := (snapshotEntry+n+7)/8*8 - snapshotEntry
	b = make([]byte, padded)
	if got, err := io.ReadFull(r, b); err != nil && got < n { // the last entry's padding may be missing
		return snapshot{}, err
	}
	return snapshot{name: string(b[int(extra)+id : n]), size: int64(binary.BigEndian.Uint64(b[snapshotSizeEnd:]))}, nil
}

// find gives the snapshot of that name.
func (h *header) find(name string) (snapshot, bool) {
	for _, s := range h.snapshots {
		if s.name == name {
			return s, true
		}
	}
	return snapshot{}, false
}

// sizeOf is the size of the volume, or of a snapshot unless "".
func (h *header) sizeOf(name string) (int64, error) {
	if name == "" {
		return h.size, nil
	}
	s, ok := h.find(name)
	if !ok {
		return 0, errs.NotFoundf("the volume has no snapshot %s", name)
	}
	return s.size, nil
}
