package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/registry/upstream"
)

// bringFor bounds how long an upstream may take to tell what a tag is and to give a manifest.
const bringFor = 30 * time.Second

// bring has a manifest here. Of a tag the upstream is asked each time; while it is away,
// what is here counts. Who asks for the same at the same time is answered together.
func (s *Service) bring(ctx context.Context, m *mirrored, ref string) error {
	up, err := s.mirror.upstream(m.Mirror)
	if err != nil {
		return err
	}
	done := s.mirror.bring.DoChan(m.repo+" "+ref, func() (any, error) {
		ctx, cancel := context.WithTimeout(s.mirror.life, bringFor)
		defer cancel()
		if d := digest.Digest(ref); d.Validate() == nil {
			return nil, s.bringManifest(ctx, up, m, d)
		}
		return nil, s.bringTag(ctx, up, m, ref)
	})
	select {
	case r := <-done:
		return manifestError(r.Err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// manifestError is what a client is told.
func manifestError(err error) error {
	if errs.Is(err, errs.NotFound) {
		return errs.Coded(errs.NotFound, codeManifestUnknown, "%w", err)
	}
	return err
}

func (s *Service) bringTag(ctx context.Context, up *upstream.Registry, m *mirrored, tag string) error {
	like := &Link{Project: mirrorProject, Repo: m.repo, Kind: tagLink, Name: tag}
	have, missing := s.links.Get(like.ID())
	if missing == nil && s.mirror.isAway(m.Host) && s.here(have.Digest) {
		return s.touch(ctx, have, m.repo)
	}
	d, err := up.Resolve(ctx, m.name, tag)
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.TooMany:
		if s.mirror.reached(m.Host, false) {
			s.Log.Warn("a mirrored registry does not answer: what is here of it is given out", "registry", m.Host, "err", err)
		}
		if missing == nil && s.here(have.Digest) {
			return s.touch(ctx, have, m.repo)
		}
		return err
	case errs.NotFound:
		if missing == nil {
			return cmp.Or(gone(s.dropLink(ctx, have.ID())), err)
		}
		return err
	}
	if err != nil {
		return err
	}
	if s.mirror.reached(m.Host, true) {
		s.Log.Info("a mirrored registry answers again", "registry", m.Host)
	}
	if err := s.bringManifest(ctx, up, m, d); err != nil {
		return err
	}
	if missing == nil && have.Digest == d.String() {
		return s.touch(ctx, have, m.repo)
	}
	like.Used = now()
	return s.putLink(ctx, like, d.String())
}

// bringManifest has a manifest here by its digest.
func (s *Service) bringManifest(ctx context.Context, up *upstream.Registry, m *mirrored, d digest.Digest) error {
	like := &Link{Project: mirrorProject, Repo: m.repo, Kind: manifestLink, Name: d.String(), Used: now()}
	if have, err := s.links.Get(like.ID()); err == nil && s.here(have.Digest) {
		return s.touch(ctx, have, m.repo)
	}
	if d.Algorithm() != digest.SHA256 {
		return errs.NotFoundf("manifests are named by SHA-256 here")
	}
	raw, err := up.Manifest(ctx, m.name, d)
	if err != nil {
		return err
	}
	var v struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	if json.Unmarshal(raw, &v) != nil || v.SchemaVersion != schemaVersion {
		return errs.NotFoundf("the manifest %s of %s is of a kind that is not known here", d, m.name)
	}
	if err := s.putBlob(ctx, d.String(), raw); err != nil {
		return err
	}
	return s.putLink(ctx, like, d.String())
}

// here tells whether the content of a blob is on this member.
func (s *Service) here(dgst string) bool {
	f, err := s.openBlob(dgst)
	return err == nil && f.Close() == nil
}

// touch notes that something of a mirror was asked for, now and then: the time is a
// record, since it has to outlive the process. A tag's manifest counts as asked for, too.
func (s *Service) touch(ctx context.Context, l *Link, repo string) error {
	if now().Sub(l.Used) < s.MirrorKeep/8 {
		return nil
	}
	ids := []string{l.ID()}
	if l.Kind == tagLink {
		ids = append(ids, linkID(repo, manifestLink, l.Digest))
	}
	for _, id := range ids {
		_, err := s.links.Update(ctx, id, func(l *Link) error {
			l.Used = now()
			return nil
		})
		if gone(err) != nil {
			return err
		}
	}
	return nil
}

// pullBlob answers with a layer of a mirror, which is brought in while it is sent.
func (s *Service) pullBlob(w http.ResponseWriter, r *http.Request, m *mirrored, name string) error {
	d, err := digest.Parse(name)
	if err != nil {
		return errs.Coded(errs.Invalid, codeDigest, "%q is no digest.", name)
	}
	unknown := errs.Coded(errs.NotFound, codeBlobUnknown, "The repository has no blob %s.", name)
	if d.Algorithm() != digest.SHA256 {
		return unknown
	}
	if _, err := s.links.Get(linkID(m.repo, layerLink, name)); err == nil && s.here(name) {
		return s.serveBlob(w, r, m.repo, name)
	}
	up, err := s.mirror.upstream(m.Mirror)
	if err != nil {
		return err
	}
	err = s.passBlob(w, r, up, m, d)
	if errs.Is(err, errs.NotFound) {
		return unknown
	}
	return err
}

func (s *Service) passBlob(w http.ResponseWriter, r *http.Request, up *upstream.Registry, m *mirrored, d digest.Digest) error {
	if s.here(d.String()) { // of another repository: that the upstream has it in this one is to be shown
		if _, err := up.Stat(r.Context(), m.name, d); err != nil {
			return err
		}
		if err := s.putLink(r.Context(), s.layerOf(m, d), d.String()); err != nil {
			return err
		}
		return s.serveBlob(w, r, m.repo, d.String())
	}
	if r.Method == http.MethodHead {
		size, err := up.Stat(r.Context(), m.name, d)
		if err != nil {
			return err
		}
		blobHeader(w, d.String())
		setLength(w, size)
		return nil
	}
	load, err := s.download(r.Context(), up, m, d)
	if err != nil {
		return err
	}
	defer load.leave()
	if load.size < 0 || r.Header.Get("Range") != "" {
		if err := load.wait(r.Context()); err != nil {
			return err
		}
		sendDownload(w, r, load, d.String())
		return nil
	}
	blobHeader(w, d.String())
	setLength(w, load.size)
	if err := load.follow(r.Context(), w); err != nil {
		s.Log.Warn("a layer of a mirrored registry did not come whole", "registry", m.Host, "repository", m.name, "blob", d, "err", err)
		panic(http.ErrAbortHandler) // the only way to tell a client that its answer is not whole
	}
	return nil
}

func setLength(w http.ResponseWriter, n int64) {
	if n >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
}

func (s *Service) layerOf(m *mirrored, d digest.Digest) *Link {
	return &Link{Project: mirrorProject, Repo: m.repo, Kind: layerLink, Name: d.String()}
}
