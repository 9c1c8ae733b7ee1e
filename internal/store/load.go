package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// loadWhole is up to how many keys a prefix is read in one piece; a larger one is
// read shard by shard.
const loadWhole = 4000

// loader collects the records of one revision.
type loader struct {
	db  *DB
	rev int64
	mu  sync.Mutex
	got []decoded
}

// load reads all records at one revision and makes the caches show exactly them.
func (db *DB) load(ctx context.Context) (int64, error) {
	// Most stores are small: one read brings everything.
	first, err := db.backend.Range(ctx, "/v1/", RangeOptions{Limit: loadWhole})
	if err != nil {
		return 0, err
	}
	l := &loader{db: db, rev: first.Rev}
	if first.More {
		err = l.readTables(ctx)
	} else {
		err = l.add(first.KVs)
	}
	if err != nil {
		return 0, err
	}
	db.replace(l)
	return l.rev, nil
}

func (l *loader) readTables(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(4, 2*runtime.GOMAXPROCS(0)))
	for prefix := range l.db.tables {
		res, err := l.db.backend.Range(ctx, prefix, RangeOptions{Rev: l.rev, Limit: loadWhole})
		if err != nil {
			return fmt.Errorf("reading %s: %w", prefix, err)
		}
		if !res.More {
			g.Go(func() error { return l.add(res.KVs) })
			continue
		}
		for shard := range 256 {
			g.Go(func() error { return l.readShard(ctx, prefix+shardName(byte(shard))+"/") })
		}
	}
	return g.Wait()
}

func (l *loader) readShard(ctx context.Context, prefix string) error {
	res, err := l.db.backend.Range(ctx, prefix, RangeOptions{Rev: l.rev})
	if err != nil {
		return fmt.Errorf("reading %s: %w", prefix, err)
	}
	return l.add(res.KVs)
}

func (l *loader) add(kvs []KV) error {
	ds := make([]decoded, 0, len(kvs))
	for _, kv := range kvs {
		d, err := l.db.parse(Change(kv))
		if err != nil {
			return err
		}
		if d.t != nil {
			ds = append(ds, d)
		}
	}
	l.mu.Lock()
	l.got = append(l.got, ds...)
	l.mu.Unlock()
	return nil
}

// replace makes the caches equal to what was loaded; the feeds see the difference.
func (db *DB) replace(l *loader) {
	db.mu.Lock()
	present := map[table]map[string]bool{}
	touched := map[string]struct{}{}
	for _, t := range db.tables {
		present[t] = map[string]bool{}
		touched[t.kind()] = struct{}{}
	}
	again := db.applied != 0
	for _, d := range l.got {
		if again {
			present[d.t][d.id] = true
		}
		d.t.apply(d.id, d.r, d.rev)
	}
	if again {
		for t, ids := range present {
			for _, id := range t.ids() {
				if !ids[id] {
					t.apply(id, nil, l.rev)
				}
			}
		}
	}
	db.applied = l.rev
	db.raise(touched)
	db.mu.Unlock()
	db.advance(l.rev)
}
