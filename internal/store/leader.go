package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
)

// leaderKey holds who leads. Its revision is the fence: every take-over writes it.
const leaderKey = "/sys/leader"

// leaderRecord is the value of leaderKey.
type leaderRecord struct {
	Member string `json:"member"`
	Epoch  int64  `json:"epoch"`
}

// leadership is what this process knows of its own leading.
type leadership struct {
	mu    sync.Mutex
	rev   int64 // of leaderKey as we wrote it; 0 when we do not lead
	epoch int64
}

// Lead takes leadership with a new epoch. A member takes over its own old
// leadership at once, and so does the only member of a cluster whoever led before
// (it may have been restored from a backup of another). Otherwise a foreign
// leader is an error of kind Unavailable. Elections among several members differ
// only here: they put the key under a lease and wait for its deletion.
func (db *DB) Lead(ctx context.Context) error {
	status, err := db.backend.Status(ctx)
	if err != nil {
		return unavailable("asking for the members", err)
	}
	for {
		cur, rev, err := db.readLeader(ctx)
		if err != nil {
			return err
		}
		if cur.Member != "" && cur.Member != db.opt.Member && status.Members > 1 {
			return errs.New(errs.Unavailable, "store: member %s leads", cur.Member)
		}
		next := leaderRecord{Member: db.opt.Member, Epoch: cur.Epoch + 1}
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encoding the leader: %w", err)
		}
		res, err := db.backend.Txn(ctx, []Compare{{Key: leaderKey, ModRev: rev}}, []Op{{Key: leaderKey, Value: value}})
		if err != nil {
			return unavailable("taking leadership", err)
		}
		if res.OK {
			db.lead.mu.Lock()
			defer db.lead.mu.Unlock()
			db.lead.rev, db.lead.epoch = res.Rev, next.Epoch
			return nil
		}
	}
}

// Epoch is the number of this process's leadership; 0 when it does not lead.
func (db *DB) Epoch() int64 {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	return db.lead.epoch
}

func (db *DB) readLeader(ctx context.Context) (leaderRecord, int64, error) {
	var cur leaderRecord
	res, err := db.backend.Range(ctx, leaderKey, RangeOptions{})
	if err != nil {
		return cur, 0, unavailable("reading the leader", err)
	}
	if len(res.KVs) == 0 {
		return cur, 0, nil
	}
	if err := json.Unmarshal(res.KVs[0].Value, &cur); err != nil {
		return cur, 0, fmt.Errorf("decoding the leader: %w", err)
	}
	return cur, res.KVs[0].ModRev, nil
}

// fence is what a ledger's commits compare.
func (db *DB) fence() ([]Compare, error) {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	if db.lead.rev == 0 {
		return nil, errs.New(errs.Unavailable, "store: this member does not lead")
	}
	return []Compare{{Key: leaderKey, ModRev: db.lead.rev}}, nil
}

// stillLeads finds out whether a commit failed for its fence.
func (db *DB) stillLeads(ctx context.Context, fence []Compare) error {
	if len(fence) == 0 {
		return nil
	}
	cur, rev, err := db.readLeader(ctx)
	if err != nil || rev == fence[0].ModRev {
		return err
	}
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	if db.lead.rev == fence[0].ModRev {
		db.lead.rev, db.lead.epoch = 0, 0
		db.log.Warn("store: lost leadership", "member", cur.Member, "epoch", cur.Epoch)
	}
	return errs.New(errs.Unavailable, "store: lost leadership to %s", cur.Member)
}
