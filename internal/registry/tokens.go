package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// tokenPath is where tokens are issued, below /v2 (distribution/docs/content/spec/auth/token.md).
const tokenPath = "/token"

// sealPurpose separates the registry's tokens from all else that identity seals.
const sealPurpose = "registry"

// sealed is what a token holds.
type sealed struct {
	Token   string              `json:"t"` // of identity's; "": nobody's, for mirrors that are open
	Ends    time.Time           `json:"e"`
	Access  map[string][]string `json:"a,omitempty"`
	Catalog bool                `json:"c,omitempty"`
	Worker  *Worker             `json:"w,omitempty"` // whose it is, in place of Token
}

// Bounds of what a client may ask a token for: it has to fit into a header.
const (
	maxForm   = 64 << 10
	maxScopes = 16
)

// token issues a token for what the client asks and its roles allow. What they do not
// allow is left out, as the specification wants.
func (s *Service) token(w http.ResponseWriter, r *http.Request) error {
	in, ok, err := signIn(w, r)
	if err != nil {
		return err
	}
	if !ok && s.Policy.Allows(ruleMirror, &policy.Credentials{}, nil) {
		return s.issue(w, r, &sealed{Ends: s.now().Add(s.TokenTTL)}, s.now()) // of nobody
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", r.Host))
		return errs.New(errs.Unauthenticated, "Log in with an application credential's id and secret, or as PROJECT/USER or DOMAIN/PROJECT/USER with the password.")
	}
	if in.Project == "" && in.User == WorkerName {
		return s.workerToken(w, r, in.Secret)
	}
	text, c, err := s.Identity.SignIn(r.Context(), in)
	if errs.Is(err, errs.Invalid) || err == nil && c.ProjectID == "" {
		err = errs.New(errs.Unauthenticated, "These credentials are not for a project.")
	}
	if err != nil {
		return err
	}
	begins := s.now()
	t := sealed{Token: text, Ends: begins.Add(s.TokenTTL), Access: map[string][]string{}}
	if c.ExpiresAt.Before(t.Ends) {
		t.Ends = c.ExpiresAt
	}
	if err := s.grant(&t, c, r.Form["scope"]); err != nil {
		return err
	}
	return s.issue(w, r, &t, begins)
}

func (s *Service) issue(w http.ResponseWriter, r *http.Request, t *sealed, begins time.Time) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return err
	}
	text, err := s.Identity.Seal(sealPurpose, raw)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, r, map[string]any{"token": text, "access_token": text,
		"expires_in": int(t.Ends.Sub(begins).Seconds()), "issued_at": begins.UTC().Format(time.RFC3339)})
}

// signIn reads who a client says that it is: with Basic, or as OAuth 2 has it.
func signIn(w http.ResponseWriter, r *http.Request) (in SignIn, ok bool, err error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		return in, false, errs.New(errs.NotImplemented, "Tokens are had by GET or POST.")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return in, false, errs.Invalidf("The form cannot be read: %w", err)
	}
	name, secret, ok := r.BasicAuth()
	if r.Method == http.MethodPost && !ok {
		if grant := r.PostForm.Get("grant_type"); grant != "password" {
			return in, false, errs.Invalidf("There are no tokens for the grant type %q: use password.", grant)
		}
		name, secret, ok = r.PostForm.Get("username"), r.PostForm.Get("password"), r.PostForm.Has("username")
	}
	in = who(name)
	in.Secret = secret
	return in, ok && name != "", nil
}

// anID is what identity's ids look like.
var anID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// who reads the name of docker login.
func who(name string) SignIn {
	switch f := strings.SplitN(name, "/", 3); {
	case len(f) == 3:
		return SignIn{Domain: f[0], Project: f[1], User: f[2]}
	case len(f) == 2:
		return SignIn{Project: f[0], User: f[1]}
	case anID.MatchString(name):
		return SignIn{AppCredential: name}
	}
	return SignIn{User: name}
}

// grant adds what of the scopes the caller's roles allow.
func (s *Service) grant(t *sealed, c *policy.Credentials, scopes []string) error {
	var all []string
	for _, v := range scopes {
		all = append(all, strings.Fields(v)...)
	}
	if len(all) > maxScopes {
		return errs.Invalidf("A token is for at most %d scopes.", maxScopes)
	}
	for _, scope := range all {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndex(rest, ":")
		if i < 0 {
			return errs.Invalidf("%q is not a scope: it is TYPE:NAME:ACTIONS.", scope)
		}
		name, actions := rest[:i], strings.Split(rest[i+1:], ",")
		switch kind {
		case "registry":
			t.Catalog = t.Catalog || name == "catalog" && t.Worker == nil
		case "repository":
			s.grantRepo(t, c, name, actions)
		}
	}
	return nil
}

func (s *Service) grantRepo(t *sealed, c *policy.Credentials, name string, actions []string) {
	if slices.Contains(actions, "*") {
		actions = []string{actionPull, actionPush, actionDelete}
	}
	for _, a := range actions {
		if ruleOf(a) == "" || t.Worker != nil && a != actionPull {
			continue
		}
		if repo, err := s.allowed(c, name, a); err == nil && !slices.Contains(t.Access[repo], a) {
			t.Access[repo] = append(t.Access[repo], a)
		}
	}
}

// openToken tells what a token says now.
func (s *Service) openToken(ctx context.Context, text string) (*caller, error) {
	bad := errs.New(errs.Unauthenticated, "The token is not valid, or not any more.")
	raw, err := s.Identity.Open(sealPurpose, text)
	if errs.Is(err, errs.Unauthenticated) {
		return nil, bad
	} else if err != nil {
		return nil, err
	}
	var t sealed
	if err := json.Unmarshal(raw, &t); err != nil || !s.now().Before(t.Ends) {
		return nil, bad
	}
	if t.Worker != nil {
		creds, err := s.worker(ctx, *t.Worker)
		return &caller{creds: creds, access: t.Access}, err
	}
	if t.Token == "" {
		return &caller{creds: &policy.Credentials{}}, nil
	}
	creds, err := s.Identity.Authenticate(ctx, t.Token)
	if err != nil {
		return nil, err
	}
	return &caller{creds: creds, access: t.Access, catalog: t.Catalog}, nil
}
