package store

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
)

// Tx is a transaction being built: the cache as seen through its own writes. It
// belongs to one goroutine and must not be used after its function has returned.
type Tx struct {
	db       *DB
	reads    map[readKey]int64
	overlays map[table]overlaid
	undo     []func() // newest last: takes writes back to a savepoint
	stale    bool     // two reads of a record saw different revisions
	serial   bool     // runs in a ledger
}

type readKey struct {
	t  table
	id string
}

// overlaid is the overlay of a collection whose type is not known.
type overlaid interface {
	build(b *commit) error
}

// commit is a transaction in the backend's terms.
type commit struct {
	compares []Compare
	ops      []Op
}

func newTx(db *DB, serial bool) *Tx {
	return &Tx{db: db, serial: serial, reads: map[readKey]int64{}, overlays: map[table]overlaid{}}
}

// read notes that the transaction depends on the record being at rev.
func (tx *Tx) read(t table, id string, rev int64) {
	k := readKey{t, id}
	if was, ok := tx.reads[k]; !ok {
		tx.reads[k] = rev
	} else if was != rev {
		tx.stale = true
	}
}

// rollback takes back the writes since the savepoint (a length of undo).
func (tx *Tx) rollback(savepoint int) {
	for i := len(tx.undo) - 1; i >= savepoint; i-- {
		tx.undo[i]()
	}
	tx.undo = tx.undo[:savepoint]
}

// consistent tells whether all that was read is still so.
func (tx *Tx) consistent() bool {
	if tx.stale {
		return false
	}
	tx.db.mu.RLock()
	defer tx.db.mu.RUnlock()
	for k, rev := range tx.reads {
		if k.t.revLocked(k.id) != rev {
			return false
		}
	}
	return true
}

// build makes the backend's transaction.
func (tx *Tx) build() (*commit, error) {
	b := &commit{compares: make([]Compare, 0, len(tx.reads)+1)}
	for k, rev := range tx.reads {
		b.compares = append(b.compares, Compare{Key: k.t.key(k.id), ModRev: rev})
	}
	for _, o := range tx.overlays {
		if err := o.build(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// commit writes the transaction if all that it read is unchanged and fence holds.
// When it returns, the cache shows the commit, or what prevented it.
func (tx *Tx) commit(ctx context.Context, fence ...Compare) (bool, error) {
	if tx.stale {
		return false, nil
	}
	b, err := tx.build()
	if err != nil {
		return false, err
	}
	if len(b.ops) == 0 {
		return tx.consistent(), nil
	}
	res, err := tx.db.backend.Txn(ctx, append(b.compares, fence...), b.ops)
	switch {
	case err == nil:
		err = tx.db.waitRev(ctx, res.Rev)
	case errs.KindOf(err) == errs.Internal:
		err = unavailable("writing", err)
	}
	if tx.serial && errs.Is(err, errs.Unavailable) {
		tx.db.doubtLead()
	}
	return res.OK, err
}
