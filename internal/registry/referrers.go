package registry

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
)

const referrersPath = "/referrers/"

// The media type of an index, and the version that every manifest says.
const (
	indexType     = "application/vnd.oci.image.index.v1+json"
	schemaVersion = 2
)

// referrer is an entry of the answer.
type referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// referrers lists the manifests that are about another, such as signatures, which
// distribution does not (distribution-spec/spec.md, "Listing Referrers").
func (s *Service) referrers(w http.ResponseWriter, r *http.Request, repo, name string) error {
	if _, err := digest.Parse(name); err != nil {
		return errs.Coded(errs.Invalid, codeDigest, "%q is no digest.", name)
	}
	only := r.URL.Query().Get("artifactType")
	list := []referrer{}
	for _, l := range s.links.By("subject", part(repo, name)) {
		m, err := s.document(l.Digest)
		if errs.Is(err, errs.NotFound) {
			continue // it is deleted at this moment
		} else if err != nil {
			return err
		}
		x := referrer{MediaType: cmp.Or(m.MediaType, indexType), Digest: l.Name, Size: m.size, ArtifactType: cmp.Or(m.ArtifactType, m.Config.MediaType), Annotations: m.Annotations}
		if only == "" || only == x.ArtifactType {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b referrer) int { return cmp.Compare(a.Digest, b.Digest) })
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answerAs(w, r, indexType, map[string]any{"schemaVersion": schemaVersion, "mediaType": indexType, "manifests": list})
}
