package store

import (
	"context"
	"reflect"
)

// Stream delivers what look gives now, and again whenever records of the kinds (as in
// Notify) have changed and it gives something else: for what is told to others as a whole.
// A reader that is slow gets the newest. The channel closes when ctx ends.
func Stream[T any](ctx context.Context, db *DB, look func() T, kinds ...string) <-chan T {
	out := make(chan T, 1)
	changed := db.Notify(ctx, kinds...)
	go func() {
		defer close(out)
		var last T
		for first := true; ; first = false {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			now := look()
			if !first && reflect.DeepEqual(last, now) {
				continue
			}
			last = now
			select {
			case <-out:
			default:
			}
			out <- now
		}
	}()
	return out
}
