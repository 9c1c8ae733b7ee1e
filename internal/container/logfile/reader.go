package logfile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Record is a chunk of a log.
type Record struct {
	Stream Stream
	Time   time.Time
	Chunk  []byte // valid until the next one is read
}

// Reader reads a log from its oldest file on.
type Reader struct {
	path string
	f    *os.File
	br   *bufio.Reader
	at   int64 // of the next record in f
	buf  []byte
	held bool // the writer waits

	mu     sync.Mutex
	pinned []*os.File // the newest first
}

// Open opens the log at path at its beginning. A container that has never run
// has none: then there is nothing to read yet.
func Open(path string) (*Reader, error) {
	r := &Reader{path: path}
	return r, r.oldest()
}

// OpenEnd is Open at the end of what there is.
func OpenEnd(path string) (*Reader, error) {
	r := &Reader{path: path}
	if err := r.use(0); err != nil || r.f == nil {
		return r, err
	}
	size, err := whole(r.f)
	if err == nil {
		err = r.seek(size)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reader) oldest() error {
	for {
		i := last(r.path)
		if err := r.use(i); err != nil {
			return err
		}
		if last(r.path) <= i { // else it was renamed before it was opened
			return nil
		}
	}
}

// last is the highest number of a file. While files are renamed, one is missing.
func last(path string) (n int) {
	for i, gap := 1, 0; gap < 2; i++ {
		if _, err := os.Stat(numbered(path, i)); err != nil {
			gap++
			continue
		}
		n, gap = i, 0
	}
	return n
}

// use opens the numbered file in the place of the present one.
func (r *Reader) use(i int) error {
	f, err := os.Open(numbered(r.path, i))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.take(f)
}

// take goes on with a file. The writer cannot pass in between: the one before is held
// until then.
func (r *Reader) take(f *os.File) error {
	old := r.f
	r.f = f
	err := r.lock()
	if old != nil {
		err = errors.Join(err, old.Close())
	}
	return errors.Join(err, r.seek(0))
}

// Hold has the writer wait with the removal of what this reader has not read yet.
func (r *Reader) Hold() error {
	r.held = true
	return r.lock()
}

func (r *Reader) lock() error {
	if !r.held || r.f == nil {
		return nil
	}
	return unix.Flock(int(r.f.Fd()), unix.LOCK_SH)
}

// Pin keeps what there is of the log now, for the case that it is removed. It may be called
// while another goroutine reads.
func (r *Reader) Pin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pinned) > 0 {
		return nil
	}
	for i := range last(r.path) + 1 {
		f, err := os.Open(numbered(r.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.pinned = append(r.pinned, f)
	}
	return nil
}

// unpin goes on with the pinned file that came after the present one.
func (r *Reader) unpin(mine fs.FileInfo) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := len(r.pinned) - 1
	for i, f := range r.pinned {
		if fi, err := f.Stat(); err == nil && os.SameFile(fi, mine) {
			next = i - 1
		}
	}
	if next < 0 {
		return false, nil
	}
	f := r.pinned[next]
	for _, older := range r.pinned[next+1:] {
		older.Close()
	}
	r.pinned = r.pinned[:next]
	return true, r.take(f)
}

func (r *Reader) seek(to int64) error {
	if _, err := r.f.Seek(to, io.SeekStart); err != nil {
		return err
	}
	r.at, r.br = to, bufio.NewReaderSize(r.f, 32<<10)
	return nil
}

// Next gives the next record, io.EOF when there is none now.
func (r *Reader) Next() (Record, error) {
	for {
		rec, err := r.read()
		if !errors.Is(err, io.EOF) {
			return rec, err
		}
		more, err := r.turn()
		if err != nil {
			return Record{}, err
		}
		if !more {
			return Record{}, io.EOF
		}
	}
}

// read gives the next record of the present file.
func (r *Reader) read() (Record, error) {
	if r.f == nil {
		return Record{}, io.EOF
	}
	var head [headerSize]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return Record{}, r.again(err)
	}
	n, ok := length(head[:])
	if !ok {
		return Record{}, fmt.Errorf("the log %s is damaged at %d", r.f.Name(), r.at)
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	chunk := r.buf[:n]
	if _, err := io.ReadFull(r.br, chunk); err != nil {
		return Record{}, r.again(err)
	}
	r.at += headerSize + n
	return Record{Stream: Stream(head[0]), Time: time.Unix(0, int64(binary.BigEndian.Uint64(head[8:]))), Chunk: chunk}, nil
}

// again goes back to the beginning of a record of which not all is there.
func (r *Reader) again(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err := r.seek(r.at); err != nil {
		return err
	}
	return io.EOF
}

// turn goes on to the file after the present one, if there is one.
func (r *Reader) turn() (bool, error) {
	if r.f == nil {
		err := r.oldest()
		return err == nil && r.f != nil, err
	}
	mine, err := r.f.Stat()
	if err != nil {
		return false, err
	}
	// Files only ever move upwards, so that looking from below finds ours.
	for i, gap := 0, 0; gap < 2; i++ {
		fi, err := os.Stat(numbered(r.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			gap++
			continue
		}
		if err != nil {
			return false, err
		}
		if gap = 0; os.SameFile(mine, fi) {
			return r.after(i, fi)
		}
	}
	if _, err := os.Stat(r.path); errors.Is(err, fs.ErrNotExist) {
		return r.unpin(mine) // the whole log is gone, with its container
	}
	return true, r.oldest() // ours is gone already
}

// after goes on from the present file, which has the number i.
func (r *Reader) after(i int, mine fs.FileInfo) (bool, error) {
	if i == 0 {
		return false, nil
	}
	// The writer may have added to it between our last read and its renaming.
	if mine.Size() > r.at {
		return true, r.seek(r.at)
	}
	f, err := os.Open(numbered(r.path, i-1))
	if errors.Is(err, fs.ErrNotExist) {
		return i > 1, nil // it is being renamed, or will be made in a moment
	}
	if err != nil {
		return false, err
	}
	// What was opened came after ours only if ours has not moved meanwhile.
	if again, err := os.Stat(numbered(r.path, i)); err != nil || !os.SameFile(mine, again) {
		return true, f.Close()
	}
	return true, r.take(f)
}

// Follow calls f with every record, those that are still to come among them,
// until f says stop or fails, or ctx ends.
func (r *Reader) Follow(ctx context.Context, f func(Record) (stop bool, err error)) error {
	w, err := watch(filepath.Dir(r.path))
	if err != nil {
		return fmt.Errorf("watching the log: %w", err)
	}
	defer w.close()
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			if err := w.wait(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if stop, err := f(rec); stop || err != nil {
			return err
		}
	}
}

// Close closes the file.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.pinned {
		f.Close()
	}
	r.pinned = nil
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}

// Rewind goes back to the beginning.
func (r *Reader) Rewind() error { return r.oldest() }
