package image

import (
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// Result is what is known of data after it has streamed by.
type Result struct {
	Size    int64  `json:"size"`
	MD5     string `json:"md5"`
	SHA512  string `json:"sha512"`
	Format  string `json:"format"`            // what the content is
	Virtual int64  `json:"virtual,omitempty"` // bytes of the disk, 0: not known
	Unsafe  string `json:"unsafe,omitempty"`  // why it must not be used
}

// tempPrefix marks files that are being written.
const tempPrefix = "tmp-"

// ingest writes a stream into a new blob, hashing and inspecting it on the way;
// when it returns, the blob is durable. The caller names the blob in a record or
// discards it, and then calls release.
func (s *Service) ingest(src io.Reader, limit int64) (blob string, res Result, release func(), err error) {
	blob = uuid.NewString()
	s.hold(blob, true)
	name := blob
	done := func() { s.hold(name, false) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	temp := s.file(tempPrefix + blob)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return "", res, nil, fmt.Errorf("making an image file: %w", err)
	}
	res, err = s.digest(src, f, limit)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, s.file(blob))
	}
	if err == nil {
		err = syncDir(s.Dir)
	}
	if err != nil {
		s.discard(tempPrefix+blob, blob)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			// The error itself names a path of the host.
			err = errs.New(errs.TooLarge, "Image storage media is full: There is not enough disk space on the image storage media.")
		}
		return "", res, nil, err
	}
	return blob, res, done, nil
}

// digest copies src to f and learns about it.
func (s *Service) digest(src io.Reader, f *os.File, limit int64) (Result, error) {
	sum5, sum512, inspector := md5.New(), sha512.New(), s.NewInspector()
	out := &sparse{f: f}
	n, err := fanOut(io.LimitReader(src, limit+1), out, sum5, sum512, &guard{inspector})
	var bad *unsafeError
	switch {
	case errors.As(err, &bad):
		return Result{}, bad
	case err != nil:
		return Result{}, fmt.Errorf("taking in image data: %w", err)
	case n > limit:
		return Result{}, errs.New(errs.TooLarge, "The incoming image is too large: the limit is %d bytes", limit)
	}
	if err := f.Truncate(n); err != nil {
		return Result{}, fmt.Errorf("taking in image data: %w", err)
	}
	format, virtual, unsafe := inspector.Finish()
	res := Result{Size: n, MD5: hex.EncodeToString(sum5.Sum(nil)), SHA512: hex.EncodeToString(sum512.Sum(nil)), Format: format, Virtual: virtual}
	if unsafe != nil {
		res.Unsafe = unsafe.Error()
	}
	return res, nil
}

// unsafeError ends a stream whose content must not be used.
type unsafeError struct{ cause error }

func (e *unsafeError) Error() string { return e.cause.Error() }

// guard marks an inspector's errors as its own.
type guard struct{ i Inspector }

func (g *guard) Write(p []byte) (int, error) {
	if _, err := g.i.Write(p); err != nil {
		return 0, &unsafeError{err}
	}
	return len(p), nil
}

// The buffers between the reader and the sinks: enough that a short stall of one
// sink does not idle the others.
const (
	chunkSize = 256 << 10
	chunks    = 16
)

type chunk struct {
	buf  [chunkSize]byte
	n    int
	refs atomic.Int32
}

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// fanOut copies src to all sinks at once, each in a goroutine of its own over the
// same buffers, because the hashes are what takes the time. A sink's error
// ends the copy and is returned.
func fanOut(src io.Reader, sinks ...io.Writer) (int64, error) {
	free := make(chan *chunk, chunks)
	for range chunks {
		free <- chunkPool.Get().(*chunk)
	}
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	queues := make([]chan *chunk, len(sinks))
	for i, w := range sinks {
		queues[i] = make(chan *chunk, chunks)
		group.Go(func() {
			for c := range queues[i] {
				if failed.Load() == nil {
					if _, err := w.Write(c.buf[:c.n]); err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				}
				if c.refs.Add(-1) == 0 {
					free <- c
				}
			}
		})
	}
	total, err := feed(src, free, queues, &failed)
	for _, q := range queues {
		close(q)
	}
	group.Wait()
	for range chunks {
		chunkPool.Put(<-free)
	}
	if bad := failed.Load(); bad != nil {
		return total, *bad
	}
	return total, err
}

// feed reads chunks until the end, an error, or a sink has failed.
func feed(src io.Reader, free chan *chunk, queues []chan *chunk, failed *atomic.Pointer[error]) (total int64, err error) {
	for err == nil && failed.Load() == nil {
		c := <-free
		c.n, err = fill(src, c.buf[:])
		if c.n == 0 {
			free <- c
			continue
		}
		total += int64(c.n)
		c.refs.Store(int32(len(queues)))
		for _, q := range queues {
			q <- c
		}
	}
	if err == io.EOF {
		err = nil
	}
	return total, err
}

// fill is io.ReadFull that keeps the reader's own error: a body that ends before
// its Content-Length must not look like a short last chunk.
func fill(src io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = src.Read(buf[n:])
		n += m
	}
	return n, err
}

// sparse writes a file and leaves holes where there are only zeros.
type sparse struct {
	f      *os.File
	off    int64
	pushed int64 // up to here write-back has begun
}

const (
	hole = 64 << 10
	// push is how much is written between requests to begin write-back, so that the
	// fsync at the end finds little to wait for.
	push = 8 << 20
)

func (s *sparse) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		run := 0
		for run < len(p) && !zero(p[run:min(run+hole, len(p))]) {
			run = min(run+hole, len(p))
		}
		if run > 0 {
			if _, err := s.f.WriteAt(p[:run], s.off); err != nil {
				return 0, err
			}
			s.off, p = s.off+int64(run), p[run:]
			continue
		}
		skip := min(hole, len(p))
		s.off, p = s.off+int64(skip), p[skip:]
	}
	if s.off-s.pushed >= push {
		// Only a hint: fsync is what makes the data durable.
		_ = unix.SyncFileRange(int(s.f.Fd()), s.pushed, s.off-s.pushed, unix.SYNC_FILE_RANGE_WRITE)
		s.pushed = s.off
	}
	return n, nil
}

// zero tells whether p holds only zeros: its first byte is zero and every byte
// equals the one before it.
func zero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && string(p[1:]) == string(p[:len(p)-1])
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
