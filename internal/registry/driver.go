package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"

	"github.com/strata-cloud/strata/internal/errs"
)

// driver is where distribution keeps things: links in the store, content in files.
// It has what distribution's handlers ask for and no more.
type driver struct{ s *Service }

var _ storagedriver.StorageDriver = driver{}

// driverName is the name under which distribution makes drivers.
const driverName = "strata"

// given is a factory of drivers that are there already. Distribution finds drivers by
// name only, in a list for the whole process.
type given struct{}

// Create implements factory.StorageDriverFactory.
func (given) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	return parameters["driver"].(storagedriver.StorageDriver), nil
}

// known says whether distribution can make drivers of that name.
func known(ctx context.Context) bool {
	_, err := factory.Create(ctx, driverName, map[string]any{"driver": driver{}})
	return err == nil
}

func absent(p string) error {
	return storagedriver.PathNotFoundError{Path: p, DriverName: driverName}
}

// missing turns what says that there is no such thing into distribution's word for it.
func missing(err error, p string) error {
	if errors.Is(err, fs.ErrNotExist) || errs.Is(err, errs.NotFound) {
		return absent(p)
	}
	return err
}

// Name implements storagedriver.StorageDriver, as do all that follow.
func (driver) Name() string { return driverName }

// GetContent implements storagedriver.StorageDriver.
func (d driver) GetContent(ctx context.Context, p string) ([]byte, error) {
	at, ok := locate(p)
	switch {
	case !ok:
		return nil, absent(p)
	case at.link != nil:
		l, err := d.s.link(ctx, at.link)
		if err != nil {
			return nil, missing(err, p)
		}
		return []byte(l.Digest), nil
	}
	r, err := d.Reader(ctx, p, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// PutContent implements storagedriver.StorageDriver.
func (d driver) PutContent(ctx context.Context, p string, content []byte) error {
	at, ok := locate(p)
	switch {
	case !ok:
		return storagedriver.InvalidPathError{Path: p, DriverName: driverName}
	case at.history:
		return nil
	case at.link != nil:
		return note(ctx, d.s.putLink(ctx, at.link, string(content)))
	case at.blob != "":
		return note(ctx, d.s.putBlob(ctx, at.blob, content))
	case at.upload == "":
		return storagedriver.InvalidPathError{Path: p, DriverName: driverName}
	}
	return missing(note(ctx, d.putUpload(at.upload, content)), p)
}

// putUpload writes what belongs to an upload, which its first file begins: when an
// upload has ended, distribution still has something to say of it.
func (d driver) putUpload(name string, content []byte) error {
	file := d.s.upload(name)
	if dir := filepath.Dir(file); filepath.Base(file) == uploadStart || dir != d.s.upload(topOf(name)) {
		if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.WriteFile(file, content, 0o640)
}

// Reader implements storagedriver.StorageDriver.
func (d driver) Reader(ctx context.Context, p string, offset int64) (io.ReadCloser, error) {
	at, ok := locate(p)
	if !ok || at.blob == "" && at.upload == "" {
		return nil, absent(p)
	}
	f, err := d.open(ctx, at)
	if err != nil {
		return nil, missing(err, p)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d driver) open(ctx context.Context, at place) (*os.File, error) {
	if at.upload != "" {
		return os.Open(d.s.upload(at.upload))
	}
	f, err := d.s.openBlob(at.blob)
	return f, note(ctx, err)
}

// Writer implements storagedriver.StorageDriver.
func (d driver) Writer(ctx context.Context, p string, appends bool) (storagedriver.FileWriter, error) {
	at, ok := locate(p)
	if !ok || at.upload == "" {
		return nil, storagedriver.InvalidPathError{Path: p, DriverName: driverName}
	}
	w, err := newWriter(ctx, d.s.upload(at.upload), appends, d.s.MaxBlob)
	if err != nil {
		return nil, note(ctx, err)
	}
	return w, nil
}

// Stat implements storagedriver.StorageDriver. It is how a push asks for a blob.
func (d driver) Stat(ctx context.Context, p string) (storagedriver.FileInfo, error) {
	at, ok := locate(p)
	if !ok {
		return nil, absent(p)
	}
	var file string
	switch {
	case at.blob != "":
		if _, err := d.s.blobs.Get(at.blob); err != nil {
			return nil, missing(err, p)
		}
		d.s.use(ctx, at.blob)
		file = d.s.blob(at.blob)
	case at.upload != "":
		file = d.s.upload(at.upload)
	default:
		return nil, absent(p)
	}
	fi, err := os.Stat(file)
	if err != nil {
		if at.blob != "" && errors.Is(err, fs.ErrNotExist) {
			_ = note(ctx, elsewhere()) // whoever pushes may send it again
		}
		return nil, missing(err, p)
	}
	return info(p, fi.Size(), fi.ModTime(), fi.IsDir()), nil
}

func info(p string, size int64, at time.Time, dir bool) storagedriver.FileInfo {
	return storagedriver.FileInfoInternal{FileInfoFields: storagedriver.FileInfoFields{Path: p, Size: size, ModTime: at, IsDir: dir}}
}

// List implements storagedriver.StorageDriver.
func (d driver) List(_ context.Context, p string) ([]string, error) {
	at, ok := locate(p)
	var names []string
	switch {
	case ok && at.tags != "":
		if names, ok = d.s.tags(at.tags); !ok {
			return nil, absent(p)
		}
	case ok && at.upload != "":
		entries, err := os.ReadDir(d.s.upload(at.upload))
		if err != nil {
			return nil, missing(err, p)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	default:
		return nil, absent(p)
	}
	for i, n := range names {
		names[i] = path.Join(p, n)
	}
	return names, nil
}

// Move implements storagedriver.StorageDriver: an upload becomes a blob.
func (d driver) Move(ctx context.Context, from, to string) error {
	source, ok := locate(from)
	target, ok2 := locate(to)
	if !ok || !ok2 || source.upload == "" || target.blob == "" {
		return storagedriver.InvalidPathError{Path: to, DriverName: driverName}
	}
	return missing(note(ctx, d.s.keepBlob(ctx, target.blob, d.s.upload(source.upload))), from)
}

// Delete implements storagedriver.StorageDriver.
func (d driver) Delete(ctx context.Context, p string) error {
	at, ok := locate(p)
	switch {
	case ok && at.link != nil:
		return missing(note(ctx, d.s.dropLink(ctx, at.link.ID())), p)
	case ok && at.upload != "":
		dir := d.s.upload(at.upload)
		if _, err := os.Stat(dir); err != nil {
			return missing(err, p)
		}
		return os.RemoveAll(dir)
	}
	return absent(p)
}

// RedirectURL implements storagedriver.StorageDriver.
func (driver) RedirectURL(*http.Request, string) (string, error) { return "", nil }

// Walk implements storagedriver.StorageDriver, for tags.
func (d driver) Walk(_ context.Context, p string, f storagedriver.WalkFn, _ ...func(*storagedriver.WalkOptions)) error {
	at, ok := locate(p)
	if !ok || at.tags == "" {
		return absent(p)
	}
	names, ok := d.s.tags(at.tags)
	if !ok {
		return absent(p)
	}
	slices.Sort(names)
	for _, n := range names {
		err := f(info(path.Join(p, n), 0, time.Time{}, true))
		if errors.Is(err, storagedriver.ErrFilledBuffer) {
			return nil
		}
		if err != nil && !errors.Is(err, storagedriver.ErrSkipDir) {
			return err
		}
	}
	return nil
}
