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

// leaderRecord is the value of leaderKey. Run tells two processes of a member apart.
type leaderRecord struct {
	Member string `json:"member"`
	Run    string `json:"run"`
	Epoch  int64  `json:"epoch"`
}

// leadership is what this process knows of its own leading.
type leadership struct {
	mu    sync.Mutex
	run   string
	rev   int64 // of leaderKey as we wrote it; 0 when we do not lead
	epoch int64
	doubt bool // a fenced commit has an unknown outcome
}

// Lead takes leadership with a new epoch. A member takes over its own old
// leadership at once, and so does the only member of a cluster whoever led before
// (it may have been restored from a backup of another). Among several members the one
// that the others elected takes it from whoever led before. Otherwise a foreign
// leader is an error of kind Unavailable.
func (db *DB) Lead(ctx context.Context) error {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	return db.take(ctx, func(cur leaderRecord) bool {
		if cur.Member == "" || cur.Member == db.opt.Member {
			return true
		}
		// The record was read with the consent of a majority just now.
		status, err := db.backend.Status(ctx)
		return err == nil && (status.Members <= 1 || status.Leads)
	})
}

// take writes the next epoch if may allows to take it from who leads now. lead.mu is held.
func (db *DB) take(ctx context.Context, may func(cur leaderRecord) bool) error {
	for {
		cur, rev, err := db.readLeader(ctx)
		if err != nil {
			return err
		}
		if !may(cur) {
			db.lead.rev, db.lead.epoch = 0, 0
			return errs.New(errs.Unavailable, "store: member %s leads", cur.Member)
		}
		next := leaderRecord{Member: db.opt.Member, Run: db.lead.run, Epoch: cur.Epoch + 1}
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encoding the leader: %w", err)
		}
		res, err := db.backend.Txn(Freeing(ctx), []Compare{{Key: leaderKey, ModRev: rev}}, []Op{{Key: leaderKey, Value: value}})
		if err != nil {
			return unavailable("taking leadership", err)
		}
		if res.OK {
			db.lead.rev, db.lead.epoch, db.lead.doubt = res.Rev, next.Epoch, false
			return db.waitRev(ctx, res.Rev)
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

// fence is what a ledger's commits compare. When an earlier commit has an unknown
// outcome it first begins a new epoch: a commit that is still on its way then
// fails, and one that got through before is in the cache. Without that the next
// function would count without it.
func (db *DB) fence(ctx context.Context) ([]Compare, error) {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	if db.lead.rev == 0 {
		return nil, errs.New(errs.Unavailable, "store: this member does not lead")
	}
	if db.lead.doubt {
		if err := db.take(ctx, func(cur leaderRecord) bool { return cur.Run == db.lead.run }); err != nil {
			return nil, err
		}
	}
	return []Compare{{Key: leaderKey, ModRev: db.lead.rev}}, nil
}

// doubtLead notes that a fenced commit may or may not have happened.
func (db *DB) doubtLead() {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	db.lead.doubt = true
}

// stillLeads finds out whether a fenced commit failed because somebody else leads.
func (db *DB) stillLeads(ctx context.Context) error {
	db.lead.mu.Lock()
	defer db.lead.mu.Unlock()
	cur, _, err := db.readLeader(ctx)
	if err != nil || cur.Run == db.lead.run {
		return err
	}
	if db.lead.rev != 0 {
		db.lead.rev, db.lead.epoch = 0, 0
		db.log.Warn("store: lost leadership", "member", cur.Member, "epoch", cur.Epoch)
	}
	return errs.New(errs.Unavailable, "store: lost leadership to %s", cur.Member)
}
