package shims

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestFullest(t *testing.T) {
	for _, c := range []struct {
		taken map[string]int
		want  string
	}{
		{nil, ""},
		{map[string]int{"a": Size}, ""},
		{map[string]int{"a": Size, "b": 1}, "b"},
		{map[string]int{"a": 3, "b": Size - 1, "c": 7}, "b"},
		{map[string]int{"b": 2, "a": 2}, "a"},
		{map[string]int{"a": Size, "b": 0}, "b"},
	} {
		if got := fullest(c.taken); got != c.want {
			t.Errorf("%v: %q, want %q", c.taken, got, c.want)
		}
	}
}

// program is a shim that only waits to be ended by the test.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 30 3<&-\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, dir string) *Pool {
	t.Helper()
	p, err := Open(t.Context(), Config{Program: program(t), Namespace: "test", Events: filepath.Join(dir, "none"), Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// short is a directory whose path leaves room for a socket's name.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shims-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// listen stands for a shim of an engine that is gone.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestTakenOver finds the shims that answer, fills the one with containers first, and
// forgets those that do not answer.
func TestTakenOver(t *testing.T) {
	dir := short(t)
	listen(t, filepath.Join(dir, "aa"))
	listen(t, filepath.Join(dir, "bb"))
	dead := listen(t, filepath.Join(dir, "cc")).(*net.UnixListener)
	dead.SetUnlinkOnClose(false)
	dead.Close()
	p := open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "cc")); !os.IsNotExist(err) {
		t.Errorf("the socket of a dead shim is left: %v", err)
	}
	for range Size - 1 {
		p.Join("bb")
	}
	p.Join("of another time")
	var got []string
	for range 2 {
		id, err := p.Take()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	if want := []string{"bb", "aa"}; !slices.Equal(got, want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
	if !p.Lost("bb") || p.Lost("bb") {
		t.Error("a shim that is lost is news once")
	}
}
