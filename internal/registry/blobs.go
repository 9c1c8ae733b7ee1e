package registry

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
)

// serveBlob answers with a layer or a part of it. Distribution could, but would copy
// what the kernel can send from the file.
func (s *Service) serveBlob(w http.ResponseWriter, r *http.Request, repo, name string) error {
	if _, err := digest.Parse(name); err != nil {
		return errs.Coded(errs.Invalid, codeDigest, "%q is no digest.", name)
	}
	unknown := errs.Coded(errs.NotFound, codeBlobUnknown, "The repository has no blob %s.", name)
	l, err := s.links.Get(linkID(repo, layerLink, name))
	if err != nil {
		return unknown
	}
	f, err := s.openBlob(l.Digest)
	if err != nil {
		// Before a push: what is recorded but not here is to be sent again.
		if r.Method == http.MethodHead || errs.Is(err, errs.NotFound) {
			return unknown
		}
		return err
	}
	defer f.Close()
	if r.Method == http.MethodHead {
		asks := context.WithValue(r.Context(), asksKey{}, true)
		s.use(asks, l.ID())
		s.use(asks, l.Digest)
	}
	return send(w, r, f, name)
}

func send(w http.ResponseWriter, r *http.Request, f *os.File, name string) error {
	blobHeader(w, name)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

func blobHeader(w http.ResponseWriter, name string) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", name)
	h.Set("ETag", `"`+name+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
}
