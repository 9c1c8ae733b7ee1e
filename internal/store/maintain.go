package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Snapshot writes a consistent copy of the whole store, while it is in use.
func (db *DB) Snapshot(ctx context.Context, w io.Writer) error {
	return db.backend.Snapshot(ctx, w)
}

// SnapshotFile writes a snapshot to path, durably and whole: until it is complete,
// path has what it had before.
func (db *DB) SnapshotFile(ctx context.Context, path string) (err error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("making a snapshot: %w", err)
	}
	err = errors.Join(db.Snapshot(ctx, f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making the snapshot %s: %w", path, err), os.Remove(part))
	}
	return syncDir(filepath.Dir(path))
}

// Status tells the backend's size, revision and alarms.
func (db *DB) Status(ctx context.Context) (Status, error) {
	return db.backend.Status(ctx)
}

// maintain forgets old history, gives space back and watches the size.
func (db *DB) maintain() {
	tick := time.NewTicker(db.opt.CompactEvery)
	defer tick.Stop()
	last := db.Revision()
	for {
		select {
		case <-db.ctx.Done():
			return
		case <-tick.C:
		}
		if db.Epoch() == 0 {
			continue // the leader does it
		}
		now := db.Revision()
		if err := db.Maintain(db.ctx, last); err != nil && db.ctx.Err() == nil {
			db.log.Error("store: maintenance", "err", err)
		}
		last = now
	}
}

// Maintain forgets the history before rev, defragments when more than half of a
// database above 64 MiB is free space, and reports a size alarm.
func (db *DB) Maintain(ctx context.Context, rev int64) error {
	if err := db.backend.Compact(ctx, rev); err != nil {
		return unavailable("compacting", err)
	}
	st, err := db.backend.Status(ctx)
	if err != nil {
		return unavailable("asking for the status", err)
	}
	if d, ok := db.backend.(Defragmenter); ok && st.Size > 64<<20 && st.InUse < st.Size/2 {
		start := time.Now()
		if err := d.Defrag(ctx); err != nil {
			return unavailable("defragmenting", err)
		}
		db.log.Info("store: defragmented", "before", st.Size, "used", st.InUse, "dur", time.Since(start))
	}
	if len(st.Alarms) > 0 || st.Alarming() {
		db.log.Error("store: the database is filling up", "size", st.Size, "quota", st.Quota, "alarms", st.Alarms)
		if db.opt.SizeAlarm != nil {
			db.opt.SizeAlarm(st)
		}
	}
	return nil
}

// Alarming tells that the data takes more than 60 % of the quota.
func (s Status) Alarming() bool { return s.Quota > 0 && s.InUse*10 > s.Quota*6 }
