package store

import (
	"reflect"
	"slices"
)

// overlay holds the uncommitted writes of a transaction to one collection, and
// what they change in the indexes and unique keys.
type overlay[T any] struct {
	c     *Collection[T]
	recs  map[string]*written[T]
	index map[indexValue]*indexDelta
	uniq  map[indexValue]*claim
}

// written is a record as the transaction leaves it; val is nil when deleted.
type written[T any] struct {
	base *rec[T] // what the cache had when it was first written
	val  *T
}

type indexValue struct{ name, value string }

// indexDelta is what the overlay does to one index entry.
type indexDelta struct {
	ids  map[string]struct{} // overlay records that have the value
	diff int                 // against the cache
}

// claim is a unique key whose holder the transaction changes; "" is nobody.
type claim struct{ base, now string }

func overlayOf[T any](tx *Tx, c *Collection[T]) *overlay[T] {
	if o, ok := tx.overlays[c]; ok {
		return o.(*overlay[T])
	}
	o := &overlay[T]{
		c: c, recs: map[string]*written[T]{},
		index: map[indexValue]*indexDelta{}, uniq: map[indexValue]*claim{},
	}
	tx.overlays[c] = o
	return o
}

// look finds the record as the transaction sees it, and notes the read.
func (o *overlay[T]) look(tx *Tx, id string) *T {
	if w, ok := o.recs[id]; ok {
		return w.val
	}
	if r := o.base(tx, id); r != nil {
		return r.val
	}
	return nil
}

func (o *overlay[T]) base(tx *Tx, id string) *rec[T] {
	o.c.db.mu.RLock()
	r := o.c.recs[id]
	o.c.db.mu.RUnlock()
	var rev int64
	if r != nil {
		rev = r.rev
	}
	tx.read(o.c, id, rev)
	return r
}

// write sets (or with nil deletes) a record; a violated unique key changes nothing.
func (o *overlay[T]) write(tx *Tx, id string, val *T) error {
	prev, had := o.recs[id]
	if !had {
		prev = &written[T]{base: o.base(tx, id)}
		if prev.base != nil {
			prev.val = prev.base.val
		}
	}
	savepoint := len(tx.undo)
	if err := o.claimAll(tx, id, prev.val, val); err != nil {
		tx.rollback(savepoint)
		return err
	}
	o.shiftIndexes(tx, id, prev, had, val)
	o.recs[id] = &written[T]{base: prev.base, val: val}
	tx.undo = append(tx.undo, func() {
		if had {
			o.recs[id] = prev
		} else {
			delete(o.recs, id)
		}
	})
	return nil
}

func valuesOf[T any](fn func(*T) []string, v *T) []string {
	if v == nil {
		return nil
	}
	return distinct(fn(v))
}

// claimAll moves the unique keys of a record from its old to its new values.
func (o *overlay[T]) claimAll(tx *Tx, id string, old, now *T) error {
	for name, fn := range o.c.s.Unique {
		had, has := valuesOf(fn, old), valuesOf(fn, now)
		for _, v := range had {
			if !slices.Contains(has, v) {
				o.setHolder(tx, indexValue{name, v}, "")
			}
		}
		for _, v := range has {
			k := indexValue{name, v}
			holder := o.holder(k)
			if holder != "" && holder != id {
				return uniqueViolation(&UniqueError{Service: o.c.s.Service, Kind: o.c.s.Kind, Name: name, Value: v, Holder: holder})
			}
			if holder == "" {
				o.setHolder(tx, k, id)
			}
		}
	}
	return nil
}

func (o *overlay[T]) holder(k indexValue) string {
	if cl, ok := o.uniq[k]; ok {
		return cl.now
	}
	return o.baseHolder(k)
}

func (o *overlay[T]) baseHolder(k indexValue) string {
	o.c.db.mu.RLock()
	defer o.c.db.mu.RUnlock()
	if r := o.c.unique(k.name)[k.value]; r != nil {
		return r.id
	}
	return ""
}

func (o *overlay[T]) setHolder(tx *Tx, k indexValue, id string) {
	cl, ok := o.uniq[k]
	if !ok {
		base := o.baseHolder(k)
		cl = &claim{base: base, now: base}
		o.uniq[k] = cl
	}
	was := cl.now
	cl.now = id
	tx.undo = append(tx.undo, func() { cl.now = was })
}

// shiftIndexes accounts for a record going from its previous state to val.
func (o *overlay[T]) shiftIndexes(tx *Tx, id string, prev *written[T], had bool, val *T) {
	for name, fn := range o.c.s.Index {
		before, after := valuesOf(fn, prev.val), valuesOf(fn, val)
		for _, v := range before {
			d := o.delta(indexValue{name, v})
			if had {
				delete(d.ids, id)
			}
			d.diff--
			tx.undo = append(tx.undo, func() {
				d.diff++
				if had {
					d.ids[id] = struct{}{}
				}
			})
		}
		for _, v := range after {
			d := o.delta(indexValue{name, v})
			d.ids[id] = struct{}{}
			d.diff++
			tx.undo = append(tx.undo, func() { d.diff--; delete(d.ids, id) })
		}
	}
}

func (o *overlay[T]) delta(k indexValue) *indexDelta {
	d := o.index[k]
	if d == nil {
		d = &indexDelta{ids: map[string]struct{}{}}
		o.index[k] = d
	}
	return d
}

// build adds the writes and the unique keys to the backend's transaction. The
// revisions of the records themselves are among the reads of the transaction.
func (o *overlay[T]) build(b *commit) error {
	for id, w := range o.recs {
		switch {
		case w.val == nil && w.base == nil:
		case w.val == nil:
			b.ops = append(b.ops, Op{Key: o.c.key(id)})
		case w.base != nil && reflect.DeepEqual(w.base.val, w.val):
		default:
			value, err := o.c.s.encode(w.val)
			if err != nil {
				return err
			}
			b.ops = append(b.ops, Op{Key: o.c.key(id), Value: value})
		}
	}
	for k, cl := range o.uniq {
		key := o.c.uniqueKey(k.name, k.value)
		switch {
		case cl.base == cl.now:
		case cl.now == "":
			b.ops = append(b.ops, Op{Key: key})
		default:
			if cl.base == "" {
				b.compares = append(b.compares, Compare{Key: key})
			}
			b.ops = append(b.ops, Op{Key: key, Value: []byte(cl.now)})
		}
	}
	return nil
}
