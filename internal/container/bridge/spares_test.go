package bridge

import (
	"context"
	"fmt"
	"os"
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
	if err := makeSpace(left); err != nil {
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
		if err := p.Open(id("c", i)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Remove(id("c", i)) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := wait.Until(ctx, "the next ones to be ready", time.Millisecond, func(context.Context) (bool, error) {
			p.spares.mu.Lock()
			defer p.spares.mu.Unlock()
			return len(p.spares.names) == spareSpaces, nil
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
	if err := p.Open(id("c", 0)); err != nil {
		t.Error("opening it again:", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if names := spare(); len(names) != 0 {
		t.Errorf("left after the end: %v", names)
	}
}
