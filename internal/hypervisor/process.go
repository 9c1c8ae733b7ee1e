package hypervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proc names a process for good: a pid alone is used again.
type proc struct {
	PID    int    `json:"pid"`
	Start  string `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	BootID string `json:"boot_id"`
}

func identify(pid int) (proc, error) {
	start, err := startTime(pid)
	return proc{PID: pid, Start: start, BootID: bootID()}, err
}

func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name, in parentheses, may have anything in it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("process %d has a strange stat file", pid)
	}
	return fields[19], nil
}

// alive tells whether this very process is there and not a zombie.
func (p proc) alive() bool {
	if p.PID <= 0 || p.BootID != bootID() {
		return false
	}
	start, err := startTime(p.PID)
	if err != nil || start != p.Start {
		return false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/stat")
	i := bytes.LastIndexByte(data, ')')
	return err == nil && i+2 < len(data) && data[i+2] != 'Z'
}

// wait returns a channel that says true when the process has ended, or false
// when the returned function was called before. The wait costs no thread.
func (p proc) wait() (<-chan bool, func(), error) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watching process %d: %w", p.PID, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	ended := make(chan bool, 1)
	go func() {
		defer file.Close()
		gone := false
		err := raw.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, 0)
			gone = err == nil && n > 0
			return gone
		})
		ended <- err == nil && gone
	}()
	return ended, func() { file.Close() }, nil
}

// kill ends the process without mercy, when it is still this one.
func (p proc) kill() error {
	if !p.alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if start, err := startTime(p.PID); err != nil || start != p.Start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// lastLog is the end of QEMU's own complaints, for an error's text.
func lastLog(path string) string {
	data, err := os.ReadFile(path)
	text := strings.TrimSpace(string(data[max(0, len(data)-500):]))
	if err != nil || text == "" {
		return ""
	}
	return ": " + text
}
