package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Base is an image that disks are based on. Nothing writes to it.
type Base struct {
	Path        string
	Format      Format // Raw, QCOW2, or ISO, which is used as it is
	VirtualSize int64
}

// EnsureBase makes the base of an image at target: QEMU's own formats are
// linked (or copied), others are converted to qcow2. Unsafe images are refused
// with errs.Invalid.
func EnsureBase(ctx context.Context, source, target string) (Base, error) {
	if b, err := InspectBase(target); err == nil {
		return b, nil
	}
	f, err := os.Open(source)
	if err != nil {
		return Base{}, fmt.Errorf("opening an image: %w", err)
	}
	defer f.Close()
	img, err := inspectFile(f)
	if err != nil {
		return Base{}, fmt.Errorf("reading an image: %w", err)
	}
	if err := img.Safe(); err != nil {
		return Base{}, err
	}
	tmp := target + ".new"
	os.Remove(tmp)
	switch img.Format {
	case Raw, QCOW2, ISO:
		err = LinkOrCopy(ctx, source, tmp)
	default:
		err = run(ctx, "", "qemu-img", "convert", "-f", qemuName(img.Format), "-O", "qcow2", source, tmp)
	}
	if err == nil {
		err = os.Chmod(tmp, 0o644) // QEMU's user reads it
	}
	if err == nil {
		err = os.Rename(tmp, target)
	}
	if err != nil {
		os.Remove(tmp)
		return Base{}, fmt.Errorf("preparing an image: %w", err)
	}
	return InspectBase(target)
}

// qemuName is QEMU's name of a format.
func qemuName(f Format) string {
	if f == VHD {
		return "vpc"
	}
	return string(f)
}

// InspectBase tells what a base image in place is; unsafe ones are errs.Invalid.
func InspectBase(path string) (Base, error) {
	f, err := os.Open(path)
	if err != nil {
		return Base{}, err
	}
	defer f.Close()
	img, err := inspectFile(f)
	if err != nil {
		return Base{}, err
	}
	return Base{Path: path, Format: img.Format, VirtualSize: img.VirtualSize}, img.Safe()
}

// inspectFile reads only what an inspection needs of a file: its head, its
// tail and what the headers point to.
func inspectFile(f *os.File) (Image, error) {
	st, err := f.Stat()
	if err != nil {
		return Image{}, err
	}
	in := NewInspector()
	if _, err := io.Copy(in, io.NewSectionReader(f, 0, headSize)); err != nil {
		return Image{}, err
	}
	if in.want > 0 && in.from >= headSize {
		in.region = make([]byte, in.want)
		n, err := f.ReadAt(in.region, in.from)
		if err != nil && err != io.EOF {
			return Image{}, err
		}
		in.region = in.region[:n]
	}
	if st.Size() > headSize {
		in.tail = make([]byte, footerSize)
		if _, err := f.ReadAt(in.tail, st.Size()-footerSize); err != nil {
			return Image{}, err
		}
	}
	in.size = st.Size()
	return in.Result(), nil
}

// EnsureRoot makes the disk dir/name of size bytes on the base; with size 0 it
// is as large as the base. The base must fit: errs.Invalid otherwise.
func EnsureRoot(ctx context.Context, dir, name string, base Base, size int64) error {
	if size == 0 {
		size = base.VirtualSize
	}
	if size < base.VirtualSize {
		return errs.Invalidf("the image needs a disk of %d bytes, and the disk has %d", base.VirtualSize, size)
	}
	if base.Format != Raw && base.Format != QCOW2 {
		return errs.Invalidf("a disk cannot be based on an image of format %s", base.Format)
	}
	link := name + ".base"
	err := create(dir, name, func(tmp string) error {
		os.Remove(filepath.Join(dir, link))
		if err := LinkOrCopy(ctx, base.Path, filepath.Join(dir, link)); err != nil {
			return err
		}
		return run(ctx, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-b", link, "-F", string(base.Format),
			filepath.Base(tmp), strconv.FormatInt(size, 10))
	})
	if err != nil {
		return fmt.Errorf("making disk %s: %w", name, err)
	}
	return nil
}

// EnsureLinked puts an image that is used as it is, such as an ISO, into dir.
func EnsureLinked(ctx context.Context, dir, name string, base Base) error {
	return create(dir, name, func(tmp string) error { return LinkOrCopy(ctx, base.Path, tmp) })
}

// Content is what an empty disk has on it.
type Content string

// The contents.
const (
	Blank Content = ""
	Ext4  Content = "ext4"
	Swap  Content = "swap"
)

// EnsureEmpty makes the raw, sparse disk dir/name with a filesystem or swap
// space on it. label is the filesystem's.
func EnsureEmpty(ctx context.Context, dir, name string, size int64, content Content, label string) error {
	if size <= 0 {
		return errs.Invalidf("a disk of %d bytes cannot be made", size)
	}
	err := create(dir, name, func(tmp string) error {
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return err
		}
		switch content {
		case Ext4:
			return run(ctx, dir, "mke2fs", "-q", "-F", "-t", "ext4", "-L", label, filepath.Base(tmp))
		case Swap:
			return run(ctx, dir, "mkswap", "-q", "-L", label, filepath.Base(tmp))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("making disk %s: %w", name, err)
	}
	return nil
}

// Grow makes the disk at least size bytes large while no machine uses it; it
// never makes one smaller.
func Grow(ctx context.Context, path string, format Format, size int64) error {
	base, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("growing a disk: %w", err)
	}
	img, err := inspectFile(base)
	base.Close()
	if err != nil {
		return fmt.Errorf("growing a disk: %w", err)
	}
	if img.VirtualSize >= size { // an overlay's backing file makes it unsafe for tenants only
		return nil
	}
	return run(ctx, "", "qemu-img", "resize", "-q", "-f", string(format), path, strconv.FormatInt(size, 10))
}

// Remove removes the disk dir/name and its link to the base.
func Remove(dir, name string) error {
	for _, n := range []string{name, name + ".base", name + ".new"} {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing disk %s: %w", name, err)
		}
	}
	return nil
}

// create makes dir/name by way of a temporary name, unless it is there.
func create(dir, name string, fill func(tmp string) error) error {
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return errs.Invalidf("%q is no name of a disk", name)
	}
	target := filepath.Join(dir, name)
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	tmp := target + ".new"
	os.Remove(tmp)
	err := fill(tmp)
	if err == nil {
		err = os.Rename(tmp, target)
	}
	if err != nil {
		os.Remove(tmp)
		os.Remove(target + ".base")
	}
	return err
}

// LinkOrCopy makes a hard link, or a sparse copy on another file system.
func LinkOrCopy(ctx context.Context, from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	return run(ctx, "", "cp", "--sparse=always", "--reflink=auto", "--", from, to)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return fmt.Errorf("the program %s is missing: install the package %s", name, packageOf(name))
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// packageOf is the Debian package that has the program.
func packageOf(program string) string {
	return map[string]string{"qemu-img": "qemu-utils", "mke2fs": "e2fsprogs", "mkswap": "util-linux", "cp": "coreutils"}[program]
}
