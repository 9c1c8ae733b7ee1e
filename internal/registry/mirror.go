package registry

import (
	"crypto/tls"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// mirrorProject begins the names of what was brought in from other registries. No
// project has that id.
const mirrorProject = "mirror"

// MirrorPath is where a mirror can be found as if it were a registry of its own:
// /mirror/HOST/v2/.
const MirrorPath = "/" + mirrorProject + "/"

// hubDomain is the registry of names without one, and hubOwner who owns its images whose
// names have no owner.
const (
	hubDomain = "docker.io"
	hubOwner  = "library"
)

// namespaceKey is the parameter in which containerd tells a mirror whose images it wants.
const namespaceKey = "ns"

// mirrored is a repository of another registry.
type mirrored struct {
	*Mirror
	name string // there
	repo string // here
}

// below makes a request to /mirror/HOST/v2/ one to /v2/ with HOST as its namespace.
func below(r *http.Request) (_ *http.Request, host string) {
	rest, ok := strings.CutPrefix(r.URL.Path, MirrorPath)
	host, path, found := strings.Cut(rest, "/")
	if !ok || !found {
		return r, ""
	}
	r = r.Clone(r.Context())
	q := r.URL.Query()
	q.Set(namespaceKey, host)
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/"+path, "", q.Encode()
	return r, host
}

// mirrored tells whether a request is for another registry's repository: its name says
// so, or its namespace (containerd), or it is one of Docker's own images, which dockerd asks
// its mirrors for without saying whose they are. Other names without a registry are
// projects' here, and never looked for elsewhere: whoever has that name there would
// be believed.
func (s *Service) mirrored(r *http.Request, name string, c *caller) *mirrored {
	first, rest, _ := strings.Cut(name, "/")
	if first == mirrorProject {
		host, name, _ := strings.Cut(rest, "/")
		return s.mirrorOf(strings.Replace(host, "_", ":", 1), name)
	}
	if host := r.URL.Query().Get(namespaceKey); host != "" && host != r.Host {
		return s.mirrorOf(host, name)
	}
	if first != hubOwner || c != nil && c.creds.ProjectName == hubOwner {
		return nil
	}
	return s.mirrorOf(hubDomain, name)
}

// mirrorOf finds a mirror and names a repository in it.
func (s *Service) mirrorOf(host, name string) *mirrored {
	m, err := s.mirror.records.Get(host)
	if err != nil || name == "" {
		return nil
	}
	if host == hubDomain && !strings.Contains(name, "/") {
		name = hubOwner + "/" + name
	}
	return &mirrored{m, name, mirrorProject + "/" + strings.Replace(host, ":", "_", 1) + "/" + name}
}

// serveMirror answers who may use mirrors. For which repository a token was made does
// not matter: clients ask for one in the names of the registry that they mean.
func (s *Service) serveMirror(w http.ResponseWriter, r *http.Request, c *caller, m *mirrored, t target, path string) error {
	creds := &policy.Credentials{}
	if c != nil {
		creds = c.creds
	}
	switch {
	case !creds.MayRequest(ServiceType, r.Method, r.URL.Path):
		return errs.Forbiddenf("The application credential's access rules do not allow this request.")
	case s.Policy.Allows(ruleMirror, creds, nil):
		return s.pullThrough(w, r, m, t)
	case c == nil:
		challenge(w, r, scopeOf(t, r.Method, path), "")
		return errs.New(errs.Unauthenticated, "Authentication is required.")
	}
	return errs.Forbiddenf("Your roles do not allow to use mirrors.")
}

// ServeNode answers the region's own nodes: with mirrors, for which they need no token, and as
// it answers anybody if they name no registry. These requests come by TLS as far as their
// clients know.
func (s *Service) ServeNode(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get(namespaceKey) == "" {
		r = r.Clone(r.Context())
		r.TLS = &tls.ConnectionState{}
		s.ServeHTTP(w, r)
		return
	}
	t, ok := parse(strings.TrimPrefix(r.URL.Path, "/v2"))
	m := s.mirrorOf(r.URL.Query().Get(namespaceKey), t.name)
	if !ok || m == nil {
		s.refuse(w, r, errs.NotFoundf("There is no such mirror."))
		return
	}
	if err := s.pullThrough(w, r, m, t); err != nil {
		s.refuse(w, r, err)
	}
}

// pullThrough answers a request for another registry's repository.
func (s *Service) pullThrough(w http.ResponseWriter, r *http.Request, m *mirrored, t target) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || t.upload {
		return errs.Coded(errs.NotImplemented, codeUnsupported, "Mirrors are only read.")
	}
	if _, err := reference.WithName(m.repo); err != nil {
		return errs.Coded(errs.Invalid, codeNameInvalid, "That is no name of a repository.")
	}
	ref, manifest := strings.CutPrefix(t.rest, "/manifests/")
	switch {
	case t.about != "":
		return s.referrers(w, r, m.repo, t.about)
	case t.blob != "":
		return s.pullBlob(w, r, m, t.blob)
	case manifest:
		if !reference.ReferenceRegexp.MatchString("x:"+ref) && digest.Digest(ref).Validate() != nil {
			return errs.Coded(errs.Invalid, codeManifestInvalid, "That is neither a tag nor a digest.")
		}
		if err := s.bring(r.Context(), m, ref); err != nil {
			return err
		}
	}
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Del("X-Auth-Token")
	r.URL.Path, r.URL.RawPath = "/v2/"+m.repo+t.rest, ""
	s.forward(w, r, false)
	return nil
}
