// Package storetest is the conformance suite of the store: what every Backend must
// do, and what collections, feeds and ledgers must do on top of it.
//
// It owns no state. Each test opens a fresh backend through the function that it
// was given, so the suite runs the same against memory and against etcd. There
// is no crash story here: killing processes is the business of the etcd
// backend's own tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Open makes an empty backend for a test; the suite closes it.
type Open func(t testing.TB) store.Backend

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	for name, fn := range map[string]func(*testing.T, Open){
		"Compare":      testCompare,
		"Range":        testRange,
		"BackendWatch": testBackendWatch,
		"Compact":      testCompact,
		"Snapshot":     testSnapshot,
		"Collection":   testCollection,
		"Unique":       testUnique,
		"Transaction":  testTransaction,
		"Model":        testModel,
		"Contention":   testContention,
		"Atomic":       testAtomic,
		"Feed":         testFeed,
		"Notify":       testNotify,
		"Stream":       testStream,
		"FeedBy":       testFeedBy,
		"NotifyOf":     testNotifyOf,
		"Reload":       testReload,
		"Ledger":       testLedger,
		"Savepoints":   testSavepoints,
		"Outsider":     testOutsider,
		"Fence":        testFence,
		"Sum":          testSum,
		"Late":         testLate,
		"Upgrade":      testUpgrade,
	} {
		t.Run(name, func(t *testing.T) { fn(t, open) })
	}
}

// Context is a test's context with a deadline, so that nothing hangs.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Quiet is a logger that says nothing.
func Quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func backend(t *testing.T, open Open) store.Backend {
	b := open(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the backend: %v", err)
		}
	})
	return b
}

func put(t *testing.T, b store.Backend, kvs ...string) int64 {
	t.Helper()
	var ops []store.Op
	for i := 0; i < len(kvs); i += 2 {
		ops = append(ops, store.Op{Key: kvs[i], Value: []byte(kvs[i+1])})
	}
	res, err := b.Txn(Context(t), nil, ops)
	if err != nil || !res.OK {
		t.Fatalf("put %v: %+v, %v", kvs, res, err)
	}
	return res.Rev
}

func testCompare(t *testing.T, open Open) {
	b, ctx := backend(t, open), Context(t)
	rev := put(t, b, "/a", "1")
	for _, c := range []struct {
		name string
		cmp  store.Compare
		want bool
	}{
		{"right revision", store.Compare{Key: "/a", ModRev: rev}, true},
		{"old revision", store.Compare{Key: "/a", ModRev: rev}, false},
		{"absent but exists", store.Compare{Key: "/a"}, false},
		{"absent", store.Compare{Key: "/b"}, true},
		{"exists but absent", store.Compare{Key: "/c", ModRev: rev}, false},
	} {
		before, err := b.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		res, err := b.Txn(ctx, []store.Compare{c.cmp}, []store.Op{{Key: "/a", Value: []byte(c.name)}})
		if err != nil || res.OK != c.want {
			t.Errorf("%s: %+v, %v, want %v", c.name, res, err, c.want)
		}
		if want := before.Revision; res.Rev != want && !c.want || c.want && res.Rev != want+1 {
			t.Errorf("%s: revision %d after %d", c.name, res.Rev, want)
		}
	}
	// A deletion makes the key absent, and deleting nothing is not a revision.
	res, err := b.Txn(ctx, nil, []store.Op{{Key: "/a"}})
	if err != nil || !res.OK {
		t.Fatal(res, err)
	}
	again, err := b.Txn(ctx, []store.Compare{{Key: "/a"}}, []store.Op{{Key: "/a"}})
	if err != nil || !again.OK || again.Rev != res.Rev {
		t.Errorf("second deletion: %+v, %v, want revision %d", again, err, res.Rev)
	}
}

func testRange(t *testing.T, open Open) {
	b, ctx := backend(t, open), Context(t)
	put(t, b, "/p/2", "two", "/p/1", "one", "/q/1", "other", "/p0", "x")
	rev := put(t, b, "/p/3", "three")
	put(t, b, "/p/1", "uno")
	if _, err := b.Txn(ctx, nil, []store.Op{{Key: "/p/2"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, prefix string
		opt          store.RangeOptions
		want         string
		more         bool
	}{
		{"now", "/p/", store.RangeOptions{}, "/p/1=uno /p/3=three ", false},
		{"then", "/p/", store.RangeOptions{Rev: rev}, "/p/1=one /p/2=two /p/3=three ", false},
		{"limited", "/p/", store.RangeOptions{Limit: 1}, "/p/1=uno ", true},
		{"at the limit", "/p/", store.RangeOptions{Limit: 2}, "/p/1=uno /p/3=three ", false},
		{"none", "/zz", store.RangeOptions{}, "", false},
	} {
		res, err := b.Range(ctx, c.prefix, c.opt)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := ""
		for _, kv := range res.KVs {
			got += kv.Key + "=" + string(kv.Value) + " "
		}
		if got != c.want || res.More != c.more {
			t.Errorf("%s: %q more %v, want %q %v", c.name, got, res.More, c.want, c.more)
		}
	}
}

func testBackendWatch(t *testing.T, open Open) {
	b := backend(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	first := put(t, b, "/old", "seen too")
	const n = 300
	go func() {
		for i := range n {
			ops := []store.Op{{Key: "/a", Value: fmt.Append(nil, i)}, {Key: "/b", Value: fmt.Append(nil, i)}}
			if _, err := b.Txn(ctx, nil, ops); err != nil {
				t.Errorf("writing: %v", err)
			}
		}
	}()
	watch := b.Watch(ctx, first)
	seen, last := 0, first-1
	for seen < 2*n+1 {
		batch, ok := <-watch
		if !ok || batch.Err != nil {
			t.Fatalf("watch ended after %d changes: %v", seen, batch.Err)
		}
		per := map[int64]int{}
		for _, ch := range batch.Changes {
			if ch.ModRev < last {
				t.Fatalf("revision %d after %d", ch.ModRev, last)
			}
			last = ch.ModRev
			per[ch.ModRev]++
		}
		for rev, count := range per {
			if want := 2; rev != first && count != want {
				t.Fatalf("revision %d came with %d of %d changes", rev, count, want)
			}
		}
		if batch.Rev < last {
			t.Fatalf("batch of revision %d holds %d", batch.Rev, last)
		}
		seen += len(batch.Changes)
	}
	cancel()
	for range watch {
		// It must close.
	}
}

func testCompact(t *testing.T, open Open) {
	b, ctx := backend(t, open), Context(t)
	first := put(t, b, "/a", "1")
	put(t, b, "/a", "2")
	last := put(t, b, "/b", "3")
	if err := b.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	if err := b.Compact(ctx, last); err != nil {
		t.Errorf("compacting twice: %v", err)
	}
	if _, err := b.Range(ctx, "/", store.RangeOptions{Rev: first}); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("range of a compacted revision: %v", err)
	}
	batch := <-b.Watch(ctx, first)
	if !errors.Is(batch.Err, store.ErrCompacted) {
		t.Errorf("watch from a compacted revision: %+v", batch)
	}
	res, err := b.Range(ctx, "/", store.RangeOptions{Rev: last})
	if err != nil || len(res.KVs) != 2 {
		t.Errorf("range after compaction: %+v, %v", res, err)
	}
	put(t, b, "/c", "4")
	if batch := <-b.Watch(ctx, last+1); batch.Err != nil || len(batch.Changes) != 1 {
		t.Errorf("watch after compaction: %+v", batch)
	}
}

func testSnapshot(t *testing.T, open Open) {
	b, ctx := backend(t, open), Context(t)
	put(t, b, "/a", "to be found in the copy")
	var out bytes.Buffer
	if err := b.Snapshot(ctx, &out); err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 {
		t.Error("the snapshot is empty")
	}
}
