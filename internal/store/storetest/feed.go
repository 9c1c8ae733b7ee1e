package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-cloud/strata/internal/store"
)

func next(t *testing.T, ch <-chan store.Event[port]) store.Event[port] {
	t.Helper()
	select {
	case ev, ok := <-ch:
		if !ok {
			t.Fatal("the feed closed")
		}
		return ev
	case <-Context(t).Done():
		t.Fatal("no event")
	}
	panic("not reached")
}

func testFeed(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	must(t, w.ports.Create(ctx, &port{ID: "a", Sequence: 1}))
	must(t, w.ports.Create(ctx, &port{ID: "b", Sequence: 1}))
	feed := w.ports.Watch(ctx)
	for _, want := range []string{"put a", "put b", "synced "} {
		if ev := next(t, feed); ev.Type.String()+" "+ev.ID != want || ev.Old != nil {
			t.Fatalf("replay: %+v, want %s", ev, want)
		}
	}
	must(t, w.ports.Delete(ctx, "a"))
	if ev := next(t, feed); ev.Type != store.Delete || ev.ID != "a" || ev.Old == nil || ev.New != nil {
		t.Fatalf("deletion: %+v", ev)
	}
	// A reader that does not read holds nobody up, and finds the newest state.
	const n = 200
	for i := range n {
		_, err := w.ports.Update(ctx, "b", func(p *port) error { p.Sequence = 100 + i; return nil })
		must(t, err)
	}
	must(t, w.ports.Create(ctx, &port{ID: "z"}))
	events, last, old := 0, store.Event[port]{}, 1
	for last.ID != "z" {
		ev := next(t, feed)
		if ev.ID == "b" {
			if ev.Old == nil || ev.Old.Sequence != old {
				t.Fatalf("old state %+v, the reader knew %d", ev.Old, old)
			}
			old = ev.New.Sequence
		}
		if ev.Rev <= last.Rev {
			t.Fatalf("revision %d after %d", ev.Rev, last.Rev)
		}
		last = ev
		events++
	}
	if old != 100+n-1 || events > 4 {
		t.Errorf("%d events, last state %d", events, old)
	}
	cancel()
	for range feed {
		// It must close.
	}
}

func testNotify(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	ports, all, other := w.db.Notify(ctx, "net/port"), w.db.Notify(ctx), w.db.Notify(ctx, "ne", "net/counter")
	for _, ch := range []<-chan struct{}{ports, all, other} {
		<-ch // readable at the start
	}
	for i := range 5 {
		must(t, w.ports.Create(ctx, &port{ID: fmt.Sprint(i)}))
	}
	<-ports
	<-all
	select {
	case <-ports:
		t.Error("five changes were not merged into one signal")
	case <-other:
		t.Error("a signal for a kind that did not change")
	default:
	}
}

func testStream(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	looked := make(chan struct{}, 100)
	look := func() int { // a state that not every change changes
		defer func() { looked <- struct{}{} }()
		return w.ports.Len() / 2
	}
	stream := store.Stream(ctx, w.db, look, "net/port")
	if got := <-stream; got != 0 {
		t.Errorf("at the start: %d", got)
	}
	<-looked
	must(t, w.ports.Create(ctx, &port{ID: "0"}))
	<-looked
	must(t, w.ports.Delete(ctx, "0"))
	<-looked // what came of the look before would be there by now
	must(t, w.ports.Create(ctx, &port{ID: "0"}))
	<-looked
	select {
	case got := <-stream:
		t.Errorf("the same again: %d", got)
	default:
	}
	for i := 1; i < 4; i++ { // nobody reads meanwhile
		must(t, w.ports.Create(ctx, &port{ID: fmt.Sprint(i)}))
		<-looked
	}
	must(t, w.ports.Create(ctx, &port{ID: "4"}))
	<-looked // the state before has been put where it is read
	if got := <-stream; got != 2 {
		t.Errorf("of several states the reader gets %d", got)
	}
	cancel()
	for range stream {
		t.Error("something comes after the end")
	}
}

// cutOff is a backend whose watch can be made to lose its place.
type cutOff struct {
	store.Backend
	cut chan error
}

func (c *cutOff) Watch(ctx context.Context, from int64) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		in := c.Backend.Watch(ctx, from)
		for {
			select {
			case b, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- b:
				case <-ctx.Done():
					return
				}
			case err := <-c.cut:
				select {
				case out <- store.Batch{Err: err}:
				case <-ctx.Done():
				}
				return
			}
		}
	}()
	return out
}

// testReload makes the watch fail as after a compaction; caches and feeds must recover.
func testReload(t *testing.T, open Open) {
	b := &cutOff{Backend: open(t), cut: make(chan error)}
	w := newWorld(t, b, store.Options{})
	t.Cleanup(func() { must(t, w.db.Close()) })
	ctx := Context(t)
	must(t, w.ports.Create(ctx, &port{ID: "gone", MAC: "m"}))
	must(t, w.ports.Create(ctx, &port{ID: "kept"}))
	feed := w.ports.Watch(ctx)
	for next(t, feed).Type != store.Synced {
		continue
	}
	b.cut <- store.ErrCompacted
	must(t, w.ports.Delete(ctx, "gone"))
	must(t, w.ports.Create(ctx, &port{ID: "new", MAC: "m"}))
	if ev := next(t, feed); ev.Type != store.Delete || ev.ID != "gone" {
		t.Errorf("after the new load: %+v", ev)
	}
	if ev := next(t, feed); ev.Type != store.Put || ev.ID != "new" {
		t.Errorf("after the new load: %+v", ev)
	}
	if got := ids(w.ports.All()); got != "kept new " {
		t.Errorf("cache: %s", got)
	}
}
