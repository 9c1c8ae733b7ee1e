package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestRealGroup uses the host's own hierarchy, whatever its version.
func TestRealGroup(t *testing.T) {
	needs.Root(t, "cgroups")
	m, err := New("strata-test-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatalf("this host's cgroups cannot be used, and servers would run without limits: %v", err)
	}
	ctx := t.Context()
	for range 2 {
		if err := m.Ensure("one", Limits{MemoryBytes: 64 << 20, CPUShares: 512, Pids: 10}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.Add("one", cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	if pids, err := m.Pids("one"); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if names, err := m.List(); err != nil || !slices.Equal(names, []string{"one"}) {
		t.Errorf("groups %v, %v", names, err)
	}
	in.Close()
	cmd.Wait()
	for range 2 {
		if err := m.Remove(ctx, "one"); err != nil {
			t.Error(err)
		}
	}
	if err := m.RemoveParent(ctx); err != nil {
		t.Error(err)
	}
}

// TestFiles checks which files get which values, in both layouts.
func TestFiles(t *testing.T) {
	limits := Limits{MemoryBytes: 1 << 20, CPUShares: 2048, Pids: 7}
	for name, c := range map[string]struct {
		make []string
		want map[string]string
	}{
		"v1": {
			[]string{"memory/p/g/memory.limit_in_bytes", "cpu/p/g/cpu.shares", "pids/p/g/pids.max"},
			map[string]string{"memory/p/g/memory.limit_in_bytes": "1048576", "cpu/p/g/cpu.shares": "2048", "pids/p/g/pids.max": "7"},
		},
		"v2": {
			[]string{"cgroup.controllers", "p/g/memory.max", "p/g/cpu.weight", "p/g/pids.max"},
			map[string]string{"p/g/memory.max": "1048576", "p/g/cpu.weight": "79", "p/g/pids.max": "7", "p/cgroup.subtree_control": "+cpu +memory +pids"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range c.make {
				os.MkdirAll(filepath.Dir(filepath.Join(root, f)), 0o755)
				if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			m, err := newAt(root, "p")
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Ensure("g", limits); err != nil {
				t.Fatal(err)
			}
			for f, want := range c.want {
				if got, err := os.ReadFile(filepath.Join(root, f)); err != nil || strings.TrimSpace(string(got)) != want {
					t.Errorf("%s is %q, %v; want %q", f, got, err, want)
				}
			}
		})
	}
}
