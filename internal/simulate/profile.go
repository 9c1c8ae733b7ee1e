package simulate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// profileFor is how long the region's use of the CPU is sampled while servers are made.
const profileFor = 20 * time.Second

// profile begins to sample, if that is wanted; the function waits for its end.
func (r *run) profile(ctx context.Context) func() error {
	if r.Profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- r.save(ctx, "cpu", profileFor) }()
	return func() error { return <-done }
}

// heap keeps what is in the region's memory.
func (r *run) heap(ctx context.Context) error {
	if r.Profiles == "" {
		return nil
	}
	return r.save(ctx, "heap", 0)
}

func (r *run) save(ctx context.Context, kind string, during time.Duration) error {
	f, err := os.Create(filepath.Join(r.Profiles, kind+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(r.region.admin.Profile(ctx, f, kind, during), f.Close())
}
