package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/process"
)

// Keep is Ensure, and removes the part of the cluster that is not wanted here any more.
func (m *Machine) Keep(ctx context.Context, id string, c *Control, w *Worker) error {
	if w == nil {
		if err := m.removeWorker(ctx, id); err != nil {
			return err
		}
	}
	if c == nil {
		if err := m.removeControl(ctx, id); err != nil {
			return err
		}
	}
	return m.Ensure(ctx, c, w)
}

// Remove ends what this machine does for a cluster, and removes its files.
func (m *Machine) Remove(ctx context.Context, id string) error {
	if err := m.Keep(ctx, id, nil, nil); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(m.Dir, id))
}

// Clusters lists the clusters of which there is something here.
func (m *Machine) Clusters() (ids []string, err error) {
	all, err := os.ReadDir(m.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		ids = append(ids, e.Name())
	}
	return ids, err
}

// removeControl ends a control plane, what reads before what is read.
func (m *Machine) removeControl(ctx context.Context, id string) error {
	dir := filepath.Join(m.Dir, id, controlDir)
	if err := m.stopControl(ctx, dir, ""); err != nil {
		return err
	}
	if err := m.tidyControl(id); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// removeWorker ends a worker with its containers, and what it did to this machine.
func (m *Machine) removeWorker(ctx context.Context, id string) error {
	dir := filepath.Join(m.Dir, id, workerDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	k := &process.Keeper{Dir: dir}
	proxied := k.Running(proxyProgram)
	for _, name := range []string{kubeletProgram, proxyProgram} {
		if err := k.Stop(ctx, name); err != nil {
			return err
		}
	}
	if k.Running(containerdProgram) { // what is left is ended without it
		if err := m.tool(ctx, m.socket(id), "empty"); err != nil {
			m.Log.Warn("the pods of a cluster", "cluster", id, "err", err)
		}
	}
	if err := k.Stop(ctx, containerdProgram); err != nil {
		return err
	}
	if proxied {
		if err := m.forgetServices(ctx); err != nil {
			m.Log.Warn("the rules of a cluster's services", "cluster", id, "err", err)
		}
	}
	if err := endContainers(m.socket(id)); err != nil {
		return err
	}
	if err := m.groups(id).Remove(ctx); err != nil {
		return err
	}
	for _, at := range []string{m.kubelet(id), m.run(id), dir} {
		if err := unmount(at); err != nil {
			return err
		}
	}
	if err := m.tidy(id, dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// cleanupTimeout bounds what kube-proxy takes to remove its rules.
const cleanupTimeout = 30 * time.Second

// forgetServices has kube-proxy remove its rules.
func (m *Machine) forgetServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, m.Program, proxyProgram, "--cleanup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out[max(0, len(out)-500):]))
	}
	return nil
}

// endContainers ends the shims of a containerd, which has ended, and what they started.
func endContainers(socket string) error {
	parents, shims := map[int]int{}, []int{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		parents[pid] = parentOf(d)
		if raw, err := os.ReadFile(d + "/cmdline"); err == nil && slices.Contains(strings.Split(string(raw), "\x00"), socket) {
			shims = append(shims, pid)
		}
	}
	var failed error
	for pid := range parents {
		if !below(parents, pid, shims) {
			continue
		}
		id, err := process.Identify(pid)
		if err != nil {
			continue // it has ended
		}
		failed = errors.Join(failed, id.Kill())
	}
	return failed
}

// below tells whether a process is one of those, or came from one.
func below(parents map[int]int, pid int, of []int) bool {
	for range len(parents) {
		if slices.Contains(of, pid) {
			return true
		}
		next, ok := parents[pid]
		if !ok {
			return false
		}
		pid = next
	}
	return false
}

func parentOf(dir string) int {
	raw, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // the name may have anything in it
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // 0, of which nothing is the parent
	return n
}

// unmount takes away what is mounted at a directory and below it, the innermost first.
func unmount(dir string) error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			points = append(points, f[4])
		}
	}
	slices.Reverse(points)
	for _, p := range points {
		p = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(p)
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			return fmt.Errorf("unmounting %s: %w", p, err)
		}
	}
	return nil
}
