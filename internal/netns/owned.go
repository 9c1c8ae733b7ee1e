package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owner is whom a namespace belongs to: the root of a user namespace that is made with
// it, whose ids are these of the host. That root may change everything in the namespace,
// and nothing outside.
type Owner struct{ UIDs, GIDs []syscall.SysProcIDMap }

// EnsureOwned is Ensure for a namespace that, if it has to be made, gets an owner of its own.
// The user namespace is there for as long as the network namespace is.
func EnsureOwned(name string, o Owner) (ns *NS, made bool, err error) { return ensure(name, o.pin) }

// pin makes the two namespaces by a process that ends before its first instruction: only
// a process of one thread could enter a user namespace, and we have several.
func (o Owner) pin(path string) error {
	runtime.LockOSThread() // who traces a process is a thread, with which the process ends
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"strata-space"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: o.UIDs, GidMappings: o.GIDs, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return fmt.Errorf("making a user namespace (sysctl user.max_user_namespaces bounds how many there are): %w", err)
	}
	err = unix.Mount(fmt.Sprintf("/proc/%d/ns/net", p.Pid), path, "none", unix.MS_BIND, "")
	err = errors.Join(err, p.Kill())
	_, werr := p.Wait()
	return errors.Join(err, werr)
}

// UserNamespace opens the user namespace that another namespace, by its path, belongs to.
func UserNamespace(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, fmt.Errorf("whom the namespace %s belongs to: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "user namespace of "+path), nil
}
