package logfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stream is where a chunk was written to.
type Stream byte

// The streams, with Docker's numbers.
const (
	End    Stream = 0
	Stdout Stream = 1
	Stderr Stream = 2
)

const headerSize = 16

// maxChunk bounds a record, so that a reader can tell one from garbage.
const maxChunk = 1 << 20

// Limits are when a log is rotated.
type Limits struct {
	Size  int64 // of a file; 0: never
	Files int   // that are kept, the one that is written among them
}

// Writer appends to a log. It is safe for use by several goroutines.
type Writer struct {
	path   string
	limits Limits
	now    func() time.Time
	free   chan struct{} // closed when readers are not waited for any more
	once   sync.Once

	mu   sync.Mutex
	f    *os.File
	size int64
	buf  []byte
}

// NewWriter opens the log at path, and makes it first when there is none.
func NewWriter(path string, l Limits) (*Writer, error) {
	w := &Writer{path: path, limits: l, now: time.Now, free: make(chan struct{})}
	return w, w.open()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := whole(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("opening the log: %w", err), f.Close())
	}
	w.f, w.size = f, size
	return nil
}

// whole is the length of the file up to its last whole record.
func whole(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var at int64
	var head [headerSize]byte
	for {
		if _, err := f.ReadAt(head[:], at); err != nil {
			if errors.Is(err, io.EOF) {
				return at, nil
			}
			return 0, err
		}
		n, ok := length(head[:])
		if !ok || at+headerSize+n > fi.Size() {
			return at, nil
		}
		at += headerSize + n
	}
}

func length(head []byte) (int64, bool) {
	n := binary.BigEndian.Uint32(head[4:])
	return int64(n), n <= maxChunk && head[0] <= byte(Stderr) && head[1] == 0 && head[2] == 0 && head[3] == 0
}

// Write appends a chunk, which is not longer than maxChunk.
func (w *Writer) Write(s Stream, chunk []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limits.Size > 0 && w.size > 0 && w.size+headerSize+int64(len(chunk)) > w.limits.Size {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	w.buf = append(w.buf[:0], byte(s), 0, 0, 0)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(chunk)))
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(w.now().UnixNano()))
	w.buf = append(w.buf, chunk...)
	n, err := w.f.Write(w.buf) // one call: a kill leaves all of it or nothing
	if err != nil {
		if n > 0 { // a full disk took a part
			err = errors.Join(err, w.f.Truncate(w.size))
		}
		return err
	}
	w.size += int64(n)
	return nil
}

func (w *Writer) rotate() error {
	n := max(w.limits.Files, 1)
	for i := n; i > 0; i-- {
		if err := os.Rename(numbered(w.path, i-1), numbered(w.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating the log: %w", err)
		}
	}
	old := w.f
	if err := w.open(); err != nil {
		return err
	}
	return errors.Join(old.Close(), w.drop(numbered(w.path, n)))
}

// look is how often a writer looks whether a reader is done with a file.
const look = 10 * time.Millisecond

// drop removes the file that is one too many, once no reader holds it. The kernel lets go
// of what a process held that has ended.
func (w *Writer) drop(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotating the log: %w", err)
	}
	defer f.Close()
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return errors.Join(err, os.Remove(path))
		}
		select {
		case <-t.C:
		case <-w.free:
			return os.Remove(path)
		}
	}
}

// Release has the writer wait for readers no more: the container has ended.
func (w *Writer) Release() { w.once.Do(func() { close(w.free) }) }

func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Copy appends all that r gives until it ends. What cannot be written, because
// the disk is full, is dropped: a container does not stand still for its log.
func (w *Writer) Copy(s Stream, r io.Reader) error {
	buf := make([]byte, 32<<10)
	var failed error
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if e := w.Write(s, buf[:n]); e != nil {
				failed = e
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(failed, err)
		}
	}
}

// Close ends writing.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.f.Close()
}
