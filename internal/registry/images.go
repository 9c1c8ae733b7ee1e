package registry

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// Image is one that a project can run.
type Image struct {
	Repo      string // PROJECT-ID/NAME
	Tag       string // "" when it was asked for by its digest
	Digest    string // of its manifest, or of its index of several
	MediaType string
	Size      int64 // of that
	Since     time.Time
}

// Resolve finds what a client of Docker's calls an image in the region's registry: with
// or without the registry's address, one of hosts, and with or without the project.
func (s *Service) Resolve(ctx context.Context, c *policy.Credentials, hosts []string, ref string) (*Image, error) {
	if !s.Policy.Allows(rulePull, c, policy.Target{"project_id": c.ProjectID}) {
		return nil, errs.Forbiddenf("Your roles in the project do not allow to pull.")
	}
	ctx = context.WithValue(ctx, asksKey{}, true)
	missing := errs.NotFoundf("No such image: %s", ref)
	if l := s.byID(c.ProjectID, ref); l != nil {
		return s.found(ctx, l, "")
	}
	r, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, errs.Invalidf("invalid reference format: %s", err)
	}
	repo, ok := ownRepo(c, hosts, r)
	if !ok {
		return nil, missing
	}
	r = reference.TagNameOnly(r)
	like, tag := &Link{Repo: repo}, ""
	if d, ok := r.(reference.Digested); ok {
		like.Kind, like.Name = manifestLink, d.Digest().String()
	} else if t, ok := r.(reference.Tagged); ok {
		like.Kind, like.Name, tag = tagLink, t.Tag(), t.Tag()
	}
	l, err := s.link(ctx, like)
	if err != nil {
		return nil, missing
	}
	return s.found(ctx, l, tag)
}

// ownRepo gives the repository of the caller's project that a reference is to.
func ownRepo(c *policy.Credentials, hosts []string, r reference.Named) (string, bool) {
	domain, path := reference.Domain(r), reference.Path(r)
	switch {
	case slices.Contains(hosts, domain):
		repo, err := resolve(c, path)
		return repo, err == nil
	case domain != "docker.io": // of whoever gives no address
		return "", false
	}
	path = strings.TrimPrefix(path, "library/")
	if repo, err := resolve(c, path); err == nil {
		return repo, true
	}
	repo, err := resolve(c, c.ProjectID+"/"+path)
	return repo, err == nil
}

// byID finds an image by its digest or the beginning of that.
func (s *Service) byID(project, ref string) *Link {
	hex := strings.TrimPrefix(ref, "sha256:")
	if len(hex) < 12 || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil
	}
	for _, l := range s.links.By("shown", project) {
		if strings.HasPrefix(l.Digest, "sha256:"+hex) {
			return l
		}
	}
	return nil
}

func (s *Service) found(ctx context.Context, l *Link, tag string) (*Image, error) {
	m, err := s.document(l.Digest)
	if err != nil {
		return nil, err
	}
	for _, d := range m.refs() { // so that nothing is swept before a node has it
		s.use(ctx, linkID(l.Repo, layerLink, d))
		s.use(ctx, d)
	}
	s.use(ctx, l.Digest)
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
		if len(m.Manifests) > 0 {
			mediaType = ocispec.MediaTypeImageIndex
		}
	}
	return &Image{Repo: l.Repo, Tag: tag, Digest: l.Digest, MediaType: mediaType, Size: int64(m.size), Since: l.Since}, nil
}

// Tagged lists the project's images by tag.
func (s *Service) Tagged(ctx context.Context, c *policy.Credentials) ([]*Image, error) {
	if !s.Policy.Allows(rulePull, c, policy.Target{"project_id": c.ProjectID}) {
		return nil, errs.Forbiddenf("Your roles in the project do not allow to pull.")
	}
	var out []*Image
	for _, l := range s.links.By("project", c.ProjectID) {
		if l.Kind != tagLink {
			continue
		}
		i, err := s.found(ctx, l, l.Name)
		if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unavailable) {
			continue // deleted since, or its content is elsewhere
		} else if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// Config reads the configuration of an image for a platform, and adds up its layers.
func (s *Service) Config(i *Image, architecture string) (config *ocispec.Image, size int64, err error) {
	manifest := i.Digest
	idx := ocispec.Index{}
	if err := s.readJSON(manifest, &idx); err != nil {
		return nil, 0, err
	}
	for _, m := range idx.Manifests {
		if m.Platform != nil && m.Platform.Architecture == architecture && m.Platform.OS == "linux" {
			manifest = m.Digest.String()
			break
		}
	}
	var m ocispec.Manifest
	if err := s.readJSON(manifest, &m); err != nil {
		return nil, 0, err
	}
	config = &ocispec.Image{}
	if err := s.readJSON(m.Config.Digest.String(), config); err != nil {
		return nil, 0, err
	}
	for _, l := range m.Layers {
		size += l.Size
	}
	return config, size, nil
}

func (s *Service) readJSON(dgst string, v any) error {
	f, err := s.openBlob(dgst)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(v)
}

// OpenBlob gives content by its digest, to the region's own nodes.
func (s *Service) OpenBlob(dgst string) (io.ReadCloser, error) {
	if err := digest.Digest(dgst).Validate(); err != nil {
		return nil, errs.Invalidf("%q is no digest", dgst)
	}
	f, err := s.openBlob(dgst)
	if err != nil {
		return nil, err
	}
	return f, nil
}
