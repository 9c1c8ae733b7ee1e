package image

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// hold keeps the sweep away from a blob that is being written.
func (s *Service) hold(blob string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.busy[blob] = true
	} else {
		delete(s.busy, blob)
	}
}

// Sweep removes the files that no record names and nobody is writing.
func (s *Service) Sweep() error {
	// The order matters: a blob is busy until a record names it.
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("sweeping image data: %w", err)
	}
	s.mu.Lock()
	keep := make(map[string]bool, len(s.busy))
	for b := range s.busy {
		keep[b] = true
	}
	s.mu.Unlock()
	for _, v := range s.images.All() {
		for _, f := range v.files() {
			keep[f] = true
		}
	}
	for _, e := range entries {
		if keep[strings.TrimPrefix(e.Name(), tempPrefix)] || !e.Type().IsRegular() {
			continue
		}
		s.Log.Info("removing image data that belongs to no image", "file", e.Name())
		s.discard(e.Name())
	}
	return nil
}

// requeue puts images whose writer died with the last process back to queued.
func (s *Service) requeue(ctx context.Context) error {
	for _, v := range s.images.All() {
		if v.Upload == "" {
			continue
		}
		if err := s.putBack(ctx, v.ID, v.Upload); err != nil && !errs.Is(err, errs.NotFound) {
			return fmt.Errorf("putting image %s back to queued: %w", v.ID, err)
		}
	}
	return nil
}
