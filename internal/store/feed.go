package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// EventType says what an Event tells.
type EventType int

// What a change feed delivers.
const (
	Put    EventType = iota + 1 // the record exists, with New
	Delete                      // the record is gone; Old is what the reader knew
	Synced                      // all records of the start have been delivered
)

// String is the name of the type.
func (t EventType) String() string {
	return [...]string{"?", "put", "delete", "synced"}[t]
}

// Event is a change of one record. Old is what this reader was told before, nil
// if nothing. Old and New are shared: never change them.
type Event[T any] struct {
	Type     EventType
	ID       string
	Old, New *T
	Rev      int64
}

// feed is the queue of one reader. Several changes of a record that the reader has
// not fetched yet become one, so that a slow reader costs at most a copy of the
// list of ids and never holds up the cache.
type feed[T any] struct {
	mu    sync.Mutex
	queue []string // ids in order of their first waiting change; "" is Synced
	wait  map[string]*Event[T]
	wake  chan struct{}
}

func (f *feed[T]) push(id string, old, now *rec[T], rev int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ev := f.wait[id]
	if ev == nil {
		ev = &Event[T]{ID: id}
		if old != nil {
			ev.Old = old.val
		}
		f.wait[id] = ev
		f.queue = append(f.queue, id)
	}
	ev.Rev, ev.Type, ev.New = rev, Delete, nil
	if now != nil {
		ev.Type, ev.New = Put, now.val
	}
	f.signal()
}

func (f *feed[T]) signal() { fire(f.wake) }

// fire makes a channel of one place readable.
func fire(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pop takes the next event; what was made and deleted unseen is left out.
func (f *feed[T]) pop() (Event[T], bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 {
		id := f.queue[0]
		f.queue = f.queue[1:]
		ev := f.wait[id]
		delete(f.wait, id)
		if ev.Type == Delete && ev.Old == nil {
			continue
		}
		return *ev, true
	}
	f.queue = nil
	return Event[T]{}, false
}

// Watch delivers every record as it is now (Put, in order of id), then Synced, then each
// change in the order of revisions. Changes of one record that the reader has not
// fetched yet are merged into the newest. The channel closes when ctx or the DB
// ends. Before Start it waits for Start.
func (c *Collection[T]) Watch(ctx context.Context) <-chan Event[T] {
	return c.watch(ctx, nil)
}

// WatchBy is Watch for the records with the value in the index. One that has lost
// the value is deleted to this reader. A change costs nothing for the readers of
// other values, so that there may be thousands.
func (c *Collection[T]) WatchBy(ctx context.Context, index, value string) <-chan Event[T] {
	c.indexed(index)
	return c.watch(ctx, &indexValue{index, value})
}

func (c *Collection[T]) watch(ctx context.Context, of *indexValue) <-chan Event[T] {
	out := make(chan Event[T])
	f := &feed[T]{wait: map[string]*Event[T]{}, wake: make(chan struct{}, 1)}
	c.db.wg.Go(func() {
		defer close(out)
		select {
		case <-c.db.ready:
		case <-ctx.Done():
			return
		case <-c.db.ctx.Done():
			return
		}
		c.attach(f, of)
		defer c.detach(f, of)
		f.run(ctx, c.db.ctx, out)
	})
	return out
}

func (c *Collection[T]) attach(f *feed[T], of *indexValue) {
	c.db.mu.Lock()
	defer c.db.mu.Unlock()
	from := &c.all
	if of != nil {
		from = c.index[of.name][of.value]
	}
	from.each(func(r *rec[T]) { f.push(r.id, nil, r, r.rev) })
	f.mu.Lock()
	f.wait[""] = &Event[T]{Type: Synced, Rev: c.db.applied}
	f.queue = append(f.queue, "")
	f.mu.Unlock()
	f.signal()
	if of == nil {
		c.feeds[f] = struct{}{}
		return
	}
	if c.keyed[*of] == nil {
		c.keyed[*of] = map[*feed[T]]struct{}{}
	}
	c.keyed[*of][f] = struct{}{}
}

func (c *Collection[T]) detach(f *feed[T], of *indexValue) {
	c.db.mu.Lock()
	defer c.db.mu.Unlock()
	if of == nil {
		delete(c.feeds, f)
		return
	}
	if delete(c.keyed[*of], f); len(c.keyed[*of]) == 0 {
		delete(c.keyed, *of)
	}
}

// pushKeyed tells the readers of the values that a record had or has. db.mu is held.
func (c *Collection[T]) pushKeyed(id string, old, now *rec[T], rev int64) {
	if len(c.keyed) == 0 {
		return
	}
	for name, fn := range c.s.Index {
		had, has := values(fn, old), values(fn, now)
		for _, v := range had {
			if !slices.Contains(has, v) {
				for f := range c.keyed[indexValue{name, v}] {
					f.push(id, old, nil, rev)
				}
			}
		}
		for _, v := range has {
			was := old
			if !slices.Contains(had, v) {
				was = nil
			}
			for f := range c.keyed[indexValue{name, v}] {
				f.push(id, was, now, rev)
			}
		}
	}
}

// NotifyOf gives a channel that is readable whenever the record changed since it
// was last read, and once at the start. It falls silent when ctx ends, and costs
// nothing when other records change.
func (c *Collection[T]) NotifyOf(ctx context.Context, id string) <-chan struct{} {
	ch := make(chan struct{}, 1)
	fire(ch)
	c.db.mu.Lock()
	defer c.db.mu.Unlock()
	if c.eyes[id] == nil {
		c.eyes[id] = map[chan struct{}]struct{}{}
	}
	c.eyes[id][ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		c.db.mu.Lock()
		defer c.db.mu.Unlock()
		if delete(c.eyes[id], ch); len(c.eyes[id]) == 0 {
			delete(c.eyes, id)
		}
	})
	return ch
}

func (f *feed[T]) run(ctx, dbctx context.Context, out chan<- Event[T]) {
	for {
		ev, ok := f.pop()
		if !ok {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
				return
			case <-dbctx.Done():
				return
			}
		}
		select {
		case out <- ev:
		case <-ctx.Done():
			return
		case <-dbctx.Done():
			return
		}
	}
}

// signal is a reader of Notify.
type signal struct {
	kinds []string
	ch    chan struct{}
}

func (s *signal) wants(kind string) bool {
	if len(s.kinds) == 0 {
		return true
	}
	for _, k := range s.kinds {
		if k == kind || strings.HasPrefix(kind, k+"/") {
			return true
		}
	}
	return false
}

func (s *signal) fire() { fire(s.ch) }

// Notify gives a channel that is readable whenever something changed since it was
// last read, and once at the start: for reconcilers, which look at everything
// anyway. kinds are "service/kind" or "service"; none means all. The channel is
// never closed; it falls silent when ctx ends.
func (db *DB) Notify(ctx context.Context, kinds ...string) <-chan struct{} {
	s := &signal{kinds: kinds, ch: make(chan struct{}, 1)}
	s.fire()
	db.mu.Lock()
	db.signals[s] = struct{}{}
	db.mu.Unlock()
	context.AfterFunc(ctx, func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		delete(db.signals, s)
	})
	return s.ch
}

// raise wakes the readers of the kinds that changed. mu is held.
func (db *DB) raise(kinds map[string]struct{}) {
	for s := range db.signals {
		for k := range kinds {
			if s.wants(k) {
				s.fire()
				break
			}
		}
	}
}
