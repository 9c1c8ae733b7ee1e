package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Owner is who is to own files.
type Owner struct{ UID, GID int }

// UnpackOptions are how an archive is unpacked.
type UnpackOptions struct {
	KeepKind bool   // a directory does not replace anything else, nor anything else a directory
	Owner    *Owner // instead of those that the archive names
}

// ErrNotDirectory says that a path that archives are to be unpacked at is none.
var ErrNotDirectory = errors.New("extraction point is not a directory")

// ErrReadOnly says that nothing may be written there.
var ErrReadOnly = errors.New("file system is read-only")

// BadArchive is a fault of an archive.
type BadArchive struct{ error }

// Unwrap gives the fault.
func (b BadArchive) Unwrap() error { return b.error }

// Unpack puts the files of an archive into the directory that a path leads to.
func (r *Root) Unpack(from io.Reader, name string, o UnpackOptions) error {
	to, err := r.resolve(path.Join("/", name))
	if err != nil {
		return err
	}
	st, err := r.lstat(to)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ErrNotDirectory
	}
	if err := r.writable(to); err != nil {
		return err
	}
	u := unpacker{root: r, to: to, opt: o}
	t := tar.NewReader(from)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return BadArchive{fmt.Errorf("reading the archive: %w", err)}
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("unpacking %s: %w", h.Name, err)
		}
	}
}

// writable tells whether the file system at a directory is mounted so.
func (r *Root) writable(dir string) error {
	d, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &s); err != nil {
		return err
	}
	if s.Flags&unix.ST_RDONLY != 0 {
		return ErrReadOnly
	}
	return nil
}

// unpacker unpacks one archive.
type unpacker struct {
	root *Root
	to   string
	opt  UnpackOptions
	dirs []*tar.Header // whose times are set last
}

func (u *unpacker) path(h *tar.Header) string { return path.Join(u.to, path.Join("/", h.Name)) }

// entry makes one file.
func (u *unpacker) entry(h *tar.Header, data io.Reader) error {
	at := u.path(h)
	dir, err := u.root.within(at)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.mkdirs(path.Dir(at)); err != nil {
			return err
		}
		dir, err = u.root.within(at)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	name := last(at)
	if at == u.to && h.Typeflag != tar.TypeDir {
		return BadArchive{errors.New("it has no name")}
	}
	if exists, err := u.clear(dir, name, h); err != nil || exists && at == u.to {
		return err // the directory that all goes into stays as it is
	}
	owner, err := u.owner(h)
	if err != nil {
		return err
	}
	if err := u.make(dir, name, h, data); err != nil {
		return err
	}
	return u.dress(dir, name, h, owner)
}

// owner is who gets an entry.
func (u *unpacker) owner(h *tar.Header) (Owner, error) {
	if u.opt.Owner != nil {
		return u.root.outside(*u.opt.Owner)
	}
	return u.root.outside(Owner{h.Uid, h.Gid})
}

// clear makes room for an entry; exists tells of a directory that stays.
func (u *unpacker) clear(dir *os.File, name string, h *tar.Header) (exists bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, err
	}
	is, becomes := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case is && becomes:
		return true, nil
	case u.opt.KeepKind && is:
		return false, BadArchive{fmt.Errorf("cannot overwrite directory %q with non-directory %q", u.path(h), u.to)}
	case u.opt.KeepKind && becomes:
		return false, BadArchive{fmt.Errorf("cannot overwrite non-directory %q with directory %q", u.path(h), u.to)}
	case is:
		return false, removeAll(dir, name)
	}
	return false, unix.Unlinkat(int(dir.Fd()), name, 0)
}

// removeAll removes a directory of a directory with all that is below.
func removeAll(dir *os.File, name string) error {
	d, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		err := unix.Unlinkat(int(d.Fd()), n, 0)
		if errors.Is(err, unix.EISDIR) {
			err = removeAll(d, n)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &fs.PathError{Op: "remove", Path: n, Err: err}
		}
	}
	return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
}

func (u *unpacker) make(dir *os.File, name string, h *tar.Header, data io.Reader) error {
	fd, perm := int(dir.Fd()), uint32(h.Mode&0o7777)
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
		if err := unix.Mkdirat(fd, name, perm); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case tar.TypeReg:
		f, err := openFile(dir, name, perm)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, data)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, fd, name)
	case tar.TypeLink:
		target := path.Join(u.to, path.Join("/", h.Linkname))
		from, err := u.root.within(target)
		if err != nil {
			return err
		}
		defer from.Close()
		return unix.Linkat(int(from.Fd()), last(target), fd, name, 0)
	case tar.TypeFifo:
		return unix.Mknodat(fd, name, unix.S_IFIFO|perm, 0)
	case tar.TypeChar:
		return unix.Mknodat(fd, name, unix.S_IFCHR|perm, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeBlock:
		return unix.Mknodat(fd, name, unix.S_IFBLK|perm, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeXGlobalHeader:
		return nil
	}
	return BadArchive{fmt.Errorf("an entry of the unknown kind %q", h.Typeflag)}
}

func openFile(dir *os.File, name string, perm uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// dress sets an entry's owner, permissions, times and attributes.
func (u *unpacker) dress(dir *os.File, name string, h *tar.Header, owner Owner) error {
	if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	fd := int(dir.Fd())
	if err := unix.Fchownat(fd, name, owner.UID, owner.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := chmod(dir, name, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	if v := h.PAXRecords[paxXattr+capability]; v != "" && h.Typeflag == tar.TypeReg {
		f, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Fsetxattr(int(f.Fd()), capability, u.root.capabilityOutside([]byte(v)), 0); err != nil {
			return err
		}
	}
	return times(dir, name, h)
}

// chmod sets permissions of what is no symbolic link, even if it becomes one just now.
func chmod(dir *os.File, name string, perm uint32) error {
	err := unix.Fchmodat(int(dir.Fd()), name, perm, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	f, err := openat(dir, name, unix.O_PATH) // kernels before 6.6
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), perm)
}

func times(dir *os.File, name string, h *tar.Header) error {
	at := h.AccessTime
	if at.Before(h.ModTime) {
		at = h.ModTime
	}
	var ts [2]unix.Timespec
	for i, t := range []int64{at.UnixNano(), h.ModTime.UnixNano()} {
		ts[i] = unix.NsecToTimespec(t)
	}
	return unix.UtimesNanoAt(int(dir.Fd()), name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets the times of directories, which what was put into them has changed.
func (u *unpacker) finish() error {
	for _, h := range u.dirs {
		dir, err := u.root.within(u.path(h))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a later entry took its place
		}
		if err != nil {
			return err
		}
		err = times(dir, last(u.path(h)), h)
		dir.Close()
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// mkdirs makes a directory and those above it.
func (r *Root) mkdirs(name string) error {
	if name == "/" {
		return nil
	}
	dir, err := r.within(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.mkdirs(path.Dir(name)); err != nil {
			return err
		}
		dir, err = r.within(name)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), last(name), 0o755)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return r.give(dir, last(name))
}
