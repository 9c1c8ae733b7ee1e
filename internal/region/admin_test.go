package region

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// brokenSnapshot is a backend whose snapshots break off.
type brokenSnapshot struct{ store.Backend }

func (brokenSnapshot) Snapshot(_ context.Context, w io.Writer) error {
	_, err := w.Write(make([]byte, 1<<20))
	return errors.Join(err, errors.New("disk broken"))
}

// The admin socket works in a directory with a long name, survives a crash's
// leftover, is the operator's alone, and cuts off what is not whole.
func TestAdminSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	write(t, dir, map[string]string{AdminSocket: "left by a crash"})
	log := slog.New(slog.DiscardHandler)
	for _, broken := range []bool{false, true} {
		var backend store.Backend = store.NewMemory()
		if broken {
			backend = brokenSnapshot{backend}
		}
		db, err := store.Open(t.Context(), store.Options{Backend: backend, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := &Region{DB: db, cfg: Config{DataDir: dir, Log: log}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.runAdmin(ctx); close(ended) }()
		var got bytes.Buffer
		limit, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err = wait.Until(limit, "the admin socket", time.Millisecond, func(ctx context.Context) (bool, error) {
			got.Reset()
			err := NewAdmin(dir).Snapshot(ctx, &got)
			return err == nil || broken && got.Len() > 0, nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := NewAdmin(dir).Snapshot(limit, &got); (err != nil) != broken {
			t.Errorf("broken %v: %v", broken, err)
		}
		if fi, err := os.Stat(filepath.Join(dir, AdminSocket)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", fi, err)
		}
		cancel()
		stop()
		<-ended
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
