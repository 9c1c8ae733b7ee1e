package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

var errQuota = errs.New(errs.QuotaExceeded, "quota")

// testLedger lets many callers claim from a quota that is counted, not stored.
func testLedger(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	const callers, each, quota = 32, 10, 100
	l := w.db.Ledger("network")
	if w.db.Ledger("network") != l {
		t.Error("two ledgers of one name")
	}
	var wg sync.WaitGroup
	var granted, refused atomic.Int64
	for g := range callers {
		wg.Go(func() {
			for i := range each {
				err := l.Do(ctx, func(tx *store.Tx) error {
					n := w.ports.TxCount(tx, "network", "n")
					if n >= quota {
						return errQuota
					}
					p := &port{ID: fmt.Sprintf("%d-%d", g, i), Network: "n", Sequence: n, MAC: fmt.Sprint(n)}
					return w.ports.TxCreate(tx, p)
				})
				switch {
				case err == nil:
					granted.Add(1)
				case errors.Is(err, errQuota):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if granted.Load() != quota || refused.Load() != callers*each-quota || w.ports.Count("network", "n") != quota {
		t.Fatalf("%d granted, %d refused, %d records", granted.Load(), refused.Load(), w.ports.Len())
	}
	for i := range quota {
		if _, ok := w.ports.Unique("mac", fmt.Sprint(i)); !ok {
			t.Errorf("number %d was not handed out", i)
		}
	}
}

// testSavepoints mixes functions that succeed, fail and panic half way.
func testSavepoints(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	must(t, w.ports.Create(ctx, &port{ID: "base", Network: "n", MAC: "free me"}))
	l := w.db.Ledger("x")
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for i := range 90 {
		wg.Go(func() {
			err := l.Do(ctx, func(tx *store.Tx) error {
				n := w.ports.TxCount(tx, "network", "n")
				must(t, w.ports.TxCreate(tx, &port{ID: fmt.Sprint("p", i), Network: "n", MAC: fmt.Sprint(i)}))
				if i%3 != 0 {
					// Undo must restore what was there before the function.
					if _, err := w.ports.TxUpdate(tx, "base", func(p *port) error { p.MAC, p.Network = "taken", ""; return nil }); err != nil {
						return err
					}
					must(t, w.ports.TxDelete(tx, "base"))
				}
				if _, ok := w.ports.TxUnique(tx, "mac", "free me"); ok != (i%3 == 0) {
					t.Error("unique key of another function's dropped writes")
				}
				if got := w.ports.TxCount(tx, "network", "n"); got != n+1 && i%3 == 0 || got != n && i%3 != 0 {
					t.Errorf("count %d after %d", got, n)
				}
				if got := len(w.ports.TxBy(tx, "network", "n")); got != w.ports.TxCount(tx, "network", "n") {
					t.Errorf("list of %d, count %d", got, w.ports.TxCount(tx, "network", "n"))
				}
				switch i % 3 {
				case 1:
					return boom
				case 2:
					panic("half way")
				}
				return nil
			})
			switch {
			case i%3 == 0 && err != nil, i%3 == 1 && !errors.Is(err, boom), i%3 == 2 && !strings.Contains(fmt.Sprint(err), "half way"):
				t.Errorf("function %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if w.ports.Len() != 31 || w.ports.Count("network", "n") != 31 {
		t.Errorf("%d records, %d indexed, want 31", w.ports.Len(), w.ports.Count("network", "n"))
	}
	for i := range 90 {
		if _, err := w.ports.Get(fmt.Sprint("p", i)); (err == nil) != (i%3 == 0) {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// testOutsider writes a ledger's record from outside while the ledger works.
func testOutsider(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	must(t, w.counters.Create(ctx, &counter{ID: "c"}))
	inc := func(c *counter) error { c.N++; return nil }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := w.db.Ledger("c").Do(ctx, func(tx *store.Tx) error {
					_, err := w.counters.TxUpdate(tx, "c", inc)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		_, err := w.counters.Update(ctx, "c", inc)
		must(t, err)
	}
	wg.Wait()
	if c, _ := w.counters.Get("c"); c.N != 110 {
		t.Errorf("%d of 110 increments", c.N)
	}
}

// testSum adds up records in a ledger that outsiders keep updating: their status
// must neither be lost nor make the ledger run again for ever.
func testSum(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	for i := range 20 {
		must(t, w.ports.Create(ctx, &port{ID: fmt.Sprint(i), Network: "n"}))
	}
	runs := 0
	must(t, w.db.Ledger("sum").Do(ctx, func(tx *store.Tx) error {
		runs++
		n := len(w.ports.TxBy(tx, "network", "n"))
		_, err := w.ports.Update(ctx, "3", func(p *port) error { p.Sequence++; return nil })
		must(t, err)
		return w.counters.TxPut(tx, &counter{ID: "sum", N: n})
	}))
	c, err := w.counters.Get("sum")
	if err != nil || c.N != 20 || runs != 1 {
		t.Errorf("%+v, %v after %d runs", c, err, runs)
	}
	if p, _ := w.ports.Get("3"); p.Sequence != 1 {
		t.Error("the outsider's update was lost")
	}
}

// late is a backend that loses the answer to some fenced commits and carries these
// out only just before the next one: proposals that outlive their timeout.
type late struct {
	store.Backend
	mu      sync.Mutex
	calls   int
	pending func()
	lost    int
}

func (l *late) Txn(ctx context.Context, compares []store.Compare, ops []store.Op) (store.TxnResult, error) {
	renewal := len(ops) == 1 && ops[0].Key == "/sys/leader"
	if renewal || !slices.ContainsFunc(compares, func(c store.Compare) bool { return c.Key == "/sys/leader" }) {
		return l.Backend.Txn(ctx, compares, ops)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != nil {
		l.pending()
		l.pending = nil
	}
	if l.calls++; l.calls%3 == 0 {
		l.lost++
		l.pending = func() { _, _ = l.Backend.Txn(ctx, compares, ops) }
		return store.TxnResult{}, context.DeadlineExceeded
	}
	return l.Backend.Txn(ctx, compares, ops)
}

// testLate counts against a quota while commits of unknown outcome are about.
func testLate(t *testing.T, open Open) {
	b := &late{Backend: open(t)}
	w := newWorld(t, b, store.Options{})
	t.Cleanup(func() { must(t, w.db.Close()) })
	ctx := Context(t)
	const quota = 20
	granted, unknown := 0, 0
	for i := range 3 * quota {
		err := w.db.Ledger("l").Do(ctx, func(tx *store.Tx) error {
			if w.ports.TxCount(tx, "network", "n") >= quota {
				return errQuota
			}
			return w.ports.TxCreate(tx, &port{ID: fmt.Sprint(i), Network: "n"})
		})
		switch {
		case err == nil:
			granted++
		case errs.Is(err, errs.Unavailable):
			unknown++
		case !errors.Is(err, errQuota):
			t.Fatal(err)
		}
	}
	if n := w.ports.Count("network", "n"); n != quota || granted != quota || unknown != b.lost || b.lost < 5 {
		t.Errorf("%d records of a quota of %d; %d granted, %d unknown, %d lost", n, quota, granted, unknown, b.lost)
	}
}

// testFence lets a second process take over: the first one's ledgers must fail.
func testFence(t *testing.T, open Open) {
	b := backend(t, open)
	ctx := Context(t)
	first := newWorld(t, shared{b}, store.Options{})
	defer first.db.Close()
	add := func(w *world, id string) error {
		return w.db.Ledger("l").Do(ctx, func(tx *store.Tx) error { return w.counters.TxCreate(tx, &counter{ID: id}) })
	}
	must(t, add(first, "a"))
	second := newWorld(t, shared{b}, store.Options{})
	defer second.db.Close()
	if second.db.Epoch() != first.db.Epoch()+1 {
		t.Errorf("epoch %d after %d", second.db.Epoch(), first.db.Epoch())
	}
	wantKind(t, add(first, "b"), errs.Unavailable)
	wantKind(t, add(first, "c"), errs.Unavailable)
	if first.db.Epoch() != 0 {
		t.Error("the first still believes to lead")
	}
	must(t, add(second, "b"))
	must(t, first.counters.Create(ctx, &counter{ID: "plain transactions are not fenced"}))
}
