package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

func TestFullDisk(t *testing.T) {
	put, del := []Op{{Key: "a"}, {Key: "b", Value: []byte("x")}}, []Op{{Key: "a"}}
	usual, freeing := t.Context(), Freeing(t.Context())
	for _, c := range []struct {
		what string
		free uint64
		ctx  context.Context
		ops  []Op
		said string
	}{
		{"a write", minFree, usual, put, ""},
		{"a write to a full disk", minFree - 1, usual, put, "the disk is full (159 MiB free, 160 needed)"},
		{"one that makes room", minFree - 1, freeing, put, ""},
		{"one that makes room too late", leastFree - 1, freeing, put, "the disk is full (95 MiB free, 96 needed)"},
		{"a deletion", 0, usual, del, ""},
	} {
		g := &spaceGuard{free: func(string) (uint64, error) { return c.free, nil }}
		err := g.admit(c.ctx, c.ops)
		if c.said == "" && err != nil || c.said != "" && (!errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), c.said)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.said)
		}
	}
}

// filling is a backend that says how full it is.
type filling struct {
	Backend
	status Status
}

func (f *filling) Status(context.Context) (Status, error) { return f.status, nil }

func TestSizeAlarm(t *testing.T) {
	ctx := t.Context()
	b := &filling{NewMemory(), Status{Members: 1, Quota: 1000, InUse: 600, Size: 990}}
	var told []Status
	db, err := Open(ctx, Options{
		Backend: b, Log: slog.New(slog.DiscardHandler), CompactEvery: -1,
		SizeAlarm: func(s Status) { told = append(told, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct {
		inUse  int64
		alarms []string
		want   int
	}{{600, nil, 0}, {601, nil, 1}, {10, []string{"NOSPACE"}, 2}} {
		b.status.InUse, b.status.Alarms = c.inUse, c.alarms
		if err := db.Maintain(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if len(told) != c.want {
			t.Errorf("%d bytes in use, alarms %v: told %d times, want %d", c.inUse, c.alarms, len(told), c.want)
		}
	}
}

// TestLifecycle: nothing works before Start and after Close, and nothing stays.
func TestLifecycle(t *testing.T) {
	ctx := t.Context()
	before := runtime.NumGoroutine()
	db, err := Open(ctx, Options{Backend: NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*Tx) error { return nil }
	feeds := Register(db, Schema[string]{Service: "s", Kind: "k", ID: func(s *string) string { return *s }})
	unavailable := func(when string) {
		t.Helper()
		for what, err := range map[string]error{"Txn": db.Txn(ctx, nothing), "Do": db.Ledger("l").Do(ctx, nothing)} {
			if !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s %s: %v", what, when, err)
			}
		}
	}
	unavailable("before Start")
	if err := db.Start(ctx); err != nil {
		t.Fatal(err)
	}
	feed := feeds.Watch(ctx)
	db.Notify(ctx)
	for range 2 {
		if err := db.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	for range feed {
		continue
	}
	unavailable("after Close")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = wait.Until(ctx, "goroutines to end", time.Millisecond, func(context.Context) (bool, error) {
		return runtime.NumGoroutine() <= before, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSchema: what is wrong with a schema is told by Start.
func TestSchema(t *testing.T) {
	id := func(s *string) string { return *s }
	for want, ss := range map[string][]Schema[string]{
		"bad name":        {{Service: "a/b", Kind: "k", ID: id}},
		"declares no ID":  {{Service: "s", Kind: "k"}},
		"needs 1 upgrade": {{Service: "s", Kind: "k", ID: id, Version: 2}},
		"is registered twice": {
			{Service: "s", Kind: "k", ID: id}, {Service: "s", Kind: "k", ID: id},
		},
	} {
		db, err := Open(t.Context(), Options{Backend: NewMemory()})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range ss {
			Register(db, s)
		}
		if err := db.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBucket compares a bucket with a sorted list.
func TestBucket(t *testing.T) {
	b := &bucket[int]{}
	model := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		id := fmt.Sprint(rng.IntN(3000))
		if rng.IntN(3) == 0 {
			b.del(id)
			delete(model, id)
		} else {
			n := i
			b.set(&rec[int]{id: id, val: &n})
			model[id] = i
		}
		if b.count() != len(model) {
			t.Fatalf("%d records, model has %d", b.count(), len(model))
		}
	}
	ids := make([]string, 0, len(model))
	for id := range model {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for i, v := range b.appendTo(nil, nil) {
		if *v != model[ids[i]] {
			t.Fatalf("at %d: %d, model has %d", i, *v, model[ids[i]])
		}
	}
}

func TestClone(t *testing.T) {
	type inner struct {
		M map[string][]int
		P *int
	}
	type outer struct {
		S       []inner
		A       [2]*inner
		I       any
		T       time.Time
		Addr    netip.Addr
		Nil     map[string]string
		private []int
	}
	n := 7
	build := func() *outer {
		return &outer{
			S: []inner{{M: map[string][]int{"a": {1, 2}}, P: &n}}, A: [2]*inner{{P: &n}, nil},
			I: map[string]any{"k": []any{"v"}}, T: time.Unix(1, 2).UTC(), Addr: netip.MustParseAddr("10.0.0.1"),
			private: []int{1},
		}
	}
	orig := build()
	c := clone(orig)
	if !reflect.DeepEqual(c, orig) {
		t.Fatalf("%+v, want %+v", c, orig)
	}
	c.S[0].M["a"][0] = 9
	c.S[0].M["b"] = nil
	*c.A[0].P = 8
	c.I.(map[string]any)["k"].([]any)[0] = "changed"
	if n != 7 || !reflect.DeepEqual(orig, build()) {
		t.Errorf("the original changed: %+v", orig)
	}
}
