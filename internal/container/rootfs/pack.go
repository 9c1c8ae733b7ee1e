package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// Stat tells of what is at a path. A symbolic link that the path does not mean to
// follow tells where it leads to.
func (r *Root) Stat(name string) (container.PathStat, error) {
	abs, follow := absolute(name)
	at := abs
	if follow {
		var err error
		if at, err = r.resolve(abs); err != nil {
			return container.PathStat{}, err
		}
	}
	st, err := r.lstat(at)
	if err != nil {
		return container.PathStat{}, err
	}
	out := container.PathStat{Name: base(name), Size: st.Size, Mode: mode(st.Mode), Mtime: time.Unix(st.Mtim.Unix())}
	if follow && !out.Mode.IsDir() {
		return out, &fs.PathError{Op: "stat", Path: name, Err: unix.ENOTDIR}
	}
	if out.Mode&fs.ModeSymlink != 0 {
		out.LinkTarget, err = r.resolve(abs)
	}
	return out, err
}

// base is how clients call what is at a path: "." of FOO/., "/" of the root.
func base(name string) string {
	if abs, _ := absolute(name); abs != "/" && strings.HasSuffix(name, "/.") {
		return "."
	}
	return path.Base(path.Join("/", name))
}

// mode is a mode of the kernel as Go has it.
func mode(m uint32) fs.FileMode {
	out := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		out |= fs.ModeDir
	case unix.S_IFLNK:
		out |= fs.ModeSymlink
	case unix.S_IFIFO:
		out |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		out |= fs.ModeSocket
	case unix.S_IFCHR:
		out |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		out |= fs.ModeDevice
	}
	for bit, is := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if m&bit != 0 {
			out |= is
		}
	}
	return out
}

// Pack writes what is at a path, with all that is below, into an archive whose
// entries begin with the path's last element.
func (r *Root) Pack(w io.Writer, name string) error {
	at, follow := absolute(name)
	if follow {
		var err error
		if at, err = r.resolve(at); err != nil {
			return err
		}
	}
	dir, err := r.within(at)
	if err != nil {
		return err
	}
	defer dir.Close()
	p := packer{root: r, tar: tar.NewWriter(w), seen: map[inode]string{}}
	as := base(name)
	if as == "/" {
		as = ""
	}
	if err := p.add(dir, last(at), as); err != nil {
		return err
	}
	return p.tar.Close()
}

// PackAll writes all files of the root, by their paths.
func (r *Root) PackAll(w io.Writer) error {
	p := packer{root: r, tar: tar.NewWriter(w), seen: map[inode]string{}}
	dir, err := r.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := p.children(dir, ""); err != nil {
		return err
	}
	return p.tar.Close()
}

type inode struct{ dev, ino uint64 }

// packer writes one archive.
type packer struct {
	root *Root
	tar  *tar.Writer
	seen map[inode]string // names of files with several
}

// add writes the entry name of a directory under another name, and what is below it.
// What disappears meanwhile is left out.
func (p *packer) add(dir *os.File, name, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "lstat", Path: as, Err: err}
	}
	uid, gid := p.root.inside(st.Uid, st.Gid)
	h := &tar.Header{Name: as, Mode: int64(st.Mode & 0o7777), Uid: uid, Gid: gid, ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(dir, name, h)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		var err error
		if h.Linkname, err = readlinkat(dir, name); err != nil {
			return err
		}
		return p.tar.WriteHeader(h)
	case unix.S_IFSOCK:
		return nil // tar has none
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
		return p.tar.WriteHeader(h)
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		return p.tar.WriteHeader(h)
	}
	return p.file(dir, name, h)
}

func (p *packer) directory(dir *os.File, name string, h *tar.Header) error {
	d, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	as := h.Name
	h.Typeflag = tar.TypeDir
	h.Name += "/"
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	return p.children(d, as+"/")
}

func (p *packer) children(d *os.File, prefix string) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := p.add(d, n, prefix+n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// file writes a file; a second name of it is a link to the first.
func (p *packer) file(dir *os.File, name string, h *tar.Header) error {
	f, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // it was exchanged just now
	}
	if st.Nlink > 1 {
		if first, ok := p.seen[inode{st.Dev, st.Ino}]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.tar.WriteHeader(h)
		}
		p.seen[inode{st.Dev, st.Ino}] = h.Name
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	buf := make([]byte, 256)
	if n, err := unix.Fgetxattr(int(f.Fd()), capability, buf); err == nil {
		h.PAXRecords = map[string]string{paxXattr + capability: string(p.root.capabilityInside(buf[:n]))}
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	// One that shrinks or grows meanwhile has the size that was told.
	n, err := io.Copy(p.tar, io.LimitReader(f, st.Size))
	if err == nil && n < st.Size {
		_, err = io.CopyN(p.tar, zeroes{}, st.Size-n)
	}
	if err != nil {
		return fmt.Errorf("packing %s: %w", h.Name, err)
	}
	return nil
}

// An attribute of a file that makes it what it is, and how archives have it.
const (
	capability = "security.capability"
	paxXattr   = "SCHILY.xattr."
)

type zeroes struct{}

// Read implements io.Reader.
func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// openat opens an entry of a directory that is not a symbolic link.
func openat(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
