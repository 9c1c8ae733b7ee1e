// Package cgroup limits what a workload's processes may use, on hosts with
// cgroup v1 hierarchies as well as with the unified v2 one. A group is found
// by name alone, so Ensure and Remove are idempotent and survive restarts.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

// Limits are what a group may use; zero means no limit.
type Limits struct {
	MemoryBytes int64
	CPUShares   int // 1024 is one fair share, as in cgroup v1
	Pids        int
}

// Manager makes groups below one parent.
type Manager struct {
	root    string // of the cgroup filesystems
	parent  string
	unified bool
}

// New makes a manager whose groups live below parent, such as "strata". It
// fails when the host has no cgroups that can be written.
func New(parent string) (*Manager, error) { return newAt("/sys/fs/cgroup", parent) }

func newAt(root, parent string) (*Manager, error) {
	m := &Manager{root: root, parent: parent}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		m.unified = true
		return m, m.enableControllers()
	}
	if _, err := os.Stat(filepath.Join(root, "memory")); err != nil {
		return nil, fmt.Errorf("no cgroup hierarchy at %s: %w", root, err)
	}
	return m, nil
}

// enableControllers hands the controllers down to the parent's children.
func (m *Manager) enableControllers() error {
	if err := os.MkdirAll(filepath.Join(m.root, m.parent), 0o755); err != nil {
		return fmt.Errorf("making the cgroup %s: %w", m.parent, err)
	}
	for _, dir := range []string{m.root, filepath.Join(m.root, m.parent)} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644); err != nil {
			return fmt.Errorf("enabling cgroup controllers: %w", err)
		}
	}
	return nil
}

// dirs are the directories that make up the group name.
func (m *Manager) dirs(name string) []string {
	if m.unified {
		return []string{filepath.Join(m.root, m.parent, name)}
	}
	var out []string
	for _, c := range []string{"memory", "cpu", "pids"} {
		if _, err := os.Stat(filepath.Join(m.root, c)); err == nil {
			out = append(out, filepath.Join(m.root, c, m.parent, name))
		}
	}
	return out
}

// Ensure makes the group with these limits, or adjusts it.
func (m *Manager) Ensure(name string, l Limits) error {
	for _, dir := range m.dirs(name) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making cgroup %s: %w", name, err)
		}
		for file, val := range m.settings(l) {
			path := filepath.Join(dir, file)
			if _, err := os.Stat(path); err != nil {
				continue // of another controller
			}
			if err := os.WriteFile(path, []byte(val), 0o644); err != nil {
				return fmt.Errorf("limiting cgroup %s: %w", name, err)
			}
		}
	}
	return nil
}

func (m *Manager) settings(l Limits) map[string]string {
	s := map[string]string{}
	set := func(v1, v2, val string) {
		if m.unified {
			s[v2] = val
		} else {
			s[v1] = val
		}
	}
	if l.MemoryBytes > 0 {
		set("memory.limit_in_bytes", "memory.max", strconv.FormatInt(l.MemoryBytes, 10))
	}
	if l.CPUShares > 0 {
		if m.unified {
			// The kernel's own translation of [2, 262144] to [1, 10000].
			shares := min(max(l.CPUShares, 2), 262144)
			s["cpu.weight"] = strconv.Itoa(1 + (shares-2)*9999/262142)
		} else {
			s["cpu.shares"] = strconv.Itoa(l.CPUShares)
		}
	}
	if l.Pids > 0 {
		set("pids.max", "pids.max", strconv.Itoa(l.Pids))
	}
	return s
}

// Add moves the process, with all its threads, into the group.
func (m *Manager) Add(name string, pid int) error {
	for _, dir := range m.dirs(name) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("moving process %d into cgroup %s: %w", pid, name, err)
		}
	}
	return nil
}

// Pids lists the group's processes, in whichever hierarchies they are: a crash may
// have come after the first of several.
func (m *Manager) Pids(name string) ([]int, error) {
	seen := map[int]bool{}
	for _, dir := range m.dirs(name) {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for f := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil {
				seen[pid] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// List names the groups that exist in any hierarchy.
func (m *Manager) List() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range m.dirs("") {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				seen[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// Remove removes the group; its processes must have ended. A dead process
// leaves its group a moment after it was waited for, so a busy group is tried
// again until ctx ends or a second has passed.
func (m *Manager) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, dir := range m.dirs(name) {
		var last error
		err := wait.Until(ctx, "the cgroup to empty", 5*time.Millisecond, func(context.Context) (bool, error) {
			last = os.Remove(dir)
			return last == nil || errors.Is(last, fs.ErrNotExist), nil
		})
		if err != nil {
			return fmt.Errorf("removing cgroup %s: %w", name, last)
		}
	}
	return nil
}

// RemoveParent removes every group and then the parent: the last trace. Their
// processes must have ended.
func (m *Manager) RemoveParent(ctx context.Context) error {
	names, err := m.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := m.Remove(ctx, n); err != nil {
			return err
		}
	}
	return m.Remove(ctx, "")
}
