package cgroup

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/wait"
)

// Tree is a group in every hierarchy, below which another program makes groups of its own.
type Tree struct {
	root string // of the cgroup filesystems
	name string
}

// TreeOf names a tree, such as "strata-kube/one".
func TreeOf(name string) Tree { return Tree{root: "/sys/fs/cgroup", name: name} }

// Path is the group as programs are told.
func (t Tree) Path() string { return "/" + t.name }

func (t Tree) unified() bool {
	_, err := os.Stat(filepath.Join(t.root, "cgroup.controllers"))
	return err == nil
}

// tops are the tree in each hierarchy. Two controllers that share one are mounted once,
// with links to it by their own names.
func (t Tree) tops() ([]string, error) {
	if t.unified() {
		return []string{filepath.Join(t.root, t.name)}, nil
	}
	all, err := os.ReadDir(t.root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range all {
		if e.IsDir() {
			out = append(out, filepath.Join(t.root, e.Name(), t.name))
		}
	}
	return out, nil
}

// Ensure makes the tree, with all controllers.
func (t Tree) Ensure() error {
	tops, err := t.tops()
	if err != nil {
		return err
	}
	for _, top := range tops {
		if err := os.MkdirAll(top, 0o755); err != nil {
			return fmt.Errorf("making the cgroup %s: %w", t.name, err)
		}
		if err := t.inherit(top); err != nil {
			return fmt.Errorf("setting up the cgroup %s: %w", t.name, err)
		}
	}
	return nil
}

// inherit hands down to the tree what groups do not have by themselves: the processors
// of a cpuset in cgroup v1, controllers in v2.
func (t Tree) inherit(top string) error {
	rel := strings.Split(t.name, "/")
	above := strings.TrimSuffix(top, "/"+t.name)
	for i := range rel {
		parent, dir := filepath.Join(above, filepath.Join(rel[:i]...)), filepath.Join(above, filepath.Join(rel[:i+1]...))
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inheritValue(filepath.Join(parent, file), filepath.Join(dir, file)); err != nil && !t.unified() {
				return err
			}
		}
		if !t.unified() {
			continue
		}
		for _, d := range []string{parent, dir} {
			if err := enableAll(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritValue gives a group its parent's value, if it has none.
func inheritValue(from, to string) error {
	now, err := os.ReadFile(to)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(strings.TrimSpace(string(now))) > 0 {
		return nil
	} else if err != nil {
		return err
	}
	value, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, value, 0)
}

// enableAll hands all controllers of a group down to those below it.
func enableAll(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for f := range strings.FieldsSeq(string(raw)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+f), 0); err != nil {
			return err
		}
	}
	return nil
}

// treeTimeout is how long the processes of a tree have to end.
const treeTimeout = 10 * time.Second

// Remove ends every process of the tree, without mercy, and removes its groups, as well as
// those above it that are empty.
func (t Tree) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, treeTimeout)
	defer cancel()
	tops, err := t.tops()
	if err != nil {
		return err
	}
	var last error
	err = wait.Until(ctx, "the processes of the cgroup "+t.name+" to end", 10*time.Millisecond, func(context.Context) (bool, error) {
		last = nil
		for _, top := range tops {
			last = errors.Join(last, removeBelow(top))
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	for _, top := range tops {
		for name := filepath.Dir(t.name); name != "."; name = filepath.Dir(name) {
			top = filepath.Dir(top)
			if os.Remove(top) != nil {
				break // there are others below it
			}
		}
	}
	return nil
}

// removeBelow kills what is in a group and those below it, and removes those that are empty.
func removeBelow(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // it has gone
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs) // the innermost first
	var failed error
	for _, dir := range dirs {
		killIn(dir)
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// killIn ends the processes of a group, paused ones as well.
func killIn(dir string) {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return // it has gone
	}
	for f := range strings.FieldsSeq(string(raw)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
	for file, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		if f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0); err == nil {
			f.WriteString(value) // what is left is tried again
			f.Close()
		}
	}
}
