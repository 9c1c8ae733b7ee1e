package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestTree makes groups below one of this host's, with a process in an inner one, and
// removes all of it.
func TestTree(t *testing.T) {
	needs.Root(t, "cgroups")
	tree := TreeOf("strata-test-tree-" + strconv.Itoa(os.Getpid()) + "/one")
	t.Cleanup(func() {
		if err := TreeOf(filepath.Dir(tree.name)).Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := tree.Ensure(); err != nil {
			t.Fatal(err)
		}
	}
	tops, err := tree.tops()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, top := range tops {
		inner := filepath.Join(top, "a", "b")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{filepath.Dir(inner), inner} { // as who makes groups below does
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if err := inheritValue(filepath.Join(filepath.Dir(dir), file), filepath.Join(dir, file)); err != nil && !tree.unified() {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Errorf("%s: %v", inner, err)
		}
	}
	for range 2 {
		if err := tree.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process ended by itself: %v", err)
	}
	for _, top := range append(tops, filepath.Dir(tops[0])) {
		if _, err := os.Stat(top); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", top, err)
		}
	}
}
