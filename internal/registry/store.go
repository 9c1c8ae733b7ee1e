package registry

import (
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Blob is content that is here.
type Blob struct {
	Digest string    `json:"digest"` // sha256:…
	Size   int64     `json:"size"`
	Since  time.Time `json:"since"`
}

// The kinds of links.
const (
	layerLink    = "layer"
	manifestLink = "manifest"
	tagLink      = "tag"
)

// Link says that a repository has something.
type Link struct {
	Project string    `json:"project"`
	Repo    string    `json:"repo"` // PROJECT-ID/NAME
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`              // a tag, or the digest that it is asked for by
	Digest  string    `json:"digest"`            // of its blob
	Refs    []string  `json:"refs,omitempty"`    // of a manifest: the digests that it names
	Subject string    `json:"subject,omitempty"` // of a manifest: the one that it is about
	Since   time.Time `json:"since"`
	Used    time.Time `json:"used,omitzero"` // of a mirror: when it was last asked for, about
}

// ID is what a link links.
func (l *Link) ID() string { return linkID(l.Repo, l.Kind, l.Name) }

// Neither a repository's name nor a tag has a space.
func linkID(repo, kind, name string) string { return repo + " " + kind + " " + name }

// part is a key of what is in a repository.
func part(repo, what string) string { return repo + " " + what }

// Mirror says from where images of a registry are brought in.
type Mirror struct {
	Host  string    `json:"host"` // as images' names have it: docker.io
	URL   string    `json:"url"`
	Since time.Time `json:"since"`
}

func registerMirrors(db *store.DB) *store.Collection[Mirror] {
	return store.Register(db, store.Schema[Mirror]{Service: "registry", Kind: "mirror", Version: 1, ID: func(m *Mirror) string { return m.Host }})
}

func registerBlobs(db *store.DB) *store.Collection[Blob] {
	return store.Register(db, store.Schema[Blob]{Service: "registry", Kind: "blob", Version: 1, ID: func(b *Blob) string { return b.Digest }})
}

func registerLinks(db *store.DB) *store.Collection[Link] {
	one := func(s string, ok bool) []string {
		if !ok {
			return nil
		}
		return []string{s}
	}
	return store.Register(db, store.Schema[Link]{Service: "registry", Kind: "link", Version: 1, ID: (*Link).ID,
		Index: map[string]func(*Link) []string{
			"project": func(l *Link) []string { return []string{l.Project} },
			"kind":    func(l *Link) []string { return []string{part(l.Repo, l.Kind)} },
			"blob":    func(l *Link) []string { return []string{l.Digest} },
			"shown":   func(l *Link) []string { return one(l.Project, l.Kind == manifestLink) },
			"layers":  func(l *Link) []string { return one(layerLink, l.Kind == layerLink) },
			"subject": func(l *Link) []string { return one(part(l.Repo, l.Subject), l.Subject != "") },
			"ref": func(l *Link) []string {
				var out []string
				for _, d := range l.Refs {
					out = append(out, part(l.Repo, d))
				}
				return out
			},
		}})
}
