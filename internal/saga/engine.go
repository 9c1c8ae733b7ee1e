package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Step is one action and its reversal. Both must be idempotent. Do may change the
// state: it is saved with the log entry. A nil Undo means that there is nothing to undo.
type Step[S any] struct {
	Name string
	Do   func(ctx context.Context, s *S) error
	Undo func(ctx context.Context, s *S) error
}

// Definition is the list of steps of one kind of saga.
type Definition[S any] struct {
	Kind  string
	Steps []Step[S]
	// Insist makes a failing step be tried again for ever instead of unwinding:
	// for deletes, which must always work in the end.
	Insist bool
	// Failed runs after everything is undone, with the error that started it. It
	// must be idempotent; it is tried until it succeeds.
	Failed func(ctx context.Context, s *S, cause error) error
}

// Point is a moment at which an Interceptor is asked.
type Point struct {
	Saga string
	Step string
	At   string // "do" and "undo" (just after they ran), "logged" (just after a log write)
}

// ErrKilled from an Interceptor stops the engine as a crash would: no further
// step, no further log write.
var ErrKilled = errors.New("the engine was killed")

// Options tune an engine.
type Options struct {
	Log *slog.Logger
	// Intercept, for tests, may fail a step or kill the engine.
	Intercept func(Point) error
	// RetryMax bounds the pause between tries of a failing undo. Default 30 s.
	RetryMax time.Duration
	// Keep is how many finished logs stay per resource. Default 100.
	Keep int
}

// Engine runs sagas. One engine runs at a time (on the leader).
type Engine struct {
	db   *store.DB
	logs *store.Collection[Record]
	opt  Options
	defs map[string]definition

	mu      sync.Mutex
	queues  map[string][]string           // resource -> open sagas in order; a goroutine per key
	cancels map[string]context.CancelFunc // running Do steps by saga
	group   sync.WaitGroup
}

// definition is a Definition with the state's type erased.
type definition struct {
	steps  []string
	insist bool
	do     func(ctx context.Context, i int, state json.RawMessage) (json.RawMessage, error)
	undo   func(ctx context.Context, i int, state json.RawMessage) (json.RawMessage, error)
	failed func(ctx context.Context, state json.RawMessage, cause error) error
}

// New makes an engine and registers its collection: call it before db.Start.
func New(db *store.DB, opt Options) *Engine {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.RetryMax == 0 {
		opt.RetryMax = 30 * time.Second
	}
	if opt.Keep == 0 {
		opt.Keep = 100
	}
	return &Engine{db: db, logs: collection(db), opt: opt, defs: map[string]definition{},
		queues: map[string][]string{}, cancels: map[string]context.CancelFunc{}}
}

// Register makes a definition known; call it before Run.
func Register[S any](e *Engine, d Definition[S]) {
	names := make([]string, len(d.Steps))
	for i, s := range d.Steps {
		names[i] = s.Name
	}
	e.defs[d.Kind] = definition{
		steps: names, insist: d.Insist,
		do: func(ctx context.Context, i int, raw json.RawMessage) (json.RawMessage, error) {
			return withState(raw, func(s *S) error { return d.Steps[i].Do(ctx, s) })
		},
		undo: func(ctx context.Context, i int, raw json.RawMessage) (json.RawMessage, error) {
			return withState(raw, func(s *S) error {
				if d.Steps[i].Undo == nil {
					return nil
				}
				return d.Steps[i].Undo(ctx, s)
			})
		},
		failed: func(ctx context.Context, raw json.RawMessage, cause error) error {
			_, err := withState(raw, func(s *S) error {
				if d.Failed == nil {
					return nil
				}
				return d.Failed(ctx, s, cause)
			})
			return err
		},
	}
}

func withState[S any](raw json.RawMessage, fn func(*S) error) (json.RawMessage, error) {
	s := new(S)
	if err := json.Unmarshal(raw, s); err != nil {
		return raw, fmt.Errorf("reading the saga's state: %w", err)
	}
	if err := fn(s); err != nil {
		return raw, err
	}
	return json.Marshal(s)
}

// Start describes a saga that begins.
type Start struct {
	ID, Kind, Resource, Action   string
	RequestID, ProjectID, UserID string
	State                        any
}

// Begin writes the saga in the caller's transaction; it runs as soon as that commits.
func (e *Engine) Begin(tx *store.Tx, s Start) error {
	if _, ok := e.defs[s.Kind]; !ok {
		return fmt.Errorf("no saga is called %q", s.Kind)
	}
	raw, err := json.Marshal(s.State)
	if err != nil {
		return fmt.Errorf("saga %s: %w", s.Kind, err)
	}
	now := time.Now().UTC()
	return e.logs.TxCreate(tx, &Record{ID: s.ID, Kind: s.Kind, Resource: s.Resource, Action: s.Action, RequestID: s.RequestID,
		ProjectID: s.ProjectID, UserID: s.UserID, State: raw, Phase: Running, Started: now, Updated: now})
}

// CancelAll marks, in the caller's transaction, every open saga of the resource as
// cancelled: they unwind at their next step.
func (e *Engine) CancelAll(tx *store.Tx, resource string) error {
	for _, r := range e.logs.TxBy(tx, "resource", resource) {
		if r.Finished() || r.Cancelled {
			continue
		}
		if _, err := e.logs.TxUpdate(tx, r.ID, func(r *Record) error { r.Cancelled = true; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops, in the caller's transaction, the finished logs of a resource that
// is gone for good.
func (e *Engine) Forget(tx *store.Tx, resource string) error {
	for _, r := range e.logs.TxBy(tx, "resource", resource) {
		if !r.Finished() {
			continue
		}
		if err := e.logs.TxDelete(tx, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// Of lists the resource's sagas, newest first.
func (e *Engine) Of(resource string) []*Record {
	list := append([]*Record(nil), e.logs.By("resource", resource)...)
	sort.Slice(list, func(i, j int) bool { return list[i].Started.After(list[j].Started) })
	return list
}

// Open counts the sagas that are not finished.
func (e *Engine) Open() int { return e.logs.Count("open", "yes") }

// Busy tells whether the resource has an unfinished saga.
func (e *Engine) Busy(resource string) bool {
	for _, r := range e.logs.By("resource", resource) {
		if !r.Finished() {
			return true
		}
	}
	return false
}

// Run resumes what is open, runs what begins, and returns when ctx ends and every
// step under way has returned.
func (e *Engine) Run(ctx context.Context) error {
	// What was accepted is brought to its end, on a full disk too.
	ctx, stop := context.WithCancelCause(store.Freeing(ctx))
	defer stop(nil)
	defer e.group.Wait()
	for ev := range e.logs.Watch(ctx) {
		if ev.New == nil {
			continue
		}
		if ev.New.Cancelled {
			e.interrupt(ev.New.ID)
		}
		if !ev.New.Finished() {
			e.enqueue(ctx, stop, ev.New)
		}
	}
	if errors.Is(context.Cause(ctx), ErrKilled) {
		return ErrKilled
	}
	return nil
}

func (e *Engine) interrupt(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cancel := e.cancels[id]; cancel != nil {
		cancel()
	}
}

// enqueue adds the saga to its resource's queue, in order of Started, and starts
// the queue's goroutine when it has none.
func (e *Engine) enqueue(ctx context.Context, stop context.CancelCauseFunc, r *Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q, running := e.queues[r.Resource]
	for _, id := range q {
		if id == r.ID {
			return
		}
	}
	e.queues[r.Resource] = append(q, r.ID)
	if !running {
		e.group.Go(func() { e.drain(ctx, stop, r.Resource) })
	}
}

func (e *Engine) drain(ctx context.Context, stop context.CancelCauseFunc, resource string) {
	for {
		e.mu.Lock()
		q := e.queues[resource]
		if len(q) == 0 || ctx.Err() != nil {
			delete(e.queues, resource)
			e.mu.Unlock()
			return
		}
		id := e.oldest(q)
		e.mu.Unlock()
		err := e.run(ctx, id)
		if errors.Is(err, ErrKilled) {
			stop(ErrKilled)
		} else if err != nil && ctx.Err() == nil {
			e.opt.Log.Error("saga cannot go on", "saga", id, "err", err)
		}
		e.mu.Lock()
		e.queues[resource] = remove(e.queues[resource], id)
		e.mu.Unlock()
		e.trim(ctx, resource)
	}
}

// oldest orders a replayed queue by the sagas' beginnings.
func (e *Engine) oldest(q []string) string {
	best, at := q[0], time.Time{}
	for _, id := range q {
		if r, err := e.logs.Get(id); err == nil && (at.IsZero() || r.Started.Before(at)) {
			best, at = id, r.Started
		}
	}
	return best
}

func remove(q []string, id string) []string {
	out := q[:0]
	for _, x := range q {
		if x != id {
			out = append(out, x)
		}
	}
	return out
}

// trim drops the oldest finished logs of a resource.
func (e *Engine) trim(ctx context.Context, resource string) {
	list := e.Of(resource)
	for i := e.opt.Keep; i < len(list); i++ {
		if list[i].Finished() {
			if err := e.logs.Delete(ctx, list[i].ID); err != nil && ctx.Err() == nil {
				e.opt.Log.Warn("old saga log stays", "saga", list[i].ID, "err", err)
			}
		}
	}
}
