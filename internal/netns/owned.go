package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owner is whom a namespace belongs to: the root of a user namespace, who may change
// everything in it, and nothing outside.
type Owner struct {
	Within     *os.File               // the user namespace; nil: one is made
	UIDs, GIDs []syscall.SysProcIDMap // of the host, in one that is made
}

// EnsureOwned is Ensure for a namespace that, if it has to be made, belongs to an owner.
// The user namespace is there for as long as the network namespace is.
func EnsureOwned(name string, o Owner) (ns *NS, made bool, err error) { return ensure(name, o.pin) }

// pin makes the two namespaces by a process that ends before its first instruction: only
// a process of one thread could enter a user namespace, and we have several.
func (o Owner) pin(path string) error {
	if o.Within != nil {
		return o.pinWithin(path)
	}
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

// pinWithin makes a network namespace in a user namespace that is there, by programs of
// one thread. What cat says again it says in that namespace.
func (o Owner) pinWithin(path string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var problem bytes.Buffer
	c := exec.Command("nsenter", "--user=/proc/self/fd/3", "unshare", "--net", "cat")
	c.Stderr, c.ExtraFiles = &problem, []*os.File{o.Within}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	_, err = in.Write([]byte{0})
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, 1))
	}
	if err == nil {
		err = unix.Mount(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid), path, "none", unix.MS_BIND, "")
	}
	err = errors.Join(err, in.Close(), c.Wait())
	if err != nil {
		return fmt.Errorf("making a network namespace in a user namespace: %w: %s", err, bytes.TrimSpace(problem.Bytes()))
	}
	return nil
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
