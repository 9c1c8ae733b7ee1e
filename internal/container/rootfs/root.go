package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/idmap"
)

// Root is a tree of files that a container sees.
type Root struct {
	dir  *os.File
	done chan struct{} // ends the thread that has it mounted; nil: it is not ours
	ids  *idmap.Map    // whom its owners stand for; nil: they are as archives have them
}

// Shifted tells that who owns the files stands for another within the container.
func (r *Root) Shifted(m *idmap.Map) *Root {
	if r != nil {
		r.ids = m
	}
	return r
}

// Open opens the tree below a directory, such as /proc/PID/root.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Root{dir: f}, nil
}

// Mount opens a tree that mount makes at dir. No one else sees what it mounts, and
// Close ends it.
func Mount(dir string, mount func(dir string) error) (*Root, error) {
	r := &Root{done: make(chan struct{})}
	ready := make(chan error)
	go r.keep(ready, dir, mount)
	if err := <-ready; err != nil {
		return nil, err
	}
	return r, nil
}

// keep has the tree mounted until Close. Its thread ends with it, and with that the
// namespace; the first thread of a program never ends, and is left alone.
func (r *Root) keep(ready chan<- error, dir string, mount func(string) error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		again := make(chan error)
		go r.keep(again, dir, mount)
		ready <- <-again
		return
	}
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") // what the host unmounts is not kept
	}
	if err != nil {
		ready <- fmt.Errorf("a mount namespace: %w", err)
		return
	}
	if err := mount(dir); err != nil {
		ready <- err
		return
	}
	r.dir, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	ready <- err
	if err == nil {
		<-r.done
	}
}

// Close ends the view.
func (r *Root) Close() error {
	err := r.dir.Close()
	if r.done != nil {
		close(r.done)
	}
	return err
}

// open opens what a path leads to within the root.
func (r *Root) open(name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(r.dir.Fd()), "./"+strings.TrimLeft(name, "/"), &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // something was renamed meanwhile
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// within opens the directory that an absolute, clean path is in.
func (r *Root) within(name string) (*os.File, error) {
	return r.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
}

// lstat tells of what is at a path, which itself is not followed.
func (r *Root) lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	dir, err := r.within(name)
	if err != nil {
		return st, err
	}
	defer dir.Close()
	err = unix.Fstatat(int(dir.Fd()), last(name), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return st, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return st, nil
}

// last is the last element of a clean path, "." of the root.
func last(name string) string {
	if b := path.Base(name); b != "/" {
		return b
	}
	return "."
}

// maxLinks is how many links a path may have, as in the kernel.
const maxLinks = 40

// resolve gives the path without symbolic links. What does not exist has none.
func (r *Root) resolve(name string) (string, error) {
	at, rest, links := "/", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		e := rest[0]
		rest = rest[1:]
		next := path.Join(at, e)
		if e == "" || e == "." || e == ".." {
			at = next
			continue
		}
		to, err := r.readlink(next)
		if err != nil {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return at, nil
}

func (r *Root) readlink(name string) (string, error) {
	dir, err := r.within(name)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return readlinkat(dir, last(name))
}

func readlinkat(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// absolute is a client's path as an absolute one, and whether it means what the last
// element leads to, as one that ends in a slash or a dot does.
func absolute(name string) (abs string, follow bool) {
	return path.Join("/", name), name == "." || strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
}
