package region

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/store"
)

// replacedDir keeps what a restore has put aside.
const replacedDir = "replaced"

// RestoreOptions say what to restore where.
type RestoreOptions struct {
	File    string // a backup, or a periodic snapshot of the store
	DataDir string // of a region that does not run
	// Replace puts a store that is there aside, below replaced/. Without it such a
	// directory is refused.
	Replace  bool
	Progress func(string)
}

// Restored tells what a restore did.
type Restored struct {
	Manifest *Manifest // nil when the file was a bare snapshot
	Aside    string    // where the earlier store is now, or ""
	Kept     []string  // clusters whose control plane is here, which stays as it is
	Missing  []string  // image files that the restored region expects and the directory lacks
}

// Restore fills the data directory from a backup. A damaged file changes nothing
// but, with Replace, that the earlier store is aside: it says where.
func Restore(ctx context.Context, o RestoreOptions) (_ *Restored, err error) {
	src, err := openBackup(o.File)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if err := src.verify(ctx, o.Progress); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o711); err != nil {
		return nil, err
	}
	out := &Restored{Manifest: src.manifest}
	if out.Aside, err = putAside(o); err != nil {
		return nil, err
	}
	o.Progress("restoring the store")
	err = src.read(backupStore, func(r io.Reader) error { return store.RestoreEtcd(filepath.Join(o.DataDir, "store"), r) })
	if err != nil {
		if out.Aside != "" {
			err = fmt.Errorf("%w; the earlier store is in %s", err, out.Aside)
		}
		return nil, err
	}
	if src.manifest == nil {
		return out, nil
	}
	for name := range src.manifest.Files {
		if name == backupStore {
			continue
		}
		if id, ok := clusterOf(name); ok {
			err = src.read(name, func(r io.Reader) error { return keepRestored(o.DataDir, id, src.manifest.Created, r) })
			if err != nil {
				return nil, err
			}
			err = src.read(name, func(r io.Reader) error { return kube.Put(filepath.Join(o.DataDir, kubeDir), id, r) })
			if errs.Is(err, errs.Conflict) {
				out.Kept, err = append(out.Kept, id), nil
			}
		} else {
			err = src.extract(name, o.DataDir)
		}
		if err != nil {
			return nil, err
		}
	}
	have, err := imageFiles(o.DataDir)
	for name := range src.manifest.Images {
		if _, ok := have[name]; !ok {
			out.Missing = append(out.Missing, name)
		}
	}
	return out, err
}

// putAside moves a store that is in the way, if that is allowed.
func putAside(o RestoreOptions) (string, error) {
	etcd := filepath.Join(o.DataDir, "store", "etcd")
	if _, err := os.Stat(etcd); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if !o.Replace {
		return "", errs.Conflictf("%s holds a cloud: restore into another directory with --data-dir, or use --replace, which puts its store aside", o.DataDir)
	}
	aside := filepath.Join(o.DataDir, replacedDir, time.Now().UTC().Format("20060102T150405Z"))
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return "", err
	}
	o.Progress("putting the present store aside in " + aside)
	return aside, os.Rename(etcd, filepath.Join(aside, "etcd"))
}

// backupSource is an open backup. Without a manifest it is a bare snapshot.
type backupSource struct {
	file     *os.File
	zip      *zip.Reader
	manifest *Manifest
}

func openBackup(path string) (*backupSource, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &backupSource{file: f}
	if err := s.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *backupSource) inspect() error {
	magic := make([]byte, 4)
	if _, err := io.ReadFull(s.file, magic); err != nil {
		return errs.Invalidf("this is no backup: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if !bytes.Equal(magic, []byte("PK\x03\x04")) {
		return nil // the store knows whether it is a snapshot
	}
	st, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.zip, err = zip.NewReader(s.file, st.Size()); err != nil {
		return errs.Invalidf("this is no whole backup: %w", err)
	}
	f, err := s.zip.Open(backupManifest)
	if err != nil {
		return errs.Invalidf("this is no backup of Strata: it has no %s", backupManifest)
	}
	s.manifest = &Manifest{Size: st.Size()}
	if err := errors.Join(json.NewDecoder(f).Decode(s.manifest), f.Close()); err != nil {
		return errs.Invalidf("the backup's manifest: %w", err)
	}
	if s.manifest.Format != backupFormat {
		return errs.Invalidf("the backup has format %d and this program reads %d: use the version that made it (%s)", s.manifest.Format, backupFormat, s.manifest.Version)
	}
	for name := range s.manifest.Files {
		if _, cluster := clusterOf(name); name != backupStore && !cluster && !isBackupFile(name) {
			return errs.Invalidf("the backup holds %q, which is no file of a cloud", name)
		}
	}
	return nil
}

func isBackupFile(name string) bool {
	for _, f := range backupFiles {
		if f == name {
			return true
		}
	}
	return false
}

// verify reads everything once, before anything is changed.
func (s *backupSource) verify(ctx context.Context, progress func(string)) error {
	if s.manifest == nil {
		return nil
	}
	progress("checking the backup of " + s.manifest.Created.Format(time.RFC3339))
	for name := range s.manifest.Files {
		err := s.read(name, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return errors.Join(err, ctx.Err())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read hands the content of a file in the backup to fn.
func (s *backupSource) read(name string, fn func(io.Reader) error) error {
	if s.manifest == nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return fn(s.file)
	}
	f, err := s.zip.Open(name)
	if err != nil {
		return errs.Invalidf("the backup lacks %s", name)
	}
	return errors.Join(fn(&checked{r: f, sum: sha256.New(), name: name, want: s.manifest.Files[name]}), f.Close())
}

// extract writes a file of the backup into the data directory.
func (s *backupSource) extract(name, dir string) error {
	return s.read(name, func(r io.Reader) error {
		raw, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		tmp := filepath.Join(dir, name+".new")
		mode := fs.FileMode(0o600)
		if name == caCertFile {
			mode = 0o644
		}
		return errors.Join(os.WriteFile(tmp, raw, mode), os.Rename(tmp, filepath.Join(dir, name)))
	})
}

func (s *backupSource) close() error { return s.file.Close() }
