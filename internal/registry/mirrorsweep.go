package registry

import (
	"context"
	"slices"
	"strings"
	"time"
)

// oldOfMirrors are the keys of what mirrors need not have any more: what nobody has asked
// for in Options.MirrorKeep, what is of a registry that is not mirrored any more, and,
// when they have nearly as much as they may, what was asked for longest ago. Layers
// follow their manifests, as everywhere.
func (s *Service) oldOfMirrors() (out []string) {
	var kept []*Link
	for _, l := range s.links.By("project", mirrorProject) {
		switch {
		case l.Kind == layerLink:
		case s.oldOfMirror(l):
			out = append(out, sweepMirror+l.ID())
		case l.Kind == manifestLink && !s.partOfMirror(l):
			kept = append(kept, l)
		}
	}
	slices.SortFunc(kept, func(a, b *Link) int { return a.Used.Compare(b.Used) })
	return append(out, s.excess(kept)...)
}

// oldOfMirror tells whether nobody wants a tag or a manifest.
func (s *Service) oldOfMirror(l *Link) bool {
	if !s.stillMirrored(l.Repo) {
		return true
	}
	return s.now().Sub(later(l.Since, l.Used)) >= s.MirrorKeep && !s.partOfMirror(l)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// partOfMirror tells whether a manifest is one of several of an image that is kept.
func (s *Service) partOfMirror(l *Link) bool {
	return l.Kind == manifestLink && s.links.Count("ref", part(l.Repo, l.Name)) > 0
}

// stillMirrored tells whether there is a mirror for a repository.
func (s *Service) stillMirrored(repo string) bool {
	_, rest, _ := strings.Cut(repo, "/")
	host, _, _ := strings.Cut(rest, "/")
	return s.mirrors(strings.Replace(host, "_", ":", 1))
}

// excess are the keys of images, of a list with the least wanted first, without which
// mirrors have some room again.
func (s *Service) excess(images []*Link) (out []string) {
	bytes, links := s.mirrorBytes(), s.links.Count("project", mirrorProject)
	for _, l := range images {
		if bytes <= s.MirrorLimit/10*9 && links <= s.MaxLinks/10*9 {
			break
		}
		n, size := s.weigh(l, 1)
		bytes, links = bytes-size, links-n
		out = append(out, sweepExcess+l.ID())
	}
	return out
}

// weigh is about what goes with an image, to a depth: parts that several share count
// for each.
func (s *Service) weigh(l *Link, depth int) (links int, bytes int64) {
	links, bytes = 1, s.sizeOf(l.Digest)
	for _, d := range l.Refs {
		if m, err := s.links.Get(linkID(l.Repo, manifestLink, d)); err == nil && depth > 0 {
			n, size := s.weigh(m, depth-1)
			links, bytes = links+n, bytes+size
		} else if _, err := s.links.Get(linkID(l.Repo, layerLink, d)); err == nil {
			links, bytes = links+1, bytes+s.sizeOf(d)
		}
	}
	return links, bytes
}

// sweepMirror removes a tag or a manifest of a mirror. What makes room may have been
// asked for, but not just now.
func (s *Service) sweepMirror(ctx context.Context, id string, excess bool) error {
	l, err := s.links.Get(id)
	if err != nil || l.Project != mirrorProject || !excess && !s.oldOfMirror(l) {
		return nil
	}
	s.Log.Info("removing what a mirror had", "repository", l.Repo, l.Kind, l.Name, "to make room", excess)
	return gone(s.dropLink(ctx, id))
}
