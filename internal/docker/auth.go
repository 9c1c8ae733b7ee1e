package docker

import (
	"context"
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// tokens remembers, by a hash of an application credential and its secret, the token
// that it got: docker makes ten requests for one command, and a secret is slow to check.
// The token is judged at every request, so that what was taken away counts at once.
type tokens struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]string
}

// maxTokens bounds what is remembered.
const maxTokens = 1000

func (t *tokens) get(key [sha256.Size]byte) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[key]
}

func (t *tokens) put(key [sha256.Size]byte, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil || len(t.byID) >= maxTokens {
		t.byID = map[[sha256.Size]byte]string{}
	}
	t.byID[key] = token
}

// caller tells whom a request is from.
func (s *Service) caller(r *http.Request) (*policy.Credentials, error) {
	c, err := s.credentials(r)
	if err != nil {
		return nil, err
	}
	if c.ProjectID == "" {
		return nil, errs.Forbiddenf("these credentials are for no project: use an application credential of one")
	}
	if !c.MayRequest(ServiceType, r.Method, r.URL.Path) {
		return nil, errs.Forbiddenf("the application credential's access rules do not allow this request")
	}
	return c, nil
}

func (s *Service) credentials(r *http.Request) (*policy.Credentials, error) {
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		return s.Identity.Authenticate(r.Context(), token)
	}
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, errs.New(errs.Unauthenticated, "authentication required: strata containers context makes a context of docker's that has an application credential")
	}
	return s.signIn(r.Context(), id, secret)
}

func (s *Service) signIn(ctx context.Context, id, secret string) (*policy.Credentials, error) {
	key := sha256.Sum256([]byte(id + "\x00" + secret))
	if token := s.tokens.get(key); token != "" {
		if c, err := s.Identity.Authenticate(ctx, token); err == nil {
			return c, nil
		}
	}
	token, err := s.Identity.SignIn(ctx, id, secret)
	if err != nil {
		return nil, err
	}
	c, err := s.Identity.Authenticate(ctx, token)
	if err == nil {
		s.tokens.put(key, token)
	}
	return c, err
}

// may judges a rule for the caller's own project.
func (s *Service) may(c *policy.Credentials, rule string) error {
	if s.Policy.Allows("container:"+rule, c, policy.Target{"project_id": c.ProjectID}) {
		return nil
	}
	return errs.Forbiddenf("policy does not allow container:%s to be performed", rule)
}
