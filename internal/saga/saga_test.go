package saga_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// hotel books rooms: a resource that leaks when a saga forgets to undo.
type hotel struct {
	mu    sync.Mutex
	rooms map[string]bool
}

func (h *hotel) book(room string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rooms[room] = true
}

func (h *hotel) cancel(room string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.rooms, room)
}

func (h *hotel) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)
}

type trip struct {
	Done []string
}

func open(t *testing.T, opt saga.Options) (*store.DB, *saga.Engine) {
	t.Helper()
	return openOn(t, store.NewMemory(), opt)
}

func openOn(t *testing.T, b store.Backend, opt saga.Options) (*store.DB, *saga.Engine) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	e := saga.New(db, opt)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, e
}

func begin(db *store.DB, e *saga.Engine, id, kind, resource string) error {
	return db.Txn(context.Background(), func(tx *store.Tx) error {
		return e.Begin(tx, saga.Start{ID: id, Kind: kind, Resource: resource, State: trip{}})
	})
}

func booking(room string, h *hotel) saga.Step[trip] {
	return saga.Step[trip]{Name: room,
		Do:   func(_ context.Context, s *trip) error { h.book(room); s.Done = append(s.Done, room); return nil },
		Undo: func(context.Context, *trip) error { h.cancel(room); return nil }}
}

func TestHarness(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		db, e := open(t, opt)
		h := &hotel{rooms: map[string]bool{}}
		failed := false
		saga.Register(e, saga.Definition[trip]{Kind: "trip", Steps: []saga.Step[trip]{booking("a", h), booking("b", h), booking("c", h)},
			Failed: func(context.Context, *trip, error) error { failed = true; return nil }})
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: e,
			Begin: func(context.Context) (string, error) { return "r", begin(db, e, "1", "trip", "r") },
			Check: func(t *testing.T, end *saga.Record) {
				want := 0
				if end.Phase == saga.Done {
					want = 3
				}
				if h.count() != want || failed != (end.Phase == saga.Failed) {
					t.Errorf("ended %s with %d rooms, failed called: %v", end.Phase, h.count(), failed)
				}
			}}
	})
}

func run(t *testing.T, e *saga.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func ended(t *testing.T, e *saga.Engine, resource string, n int) []*saga.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := wait.Until(ctx, "sagas to end", time.Millisecond, func(context.Context) (bool, error) {
		return len(e.Of(resource)) == n && !e.Busy(resource), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.Of(resource)
}

// A delete that arrives during a create cancels it, waits for its undo, and only then runs.
func TestCancelAndOrder(t *testing.T) {
	db, e := open(t, saga.Options{})
	h := &hotel{rooms: map[string]bool{}}
	started := make(chan struct{})
	var order []string
	slow := saga.Step[trip]{Name: "slow", Do: func(ctx context.Context, _ *trip) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}, Undo: func(context.Context, *trip) error { order = append(order, "undo"); return nil }}
	var cause error
	saga.Register(e, saga.Definition[trip]{Kind: "create", Steps: []saga.Step[trip]{booking("a", h), slow},
		Failed: func(_ context.Context, _ *trip, err error) error { cause = err; return nil }})
	tries := 0
	saga.Register(e, saga.Definition[trip]{Kind: "delete", Insist: true, Steps: []saga.Step[trip]{{Name: "go", Do: func(context.Context, *trip) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		order = append(order, "delete")
		return nil
	}}}})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, e)
	if err := begin(db, e, "1", "create", "r"); err != nil {
		t.Fatal(err)
	}
	<-started
	err := db.Txn(t.Context(), func(tx *store.Tx) error {
		if err := e.CancelAll(tx, "r"); err != nil {
			return err
		}
		return e.Begin(tx, saga.Start{ID: "2", Kind: "delete", Resource: "r", State: trip{}})
	})
	if err != nil {
		t.Fatal(err)
	}
	logs := ended(t, e, "r", 2)
	if logs[0].Phase != saga.Done || logs[1].Phase != saga.Failed || h.count() != 0 || !errors.Is(cause, saga.ErrCancelled) {
		t.Errorf("delete %s, create %s, %d rooms, cause %v", logs[0].Phase, logs[1].Phase, h.count(), cause)
	}
	if len(order) != 2 || order[0] != "undo" || order[1] != "delete" {
		t.Errorf("order %v", order)
	}
}

// mute loses the answers to writes: they happen, and are told to have failed.
type mute struct {
	store.Backend
	lost func() bool
}

func (m *mute) Txn(ctx context.Context, compares []store.Compare, ops []store.Op) (store.TxnResult, error) {
	r, err := m.Backend.Txn(ctx, compares, ops)
	if err == nil && len(ops) > 0 && m.lost() {
		return store.TxnResult{}, errors.New("the answer was lost")
	}
	return r, err
}

// A write of the log whose answer is lost is made again, and skips nothing: neither a
// step nor, on the way back, an undo.
func TestLostAnswers(t *testing.T) {
	for name, fails := range map[string]bool{"forward": false, "backward": true} {
		t.Run(name, func(t *testing.T) {
			lose, toggle := atomic.Bool{}, atomic.Bool{}
			db, e := openOn(t, &mute{store.NewMemory(), func() bool { return lose.Load() && !toggle.Swap(!toggle.Load()) }}, saga.Options{RetryMax: 10 * time.Millisecond})
			done, undone := map[string]bool{}, map[string]bool{}
			step := func(name string, err error) saga.Step[trip] {
				return saga.Step[trip]{Name: name, Do: func(context.Context, *trip) error { done[name] = true; return err },
					Undo: func(context.Context, *trip) error { undone[name] = true; return nil }}
			}
			var last error
			if fails {
				last = errors.New("no")
			}
			saga.Register(e, saga.Definition[trip]{Kind: "trip", Steps: []saga.Step[trip]{step("a", nil), step("b", nil), step("c", nil), step("d", last)}})
			if err := db.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := begin(db, e, "1", "trip", "r"); err != nil {
				t.Fatal(err)
			}
			lose.Store(true)
			run(t, e)
			end := ended(t, e, "r", 1)[0]
			if want := map[bool]saga.Phase{false: saga.Done, true: saga.Failed}[fails]; end.Phase != want || len(done) != 4 || fails && len(undone) != 4 {
				t.Errorf("it ended %s, done %v, undone %v", end.Phase, done, undone)
			}
		})
	}
}

func TestUnknownKindBeginsNothing(t *testing.T) {
	db, e := open(t, saga.Options{})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := begin(db, e, "1", "nothing", "r"); err == nil || len(e.Of("r")) != 0 {
		t.Errorf("an unknown saga began: %v", err)
	}
}

func TestOldLogsAreTrimmed(t *testing.T) {
	db, e := open(t, saga.Options{Keep: 2})
	saga.Register(e, saga.Definition[trip]{Kind: "nop", Steps: []saga.Step[trip]{{Name: "x", Do: func(context.Context, *trip) error { return nil }}}})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, e)
	for _, id := range []string{"1", "2", "3", "4"} {
		if err := begin(db, e, id, "nop", "r"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := wait.Until(ctx, "idle", time.Millisecond, func(context.Context) (bool, error) { return !e.Busy("r") && len(e.Of("r")) <= 2, nil })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}
