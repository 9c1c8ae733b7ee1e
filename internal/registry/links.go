package registry

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// link finds a link, and notes that it was asked for.
func (s *Service) link(ctx context.Context, like *Link) (*Link, error) {
	l, err := s.links.Get(like.ID())
	if err == nil {
		s.use(ctx, l.ID())
	}
	return l, err
}

// putLink records a link to a blob that is here.
func (s *Service) putLink(ctx context.Context, l *Link, dgst string) error {
	l.Digest, l.Since = dgst, now()
	if l.Kind == manifestLink {
		m, err := s.document(dgst)
		if err != nil {
			return err
		}
		l.Refs = m.refs()
		if m.Subject.Digest.Validate() == nil {
			l.Subject = m.Subject.Digest.String()
			about(ctx, l.Subject)
		}
	}
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	s.use(ctx, l.ID())
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.blobs.TxGet(tx, dgst); err != nil {
			return err
		}
		if _, err := s.links.TxGet(tx, l.ID()); errs.Is(err, errs.NotFound) && s.links.TxCount(tx, "project", l.Project) >= s.MaxLinks {
			if l.Project == mirrorProject {
				return errs.New(errs.TooMany, "Mirrors have as many tags, manifests and layers as they may have: %d. Some are removed within the hour.", s.MaxLinks)
			}
			return errs.New(errs.TooMany, "The project has as many tags, manifests and layers as it may have: %d. Delete some.", s.MaxLinks)
		}
		if l.Kind == tagLink {
			if _, err := s.links.TxGet(tx, linkID(l.Repo, manifestLink, dgst)); err != nil {
				return errs.Conflictf("The manifest was deleted while it was tagged.")
			}
		}
		return s.links.TxPut(tx, l)
	})
}

// dropLink removes a link, and the tags of a manifest in the same transaction.
func (s *Service) dropLink(ctx context.Context, id string) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		l, err := s.links.TxGet(tx, id)
		if err != nil {
			return err
		}
		if l.Kind == manifestLink {
			for _, t := range s.links.TxBy(tx, "kind", part(l.Repo, tagLink)) {
				if t.Digest != l.Digest {
					continue
				}
				if err := s.links.TxDelete(tx, t.ID()); err != nil {
					return err
				}
			}
		}
		return s.links.TxDelete(tx, id)
	})
}

// tags are those of a repository; false when there is no such repository.
func (s *Service) tags(repo string) ([]string, bool) {
	names := []string{}
	for _, l := range s.links.By("kind", part(repo, tagLink)) {
		names = append(names, l.Name)
	}
	return names, len(names) > 0 || s.links.Count("kind", part(repo, manifestLink)) > 0
}

// repositories are those of a project that have something to pull, in order.
func (s *Service) repositories(project string) []string {
	seen := map[string]bool{}
	for _, l := range s.links.By("shown", project) {
		seen[l.Repo] = true
	}
	out := make([]string, 0, len(seen))
	for r := range seen {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// maxManifest is what distribution takes (registry/handlers/manifests.go, maxManifestBodySize).
const maxManifest = 4 << 20

// document is what of a manifest, of whichever type, is of interest here.
type document struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       descriptor        `json:"config"`
	Layers       []descriptor      `json:"layers"`
	Manifests    []descriptor      `json:"manifests"`
	Subject      descriptor        `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
	size         int
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
}

// document reads a manifest.
func (s *Service) document(dgst string) (*document, error) {
	f, err := s.openBlob(dgst)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	m := &document{size: len(raw)}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, errs.Invalidf("The manifest is not what it seemed to be: %w", err)
	}
	return m, nil
}

// refs are the digests of what a manifest consists of.
func (m *document) refs() (out []string) {
	for _, d := range append(append(m.Layers, m.Manifests...), m.Config) {
		if d.Digest.Validate() == nil {
			out = append(out, d.Digest.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// openBlob opens the content of a blob that is recorded.
func (s *Service) openBlob(dgst string) (*os.File, error) {
	if _, err := s.blobs.Get(dgst); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blob(dgst))
	if os.IsNotExist(err) {
		return nil, elsewhere()
	}
	return f, err
}

func elsewhere() error {
	return errs.New(errs.Unavailable, "This content is not on this member of the control plane: it is there once another that has it answers.")
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
