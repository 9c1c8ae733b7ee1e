package build

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// maxPadding bounds what follows the end of an archive.
const maxPadding = 1 << 20

// maxEntries bounds the number of a context's files.
const maxEntries = 2_000_000

// unpack writes a context into a directory. What the archive says never leads out of
// it: os.Root sees to that. Devices are left out, as a client leaves them out.
func unpack(r io.Reader, dir string) error {
	plain, err := compression.DecompressStream(bufio.NewReader(r))
	if err != nil {
		return errs.Invalidf("the build context cannot be read: %s", err)
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	room, err := space(dir)
	if err != nil {
		return err
	}
	in := tar.NewReader(plain)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) { // of the archive: padding may follow, which the client sends as well
			_, err := io.Copy(io.Discard, io.LimitReader(plain, maxPadding))
			return err
		}
		if err != nil {
			return errs.Invalidf("the build context cannot be read: %s", err)
		}
		if room -= h.Size; room < 0 || n > maxEntries {
			return errs.Invalidf("the build context does not fit here: %s is too much", h.Name)
		}
		if err := entry(root, h, in); err != nil {
			return err
		}
	}
}

// space is how much may be written to a directory: most of what is free.
func space(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize / 10 * 9, nil
}

// entry writes one of the archive's.
func entry(root *os.Root, h *tar.Header, in io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil
	}
	if !filepath.IsLocal(name) {
		return errs.Invalidf("the build context leads out of its directory: %s", h.Name)
	}
	err := write(root, name, h, in)
	var pe *fs.PathError
	var le *os.LinkError
	if errors.As(err, &pe) && !errors.Is(err, syscall.ENOSPC) || errors.As(err, &le) {
		return errs.Invalidf("the build context cannot be unpacked: %s: %s", h.Name, err)
	}
	return err
}

func write(root *os.Root, name string, h *tar.Header, in io.Reader) error {
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	switch h.Typeflag {
	case tar.TypeDir:
		if fi, err := root.Lstat(name); err == nil && !fi.IsDir() {
			if err := root.Remove(name); err != nil {
				return err
			}
		}
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
	case tar.TypeReg:
		if err := file(root, name, in); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := vacate(root, name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		to := path.Clean(strings.TrimLeft(h.Linkname, "/"))
		if !filepath.IsLocal(to) {
			return errs.Invalidf("the build context leads out of its directory: %s is a link to %s", h.Name, h.Linkname)
		}
		if err := vacate(root, name); err != nil {
			return err
		}
		return root.Link(to, name)
	default:
		return nil
	}
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	at := h.ModTime
	if at.Unix() < 0 {
		at = time.Unix(0, 0)
	}
	return root.Chtimes(name, at, at)
}

// vacate removes what has the name of an entry that comes later.
func vacate(root *os.Root, name string) error {
	if err := root.RemoveAll(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// file writes contents.
func file(root *os.Root, name string, in io.Reader) error {
	if err := vacate(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		return errors.Join(fmt.Errorf("unpacking %s: %w", name, err), f.Close())
	}
	return f.Close()
}
