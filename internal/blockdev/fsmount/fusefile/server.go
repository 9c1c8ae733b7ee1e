package fusefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/nbd"
)

// Disk is what the file shows.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Zero(off, n int64) error
	Flush() error
	Map(off, n int64) ([]nbd.Extent, error)
	Size() int64
}

var _ Disk = (*disk)(nil)

const (
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opAccess      = 34
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
	opFallocate   = 43
	opLseek       = 46

	headerIn  = 40
	headerOut = 16
	writeIn   = 40

	major, minor = 7, 31

	maxWrite = 1 << 20
	workers  = 4

	initFlags = 1<<0 | 1<<5 | 1<<15 | 1<<22 // ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES
	openFlags = 1<<0 | 1<<6                 // DIRECT_IO, PARALLEL_DIRECT_WRITES

	setSize = 1 << 3 // of SETATTR

	attrSeconds = 1 // that the size may be believed: a volume grows seldom
	blkSize     = 4096
)

// server answers the kernel about one file.
type server struct {
	fd       int // of /dev/fuse, mounted
	disk     Disk
	readOnly bool
}

// run answers until the file is unmounted.
func (s *server) run() error {
	failed := make([]error, workers)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { failed[i] = s.work() })
	}
	group.Wait()
	return errors.Join(failed...)
}

func (s *server) work() error {
	in, out := make([]byte, headerIn+writeIn+maxWrite+4096), make([]byte, headerOut+maxWrite)
	for {
		n, err := unix.Read(s.fd, in)
		switch {
		case errors.Is(err, unix.ENODEV):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT): // interrupted, or withdrawn
			continue
		case err != nil:
			return fmt.Errorf("reading requests: %w", err)
		case n < headerIn:
			return fmt.Errorf("a request of %d bytes", n)
		}
		if err := s.answer(in[:n], out); err != nil {
			return err
		}
	}
}

// answer does one request.
func (s *server) answer(in, out []byte) error {
	op := binary.LittleEndian.Uint32(in[4:])
	if op == opForget || op == opBatchForget || op == opInterrupt {
		return nil
	}
	n, errno := s.do(op, in[headerIn:], out[headerOut:])
	if errno != 0 {
		n = 0
	}
	total := headerOut + n
	binary.LittleEndian.PutUint32(out, uint32(total))
	binary.LittleEndian.PutUint32(out[4:], uint32(-int32(errno)))
	copy(out[8:16], in[8:16])
	_, err := unix.Write(s.fd, out[:total])
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) { // nobody waits for it any more
		return nil
	}
	return err
}

// do gives the length of an answer's body.
func (s *server) do(op uint32, in, out []byte) (int, unix.Errno) {
	switch op {
	case opInit:
		return s.init(in, out)
	case opGetattr:
		return s.attr(out), 0
	case opSetattr:
		if len(in) >= 4 && binary.LittleEndian.Uint32(in)&setSize != 0 {
			return 0, unix.EPERM
		}
		return s.attr(out), 0
	case opOpen:
		clear(out[:16])
		binary.LittleEndian.PutUint32(out[8:], openFlags)
		return 16, 0
	case opRead:
		return s.read(in, out)
	case opWrite:
		return s.write(in, out)
	case opFsync:
		return 0, failed(s.flush())
	case opFallocate:
		return 0, s.fallocate(in)
	case opLseek:
		return s.lseek(in, out)
	case opStatfs:
		clear(out[:80])
		binary.LittleEndian.PutUint32(out[40:], blkSize)
		return 80, 0
	case opFlush, opRelease, opAccess, opDestroy:
		return 0, 0
	}
	return 0, unix.ENOSYS
}

func (s *server) flush() error {
	if s.readOnly {
		return nil
	}
	return s.disk.Flush()
}

// failed is how the kernel is told that a disk does not work.
func failed(err error) unix.Errno {
	if err != nil && !errors.Is(err, io.EOF) {
		return unix.EIO
	}
	return 0
}

func (s *server) init(in, out []byte) (int, unix.Errno) {
	if len(in) < 16 || binary.LittleEndian.Uint32(in) != major || binary.LittleEndian.Uint32(in[4:]) < minor {
		return 0, unix.EPROTO
	}
	clear(out[:64])
	le := binary.LittleEndian
	le.PutUint32(out, major)
	le.PutUint32(out[4:], minor)
	le.PutUint32(out[8:], le.Uint32(in[8:])) // readahead
	le.PutUint32(out[12:], le.Uint32(in[12:])&initFlags)
	le.PutUint16(out[16:], 64) // requests in the background
	le.PutUint16(out[18:], 48)
	le.PutUint32(out[20:], maxWrite)
	le.PutUint32(out[24:], 1)
	le.PutUint16(out[28:], maxWrite/blkSize)
	return 64, 0
}

func (s *server) attr(out []byte) int {
	clear(out[:104])
	le := binary.LittleEndian
	le.PutUint64(out, attrSeconds)
	a := out[16:]
	le.PutUint64(a, 1)
	le.PutUint64(a[8:], uint64(s.disk.Size()))
	le.PutUint64(a[16:], uint64(s.disk.Size()/512))
	mode := uint32(unix.S_IFREG | 0o600)
	if s.readOnly {
		mode = unix.S_IFREG | 0o400
	}
	le.PutUint32(a[60:], mode)
	le.PutUint32(a[64:], 1)
	le.PutUint32(a[80:], blkSize)
	return 104
}

func (s *server) read(in, out []byte) (int, unix.Errno) {
	if len(in) < 20 {
		return 0, unix.EINVAL
	}
	off, size := int64(binary.LittleEndian.Uint64(in[8:])), int(binary.LittleEndian.Uint32(in[16:]))
	if size > len(out) || off < 0 {
		return 0, unix.EINVAL
	}
	n, err := s.disk.ReadAt(out[:size], off)
	return n, failed(err)
}

func (s *server) write(in, out []byte) (int, unix.Errno) {
	if len(in) < writeIn {
		return 0, unix.EINVAL
	}
	off, size := int64(binary.LittleEndian.Uint64(in[8:])), int(binary.LittleEndian.Uint32(in[16:]))
	switch {
	case s.readOnly:
		return 0, unix.EROFS
	case off < 0 || size > len(in)-writeIn:
		return 0, unix.EINVAL
	case off+int64(size) > s.disk.Size():
		return 0, unix.ENOSPC
	}
	if _, err := s.disk.WriteAt(in[writeIn:writeIn+size], off); err != nil {
		return 0, unix.EIO
	}
	clear(out[:8])
	binary.LittleEndian.PutUint32(out, uint32(size))
	return 8, 0
}

// fallocate zeroes, which is what the kernel means by both of its ways.
func (s *server) fallocate(in []byte) unix.Errno {
	if len(in) < 28 {
		return unix.EINVAL
	}
	off, n, mode := int64(binary.LittleEndian.Uint64(in[8:])), int64(binary.LittleEndian.Uint64(in[16:])), binary.LittleEndian.Uint32(in[24:])
	if s.readOnly {
		return unix.EROFS
	}
	if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) == 0 {
		return unix.EOPNOTSUPP
	}
	if off < 0 || n <= 0 || off >= s.disk.Size() {
		return unix.EINVAL
	}
	return failed(s.disk.Zero(off, min(n, s.disk.Size()-off)))
}

// lseek finds data, or a hole.
func (s *server) lseek(in, out []byte) (int, unix.Errno) {
	if len(in) < 20 {
		return 0, unix.EINVAL
	}
	off, whence := int64(binary.LittleEndian.Uint64(in[8:])), binary.LittleEndian.Uint32(in[16:])
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	if off < 0 || off >= s.disk.Size() {
		return 0, unix.ENXIO
	}
	for off < s.disk.Size() {
		extents, err := s.disk.Map(off, s.disk.Size()-off)
		if err != nil {
			return 0, unix.EIO
		}
		for _, e := range extents {
			if e.Zero == (whence == unix.SEEK_HOLE) {
				binary.LittleEndian.PutUint64(out, uint64(off))
				return 8, 0
			}
			off += e.Length
		}
	}
	if whence == unix.SEEK_DATA {
		return 0, unix.ENXIO
	}
	binary.LittleEndian.PutUint64(out, uint64(s.disk.Size())) // a file ends in a hole
	return 8, 0
}
