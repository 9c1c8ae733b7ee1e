package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where named namespaces live, shared with ip-netns(8).
const Dir = "/run/netns"

// NS is an open network namespace. It is safe for use by several goroutines.
type NS struct {
	Name string

	file *os.File

	mu sync.Mutex
	nl *netlink.Handle
}

// Ensure opens the namespace called name and makes it first when it is absent.
// made tells whether it was.
func Ensure(name string) (ns *NS, made bool, err error) { return ensure(name, pinNew) }

func ensure(name string, pin func(path string) error) (ns *NS, made bool, err error) {
	ns, err = Open(name)
	if err == nil {
		return ns, false, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	if err := create(name, pin); err != nil {
		return nil, false, fmt.Errorf("making network namespace %s: %w", name, err)
	}
	ns, err = Open(name)
	return ns, true, err
}

// Open opens an existing namespace; the error wraps os.ErrNotExist when there
// is none. A file that is left of a namespace whose mount is gone counts as none.
func Open(name string) (*NS, error) { return OpenFile(name, filepath.Join(Dir, name)) }

// OpenFile opens the namespace that someone else has pinned to a file, and gives it a name
// for messages. Its errors are Open's.
func OpenFile(name, path string) (*NS, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("network namespace %s: %w", name, os.ErrNotExist)
	}
	return &NS{Name: name, file: f}, nil
}

// Current is the namespace that this process runs in: the host's.
func Current() (*NS, error) {
	// Not /proc/self, which is the main thread: Do may have borrowed it.
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("opening the host's network namespace: %w", err)
	}
	return &NS{Name: "host", file: f}, nil
}

// Remove deletes the name. The namespace itself goes when its last process and
// socket have gone. An absent name is no error.
func Remove(name string) error {
	path := filepath.Join(Dir, name)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err == nil {
			continue // it may be mounted more than once
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		return fmt.Errorf("unmounting network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing network namespace %s: %w", name, err)
	}
	return nil
}

// Alias gives a namespace another name besides.
func Alias(name, also string) error {
	path := filepath.Join(Dir, also)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(filepath.Join(Dir, name), path, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("calling network namespace %s %s: %w", name, also, err), os.Remove(path))
	}
	return nil
}

// List gives the names of the namespaces that begin with prefix, sorted.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// FD is the namespace's file descriptor, valid until Close.
func (n *NS) FD() int { return int(n.file.Fd()) }

// Inode identifies the namespace among those of the machine.
func (n *NS) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.FD(), &st); err != nil {
		return 0, fmt.Errorf("inode of network namespace %s: %w", n.Name, err)
	}
	return st.Ino, nil
}

// Do runs f on an OS thread that is inside the namespace and waits for it.
// f must not start goroutines that rely on being inside.
func (n *NS) Do(f func() error) error {
	return away(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// away runs f, which changes its thread's namespace, on a locked thread and
// brings the thread home. A thread that cannot go home ends with its goroutine.
func away(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("opening the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Link is a netlink handle that works in the namespace, made at first use.
func (n *NS) Link() (*netlink.Handle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nl == nil {
		h, err := netlink.NewHandleAt(vnetns.NsHandle(n.FD()), unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("opening netlink in %s: %w", n.Name, err)
		}
		n.nl = h
	}
	return n.nl, nil
}

// Sysctl sets a value such as "net/ipv4/ip_forward" inside the namespace.
func (n *NS) Sysctl(key, value string) error {
	return n.Do(func() error {
		path := filepath.Join("/proc/sys", key)
		if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
			return nil
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s in %s: %w", key, n.Name, err)
		}
		return nil
	})
}

// Close closes the handle; the namespace stays.
func (n *NS) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nl != nil {
		n.nl.Close()
		n.nl = nil
	}
	return n.file.Close()
}

// create makes a namespace, which pin binds to a file.
func create(name string, pin func(path string) error) error {
	if err := shareDir(); err != nil {
		return err
	}
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := pin(path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// pinNew makes a namespace on a thread of its own.
func pinNew(path string) error {
	return away(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
	})
}

// shareDir makes Dir a shared mount of itself, as ip-netns(8) does: a name
// that is removed in one mount namespace then goes away in all of them.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
}
