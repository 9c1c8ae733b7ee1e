package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/registry/upstream"
)

// download is a blob that is coming from another registry. Whoever asks for it meanwhile
// reads along; when nobody does any more, it ends. Its fields are guarded by mirrors.mu
// once it has opened.
type download struct {
	m      *mirrors
	key    string
	end    context.CancelFunc
	opened chan struct{} // closed when file and size, or err, are known

	file    *os.File
	size    int64 // -1: not known
	readers int
	have    int64         // what can be read
	grown   chan struct{} // closed when one of these changes
	done    bool
	err     error
}

const (
	// chunk is how much of a blob is read at once.
	chunk = 256 << 10
	// stallFor is how long a registry may send nothing in the middle of a blob.
	stallFor = time.Minute
	// downloadPrefix begins the names of files that are coming, among the uploads.
	downloadPrefix = "mirror-"
)

// download joins one that is under way, or begins it. The caller leaves it.
func (s *Service) download(ctx context.Context, up *upstream.Registry, r *mirrored, d digest.Digest) (*download, error) {
	l := s.join(up, r, d)
	select {
	case <-l.opened:
	case <-ctx.Done():
		l.leave()
		return nil, ctx.Err()
	}
	if l.file == nil {
		l.leave()
		return nil, l.err
	}
	return l, nil
}

func (s *Service) join(up *upstream.Registry, r *mirrored, d digest.Digest) *download {
	m := s.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	key := r.repo + " " + d.String()
	l := m.loads[key]
	if l == nil {
		ctx, cancel := context.WithCancel(m.life)
		l = &download{m: m, key: key, end: cancel, opened: make(chan struct{}), grown: make(chan struct{})}
		m.loads[key] = l
		m.loading.Go(func() {
			defer cancel()
			l.finish(s.load(ctx, l, up, r, d))
		})
	}
	l.readers++
	return l
}

// leave ends a download that nobody reads any more.
func (l *download) leave() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.readers--; l.readers == 0 {
		l.end()
		l.forget()
	}
}

// finish tells readers that no more comes.
func (l *download) finish(err error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.done, l.err = true, err
	close(l.grown)
	if l.file == nil {
		close(l.opened)
	}
	l.forget()
}

// forget has no one else join, and closes the file when it is done with.
func (l *download) forget() {
	if l.m.loads[l.key] == l {
		delete(l.m.loads, l.key)
	}
	if l.done && l.readers == 0 && l.file != nil {
		_ = l.file.Close() // it was only read from
	}
}

// grow makes more readable.
func (l *download) grow(have int64) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.have = have
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *download) state() (have int64, done bool, grown <-chan struct{}, err error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.have, l.done, l.grown, l.err
}

// wait waits for the end.
func (l *download) wait(ctx context.Context) error {
	for {
		_, done, grown, err := l.state()
		if done {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow writes what comes, until the end.
func (l *download) follow(ctx context.Context, w io.Writer) error {
	at, buf := int64(0), make([]byte, chunk)
	for {
		have, done, grown, err := l.state()
		switch {
		case done && err != nil:
			return err
		case at < have:
			n, err := l.file.ReadAt(buf[:min(chunk, have-at)], at)
			if n == 0 {
				return err
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			at += int64(n)
			continue
		case done:
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// load brings a blob in and keeps it, if there is room and it is what it should be.
func (s *Service) load(ctx context.Context, l *download, up *upstream.Registry, r *mirrored, d digest.Digest) (err error) {
	body, size, err := up.Blob(ctx, r.name, d)
	if err != nil {
		return err
	}
	defer body.Close()
	if size > s.MaxBlob {
		return errs.New(errs.TooLarge, "The blob is too large: the limit is %d bytes", s.MaxBlob)
	}
	f, err := os.CreateTemp(filepath.Join(s.Dir, uploadsDir), downloadPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if e := os.Remove(f.Name()); e != nil && !errors.Is(e, os.ErrNotExist) { // it has become a blob
			err = errors.Join(err, e)
		}
	}()
	l.file, l.size = f, size
	close(l.opened)
	n, err := s.copyBlob(body, l, d)
	if err != nil {
		return err
	}
	if s.mirrorBytes()+n > s.MirrorLimit {
		s.Log.Warn("mirrors have as much as they may: a layer is not kept", "registry", r.Host, "repository", r.name, "blob", d, "bytes", n)
	} else if err := errors.Join(f.Chmod(0o640), f.Sync()); err != nil {
		return err
	} else if err := s.keepBlob(ctx, d.String(), f.Name()); err != nil {
		return err
	} else if err := s.putLink(ctx, s.layerOf(r, d), d.String()); err != nil {
		return err
	}
	l.grow(n)
	return nil
}

// copyBlob writes a blob into its file. The last chunk can be read only when all was
// found to be what it should be, so that no client takes something else for complete.
func (s *Service) copyBlob(body io.ReadCloser, l *download, d digest.Digest) (n int64, err error) {
	stall := time.AfterFunc(stallFor, l.end)
	defer stall.Stop()
	verify, buf := d.Verifier(), make([]byte, chunk)
	for {
		k, err := io.ReadFull(body, buf)
		stall.Reset(stallFor)
		if k > 0 {
			l.grow(n)
			if n += int64(k); n > s.MaxBlob {
				return n, errs.New(errs.TooLarge, "The blob is too large: the limit is %d bytes", s.MaxBlob)
			}
			_, _ = verify.Write(buf[:k]) // a hash takes anything
			if _, err := l.file.Write(buf[:k]); err != nil {
				return n, err
			}
		}
		switch {
		case err == nil:
		case err != io.EOF && err != io.ErrUnexpectedEOF: // ReadFull's word for a short last one
			return n, err
		case l.size >= 0 && n != l.size, !verify.Verified():
			return n, errs.New(errs.Unavailable, "what the registry gives for %s is something else", d)
		default:
			return n, nil
		}
	}
}

// mirrorBytes is what mirrors have.
func (s *Service) mirrorBytes() (n int64) {
	seen := map[string]bool{}
	for _, l := range s.links.By("project", mirrorProject) {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		n += s.sizeOf(l.Digest)
	}
	return n
}

func (s *Service) sizeOf(dgst string) int64 {
	b, err := s.blobs.Get(dgst)
	if err != nil {
		return 0
	}
	return b.Size
}

// sendDownload answers with a whole one, or a part of it.
func sendDownload(w http.ResponseWriter, r *http.Request, l *download, name string) {
	blobHeader(w, name)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(l.file, 0, l.have))
}
