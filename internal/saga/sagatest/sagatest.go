// Package sagatest is the fault-injecting harness that every saga must pass.
//
// It runs the saga many times, each time in a new world: once undisturbed, then
// with each step done twice, with each step failing after it did its work, with
// every undo done twice on top of that, and with the engine killed after each
// write of the log and started again. After each run the world's own Check says
// whether what is left is right: ledgers equal to live objects, nothing orphaned.
package sagatest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/wait"
)

// World is what one run of the saga lives in.
type World struct {
	Engine *saga.Engine
	// Begin starts the saga and gives the resource that it is about.
	Begin func(ctx context.Context) (resource string, err error)
	// Check looks at what is left when the saga has ended.
	Check func(t *testing.T, end *saga.Record)
}

// Factory makes a world whose engine has the options.
type Factory func(t *testing.T, opt saga.Options) *World

var errInjected = errors.New("injected by the harness")

// Run puts the saga through everything.
func Run(t *testing.T, make Factory) {
	var points []saga.Point
	undisturbed := play(t, make, func(p saga.Point) error { points = append(points, p); return nil })
	if undisturbed.Phase != saga.Done {
		t.Fatalf("undisturbed, the saga ended %s: %s", undisturbed.Phase, undisturbed.Error)
	}
	for _, step := range steps(points) {
		t.Run("fail "+step, func(t *testing.T) { play(t, make, failAt(step, false)) })
		t.Run("fail "+step+" and repeat undos", func(t *testing.T) { play(t, make, failAt(step, true)) })
	}
	for n := range writes(points) {
		t.Run(fmt.Sprintf("kill after log write %d", n+1), func(t *testing.T) { play(t, make, killAt(n, "logged")) })
		t.Run(fmt.Sprintf("repeat step %d", n+1), func(t *testing.T) { play(t, make, killAt(n, "do")) })
	}
}

func steps(points []saga.Point) (out []string) {
	for _, p := range points {
		if p.At == "do" {
			out = append(out, p.Step)
		}
	}
	return out
}

func writes(points []saga.Point) (n int) {
	for _, p := range points {
		if p.At == "logged" {
			n++
		}
	}
	return n
}

// failAt fails a step after its work; undos may have to be done twice.
func failAt(step string, twice bool) func(saga.Point) error {
	failed := false
	undone := map[string]bool{}
	return func(p saga.Point) error {
		switch {
		case p.At == "do" && p.Step == step && !failed:
			failed = true
			return errInjected
		case p.At == "undo" && twice && !undone[p.Step]:
			undone[p.Step] = true
			return errInjected
		}
		return nil
	}
}

// killAt kills the engine at the n-th point of the kind: "do" is after a step's
// work and before its log write, so the step is done twice.
func killAt(n int, at string) func(saga.Point) error {
	seen := 0
	return func(p saga.Point) error {
		if p.At != at {
			return nil
		}
		seen++
		if seen == n+1 {
			return saga.ErrKilled
		}
		return nil
	}
}

// play runs one saga to its end, starting the engine again whenever it was killed.
func play(t *testing.T, make Factory, intercept func(saga.Point) error) *saga.Record {
	t.Helper()
	var mu sync.Mutex
	w := make(t, saga.Options{RetryMax: 100 * time.Millisecond, Intercept: func(p saga.Point) error {
		mu.Lock()
		defer mu.Unlock()
		return intercept(p)
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() {
		for errors.Is(w.Engine.Run(runCtx), saga.ErrKilled) && runCtx.Err() == nil {
		}
	})
	resource, err := w.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var end *saga.Record
	err = wait.Until(ctx, "the saga's end", time.Millisecond, func(context.Context) (bool, error) {
		for _, r := range w.Engine.Of(resource) {
			if end = r; !r.Finished() {
				return false, nil
			}
		}
		return end != nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Check(t, end)
	return end
}
