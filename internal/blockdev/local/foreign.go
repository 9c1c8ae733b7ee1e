package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// foreignDir is where a pool keeps files that are no volumes of the cloud's: what
// an administrator puts there to become one, and what was one. Only root gets in.
const foreignDir = "unmanaged.d"

// adoptedFile, in a volume's directory, names the foreign file that it was made of
// and that is still to be removed.
const adoptedFile = "adopted"

var _ volumes.Adopter = (*Driver)(nil)

// Foreign implements volumes.Adopter.
func (d *Driver) Foreign(_ context.Context, pool string) ([]nodeapi.Foreign, error) {
	dir, err := d.pool(nodeapi.VolumeRef{Pool: pool})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, foreignDir))
	if err != nil {
		return nil, err
	}
	var out []nodeapi.Foreign
	for _, e := range entries {
		f := nodeapi.Foreign{Name: e.Name()}
		img, err := inspectForeign(dir, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			f.Unfit = err.Error()
		}
		f.Bytes, f.Format = img.VirtualSize, string(img.Format)
		out = append(out, f)
	}
	return out, nil
}

// inspectForeign tells what a foreign file is; what must not become a volume is an error.
func inspectForeign(dir, name string) (blockdev.Base, error) {
	var none blockdev.Base
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") || len(name) > 255 {
		return none, errs.Invalidf("%q is no name of a file in %s", name, foreignDir)
	}
	path := filepath.Join(dir, foreignDir, name)
	if err := untouched(path); err != nil {
		return none, err
	}
	img, err := blockdev.InspectBase(path) // refuses backing files, data files and encryption
	if err != nil {
		return img, err
	}
	if img.Format != blockdev.QCOW2 && img.Format != blockdev.Raw {
		return img, errs.Invalidf("the file is %s: convert it to qcow2 or raw", img.Format)
	}
	if img.VirtualSize <= 0 {
		return img, errs.Invalidf("the file is empty")
	}
	if img.Format == blockdev.QCOW2 {
		if _, err := readHeader(path); err != nil {
			return img, errs.Invalidf("%w; qemu-img amend -o compat=1.1 makes version 3 of an older one", err)
		}
	}
	return img, nil
}

// untouched tells whether a path is a plain file with this one name that no process
// has open.
func untouched(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return errs.Invalidf("it is a symbolic link")
	case err != nil:
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errs.Invalidf("it is no plain file")
	}
	if st.Nlink != 1 {
		return errs.Invalidf("the file has %d names", st.Nlink)
	}
	// A lease for writing is given only to who alone has the file open.
	switch _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); {
	case errors.Is(err, unix.EAGAIN):
		return errs.Conflictf("the file is in use")
	case err == nil:
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return err
	}
	return nil // the filesystem has no leases; QEMU's own locks remain
}

// Adopt implements volumes.Adopter.
func (d *Driver) Adopt(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	dir, err := d.path(v)
	if err != nil {
		return err
	}
	pool := filepath.Dir(dir)
	if ok, err := d.Exists(ctx, v); err != nil {
		return err
	} else if ok {
		return d.adopted(dir)
	}
	img, err := inspectForeign(pool, name)
	if err != nil {
		return err
	}
	tmp := dir + newExt
	err = d.workDir(tmp)
	if err == nil {
		err = d.takeOver(ctx, tmp, v, filepath.Join(pool, foreignDir, name), img)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, adoptedFile), []byte(name), 0o600)
	}
	if err == nil {
		err = d.publish(tmp, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making volume %s of the file %s: %w", v.ID, name, err), os.RemoveAll(tmp))
	}
	return d.adopted(dir)
}

// takeOver makes the volume's file of a foreign one: a qcow2 file gets another name
// until the first one goes, a raw one is copied. Volumes have whole GiB.
func (d *Driver) takeOver(ctx context.Context, tmp string, v nodeapi.VolumeRef, path string, img blockdev.Base) error {
	target := filepath.Join(tmp, originFile)
	if err := errors.Join(os.Link(path, target), d.tools.Own(target)); err != nil {
		return err
	}
	if img.Format == blockdev.QCOW2 {
		if err := os.Rename(target, filepath.Join(tmp, file(v.ID))); err != nil {
			return err
		}
	} else if _, err := d.tools.Img(ctx, tmp, nil, "convert", "-f", "raw", "-O", "qcow2", originFile, file(v.ID)); err != nil {
		return err
	}
	const gib = 1 << 30
	return d.resize(ctx, tmp, v, (img.VirtualSize+gib-1)/gib*gib)
}

// adopted removes the foreign file that the volume was made of.
func (d *Driver) adopted(dir string) error {
	mark := filepath.Join(dir, adoptedFile)
	name, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	foreign := filepath.Join(filepath.Dir(dir), foreignDir)
	if err := os.Remove(filepath.Join(foreign, filepath.Base(string(name)))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(syncPath(foreign), os.Remove(mark))
}

// Release implements volumes.Adopter.
func (d *Driver) Release(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	dir, h, err := d.volume(v)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if h.crypt != 0 {
		return errs.Invalidf("volume %s is encrypted", v.ID)
	}
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return errs.Invalidf("%q is no name of a file", name)
	}
	if err := d.adopted(dir); err != nil {
		return err
	}
	if err := d.flatten(ctx, dir, v); err != nil {
		return fmt.Errorf("releasing volume %s: %w", v.ID, err)
	}
	foreign := filepath.Join(filepath.Dir(dir), foreignDir)
	from, to := filepath.Join(dir, file(v.ID)), filepath.Join(foreign, name)
	if err := os.Link(from, to); err != nil && !(errors.Is(err, fs.ErrExist) && same(from, to)) {
		return fmt.Errorf("releasing volume %s: %w", v.ID, err)
	}
	if err := syncPath(foreign); err != nil {
		return err
	}
	return d.Delete(ctx, v)
}

// flatten makes the volume's file one that needs no base.
func (d *Driver) flatten(ctx context.Context, dir string, v nodeapi.VolumeRef) error {
	under := filepath.Join(dir, base(v.ID))
	if _, err := os.Lstat(under); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err := d.change(ctx, dir, v, func() error {
		_, err := d.tools.Img(ctx, dir, nil, "rebase", "-q", "-f", "qcow2", "-b", "", file(v.ID))
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(under), syncPath(dir))
}
