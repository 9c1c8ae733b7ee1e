package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// port is the record that the suite works with.
type port struct {
	ID       string            `json:"id"`
	Network  string            `json:"network,omitempty"`
	Project  string            `json:"project,omitempty"`
	MAC      string            `json:"mac,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Sequence int               `json:"sequence,omitempty"`
}

// counter is a second kind.
type counter struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// world is an open store with two kinds.
type world struct {
	db       *store.DB
	ports    *store.Collection[port]
	counters *store.Collection[counter]
}

func newWorld(t testing.TB, b store.Backend, opt store.Options) *world {
	t.Helper()
	opt.Backend, opt.Log = b, Quiet()
	db, err := store.Open(Context(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: db}
	w.ports = store.Register(db, store.Schema[port]{
		Service: "net", Kind: "port",
		ID:     func(p *port) string { return p.ID },
		Unique: map[string]func(*port) []string{"mac": func(p *port) []string { return one(p.MAC) }},
		Index: map[string]func(*port) []string{
			"network": func(p *port) []string { return one(p.Network) },
			"tag":     func(p *port) []string { return p.Tags },
		},
	})
	w.counters = store.Register(db, store.Schema[counter]{
		Service: "net", Kind: "counter", ID: func(c *counter) string { return c.ID },
	})
	if err := db.Start(Context(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

func started(t *testing.T, open Open) *world {
	t.Helper()
	w := newWorld(t, open(t), store.Options{})
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("error %v (kind %d), want kind %d", err, errs.KindOf(err), kind)
	}
}

func ids(ps []*port) string {
	out := ""
	for _, p := range ps {
		out += p.ID + " "
	}
	return out
}

func testCollection(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	_, err := w.ports.Get("a")
	wantKind(t, err, errs.NotFound)
	wantKind(t, w.ports.Delete(ctx, "a"), errs.NotFound)
	_, err = w.ports.Update(ctx, "a", func(*port) error { return nil })
	wantKind(t, err, errs.NotFound)

	in := &port{ID: "a", Network: "n1", Tags: []string{"x", "x", "y"}, Labels: map[string]string{"k": "v"}}
	must(t, w.ports.Create(ctx, in))
	in.Tags[0] = "the caller's own copy"
	wantKind(t, w.ports.Create(ctx, &port{ID: "a"}), errs.Conflict)
	must(t, w.ports.Create(ctx, &port{ID: "b/with/slashes", Network: "n1"}))
	if got := ids(w.ports.By("network", "n1")); got != "a b/with/slashes " {
		t.Errorf("by network: %s", got)
	}
	if w.ports.Count("tag", "x") != 1 || w.ports.Count("tag", "z") != 0 || w.ports.Len() != 2 {
		t.Error("wrong counts")
	}

	before, err := w.ports.Get("a")
	must(t, err)
	rev := w.ports.Rev("a")
	got, err := w.ports.Update(ctx, "a", func(p *port) error {
		p.Labels["k"], p.Tags[0], p.Network = "changed", "z", "n2"
		return nil
	})
	must(t, err)
	if before.Labels["k"] != "v" || before.Tags[0] != "x" {
		t.Error("an update changed the shared record")
	}
	if got.Labels["k"] != "changed" || w.ports.Count("network", "n2") != 1 || w.ports.Count("network", "n1") != 1 {
		t.Errorf("update not visible: %+v", got)
	}
	if w.ports.Rev("a") <= rev {
		t.Error("the revision did not grow")
	}
	rev = w.ports.Rev("a")
	_, err = w.ports.Update(ctx, "a", func(p *port) error { p.Network = "n2"; return nil })
	must(t, err)
	if w.ports.Rev("a") != rev {
		t.Error("an update that changes nothing was written")
	}
	boom := errors.New("boom")
	if _, err = w.ports.Update(ctx, "a", func(p *port) error { p.Network = "n9"; return boom }); !errors.Is(err, boom) {
		t.Errorf("error of fn: %v", err)
	}
	must(t, w.ports.Delete(ctx, "a"))
	if got := ids(w.ports.All()); got != "b/with/slashes " || w.ports.Rev("a") != 0 {
		t.Errorf("after deletion: %s", got)
	}
}

func testUnique(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	must(t, w.ports.Create(ctx, &port{ID: "a", MAC: "m1"}))
	err := w.ports.Create(ctx, &port{ID: "b", MAC: "m1"})
	wantKind(t, err, errs.Conflict)
	var ue *store.UniqueError
	if !errors.As(err, &ue) || ue.Holder != "a" || ue.Name != "mac" || ue.Value != "m1" {
		t.Fatalf("unique error: %+v", ue)
	}
	must(t, w.ports.Create(ctx, &port{ID: "b", MAC: "m2"}))
	if p, ok := w.ports.Unique("mac", "m2"); !ok || p.ID != "b" {
		t.Errorf("by unique key: %v %v", p, ok)
	}
	// A key can pass from one record to another within a transaction.
	must(t, w.db.Txn(ctx, func(tx *store.Tx) error {
		if err := w.ports.TxDelete(tx, "a"); err != nil {
			return err
		}
		if _, ok := w.ports.TxUnique(tx, "mac", "m1"); ok {
			t.Error("the overlay still has the key")
		}
		_, err := w.ports.TxUpdate(tx, "b", func(p *port) error { p.MAC = "m1"; return nil })
		return err
	}))
	if p, ok := w.ports.Unique("mac", "m1"); !ok || p.ID != "b" {
		t.Errorf("passed on: %v %v", p, ok)
	}
	must(t, w.ports.Create(ctx, &port{ID: "c", MAC: "m2"}))
	// One winner among many who want the same key at once.
	results := make(chan error)
	for i := range 16 {
		go func() { results <- w.ports.Create(ctx, &port{ID: fmt.Sprint("r", i), MAC: "hot"}) }()
	}
	won := 0
	for range 16 {
		if err := <-results; err == nil {
			won++
		} else {
			wantKind(t, err, errs.Conflict)
		}
	}
	if won != 1 {
		t.Errorf("%d winners", won)
	}
}

func testTransaction(t *testing.T, open Open) {
	w, ctx := started(t, open), Context(t)
	must(t, w.ports.Create(ctx, &port{ID: "a", Network: "n"}))
	boom := errors.New("boom")
	err := w.db.Txn(ctx, func(tx *store.Tx) error {
		must(t, w.ports.TxCreate(tx, &port{ID: "b", Network: "n"}))
		must(t, w.counters.TxPut(tx, &counter{ID: "c", N: 1}))
		wantKind(t, w.ports.TxCreate(tx, &port{ID: "b"}), errs.Conflict)
		if got := ids(w.ports.TxBy(tx, "network", "n")); got != "a b " || w.ports.TxCount(tx, "network", "n") != 2 {
			t.Errorf("overlay: %s", got)
		}
		must(t, w.ports.TxDelete(tx, "a"))
		_, err := w.ports.TxGet(tx, "a")
		wantKind(t, err, errs.NotFound)
		if w.ports.TxCount(tx, "network", "n") != 1 {
			t.Error("count after deletion in the overlay")
		}
		return boom
	})
	if !errors.Is(err, boom) || w.ports.Len() != 1 || w.counters.Len() != 0 {
		t.Fatalf("aborted transaction left something: %v", err)
	}
	// What the transaction read is guarded, even when it only wrote elsewhere.
	runs := 0
	must(t, w.db.Txn(ctx, func(tx *store.Tx) error {
		runs++
		p, err := w.ports.TxGet(tx, "a")
		must(t, err)
		if runs == 1 {
			_, err := w.ports.Update(ctx, "a", func(p *port) error { p.Sequence++; return nil })
			must(t, err)
		}
		return w.counters.TxPut(tx, &counter{ID: "seen", N: p.Sequence})
	}))
	if c, err := w.counters.Get("seen"); err != nil || c.N != 1 || runs != 2 {
		t.Errorf("write skew: %+v %v after %d runs", c, err, runs)
	}
}

// testAtomic looks for a moment at which half of a transaction is visible.
func testAtomic(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	must(t, w.counters.Create(ctx, &counter{ID: "x"}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			err := w.db.Txn(ctx, func(tx *store.Tx) error {
				return errors.Join(
					w.counters.TxPut(tx, &counter{ID: "x", N: i}),
					w.ports.TxPut(tx, &port{ID: "p", Sequence: i, Network: fmt.Sprint(i)}),
				)
			})
			if err != nil {
				t.Error(err)
			}
			if c, _ := w.counters.Get("x"); c.N != i {
				t.Errorf("read %d after writing %d", c.N, i)
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		p, err := w.ports.Get("p")
		c, _ := w.counters.Get("x")
		// The counter was read later, so it can only be ahead.
		if err == nil && c.N < p.Sequence {
			t.Fatalf("port shows %d, counter still %d", p.Sequence, c.N)
		}
	}
}
