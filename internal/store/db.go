package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// Options configure a DB.
type Options struct {
	Backend Backend
	Log     *slog.Logger // default: slog.Default()
	Member  string       // this member's name, for leadership; default "local"
	// Follower leaves leadership alone: ledgers answer Unavailable.
	Follower bool
	// Fenced has every transaction fail once somebody else leads, not only those of
	// ledgers: for one of several members, whose work must end when it is deposed.
	Fenced bool
	// CompactEvery is how often history older than that is forgotten; default 5
	// minutes, negative for never.
	CompactEvery time.Duration
	// SizeAlarm, if set, is told when the database has passed 60 % of its quota
	// or the backend raises an alarm.
	SizeAlarm func(Status)
}

// table is a collection whose type is not known.
type table interface {
	kind() string
	keyPrefix() string
	decodeRecord(id string, value []byte, rev int64) (any, error)
	apply(id string, r any, rev int64)
	revLocked(id string) int64
	ids() []string
	count() int
	key(id string) string
}

// DB is the open store of a process. See the package comment.
type DB struct {
	opt     Options
	backend Backend
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc
	closing func() error
	wg      sync.WaitGroup
	ready   chan struct{} // closed when the caches are warm

	tables  map[string]table // by key prefix
	regErrs []error

	// mu guards every cache; applied is the revision they all show.
	mu      sync.RWMutex
	applied int64
	signals map[*signal]struct{}

	waitMu  sync.Mutex
	seen    int64
	waiters []waiter

	lead    leadership
	ledgers sync.Map // name -> *Ledger
}

type waiter struct {
	rev  int64
	done chan struct{}
}

// Open makes a DB over a backend, which the DB owns from then on. The values of
// ctx are kept, its end is not: use Close.
func Open(ctx context.Context, opt Options) (*DB, error) {
	if opt.Backend == nil {
		return nil, errs.Invalidf("store: no backend given")
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Member == "" {
		opt.Member = "local"
	}
	if opt.CompactEvery == 0 {
		opt.CompactEvery = 5 * time.Minute
	}
	db := &DB{
		opt: opt, backend: opt.Backend, log: opt.Log,
		ready:   make(chan struct{}),
		tables:  map[string]table{},
		signals: map[*signal]struct{}{},
	}
	db.lead.run = rand.Text()
	db.ctx, db.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	db.closing = sync.OnceValue(func() error {
		db.cancel(errors.New("store: closed"))
		db.wg.Wait()
		return db.backend.Close()
	})
	return db, nil
}

func (db *DB) register(t table, err error) {
	if err == nil && db.tables[t.keyPrefix()] != nil {
		err = fmt.Errorf("store: collection %s is registered twice", t.kind())
	}
	if err == nil && db.started() {
		err = fmt.Errorf("store: collection %s is registered after Start", t.kind())
	}
	if err != nil {
		db.regErrs = append(db.regErrs, err)
		return
	}
	db.tables[t.keyPrefix()] = t
}

func (db *DB) started() bool {
	select {
	case <-db.ready:
		return true
	default:
		return false
	}
}

// Start fills the caches of all registered collections, watches from there, and
// takes leadership unless this is a follower. It returns when the cache is warm.
func (db *DB) Start(ctx context.Context) error {
	if err := errors.Join(db.regErrs...); err != nil {
		return err
	}
	rev, err := db.load(ctx)
	if err != nil {
		return fmt.Errorf("loading the store: %w", err)
	}
	db.wg.Go(func() { db.follow(rev + 1) })
	close(db.ready)
	if !db.opt.Follower {
		if err := db.Lead(ctx); err != nil {
			return err
		}
	}
	if db.opt.CompactEvery > 0 {
		db.wg.Go(db.maintain)
	}
	return nil
}

// Close ends watches, ledgers and the backend. Calls in flight get Unavailable.
func (db *DB) Close() error { return db.closing() }

// follow feeds the caches from the watch until the DB closes.
func (db *DB) follow(from int64) {
	for db.ctx.Err() == nil {
		err := db.followOnce(&from)
		if db.ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrCompacted) {
			db.log.Warn("store: watch fell behind a compaction, loading anew", "rev", from)
			rev, lerr := db.load(db.ctx)
			if lerr == nil {
				from = rev + 1
				continue
			}
			err = lerr
		}
		db.log.Error("store: watch ended, trying again", "rev", from, "err", err)
		wait.Pause(db.ctx, 200*time.Millisecond)
	}
}

func (db *DB) followOnce(from *int64) error {
	ctx, cancel := context.WithCancel(db.ctx)
	defer cancel()
	for b := range db.backend.Watch(ctx, *from) {
		if b.Err != nil {
			return b.Err
		}
		db.applyBatch(b)
		*from = b.Rev + 1
	}
	return errors.New("the watch channel closed")
}

// decoded is a change whose record has been parsed.
type decoded struct {
	t   table
	id  string
	r   any
	rev int64
}

// applyBatch shows the changes of one or more whole revisions in all caches at once.
func (db *DB) applyBatch(b Batch) {
	ds := make([]decoded, 0, len(b.Changes))
	for _, ch := range b.Changes {
		d, err := db.parse(ch)
		if err != nil {
			db.log.Error("store: a record cannot be read; the cache keeps its previous state", "key", ch.Key, "err", err)
		} else if d.t != nil {
			ds = append(ds, d)
		}
	}
	db.mu.Lock()
	touched := map[string]struct{}{}
	for _, d := range ds {
		d.t.apply(d.id, d.r, d.rev)
		touched[d.t.kind()] = struct{}{}
	}
	db.applied = b.Rev
	db.raise(touched)
	db.mu.Unlock()
	db.advance(b.Rev)
}

func (db *DB) parse(ch Change) (decoded, error) {
	t, id := db.tableOf(ch.Key)
	if t == nil {
		return decoded{}, nil
	}
	d := decoded{t: t, id: id, rev: ch.ModRev}
	if ch.Value == nil {
		return d, nil
	}
	r, err := t.decodeRecord(id, ch.Value, ch.ModRev)
	d.r = r
	return d, err
}

// tableOf finds the collection and the id of a key; nil for keys of others.
func (db *DB) tableOf(key string) (table, string) {
	parts := strings.SplitN(key, "/", 6) // "", v1, service, kind, shard, id
	if len(parts) != 6 || parts[1] != "v1" {
		return nil, ""
	}
	return db.tables["/v1/"+parts[2]+"/"+parts[3]+"/"], parts[5]
}

// advance wakes those who wait for revisions up to rev.
func (db *DB) advance(rev int64) {
	db.waitMu.Lock()
	defer db.waitMu.Unlock()
	db.seen = max(db.seen, rev)
	db.waiters = slices.DeleteFunc(db.waiters, func(w waiter) bool {
		if w.rev <= db.seen {
			close(w.done)
			return true
		}
		return false
	})
}

// waitRev returns when the caches show rev.
func (db *DB) waitRev(ctx context.Context, rev int64) error {
	db.waitMu.Lock()
	if db.seen >= rev {
		db.waitMu.Unlock()
		return nil
	}
	w := waiter{rev, make(chan struct{})}
	db.waiters = append(db.waiters, w)
	db.waitMu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return unavailable("waiting for the cache", context.Cause(ctx))
	case <-db.ctx.Done():
		return unavailable("waiting for the cache", context.Cause(db.ctx))
	}
}

// Revision is the newest revision that the caches show.
func (db *DB) Revision() int64 {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.applied
}
