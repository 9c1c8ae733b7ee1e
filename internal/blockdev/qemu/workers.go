package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/wait"
)

// Workers are the processes that work in dir or right below it, or, since qemu-nbd
// leaves its working directory, have a file there open. dir is a path without
// symbolic links.
func Workers(dir string) []int {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil // the pattern is right
	}
	var out []int
	for _, p := range procs {
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && pid != os.Getpid() && worksIn(p, dir) {
			out = append(out, pid)
		}
	}
	return out
}

// workingDir is a process's, by its directory in /proc. Of one that is being killed the
// first thread may have ended already while others still have files open.
func workingDir(proc string) (string, error) {
	at, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err == nil {
		return at, nil
	}
	threads, globErr := filepath.Glob(filepath.Join(proc, "task", "*", "cwd"))
	if globErr != nil {
		return "", globErr
	}
	for _, t := range threads {
		if at, err := os.Readlink(t); err == nil {
			return at, nil
		}
	}
	return "", err
}

// worksIn looks at one process, by its directory in /proc. One that ended
// meanwhile works nowhere.
func worksIn(proc, dir string) bool {
	at, err := workingDir(proc)
	at = strings.TrimSuffix(at, " (deleted)")
	switch {
	case err != nil:
		return false
	case at == dir, filepath.Dir(at) == dir:
		return true
	case at != "/":
		return false
	}
	if name, err := os.ReadFile(filepath.Join(proc, "comm")); err != nil || strings.TrimSpace(string(name)) != "qemu-nbd" {
		return false
	}
	fds, err := filepath.Glob(filepath.Join(proc, "fd", "*"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		file, err := os.Readlink(fd)
		if in := filepath.Dir(file); err == nil && (in == dir || filepath.Dir(in) == dir) {
			return true
		}
	}
	return false
}

// EndWorkers kills the processes that work in dir, or right below it, and waits for
// their end.
func EndWorkers(ctx context.Context, dir string) error {
	for _, pid := range Workers(dir) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return AwaitWorkers(ctx, dir)
}

// AwaitWorkers waits until no process works in dir or right below it.
func AwaitWorkers(ctx context.Context, dir string) error {
	return wait.Until(ctx, "the processes in "+dir+" to end", 5*time.Millisecond, func(context.Context) (bool, error) {
		return len(Workers(dir)) == 0, nil
	})
}
