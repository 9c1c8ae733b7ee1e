package region

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

func TestSnapshots(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Start(ctx); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "snapshots")
	r := &Region{DB: db}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if due, err := snapshotDue(dir, start); due != 0 || err != nil {
		t.Fatalf("the first is due in %s, %v", due, err)
	}
	for i := range snapshotsKept + 3 {
		if err := r.snapshot(ctx, dir, start.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := snapshots(dir)
	if err != nil || len(list) != snapshotsKept {
		t.Fatalf("%d are kept, %v", len(list), err)
	}
	if list[0] != "store-20260301T150000Z.snapshot" {
		t.Errorf("the oldest kept is %s", list[0])
	}
	last := start.Add((snapshotsKept + 2) * time.Hour)
	for ago, want := range map[time.Duration]time.Duration{0: time.Hour, 20 * time.Minute: 40 * time.Minute, 2 * time.Hour: 0, -5 * time.Hour: time.Hour} {
		t.Run(fmt.Sprint(ago), func(t *testing.T) {
			if got, err := snapshotDue(dir, last.Add(ago)); got != want || err != nil {
				t.Errorf("due in %s, %v; want %s", got, err, want)
			}
		})
	}
}
