package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/process"
	"github.com/strata-cloud/strata/internal/wait"
)

// Leases say until when each machine that runs under a lease may run. There is a
// file per machine, which outlives us and which the keeper reads: a process of its
// own that ends the machines whose lease has run out, whatever becomes of us.
type Leases struct {
	dir, machines string
	keeper        bool

	mu    sync.Mutex
	until map[string]time.Duration // as the files say
}

const (
	keeperLock = "lock"
	keeperLog  = "log"
)

// OpenLeases reads the leases in dir, of the machines in the directory machines.
// Without the keeper nobody but the caller ends machines.
func OpenLeases(dir, machines string, keeper bool) (*Leases, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the leases' directory: %w", err)
	}
	found, err := readLeases(dir)
	if err != nil {
		return nil, err
	}
	return &Leases{dir: dir, machines: machines, keeper: keeper, until: found}, nil
}

// LeaseClock is the clock that leases go by: it goes on while the host is suspended,
// and nobody can set it.
func LeaseClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every kernel that we run on has it
	}
	return time.Duration(t.Nano())
}

// leaseRecord is a file's content. It is always of one length and written in place,
// which takes no room on a full disk, and has the time twice: a reader that sees
// halves of two writes knows it.
func leaseRecord(until time.Duration) string {
	return fmt.Sprintf("%20d %20d %-36s\n", until, until, process.BootID())
}

// parseLease reads a record; false: it is being written. A lease of an earlier life
// of the host is over.
func parseLease(raw []byte) (until time.Duration, ok bool) {
	var again time.Duration
	var boot string
	if n, err := fmt.Sscan(string(raw), &until, &again, &boot); n != 3 || err != nil || until != again {
		return 0, false
	}
	if boot != process.BootID() {
		return 0, true
	}
	return until, true
}

func readLeases(dir string) (map[string]time.Duration, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]time.Duration{}
	for _, e := range entries {
		if !idPattern.MatchString(e.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // dropped just now
		}
		if until, ok := parseLease(raw); ok {
			out[e.Name()] = until
		}
	}
	return out, nil
}

// Extend lets the machine run until then. From the first call on it runs under a lease.
func (l *Leases) Extend(id string, until time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(l.dir, id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(leaseRecord(until)), 0)
	if err = errors.Join(err, f.Close()); err == nil {
		l.until[id] = until
	}
	return err
}

// Drop lets the machine run for as long as it likes.
func (l *Leases) Drop(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.until[id]; !ok {
		return nil
	}
	if err := os.Remove(filepath.Join(l.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(l.until, id)
	return nil
}

// Until gives the end of the machine's lease; false: it runs under none.
func (l *Leases) Until(id string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.until[id]
	return until, ok
}

// List names the machines that run under a lease.
func (l *Leases) List() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.until))
}

// keeperStart is how long the keeper may take to start on a busy host.
const keeperStart = 10 * time.Second

// Keep makes sure that the keeper is there.
func (l *Leases) Keep(ctx context.Context) error {
	if !l.keeper {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if there, err := kept(l.dir); there || err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(l.dir, keeperLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", keeperArgument, l.dir, l.machines)
	cmd.Args[0] = "strata"
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the keeper of leases: %w", err)
	}
	go cmd.Wait() // it ends after us, or there are no leases any more
	ctx, cancel := context.WithTimeout(ctx, keeperStart)
	defer cancel()
	return wait.Until(ctx, "the keeper of leases", 5*time.Millisecond, func(context.Context) (bool, error) { return kept(l.dir) })
}

// kept tells whether a keeper looks after the leases in dir.
func kept(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, keeperLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return true, nil
	}
	return false, err
}

// EndLeases lets all machines run on and waits for the keeper to end.
func EndLeases(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(dir, keeperLog)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if idPattern.MatchString(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, keeperEnd), nil, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, keeperStart)
	defer cancel()
	err = wait.Until(ctx, "the keeper of leases to end", 5*time.Millisecond, func(context.Context) (bool, error) {
		there, err := kept(dir)
		return !there, err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
