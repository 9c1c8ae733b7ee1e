package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// maxAttempts bounds how often a transaction is run against other writers.
const maxAttempts = 200

var errContended = errors.New("too many other writers")

// Txn runs fn and commits what it wrote, if every record that it read or wrote is
// still what it saw; otherwise fn runs again. An error of fn that it formed from
// a consistent view aborts the transaction. An error of kind Unavailable means
// that the outcome is unknown.
func (db *DB) Txn(ctx context.Context, fn func(tx *Tx) error) error {
	return db.txn(ctx, fn, false)
}

// txn runs fn until it commits. In a ledger, and among several members, every commit is fenced.
func (db *DB) txn(ctx context.Context, fn func(tx *Tx) error, ledger bool) error {
	if !db.started() {
		return errs.New(errs.Unavailable, "store: not started")
	}
	for attempt := range maxAttempts {
		if err := db.backoff(ctx, attempt); err != nil {
			return err
		}
		var fence []Compare
		if ledger || db.opt.Fenced {
			var err error
			if fence, err = db.fence(ctx); err != nil {
				return err
			}
		}
		tx := newTx(db, ledger)
		if err := fn(tx); err != nil {
			if ctx.Err() != nil || tx.consistent() {
				return err
			}
			continue
		}
		ok, err := tx.commit(ctx, fence...)
		if ok || err != nil {
			return err
		}
		if fence != nil {
			if err := db.stillLeads(ctx); err != nil {
				return err
			}
		}
	}
	return unavailable("committing", errContended)
}

// backoff waits a little more at each attempt. The first repetition is at once:
// the cache already shows what was in the way.
func (db *DB) backoff(ctx context.Context, attempt int) error {
	if attempt >= 2 {
		limit := min(time.Millisecond<<min(attempt-2, 6), 50*time.Millisecond)
		t := time.NewTimer(rand.N(limit))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	for _, c := range []context.Context{ctx, db.ctx} {
		if c.Err() != nil {
			return unavailable("committing", context.Cause(c))
		}
	}
	return nil
}
