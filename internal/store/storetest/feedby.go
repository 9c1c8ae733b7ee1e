package storetest

import (
	"context"
	"testing"
)

// testFeedBy follows one value of an index, which records come to and leave.
func testFeedBy(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	must(t, w.ports.Create(ctx, &port{ID: "a", Network: "n"}))
	must(t, w.ports.Create(ctx, &port{ID: "b", Network: "m"}))
	feed := w.ports.WatchBy(ctx, "network", "n")
	move := func(id, to string) {
		_, err := w.ports.Update(ctx, id, func(p *port) error { p.Network = to; p.Sequence++; return nil })
		must(t, err)
	}
	expect := func(want string, old bool) {
		t.Helper()
		if ev := next(t, feed); ev.Type.String()+" "+ev.ID != want || (ev.Old != nil) != old {
			t.Fatalf("%+v, want %s, with an old state: %v", ev, want, old)
		}
	}
	expect("put a", false)
	expect("synced ", false)
	move("b", "m") // of no concern here
	move("b", "n")
	expect("put b", false)
	move("b", "n")
	expect("put b", true)
	move("a", "m")
	expect("delete a", true)
	must(t, w.ports.Delete(ctx, "a")) // nor this
	must(t, w.ports.Delete(ctx, "b"))
	expect("delete b", true)
	cancel()
	for range feed {
		// It must close.
	}
}

// testNotifyOf hears of one record alone.
func testNotifyOf(t *testing.T, open Open) {
	w := started(t, open)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	ch := w.ports.NotifyOf(ctx, "a")
	<-ch // readable at the start
	must(t, w.ports.Create(ctx, &port{ID: "b"}))
	select {
	case <-ch:
		t.Error("another record was taken for this one")
	default:
	}
	for _, change := range []func() error{
		func() error { return w.ports.Create(ctx, &port{ID: "a"}) },
		func() error { return w.ports.Delete(ctx, "a") },
	} {
		must(t, change())
		select {
		case <-ch:
		default:
			t.Error("a change was not heard of")
		}
	}
}
