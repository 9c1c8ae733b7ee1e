package region

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Snapshots of the store are made by themselves, so that a mistake or a damaged
// disk costs an hour at most. They hold what clouds.yaml does not repeat; strata
// restore takes one as it takes a backup.
const (
	snapshotsDir    = "snapshots"
	snapshotEvery   = time.Hour
	snapshotsKept   = 24
	snapshotSuffix  = ".snapshot"
	snapshotPattern = "store-20060102T150405Z" + snapshotSuffix
)

// runSnapshots makes a snapshot whenever the newest is an hour old.
func (r *Region) runSnapshots(ctx context.Context) {
	dir := r.cfg.path(snapshotsDir)
	for {
		next, err := snapshotDue(dir, time.Now())
		if err == nil && next == 0 {
			err = r.snapshot(ctx, dir, time.Now())
			next = snapshotEvery
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Error("periodic snapshot of the store", "err", err)
			next = snapshotEvery
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// snapshotDue is how long the newest snapshot is still new enough.
func snapshotDue(dir string, now time.Time) (time.Duration, error) {
	list, err := snapshots(dir)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	at, err := time.Parse(snapshotPattern, list[len(list)-1])
	if err != nil {
		return 0, nil
	}
	// A clock that went back must not stop snapshots.
	return min(max(0, at.Add(snapshotEvery).Sub(now)), snapshotEvery), nil
}

func (r *Region) snapshot(ctx context.Context, dir string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := r.DB.SnapshotFile(ctx, filepath.Join(dir, now.UTC().Format(snapshotPattern))); err != nil {
		return err
	}
	list, err := snapshots(dir)
	for len(list) > snapshotsKept {
		err = errors.Join(err, os.Remove(filepath.Join(dir, list[0])))
		list = list[1:]
	}
	return err
}

// snapshots lists the names of the snapshots, oldest first.
func snapshots(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "store-") && strings.HasSuffix(e.Name(), snapshotSuffix) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, err
}
