package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

type recorder struct {
	mu     sync.Mutex
	calls  map[string]int
	inside map[string]bool
	twice  bool
}

func (r *recorder) enter(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.twice = r.twice || r.inside[key]
	r.inside[key] = true
	r.calls[key]++
	return r.calls[key]
}

func (r *recorder) leave(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside[key] = false
}

func (r *recorder) count(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[key]
}

func start(t *testing.T, l *Loop) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func(context.Context) (bool, error) { return cond(), nil }); err != nil {
		t.Fatal(err)
	}
}

func TestLoop(t *testing.T) {
	r := &recorder{calls: map[string]int{}, inside: map[string]bool{}}
	again := make(chan struct{})
	l := New("test", slog.New(slog.DiscardHandler), func(_ context.Context, key string) error {
		n := r.enter(key)
		defer r.leave(key)
		if key == "fails twice" && n < 3 {
			return errors.New("not yet")
		}
		if key == "slow" && n == 1 {
			<-again
		}
		return nil
	})
	l.List = func() []string { return []string{"listed"} }
	l.Add("fails twice")
	l.Add("slow")
	start(t, l)
	eventually(t, "the slow key to begin", func() bool { return r.count("slow") == 1 })
	l.Add("slow")
	l.Add("slow")
	close(again)
	eventually(t, "every key", func() bool {
		return r.count("slow") == 2 && r.count("fails twice") == 3 && r.count("listed") == 1
	})
	if r.twice {
		t.Error("a key was worked on twice at once")
	}
}

func TestResync(t *testing.T) {
	r := &recorder{calls: map[string]int{}, inside: map[string]bool{}}
	l := New("test", slog.New(slog.DiscardHandler), func(_ context.Context, key string) error { r.enter(key); r.leave(key); return nil })
	l.List, l.Resync = func() []string { return []string{"k"} }, 5*time.Millisecond
	start(t, l)
	eventually(t, "three rounds", func() bool { return r.count("k") >= 3 })
}
