package shim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// turns has few containers be made, or taken away, at the same time by all shims of a worker:
// so many files in a directory are locked in turn. What is begun ends soon then, and
// processors do not spend most of their time on namespaces that are half made.
type turns struct {
	runc.ProcessMonitor
	dir  string
	most int

	mu   sync.Mutex
	held map[*exec.Cmd]*os.File
}

func newTurns(dir string, inner runc.ProcessMonitor) *turns {
	return &turns{ProcessMonitor: inner, dir: dir, most: 2 * runtime.NumCPU(), held: map[*exec.Cmd]*os.File{}}
}

// Start implements runc.ProcessMonitor.
func (t *turns) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	return t.begin(cmd, t.ProcessMonitor.Start)
}

// StartLocked implements runc.ProcessMonitor.
func (t *turns) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) {
	return t.begin(cmd, t.ProcessMonitor.StartLocked)
}

func (t *turns) begin(cmd *exec.Cmd, start func(*exec.Cmd) (chan runc.Exit, error)) (chan runc.Exit, error) {
	if _, what := subcommand(cmd.Args); what != "create" && what != "delete" {
		return start(cmd)
	}
	f, err := t.take()
	if err != nil {
		return nil, fmt.Errorf("waiting for other containers: %w", err)
	}
	ec, err := start(cmd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[cmd] = f
	return ec, nil
}

// Wait implements runc.ProcessMonitor.
func (t *turns) Wait(cmd *exec.Cmd, ec chan runc.Exit) (int, error) {
	code, err := t.ProcessMonitor.Wait(cmd, ec)
	t.mu.Lock()
	f := t.held[cmd]
	delete(t.held, cmd)
	t.mu.Unlock()
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	return code, err
}

// take waits for a turn, which ends when the file is closed: also by a shim that is killed.
func (t *turns) take() (*os.File, error) {
	first := rand.IntN(t.most)
	for i := range t.most {
		f, err := t.lock((first+i)%t.most, unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
	}
	return t.lock(first, 0)
}

func (t *turns) lock(slot, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(t.dir, fmt.Sprint(slot)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
	}
}
