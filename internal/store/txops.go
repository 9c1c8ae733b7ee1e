package store

import (
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// TxGet returns the record as the transaction sees it. Never change it.
func (c *Collection[T]) TxGet(tx *Tx, id string) (*T, error) {
	if v := overlayOf(tx, c).look(tx, id); v != nil {
		return v, nil
	}
	return nil, c.notFound(id)
}

// TxPut writes the record, whether it exists or not. The store keeps a copy.
func (c *Collection[T]) TxPut(tx *Tx, v *T) error {
	id := c.s.ID(v)
	if id == "" {
		return errs.Invalidf("%s %s has no id", c.s.Service, c.s.Kind)
	}
	return overlayOf(tx, c).write(tx, id, clone(v))
}

// TxCreate writes a new record; Conflict if the id exists.
func (c *Collection[T]) TxCreate(tx *Tx, v *T) error {
	id := c.s.ID(v)
	if overlayOf(tx, c).look(tx, id) != nil {
		return errs.Conflictf("%s %s %q already exists", c.s.Service, c.s.Kind, id)
	}
	return c.TxPut(tx, v)
}

// TxUpdate hands fn a deep copy of the record and writes what it left there. The
// result belongs to the store: never change it.
func (c *Collection[T]) TxUpdate(tx *Tx, id string, fn func(*T) error) (*T, error) {
	o := overlayOf(tx, c)
	old := o.look(tx, id)
	if old == nil {
		return nil, c.notFound(id)
	}
	v := clone(old)
	if err := fn(v); err != nil {
		return nil, err
	}
	if now := c.s.ID(v); now != id {
		return nil, errs.New(errs.Internal, "store: an update of %s %s changes its id to %q", c.kind(), id, now)
	}
	// What fn stored in the record may be shared with its caller.
	v = clone(v)
	if err := o.write(tx, id, v); err != nil {
		return nil, err
	}
	return v, nil
}

// TxDelete removes the record; NotFound when it is absent.
func (c *Collection[T]) TxDelete(tx *Tx, id string) error {
	o := overlayOf(tx, c)
	if o.look(tx, id) == nil {
		return c.notFound(id)
	}
	return o.write(tx, id, nil)
}

// TxBy lists the records with the value in the index, in order of id, through
// the writes of the transaction. Outside of a ledger the transaction then depends
// on every record listed (at most 16384 in all); in a ledger it does not, so that
// adding up ten thousand servers costs no more than reading them, and status
// updates of them do not get in the way.
func (c *Collection[T]) TxBy(tx *Tx, index, value string) []*T {
	o := overlayOf(tx, c)
	c.db.mu.RLock()
	b := c.indexed(index)[value]
	out := b.appendTo(nil, func(id string) bool { _, ok := o.recs[id]; return ok })
	for i := 0; i < len(out) && !tx.serial; i++ {
		id := c.s.ID(out[i])
		tx.read(c, id, c.recs[id].rev)
	}
	c.db.mu.RUnlock()
	d := o.index[indexValue{index, value}]
	if d == nil || len(d.ids) == 0 {
		return out
	}
	for id := range d.ids {
		out = append(out, o.recs[id].val)
	}
	slices.SortFunc(out, func(a, b *T) int { return strings.Compare(c.s.ID(a), c.s.ID(b)) })
	return out
}

// TxCount is how many records have the value in the index, through the writes of
// the transaction. It is exact at commit only in the ledger that owns the records.
func (c *Collection[T]) TxCount(tx *Tx, index, value string) int {
	n := c.Count(index, value)
	if d := overlayOf(tx, c).index[indexValue{index, value}]; d != nil {
		n += d.diff
	}
	return n
}

// TxUnique finds the holder of a unique key through the writes of the transaction.
func (c *Collection[T]) TxUnique(tx *Tx, name, value string) (*T, bool) {
	o := overlayOf(tx, c)
	id := o.holder(indexValue{name, value})
	if id == "" {
		return nil, false
	}
	v := o.look(tx, id)
	return v, v != nil
}
