package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/wait"
)

// Reset ends every container and removes every trace but the directory's plain
// files. It needs neither records nor a shim that answers: what runs is found by its
// control group and by the paths that shims are given.
func Reset(ctx context.Context, cfg Config) error {
	if err := endProcesses(ctx, cfg); err != nil {
		return err
	}
	return errors.Join(
		bridge.Reset(ctx, cfg.Name),
		cleanBuilds(cfg),
		unmountBelow(cfg.Dir),
		unmountBelow(runDir(cfg.Name)),
		os.RemoveAll(runDir(cfg.Name)),
		removeGroups(ctx, groupDirs(cfg.Name)),
		removeEmpty(filepath.Dir(runDir(cfg.Name))),
	)
}

func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// endProcesses kills shims, which would report the ends of their containers, and
// then containers.
func endProcesses(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return wait.Until(ctx, "containers to end", 10*time.Millisecond, func(context.Context) (bool, error) {
		pids, err := processes(cfg)
		if err != nil {
			return false, err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("ending process %d: %w", pid, err)
			}
		}
		thaw(cfg.Name)
		return len(pids) == 0, nil
	})
}

// processes are those of shims and in containers' control groups.
func processes(cfg Config) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(runDir(cfg.Name), "containerd.sock")
	group := "/" + cgroupParent(cfg.Name) + "/"
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // gone meanwhile, or a zombie: empty
		args := strings.Split(string(cmd), "\x00")
		if i := slices.Index(args, "-address"); i >= 0 && i+1 < len(args) && args[i+1] == sock {
			out = append(out, pid)
			continue
		}
		if len(cmd) == 0 {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if strings.Contains(string(groups), ":"+group) {
			out = append(out, pid)
		}
	}
	return out, nil
}

// groupDirs are containers' parents in every hierarchy.
func groupDirs(name string) []string {
	one, _ := filepath.Glob("/sys/fs/cgroup/" + cgroupParent(name))
	many, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent(name))
	return append(one, many...)
}

// thaw lets paused processes die.
func thaw(name string) {
	for _, dir := range groupDirs(name) {
		for glob, value := range map[string]string{"*/freezer.state": "THAWED", "*/cgroup.freeze": "0"} {
			files, _ := filepath.Glob(filepath.Join(dir, glob))
			for _, f := range files {
				os.WriteFile(f, []byte(value), 0) // it may be gone
			}
		}
	}
}

// removeGroups removes control groups, from the innermost outwards.
func removeGroups(ctx context.Context, tops []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, top := range tops {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			var last error
			err := wait.Until(ctx, "the control group to empty", 5*time.Millisecond, func(context.Context) (bool, error) {
				last = os.Remove(dir)
				return last == nil || errors.Is(last, fs.ErrNotExist), nil
			})
			if err != nil {
				return fmt.Errorf("removing control group %s: %w", dir, last)
			}
		}
	}
	return nil
}

// unmountBelow takes away what is mounted in a directory.
func unmountBelow(dir string) error {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			points = append(points, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[1]))
		}
	}
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting %s: %w", p, err)
		}
	}
	return nil
}
