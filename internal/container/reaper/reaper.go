// Package reaper is the first process of a container with --init: it runs the
// command, passes signals on to it and takes the exit status of every process whose
// parent has gone, which would stay a zombie otherwise. It ends with the command.
//
// It is in the shim's program under another name, so that there is nothing more to
// install.
package reaper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Path is where a container finds the program.
const Path = "/sbin/docker-init"

// Main runs the command after "--" and gives its exit code.
func Main(args []string, errs io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(errs, "docker-init: no command")
		return 1
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // before the command begins: none is lost
	path, err := exec.LookPath(args[0])
	var pid int
	if err == nil {
		pid, err = syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attributes()})
	}
	if err != nil {
		fmt.Fprintf(errs, "docker-init: exec %s failed: %s\n", args[0], err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return 127
		}
		return 126
	}
	for s := range signals {
		switch s {
		case unix.SIGCHLD:
			if code, ended := reap(pid); ended {
				return code
			}
		case unix.SIGURG: // Go's own
		default:
			syscall.Kill(pid, s.(syscall.Signal))
		}
	}
	return 0
}

// attributes give the command a group of its own, which has the terminal if there is one.
func attributes() *syscall.SysProcAttr {
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return &syscall.SysProcAttr{Setpgid: true, Foreground: err == nil}
}

// reap takes the status of all that have ended.
func reap(child int) (code int, ended bool) {
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return code, ended
		}
		if pid != child {
			continue
		}
		code, ended = st.ExitStatus(), true
		if st.Signaled() {
			code = 128 + int(st.Signal())
		}
	}
}
