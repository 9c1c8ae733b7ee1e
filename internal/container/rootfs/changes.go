package rootfs

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// Changes tells what an overlay's upper directory changes of the lower ones, the
// uppermost of which is the first. Directories that only something in them has
// changed are among them, as with dockerd.
func Changes(ctx context.Context, upper string, lower []string) ([]container.FilesystemChange, error) {
	out := []container.FilesystemChange{}
	told := map[string]bool{"/": true}
	tell := func(kind container.ChangeType, path string) {
		for p := filepath.Dir(path); !told[p]; p = filepath.Dir(p) {
			told[p] = true
			out = append(out, container.FilesystemChange{Kind: container.ChangeModify, Path: p})
		}
		told[path] = true
		out = append(out, container.FilesystemChange{Kind: kind, Path: path})
	}
	err := filepath.WalkDir(upper, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // removed meanwhile
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := "/" + strings.TrimPrefix(strings.TrimPrefix(path, upper), "/")
		if rel == "/" {
			return nil
		}
		fi, err := e.Info()
		if err != nil {
			return nil // likewise
		}
		old := below(lower, rel)
		switch {
		case whiteout(fi):
			if old != nil {
				tell(container.ChangeDelete, rel)
			}
		case old == nil:
			tell(container.ChangeAdd, rel)
		case !same(old, fi):
			tell(container.ChangeModify, rel)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b container.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return out, err
}

// same tells whether a directory is only here for what is in it.
func same(old, now fs.FileInfo) bool {
	return old.IsDir() && now.IsDir() && old.Mode() == now.Mode() && old.ModTime().Equal(now.ModTime())
}

// whiteout tells of the mark for what is not there any more.
func whiteout(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// below gives what the lower directories have at a path; nil: nothing.
func below(lower []string, rel string) fs.FileInfo {
	for _, dir := range lower {
		at := dir
		hides := false // this layer hides those below it
		for e := range strings.SplitSeq(strings.TrimPrefix(rel, "/"), "/") {
			at = filepath.Join(at, e)
			fi, err := os.Lstat(at)
			if err != nil {
				at = ""
				break
			}
			if whiteout(fi) {
				return nil
			}
			if !fi.IsDir() && at != dir+rel {
				return nil // a file in the place of a directory
			}
			hides = hides || fi.IsDir() && opaque(at)
		}
		if at != "" {
			if fi, err := os.Lstat(at); err == nil {
				return fi
			}
		}
		if hides {
			return nil
		}
	}
	return nil
}

// opaque tells of a directory that shows nothing of those below it.
func opaque(dir string) bool {
	var b [1]byte
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir, attr, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}
