package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// tempPrefix marks blobs that are being written, here and by the copies of other members.
const tempPrefix = "tmp-"

// Where things are below Options.Dir.
const (
	blobsDir   = "blobs"
	uploadsDir = "uploads"
)

func (s *Service) blob(dgst string) string   { return filepath.Join(s.Dir, blobsDir, blobFile(dgst)) }
func (s *Service) upload(name string) string { return filepath.Join(s.Dir, uploadsDir, name) }

// BlobsDir is the directory with the files that Files tells of.
func (s *Service) BlobsDir() string { return filepath.Join(s.Dir, blobsDir) }

// BlobsDir is the directory of blobs of a registry in dir.
func BlobsDir(dir string) string { return filepath.Join(dir, blobsDir) }

// Files are the files that the records name, with their bytes.
func (s *Service) Files() map[string]int64 {
	out := map[string]int64{}
	for _, b := range s.blobs.All() {
		out[blobFile(b.Digest)] = b.Size
	}
	return out
}

// putBlob keeps small content.
func (s *Service) putBlob(ctx context.Context, dgst string, content []byte) error {
	f, err := os.CreateTemp(s.BlobsDir(), tempPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close()); err == nil {
		err = s.keepBlob(ctx, dgst, f.Name())
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left is swept
	}
	return err
}

// keepBlob gives a file that was fsynced the name of its blob and records it.
func (s *Service) keepBlob(ctx context.Context, dgst, file string) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	s.use(ctx, dgst)
	if err := os.Rename(file, s.blob(dgst)); err != nil {
		return err
	}
	if err := syncDir(s.BlobsDir()); err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		return s.blobs.TxPut(tx, &Blob{Digest: dgst, Size: fi.Size(), Since: now()})
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writer takes in an upload.
type writer struct {
	ctx   context.Context
	f     *os.File
	size  int64
	limit int64
	done  bool
}

func newWriter(ctx context.Context, file string, appends bool, limit int64) (*writer, error) {
	mode := os.O_CREATE | os.O_WRONLY
	if !appends {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(file, mode, 0o640)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &writer{ctx: ctx, f: f, size: size, limit: limit}, nil
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.size+int64(len(p)) > w.limit {
		return 0, note(w.ctx, errs.New(errs.TooLarge, "The blob is too large: the limit is %d bytes", w.limit))
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	return n, note(w.ctx, err)
}

// Size implements storagedriver.FileWriter.
func (w *writer) Size() int64 { return w.size }

// Close implements io.Closer.
func (w *writer) Close() error {
	if w.done {
		return fmt.Errorf("the upload is closed already")
	}
	w.done = true
	return w.f.Close()
}

// Cancel implements storagedriver.FileWriter.
func (w *writer) Cancel(context.Context) error {
	if err := os.Remove(w.f.Name()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Commit implements storagedriver.FileWriter: what was written is durable.
func (w *writer) Commit(ctx context.Context) error { return note(ctx, w.f.Sync()) }
