package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/reconcile"
	"github.com/strata-cloud/strata/internal/store"
)

// clear removes files of blobs that no record names.
func (s *Service) clear() error {
	entries, err := os.ReadDir(s.BlobsDir())
	if err != nil {
		return fmt.Errorf("clearing blobs: %w", err)
	}
	keep := s.Files()
	for _, e := range entries {
		if _, ok := keep[e.Name()]; ok || !e.Type().IsRegular() {
			continue
		}
		s.Log.Info("removing content that belongs to no blob", "file", e.Name())
		if err := os.Remove(filepath.Join(s.BlobsDir(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Run sweeps until ctx ends.
func (s *Service) Run(ctx context.Context) {
	defer s.mirror.loading.Wait()
	s.sweeper().Run(ctx)
}

// What the sweeper looks at; the rest of a key is the object's own.
const (
	sweepProject = "project "
	sweepLayer   = "layer "
	sweepBlob    = "blob "
	sweepUpload  = "upload "
	sweepMirror  = "mirror " // of what nobody has asked for
	sweepExcess  = "excess " // of mirrors, that makes room
)

func (s *Service) sweeper() *reconcile.Loop {
	l := reconcile.New("registry sweep", s.Log, s.sweep)
	l.Workers, l.List, l.Resync = 1, s.unwanted, max(s.Keep/12, time.Second)
	return l
}

// unwanted are the keys of what may have to go.
func (s *Service) unwanted() []string {
	s.forget()
	var out []string
	gone := map[string]bool{}
	for _, l := range s.links.All() {
		if _, ok := gone[l.Project]; !ok && l.Project != mirrorProject {
			gone[l.Project] = true
			out = append(out, sweepProject+l.Project)
		}
	}
	out = append(out, s.oldOfMirrors()...)
	for _, l := range s.links.By("layers", layerLink) {
		if s.spare(l) {
			out = append(out, sweepLayer+l.ID())
		}
	}
	for _, b := range s.blobs.All() {
		if s.links.Count("blob", b.Digest) == 0 {
			out = append(out, sweepBlob+b.Digest)
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, uploadsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Log.Warn("uploads cannot be listed", "err", err)
	}
	for _, e := range entries {
		out = append(out, sweepUpload+e.Name())
	}
	return out
}

// forget drops what says no more than that something was not asked for lately.
func (s *Service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, at := range s.used {
		if s.now().Sub(at) >= s.Keep {
			delete(s.used, k)
		}
	}
}

// spare tells whether no manifest names a layer.
func (s *Service) spare(l *Link) bool {
	return s.links.Count("ref", part(l.Repo, l.Name)) == 0 && s.links.Count("ref", part(l.Repo, l.Digest)) == 0
}

// asked tells whether somebody has asked for it lately.
func (s *Service) asked(key string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range []time.Time{s.begun, s.used[key]} {
		if at.After(since) {
			since = at
		}
	}
	return s.now().Sub(since) < s.Keep
}

// sweep removes one thing if nobody wants it. While it looks nothing is recorded.
func (s *Service) sweep(ctx context.Context, key string) error {
	ctx = store.Freeing(ctx)
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if id, ok := strings.CutPrefix(key, sweepProject); ok {
		return s.sweepProject(ctx, id)
	}
	if id, ok := strings.CutPrefix(key, sweepMirror); ok {
		return s.sweepMirror(ctx, id, false)
	}
	if id, ok := strings.CutPrefix(key, sweepExcess); ok {
		return s.sweepMirror(ctx, id, true)
	}
	if id, ok := strings.CutPrefix(key, sweepLayer); ok {
		l, err := s.links.Get(id)
		if err != nil || l.Kind != layerLink || !s.spare(l) || s.asked(id, l.Since) {
			return nil
		}
		return gone(s.dropLink(ctx, id))
	}
	if dgst, ok := strings.CutPrefix(key, sweepBlob); ok {
		return s.sweepBlob(ctx, dgst)
	}
	return s.sweepUpload(strings.TrimPrefix(key, sweepUpload))
}

func (s *Service) sweepBlob(ctx context.Context, dgst string) error {
	b, err := s.blobs.Get(dgst)
	if err != nil || s.links.Count("blob", dgst) > 0 || s.asked(dgst, b.Since) {
		return nil
	}
	if err := gone(s.blobs.Delete(ctx, dgst)); err != nil {
		return err
	}
	s.Log.Info("removed content that nothing names", "blob", dgst, "bytes", b.Size)
	if err := os.Remove(s.blob(dgst)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// batch is how many links of a project that is gone are removed at once.
const batch = 50

// sweepProject removes the repositories of a project that is gone: nobody else can.
func (s *Service) sweepProject(ctx context.Context, project string) error {
	if s.Identity.HasProject(ctx, project) {
		return nil
	}
	for {
		list := s.links.By("project", project)
		if len(list) == 0 {
			return nil
		}
		err := s.ledger.Do(ctx, func(tx *store.Tx) error {
			for _, l := range list[:min(batch, len(list))] {
				if err := s.links.TxDelete(tx, l.ID()); err != nil {
					return err
				}
			}
			return nil
		})
		if err := gone(err); err != nil {
			return err
		}
	}
}

// sweepUpload removes an upload that does not go on.
func (s *Service) sweepUpload(name string) error {
	dir := s.upload(name)
	var last time.Time
	for _, file := range []string{dir, filepath.Join(dir, "data")} {
		if fi, err := os.Stat(file); err == nil && fi.ModTime().After(last) {
			last = fi.ModTime()
		}
	}
	if last.IsZero() || s.now().Sub(last) < s.Keep {
		return nil
	}
	s.Log.Info("removing an upload that was given up", "upload", name)
	return os.RemoveAll(dir)
}

// gone is no error for a removal.
func gone(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
