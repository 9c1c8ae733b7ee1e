package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/errs"
)

// Blobs keeps named pieces of data. Names have one slash: a kind and a name.
type Blobs interface {
	// Put returns when the data is on stable storage, under its name as a whole.
	Put(ctx context.Context, name string, data []byte) error
	Has(ctx context.Context, name string) (bool, error)
	// Get gives the data. NotFound: there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Delete removes the data; absent is fine.
	Delete(ctx context.Context, name string) error
	// List names what there is of a kind, without the kind.
	List(ctx context.Context, kind string) ([]string, error)
}

// Files are blobs in a directory, in one directory per kind and first two letters.
type Files struct{ dir string }

const tmpExt = ".new"

// NewFiles makes the directory, which only we can read.
func NewFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the backups' directory: %w", err)
	}
	return &Files{dir: dir}, nil
}

func (f *Files) path(name string) string {
	kind, base := filepath.Split(name)
	return filepath.Join(f.dir, kind, base[:min(2, len(base))], base)
}

// Put implements Blobs.
func (f *Files) Put(_ context.Context, name string, data []byte) (err error) {
	path := f.path(name)
	dir := filepath.Dir(path)
	if err := f.shard(dir); err != nil {
		return err
	}
	t, err := os.CreateTemp(dir, "*"+tmpExt)
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("storing %s: %w", name, err), os.Remove(t.Name()))
	}
	return syncDir(dir)
}

// shard makes a directory, stable with all above it.
func (f *Files) shard(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(dir)), syncDir(f.dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Has implements Blobs.
func (f *Files) Has(_ context.Context, name string) (bool, error) {
	_, err := os.Lstat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Get implements Blobs.
func (f *Files) Get(_ context.Context, name string) ([]byte, error) {
	data, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFoundf("the vault has no %s", name)
	}
	return data, err
}

// Delete implements Blobs.
func (f *Files) Delete(_ context.Context, name string) error {
	err := os.Remove(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path(name)))
}

// List implements Blobs.
func (f *Files) List(ctx context.Context, kind string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(filepath.Join(f.dir, kind), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		if filepath.Ext(path) != tmpExt {
			names = append(names, e.Name())
		}
		return nil
	})
	return names, err
}
