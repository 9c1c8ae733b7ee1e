package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

func keeper(t *testing.T) *Keeper {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k := &Keeper{Dir: dir}
	t.Cleanup(func() {
		for _, name := range []string{"one", "two"} {
			if err := k.Stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	})
	return k
}

func (k *Keeper) ensure(t *testing.T, started bool, name string, args ...string) {
	t.Helper()
	got, err := k.Ensure(t.Context(), Program{Name: name, Args: args})
	if err != nil || got != started {
		t.Fatalf("%s %v: started %t, %v", name, args, got, err)
	}
}

// TestKeeper starts, finds, replaces and stops programs, by a second keeper as well,
// which knows nothing of what the first did.
func TestKeeper(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	k := keeper(t)
	k.ensure(t, true, "one", sleep, "600")
	k.ensure(t, false, "one", sleep, "600")
	k.ensure(t, true, "two", sleep, "600")
	again := &Keeper{Dir: k.Dir}
	again.ensure(t, false, "one", sleep, "600")
	first := again.find("one")
	again.ensure(t, true, "one", sleep, "601")
	if now := again.find("one"); len(now) != 1 || now[0].PID == first[0].PID {
		t.Errorf("with other arguments it is %v, was %v", now, first)
	}
	if started, err := again.Ensure(t.Context(), Program{Name: "one", Args: []string{sleep, "601"}, Env: []string{"A=1"}}); err != nil || !started {
		t.Errorf("with another environment: started %t, %v", started, err)
	}
	if started, err := again.Ensure(t.Context(), Program{Name: "one", Args: []string{sleep, "601"}, Env: []string{"A=1"}}); err != nil || started {
		t.Errorf("with the same environment: started %t, %v", started, err)
	}
	if err := again.Stop(t.Context(), "one"); err != nil || again.Running("one") || !again.Running("two") {
		t.Errorf("after its end: %v, one %t, two %t", err, again.Running("one"), again.Running("two"))
	}
}

// TestKeeperEnds has a program end by itself, and one that does not want to end.
func TestKeeperEnds(t *testing.T) {
	k := keeper(t)
	shell := []string{"/bin/sh", "-c", "echo some last words >&2; exit 3"}
	k.ensure(t, true, "one", shell...)
	await(t, func() bool { return !k.Running("one") })
	if got := k.LastWords("one"); got != "some last words" {
		t.Errorf("it said %q", got)
	}
	k.ensure(t, true, "one", shell...)
	k.ensure(t, true, "two", "/bin/sh", "-c", `trap "" TERM; echo ready; while :; do read x </dev/zero; done`)
	await(t, func() bool { return strings.Contains(k.LastWords("two"), "ready") })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := k.Stop(ctx, "two"); err == nil {
		t.Error("it ended by a signal that it does not hear")
	}
	for _, id := range k.find("two") {
		if err := id.Kill(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(k.Dir, "two", logFile)); err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, "it", 5*time.Millisecond, func(context.Context) (bool, error) { return is(), nil }); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkCurrent looks after three programs, as a worker does every few seconds.
func BenchmarkCurrent(b *testing.B) {
	k := &Keeper{Dir: b.TempDir()}
	var programs []Program
	for _, name := range []string{"one", "two", "three"} {
		p := Program{Name: name, Args: []string{"/bin/sleep", "600"}}
		b.Cleanup(func() { _ = k.Stop(context.Background(), name) })
		if _, err := k.Ensure(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		programs = append(programs, p)
	}
	if err := wait.Until(b.Context(), "the programs to begin", time.Millisecond, func(context.Context) (bool, error) { return k.Current(programs...), nil }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !k.Current(programs...) {
			b.Fatal("they have ended")
		}
	}
}
