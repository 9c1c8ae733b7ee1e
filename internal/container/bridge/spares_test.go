package bridge

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/wait"
)

// TestSpares has containers get namespaces that waited for them, each its own, and
// nothing be left of a process that was killed.
func TestSpares(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%ds", os.Getpid())
	left := sparePrefix(name) + "left"
	if err := makeSpace(left, nil); err != nil {
		t.Fatal(err)
	}
	p, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	spare := func() []string {
		names, err := netns.List(sparePrefix(name))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := spare(); len(names) != 0 {
		t.Errorf("left of a process that was killed: %v", names)
	}
	inodes := map[uint64]int{}
	for i := range 2 * spareSpaces {
		if err := p.Open(id("c", i), nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Remove(id("c", i)) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := wait.Until(ctx, "the next ones to be ready", time.Millisecond, func(context.Context) (bool, error) {
			s := p.waiting(nil)
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.names) == spareSpaces, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Do(id("c", i), func(ns *netns.NS) error {
			n, err := ns.Inode()
			inodes[n]++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(inodes) != 2*spareSpaces {
		t.Errorf("%d containers are in %d namespaces", 2*spareSpaces, len(inodes))
	}
	if err := p.Open(id("c", 0), nil); err != nil {
		t.Error("opening it again:", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if names := spare(); len(names) != 0 {
		t.Errorf("left after the end: %v", names)
	}
}

// TestOwnedSpares has containers of an owner get namespaces that belong to user namespaces
// with its ids, one each, and others none of them.
func TestOwnedSpares(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%do", os.Getpid())
	p, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{HostID: 231072, Size: 65536}}
	owners := map[uint64]bool{}
	for i, o := range []*netns.Owner{nil, {UIDs: ids, GIDs: ids}, {UIDs: ids, GIDs: ids}, nil} {
		if err := p.Open(id("c", i), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Remove(id("c", i)) })
		ns, err := netns.UserNamespace(p.Path(id("c", i)))
		if err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		err = syscall.Fstat(int(ns.Fd()), &st)
		ns.Close()
		if err != nil {
			t.Fatal(err)
		}
		if again := owners[st.Ino]; again != (i == 3) {
			t.Errorf("%d: the user namespace %d was seen before: %v", i, st.Ino, again)
		}
		owners[st.Ino] = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := wait.Until(ctx, "the next ones to be ready", time.Millisecond, func(context.Context) (bool, error) {
			s := p.waiting(o)
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.names) == spareSpaces, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := netns.List(sparePrefix(name)); err != nil || len(names) != 0 {
		t.Errorf("left after the end: %v, %v", names, err)
	}
}
