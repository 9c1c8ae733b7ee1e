package registry

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// ServiceType is the registry's type in the catalog and in access rules.
const ServiceType = "container-registry"

// The actions of Docker's scopes.
const (
	actionPull   = "pull"
	actionPush   = "push"
	actionDelete = "delete"
)

// caller is who asks, and for what the token was made.
type caller struct {
	creds   *policy.Credentials
	all     bool                // a token of identity's, which is for everything
	access  map[string][]string // actions by repository
	catalog bool
}

func (c *caller) scoped(repo, action string) bool {
	return c.all || slices.Contains(c.access[repo], action)
}

// asksKey marks a context in which what is looked up is asked for, and so kept.
type asksKey struct{}

// use notes that a blob or a link was asked for.
func (s *Service) use(ctx context.Context, key string) {
	if asks, _ := ctx.Value(asksKey{}).(bool); !asks {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[key] = s.now()
}

// ServeHTTP implements http.Handler, for everything below /v2/.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r, host := below(r)
	path := strings.TrimPrefix(r.URL.Path, "/v2")
	var err error
	switch {
	case host != "" && !s.mirrors(host):
		err = errs.NotFoundf("There is no mirror of %s.", host)
	case s.app.Load() == nil:
		err = errs.New(errs.Unavailable, "The registry has not started yet.")
	case path == tokenPath:
		err = s.token(w, r)
	default:
		err = s.serve(w, r, path)
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, path string) error {
	t, named := parse(path)
	c, err := s.caller(r)
	if errs.Is(err, errs.Unauthenticated) {
		challenge(w, r, scopeOf(t, r.Method, path), "invalid_token")
		return err
	} else if err != nil {
		return err
	}
	if m := s.mirrored(r, t.name, c); m != nil && named {
		return s.serveMirror(w, r, c, m, t, path)
	}
	switch {
	case c == nil:
		challenge(w, r, scopeOf(t, r.Method, path), "")
		return errs.New(errs.Unauthenticated, "Authentication is required.")
	case !c.creds.MayRequest(ServiceType, r.Method, r.URL.Path):
		return errs.Forbiddenf("The application credential's access rules do not allow this request.")
	case path == "" || path == "/":
		return s.base(w, r)
	case path == catalogPath:
		return s.catalog(w, r, c)
	case !named:
		return errs.NotFoundf("There is nothing at this path.")
	}
	repo, err := s.allowed(c.creds, t.name, t.action(r.Method))
	if err != nil {
		return err
	}
	if !c.scoped(repo, t.action(r.Method)) {
		challenge(w, r, scopeOf(t, r.Method, path), "insufficient_scope")
		return errs.New(errs.Unauthenticated, "The token was made for something else.")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		switch {
		case t.blob != "":
			return s.serveBlob(w, r, repo, t.blob)
		case t.about != "":
			return s.referrers(w, r, repo, t.about)
		}
	}
	s.forward(w, s.rewritten(r, c, repo, t), t.upload)
	return nil
}

// allowed resolves a name for who may do that.
func (s *Service) allowed(c *policy.Credentials, name, action string) (repo string, err error) {
	if repo, err = resolve(c, name); err != nil {
		return "", err
	}
	if !s.Policy.Allows(ruleOf(action), c, policy.Target{"project_id": c.ProjectID}) {
		return "", errs.Forbiddenf("Your roles in the project do not allow to %s.", action)
	}
	return repo, nil
}

// caller is who a request says that it is from; nil when it does not.
func (s *Service) caller(r *http.Request) (*caller, error) {
	if text := r.Header.Get("X-Auth-Token"); text != "" {
		creds, err := s.Identity.Authenticate(r.Context(), text)
		return &caller{creds: creds, all: true}, err
	}
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return nil, nil
	}
	return s.openToken(r.Context(), strings.TrimSpace(text))
}

// challenge tells a client where to get a token for what it wants.
func challenge(w http.ResponseWriter, r *http.Request, scope, fault string) {
	text := fmt.Sprintf("Bearer realm=%q,service=%q", base(r)+"/v2"+tokenPath, r.Host)
	if scope != "" {
		text += fmt.Sprintf(",scope=%q", scope)
	}
	if fault != "" {
		text += fmt.Sprintf(",error=%q", fault)
	}
	w.Header().Set("WWW-Authenticate", text)
}

func base(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// scopeOf is the scope that a request needs, in the client's words.
func scopeOf(t target, method, path string) string {
	if path == catalogPath {
		return "registry:catalog:*"
	}
	if _, err := reference.WithName(t.name); err != nil {
		return ""
	}
	actions := t.action(method)
	if actions == actionPush {
		actions = actionPull + "," + actionPush
	}
	return "repository:" + t.name + ":" + actions
}

// base tells that the API is here and that the token is good.
func (s *Service) base(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	return answer(w, r, struct{}{})
}

// rewritten is a request as distribution may see it: with the names under which
// things are kept, and without secrets.
func (s *Service) rewritten(r *http.Request, c *caller, repo string, t target) *http.Request {
	out := r.Clone(r.Context())
	out.Header.Del("Authorization")
	out.Header.Del("X-Auth-Token")
	out.URL.Path, out.URL.RawPath = "/v2/"+repo+t.rest, ""
	if t.upload {
		// A body of these types would be read for parameters.
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind == "application/x-www-form-urlencoded" || strings.HasPrefix(kind, "multipart/") {
			out.Header.Set("Content-Type", "application/octet-stream")
		}
		out.URL.RawQuery = s.source(out.URL.Query(), c).Encode()
	}
	return out
}

// source resolves where a blob is to be taken from. A source that the caller may not
// read is left out: the blob is uploaded then.
func (s *Service) source(q url.Values, c *caller) url.Values {
	if !q.Has("from") {
		return q
	}
	repo, err := s.allowed(c.creds, q.Get("from"), actionPull)
	if err != nil || !c.scoped(repo, actionPull) {
		q.Del("from")
		q.Del("mount")
		return q
	}
	q.Set("from", repo)
	return q
}
