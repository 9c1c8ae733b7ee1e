package store

import (
	"context"
	"runtime/debug"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
)

const (
	// groupSize is how many functions share a commit at most; groupReads ends a
	// group earlier when it has come to depend on that many records.
	groupSize  = 40
	groupReads = 4000
)

// Ledger runs functions one after another on the leader: the serial owner of
// numbers that many requests want at once. Functions that wait at the same time
// share one commit.
type Ledger struct {
	db   *DB
	name string
	jobs chan *job
}

// job is one waiting function.
type job struct {
	ctx  context.Context
	fn   func(tx *Tx) error
	err  error
	done chan struct{}
}

// Ledger gives the ledger of that name; the same one every time.
func (db *DB) Ledger(name string) *Ledger {
	l := &Ledger{db: db, name: name, jobs: make(chan *job, 4*groupSize)}
	if have, loaded := db.ledgers.LoadOrStore(name, l); loaded {
		return have.(*Ledger)
	}
	db.wg.Go(l.run)
	return l
}

// Do runs fn in the ledger's order and returns when its writes are durable and
// visible. If fn returns an error, or panics, its writes are dropped and nobody
// else's. fn may run again when a writer outside the ledger came in between.
// Without leadership Do fails with Unavailable. fn must not call Do.
func (l *Ledger) Do(ctx context.Context, fn func(tx *Tx) error) error {
	if !l.db.started() {
		return errs.New(errs.Unavailable, "store: not started")
	}
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case l.jobs <- j:
	case <-ctx.Done():
		return unavailable("queueing in ledger "+l.name, context.Cause(ctx))
	case <-l.db.ctx.Done():
		return unavailable("queueing in ledger "+l.name, context.Cause(l.db.ctx))
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return unavailable("waiting for ledger "+l.name, context.Cause(ctx))
	case <-l.db.ctx.Done():
		return unavailable("waiting for ledger "+l.name, context.Cause(l.db.ctx))
	}
}

func (l *Ledger) run() {
	for {
		select {
		case j := <-l.jobs:
			l.group(j)
		case <-l.db.ctx.Done():
			return
		}
	}
}

// group runs j and what waits behind it in one transaction.
func (l *Ledger) group(j *job) {
	// The fence comes first: it settles what the functions are going to count.
	fence, err := l.db.fence(l.db.ctx)
	if err != nil {
		j.err = err
		close(j.done)
		return
	}
	tx := newTx(l.db, true)
	jobs := make([]*job, 0, groupSize)
	for j != nil {
		jobs = append(jobs, j)
		j.err = l.attempt(j, tx)
		j = nil
		if len(jobs) < groupSize && len(tx.reads) < groupReads {
			select {
			case j = <-l.jobs:
			default:
			}
		}
	}
	// An error may rest on the writes of a function before it, so it is told only
	// after these are committed.
	ctx := l.db.ctx
	if slices.ContainsFunc(jobs, func(j *job) bool { return isFreeing(j.ctx) }) {
		ctx = Freeing(ctx)
	}
	ok, err := l.commit(ctx, tx, fence)
	for _, j := range jobs {
		switch {
		case err != nil && len(jobs) > 1 && errs.KindOf(err) != errs.Unavailable:
			j.err = l.alone(j) // one oversized function must not fail the others
		case err != nil:
			j.err = err
		case !ok:
			j.err = l.alone(j)
		}
		close(j.done)
	}
}

// attempt runs the function against the group's transaction, behind a savepoint.
func (l *Ledger) attempt(j *job, tx *Tx) error {
	if j.ctx.Err() != nil {
		return unavailable("waiting in a ledger", context.Cause(j.ctx))
	}
	savepoint := len(tx.undo)
	err := l.protect(j.fn, tx)
	if err != nil {
		tx.rollback(savepoint)
	}
	return err
}

// protect turns a panic of fn into an error. The stack is for the log alone: the
// error may reach a user.
func (l *Ledger) protect(fn func(tx *Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.db.log.Error("store: a ledger function panicked", "ledger", l.name, "panic", p, "stack", string(debug.Stack()))
			err = errs.New(errs.Internal, "store: a function of ledger %s panicked: %v", l.name, p)
		}
	}()
	return fn(tx)
}

// commit writes the group. The writes belong to several callers, so that none of
// their contexts governs it.
func (l *Ledger) commit(ctx context.Context, tx *Tx, fence []Compare) (bool, error) {
	ok, err := tx.commit(ctx, fence...)
	if ok || err != nil {
		return ok, err
	}
	return false, l.db.stillLeads(l.db.ctx)
}

// alone runs one function in a transaction of its own.
func (l *Ledger) alone(j *job) error {
	return l.db.txn(j.ctx, func(tx *Tx) error { return l.protect(j.fn, tx) }, true)
}
