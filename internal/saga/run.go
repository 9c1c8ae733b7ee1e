package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// firstPause is the pause before the first retry of a failing undo or log write.
const firstPause = 50 * time.Millisecond

// ErrCancelled is the cause that Failed sees when the saga was cancelled.
var ErrCancelled = errs.New(errs.Conflict, "cancelled")

// run takes one saga to its end.
func (e *Engine) run(ctx context.Context, id string) error {
	for ctx.Err() == nil {
		r, err := e.logs.Get(id)
		if errs.Is(err, errs.NotFound) {
			return nil
		} else if err != nil {
			return err
		}
		d, ok := e.defs[r.Kind]
		if !ok {
			return fmt.Errorf("no saga is called %q: it was begun by another version", r.Kind)
		}
		switch {
		case r.Finished():
			return nil
		case r.Phase == Running && r.Cancelled:
			err = e.turn(ctx, r, r.Next, ErrCancelled)
		case r.Phase == Running && r.Next < len(d.steps):
			err = e.forward(ctx, d, r)
		case r.Phase == Running:
			err = e.log(ctx, r, func(r *Record) { r.Phase = Done })
		case r.Next >= 0:
			err = e.backward(ctx, d, r)
		default:
			err = e.finishFailed(ctx, d, r)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (e *Engine) forward(ctx context.Context, d definition, r *Record) error {
	name, start := d.steps[r.Next], time.Now().UTC()
	stepCtx, cancel := context.WithCancel(ctx)
	e.mu.Lock()
	e.cancels[r.ID] = cancel
	e.mu.Unlock()
	// A cancellation that came before the cancel function was in place is seen here.
	if now, err := e.logs.Get(r.ID); err == nil && now.Cancelled {
		cancel()
	}
	state, err := e.do(stepCtx, d, r)
	e.mu.Lock()
	delete(e.cancels, r.ID)
	e.mu.Unlock()
	cancel()
	if errors.Is(err, ErrKilled) || err != nil && ctx.Err() != nil {
		return ErrKilled
	}
	if err != nil {
		e.opt.Log.Info("saga unwinds", "saga", r.ID, "op", r.Kind, "step", name, "err", err)
		return e.turn(ctx, r, r.Next, err)
	}
	return e.log(ctx, r, func(r *Record) {
		r.State, r.Next = state, r.Next+1
		r.Steps = append(r.Steps, StepLog{Name: name, Started: start, Finished: time.Now().UTC()})
	})
}

// do runs the step once, or for a definition that insists until it succeeds.
func (e *Engine) do(ctx context.Context, d definition, r *Record) (state json.RawMessage, err error) {
	name := d.steps[r.Next]
	once := func() error {
		state, err = d.do(ctx, r.Next, r.State)
		if x := e.ask(Point{r.ID, name, "do"}); x != nil {
			return x
		}
		return err
	}
	if d.insist {
		err = e.insist(ctx, r, name, once)
		return state, err
	}
	err = once()
	return state, err
}

// turn begins the unwinding, at the step that failed: it may have half happened.
func (e *Engine) turn(ctx context.Context, r *Record, from int, cause error) error {
	d := e.defs[r.Kind]
	name := ""
	if from < len(d.steps) {
		name = d.steps[from]
	} else {
		from = len(d.steps) - 1
	}
	return e.log(ctx, r, func(r *Record) {
		r.Phase, r.Next, r.Error = Unwinding, from, cause.Error()
		now := time.Now().UTC()
		r.Steps = append(r.Steps, StepLog{Name: name, Started: now, Finished: now, Error: cause.Error()})
	})
}

func (e *Engine) backward(ctx context.Context, d definition, r *Record) error {
	name := d.steps[r.Next]
	state := r.State
	err := e.insist(ctx, r, "undo "+name, func() (err error) {
		state, err = d.undo(ctx, r.Next, r.State)
		if x := e.ask(Point{r.ID, name, "undo"}); x != nil {
			return x
		}
		return err
	})
	if err != nil {
		return err
	}
	return e.log(ctx, r, func(r *Record) { r.State, r.Next = state, r.Next-1 })
}

func (e *Engine) finishFailed(ctx context.Context, d definition, r *Record) error {
	cause := errors.New(r.Error)
	if r.Cancelled {
		cause = ErrCancelled
	}
	if err := e.insist(ctx, r, "report failure", func() error { return d.failed(ctx, r.State, cause) }); err != nil {
		return err
	}
	return e.log(ctx, r, func(r *Record) { r.Phase = Failed })
}

// errMoved: the saga is not where the caller saw it.
var errMoved = errors.New("the saga has moved on")

// log writes what comes after r, and keeps trying while the store is away. A write that
// came to be although we heard that it failed, ours or that of an engine before us, is not
// made again on top of itself: it would skip a step. The caller reads the saga anew.
func (e *Engine) log(ctx context.Context, r *Record, fn func(*Record)) error {
	moved := false
	err := e.insist(ctx, r, "write log", func() error {
		_, err := e.logs.Update(ctx, r.ID, func(now *Record) error {
			if now.Phase != r.Phase || now.Next != r.Next {
				return errMoved
			}
			fn(now)
			now.Updated = time.Now().UTC()
			return nil
		})
		if moved = errors.Is(err, errMoved); moved {
			return nil
		}
		return err
	})
	if err != nil || moved {
		return err
	}
	return e.ask(Point{r.ID, "", "logged"})
}

// insist repeats fn with growing pauses until it succeeds or ctx ends.
func (e *Engine) insist(ctx context.Context, r *Record, what string, fn func() error) error {
	for pause := firstPause; ; pause = min(2*pause, e.opt.RetryMax) {
		err := fn()
		if err == nil || errors.Is(err, ErrKilled) {
			return err
		}
		if ctx.Err() != nil {
			return ErrKilled
		}
		e.opt.Log.Warn("saga tries again", "saga", r.ID, "op", r.Kind, "step", what, "err", err, "dur", pause)
		select {
		case <-ctx.Done():
			return ErrKilled
		case <-time.After(pause):
		}
	}
}

func (e *Engine) ask(p Point) error {
	if e.opt.Intercept == nil {
		return nil
	}
	return e.opt.Intercept(p)
}
