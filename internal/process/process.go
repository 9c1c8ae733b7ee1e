// Package process names processes that outlive ours, so that the next run of the program
// finds the very same ones again.
package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ID names a process for good: a pid alone is used again.
type ID struct {
	PID    int    `json:"pid"`
	Start  string `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	BootID string `json:"boot_id"`
}

// Identify names the process that has the pid now.
func Identify(pid int) (ID, error) {
	start, err := startTime(pid)
	return ID{PID: pid, Start: start, BootID: BootID()}, err
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

// Alive tells whether this very process is there and not a zombie.
func (p ID) Alive() bool {
	if p.PID <= 0 || p.BootID != BootID() {
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

// Wait returns a channel that says true when the process has ended, or false
// when the returned function was called before. The wait costs no thread.
func (p ID) Wait() (<-chan bool, func(), error) {
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

// Kill ends the process without mercy, when it is still this one.
func (p ID) Kill() error { return p.Signal(unix.SIGKILL) }

// Signal sends a signal to the process, when it is still this one.
func (p ID) Signal(s syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	if start, err := startTime(p.PID); err != nil || start != p.Start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// BootID names the time since the machine started; empty: the kernel does not say.
func BootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Uptime is the process's age in seconds.
func (p ID) Uptime() (int64, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	now, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
	if err != nil {
		return 0, err
	}
	start, err := strconv.ParseFloat(p.Start, 64)
	return int64(now - start/100), err
}

// ResidentMiB is the process's memory.
func (p ID) ResidentMiB() (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		return 0, err
	}
	var size, resident int
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0, err
	}
	return resident * os.Getpagesize() >> 20, nil
}
