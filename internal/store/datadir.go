package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// LockDir makes the data directory and takes its lock, which ends with the
// process however it ends. Conflict: another process has it.
func LockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("closing the data directory to others: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(lockError(dir, path, err), f.Close())
	}
	if err := errors.Join(f.Truncate(0), writePid(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the lock of %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func writePid(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

func lockError(dir, path string, err error) error {
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	pid, rerr := os.ReadFile(path)
	holder := strings.TrimSpace(string(pid))
	if rerr != nil || holder == "" {
		holder = "unknown"
	}
	return errs.Conflictf("data directory %s is in use by the process with pid %s; stop it or choose another directory", dir, holder)
}

// creating marks a store that is being made. etcd cannot go on from a log that was
// created but never had its first entries, so a first start that was killed is
// begun anew: nothing can have been acknowledged while the mark is there.
const creating = "creating"

// beginFirst tells whether dir has no store yet, removing the remains of one
// that was not finished.
func beginFirst(dir string) (bool, error) {
	mark, data := filepath.Join(dir, creating), filepath.Join(dir, "etcd")
	if _, err := os.Stat(mark); err == nil {
		if err := os.RemoveAll(data); err != nil {
			return false, fmt.Errorf("removing the unfinished store: %w", err)
		}
	}
	if _, err := os.Stat(data); err == nil {
		return false, nil
	}
	if err := errors.Join(os.WriteFile(mark, nil, 0o600), syncDir(dir)); err != nil {
		return false, fmt.Errorf("beginning a store in %s: %w", dir, err)
	}
	return true, nil
}

// endFirst takes the mark away, durably, before anything is acknowledged.
func endFirst(dir string) error {
	if err := errors.Join(os.Remove(filepath.Join(dir, creating)), syncDir(dir)); err != nil {
		return fmt.Errorf("finishing the store in %s: %w", dir, err)
	}
	return nil
}

// etcd dies when it cannot make the next 64 MiB segment of its log, so writes are
// refused before: new data below minFree, and what makes room below leastFree.
const (
	minFree   = 160 << 20
	leastFree = 96 << 20
)

type freeingKey struct{}

// Freeing marks work that makes room in the end, such as a deletion, or that was
// accepted before: it may still write when the disk is too full for new data.
func Freeing(ctx context.Context) context.Context {
	return context.WithValue(ctx, freeingKey{}, true)
}

func isFreeing(ctx context.Context) bool { return ctx.Value(freeingKey{}) != nil }

// spaceGuard refuses new data on a full disk.
type spaceGuard struct {
	dir  string
	free func(dir string) (uint64, error) // bytes
	mu   sync.Mutex
	at   time.Time
	left uint64
	err  error
}

func newSpaceGuard(dir string) *spaceGuard { return &spaceGuard{dir: dir, free: freeSpace} }

// check says whether so much room is left, looking at most once a second.
func (g *spaceGuard) check(need uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) >= time.Second {
		g.at = time.Now()
		g.left, g.err = g.free(g.dir)
	}
	if g.err != nil || g.left >= need { // after an error the write itself will tell
		return nil
	}
	return errs.New(errs.Unavailable, "store: the disk is full (%d MiB free, %d needed); free some space", g.left>>20, need>>20)
}

func freeSpace(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// admit lets plain deletions pass always.
func (g *spaceGuard) admit(ctx context.Context, ops []Op) error {
	for _, op := range ops {
		if op.Value == nil {
			continue
		}
		if isFreeing(ctx) {
			return g.check(leastFree)
		}
		return g.check(minFree)
	}
	return nil
}

// FsyncProbe measures how long a small durable write in dir takes: the mean
// and the slowest of n. etcd wants the mean well under 10 ms.
func FsyncProbe(dir string, n int) (mean, slowest time.Duration, err error) {
	f, err := os.CreateTemp(dir, "fsync-probe-")
	if err != nil {
		return 0, 0, fmt.Errorf("probing the disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 2048)
	var sum time.Duration
	for i := range n {
		start := time.Now()
		if _, err := f.WriteAt(block, int64(i*len(block))); err != nil {
			return 0, 0, fmt.Errorf("probing the disk: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, fmt.Errorf("probing the disk: %w", err)
		}
		d := time.Since(start)
		sum += d
		slowest = max(slowest, d)
	}
	return sum / time.Duration(max(n, 1)), slowest, nil
}
