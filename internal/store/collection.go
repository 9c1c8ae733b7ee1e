package store

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Schema declares a kind of record.
type Schema[T any] struct {
	Service, Kind string // as in the key /v1/<service>/<kind>/<shard>/<id>
	ID            func(*T) string

	// Unique gives, by name, the values that no two records may share. A record
	// may have none or several of a name. The empty string is a value.
	Unique map[string]func(*T) []string
	// Index gives, by name, the values under which By and Count find a record.
	// Indexes live in RAM only: adding one needs no migration.
	Index map[string]func(*T) []string

	// Version of the stored form, from 1 (0 means 1). Upgrade[i] turns a body of
	// version i+1 into version i+2.
	Version int
	Upgrade []func(json.RawMessage) (json.RawMessage, error)
}

func (s *Schema[T]) validate() error {
	if s.Version == 0 {
		s.Version = 1
	}
	bad := func(x string) bool { return x == "" || strings.Contains(x, "/") }
	switch {
	case bad(s.Service) || bad(s.Kind):
		return fmt.Errorf("store: bad name of a collection: %q/%q", s.Service, s.Kind)
	case s.ID == nil:
		return fmt.Errorf("store: %s/%s declares no ID", s.Service, s.Kind)
	case len(s.Upgrade) != s.Version-1:
		return fmt.Errorf("store: %s/%s of version %d needs %d upgraders, has %d",
			s.Service, s.Kind, s.Version, s.Version-1, len(s.Upgrade))
	}
	return nil
}

// rec is a record in the cache. It never changes; a write replaces it.
type rec[T any] struct {
	id  string
	rev int64
	val *T
}

// Collection is a typed, cached set of records. What its reads return is shared
// with everyone: never change it, use Update.
type Collection[T any] struct {
	db     *DB
	s      Schema[T]
	prefix string

	// Guarded by db.mu.
	recs  map[string]*rec[T]
	all   bucket[T]
	index map[string]map[string]*bucket[T]
	uniq  map[string]map[string]*rec[T]
	feeds map[*feed[T]]struct{}
	keyed map[indexValue]map[*feed[T]]struct{}  // feeds of one value of an index
	eyes  map[string]map[chan struct{}]struct{} // readers of NotifyOf, by id
}

// Register declares a collection. It must come before db.Start, which reports
// what is wrong with a schema.
func Register[T any](db *DB, s Schema[T]) *Collection[T] {
	err := s.validate()
	c := &Collection[T]{
		db: db, s: s, prefix: "/v1/" + s.Service + "/" + s.Kind + "/",
		feeds: map[*feed[T]]struct{}{},
		keyed: map[indexValue]map[*feed[T]]struct{}{},
		eyes:  map[string]map[chan struct{}]struct{}{},
	}
	c.reset()
	db.register(c, err)
	return c
}

func (c *Collection[T]) reset() {
	c.recs = map[string]*rec[T]{}
	c.all = bucket[T]{}
	c.index = map[string]map[string]*bucket[T]{}
	c.uniq = map[string]map[string]*rec[T]{}
	for name := range c.s.Index {
		c.index[name] = map[string]*bucket[T]{}
	}
	for name := range c.s.Unique {
		c.uniq[name] = map[string]*rec[T]{}
	}
}

func (c *Collection[T]) kind() string      { return c.s.Service + "/" + c.s.Kind }
func (c *Collection[T]) keyPrefix() string { return c.prefix }

// key is /v1/<service>/<kind>/<shard>/<id>.
func (c *Collection[T]) key(id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	return c.prefix + shardName(byte(h.Sum32())) + "/" + id
}

func shardName(b byte) string {
	const hex = "0123456789abcdef"
	return string([]byte{hex[b>>4], hex[b&15]})
}

func (c *Collection[T]) uniqueKey(name, value string) string {
	return "/u1/" + c.s.Service + "/" + c.s.Kind + "/" + name + "/" + value
}

func (c *Collection[T]) notFound(id string) error {
	return errs.NotFoundf("%s %s %q not found", c.s.Service, c.s.Kind, id)
}

// Get returns the record, or an error of kind NotFound.
func (c *Collection[T]) Get(id string) (*T, error) {
	c.db.mu.RLock()
	r := c.recs[id]
	c.db.mu.RUnlock()
	if r == nil {
		return nil, c.notFound(id)
	}
	return r.val, nil
}

// Rev is the revision that last wrote the record, 0 when there is none.
func (c *Collection[T]) Rev(id string) int64 {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.revLocked(id)
}

func (c *Collection[T]) revLocked(id string) int64 {
	if r := c.recs[id]; r != nil {
		return r.rev
	}
	return 0
}

// By lists the records that have the value in the index, in order of id.
func (c *Collection[T]) By(index, value string) []*T {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.indexed(index)[value].appendTo(nil, nil)
}

// Count is how many records have the value in the index.
func (c *Collection[T]) Count(index, value string) int {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.indexed(index)[value].count()
}

// Len is how many records there are.
func (c *Collection[T]) Len() int {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.all.n
}

// All lists every record in order of id.
func (c *Collection[T]) All() []*T {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	return c.all.appendTo(nil, nil)
}

// Unique finds the record that holds a declared unique key.
func (c *Collection[T]) Unique(name, value string) (*T, bool) {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	if r := c.unique(name)[value]; r != nil {
		return r.val, true
	}
	return nil, false
}

// indexed is the index of that name. Asking for one that was not declared is a
// mistake in the program that must not look like an empty answer.
func (c *Collection[T]) indexed(name string) map[string]*bucket[T] {
	m, ok := c.index[name]
	if !ok {
		panic("store: " + c.kind() + " declares no index " + name)
	}
	return m
}

func (c *Collection[T]) unique(name string) map[string]*rec[T] {
	m, ok := c.uniq[name]
	if !ok {
		panic("store: " + c.kind() + " declares no unique key " + name)
	}
	return m
}

// Create writes a new record; an existing id or unique key is a Conflict.
func (c *Collection[T]) Create(ctx context.Context, v *T) error {
	return c.db.Txn(ctx, func(tx *Tx) error { return c.TxCreate(tx, v) })
}

// Update hands fn a deep copy, writes what it left there and returns it. fn may
// run several times. Leaving the record as it was writes nothing.
func (c *Collection[T]) Update(ctx context.Context, id string, fn func(*T) error) (*T, error) {
	var out *T
	err := c.db.Txn(ctx, func(tx *Tx) (err error) {
		out, err = c.TxUpdate(tx, id, fn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Delete removes the record; NotFound when it is absent.
func (c *Collection[T]) Delete(ctx context.Context, id string) error {
	return c.db.Txn(ctx, func(tx *Tx) error { return c.TxDelete(tx, id) })
}

// decodeRecord makes a cache record of what the backend holds.
func (c *Collection[T]) decodeRecord(id string, value []byte, rev int64) (any, error) {
	v, err := c.s.decode(id, value)
	if err != nil {
		return nil, err
	}
	return &rec[T]{id: id, rev: rev, val: v}, nil
}

// apply brings a record (nil: deleted by rev) into cache, indexes and feeds. db.mu is held.
func (c *Collection[T]) apply(id string, r any, rev int64) {
	old := c.recs[id]
	if old != nil && rev <= old.rev || old == nil && r == nil {
		return
	}
	var now *rec[T]
	if r != nil {
		now = r.(*rec[T])
	}
	c.reindex(old, now)
	if now != nil {
		c.recs[id] = now
		c.all.set(now)
	} else {
		delete(c.recs, id)
		c.all.del(id)
	}
	for f := range c.feeds {
		f.push(id, old, now, rev)
	}
	c.pushKeyed(id, old, now, rev)
	for ch := range c.eyes[id] {
		fire(ch)
	}
}

func (c *Collection[T]) reindex(old, now *rec[T]) {
	for name, fn := range c.s.Index {
		buckets := c.index[name]
		had, has := values(fn, old), values(fn, now)
		for _, v := range had {
			if !slices.Contains(has, v) {
				if b := buckets[v]; b.n > 1 {
					b.del(old.id)
				} else {
					delete(buckets, v)
				}
			}
		}
		for _, v := range has {
			b := buckets[v]
			if b == nil {
				b = &bucket[T]{}
				buckets[v] = b
			}
			b.set(now)
		}
	}
	for name, fn := range c.s.Unique {
		holders := c.uniq[name]
		for _, v := range values(fn, old) {
			if holders[v] == old {
				delete(holders, v)
			}
		}
		for _, v := range values(fn, now) {
			holders[v] = now
		}
	}
}

// values is what an index gives for a record, each value once.
func values[T any](fn func(*T) []string, r *rec[T]) []string {
	if r == nil {
		return nil
	}
	return distinct(fn(r.val))
}

func distinct(vs []string) []string {
	for i := 1; i < len(vs); i++ {
		if slices.Contains(vs[:i], vs[i]) {
			vs = slices.Clone(vs)
			slices.Sort(vs)
			return slices.Compact(vs)
		}
	}
	return vs
}

// ids lists what the cache holds. db.mu is held.
func (c *Collection[T]) count() int { return len(c.recs) }

func (c *Collection[T]) ids() []string {
	out := make([]string, 0, len(c.recs))
	for id := range c.recs {
		out = append(out, id)
	}
	return out
}
