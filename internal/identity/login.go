package identity

import (
	"context"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/store"
)

// Refs to things by id, or by name within a domain.
type (
	domainRef struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	projectRef struct {
		ID     string     `json:"id"`
		Name   string     `json:"name"`
		Domain *domainRef `json:"domain"`
	}
	userRef struct {
		ID       string     `json:"id"`
		Name     string     `json:"name"`
		Domain   *domainRef `json:"domain"`
		Password string     `json:"password"`
	}
	idRef struct {
		ID string `json:"id"`
	}
	passwordRef struct {
		User userRef `json:"user"`
	}
	appCredRef struct {
		ID     string   `json:"id"`
		Name   string   `json:"name"`
		User   *userRef `json:"user"`
		Secret string   `json:"secret"`
	}
)

// authRequest is the "auth" of POST /auth/tokens.
type authRequest struct {
	Identity struct {
		Methods  []string     `json:"methods"`
		Password *passwordRef `json:"password"`
		Token    *idRef       `json:"token"`
		AppCred  *appCredRef  `json:"application_credential"`
	} `json:"identity"`
	Scope *scopeRequest `json:"scope"`
}

// login is what the methods of a request have established so far.
type login struct {
	user     *directory.User
	methods  []string
	expires  time.Time
	parent   [16]byte
	appCred  *directory.AppCred
	previous *subject // of the token method
}

// authenticate issues a token (keystone/api/_shared/authentication.py).
func (s *Service) authenticate(ctx context.Context, a *authRequest) (string, *subject, error) {
	in := &login{expires: s.now().Add(s.opt.TokenTTL)}
	for _, m := range a.Identity.Methods {
		if slices.Contains(in.methods, m) {
			continue
		}
		if err := s.method(ctx, in, m, a); err != nil {
			return "", nil, err
		}
	}
	if in.user == nil {
		return "", nil, errLogin()
	}
	if !mfaSatisfied(in.user, in.methods) {
		return "", nil, errLogin()
	}
	p := &token.Payload{UserID: in.user.ID, Methods: in.methods, AuditID: token.NewAuditID(), ParentAudit: in.parent,
		IssuedAt: s.now().UTC().Truncate(time.Microsecond), ExpiresAt: in.expires.UTC().Truncate(time.Microsecond)}
	if err := s.scope(p, in, a.Scope); err != nil {
		return "", nil, err
	}
	return s.issue(ctx, p)
}

// issue resolves and seals a payload.
func (s *Service) issue(ctx context.Context, p *token.Payload) (string, *subject, error) {
	ring, err := s.keyRing()
	if err != nil {
		return "", nil, err
	}
	gen := s.dir.Generation()
	sub, err := s.resolve(p)
	if err != nil {
		return "", nil, err
	}
	if p.TrustID != "" {
		if err := s.consumeTrust(ctx, p.TrustID); err != nil {
			return "", nil, err
		}
	}
	text := ring.Seal(p)
	s.cache.put(cacheKey(text), gen, sub)
	return text, sub, nil
}

func (s *Service) method(ctx context.Context, in *login, name string, a *authRequest) error {
	var err error
	switch {
	case name == "password" && a.Identity.Password != nil:
		err = s.byPassword(ctx, in, &a.Identity.Password.User)
	case name == "token" && a.Identity.Token != nil:
		err = s.byToken(in, a.Identity.Token.ID, a.Scope)
	case name == "application_credential" && a.Identity.AppCred != nil:
		err = s.byAppCred(ctx, in, a)
	case name == "password", name == "token", name == "application_credential":
		err = errs.Invalidf("Expecting to find %s in identity. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", name)
	default:
		err = errs.New(errs.Unauthenticated, "Attempted to authenticate with an unsupported method.")
	}
	return err
}

// establish refuses methods that speak of different users.
func (in *login) establish(u *directory.User, method string) error {
	if in.user != nil && in.user.ID != u.ID {
		return errLogin()
	}
	in.user = u
	if !slices.Contains(in.methods, method) {
		in.methods = append(in.methods, method)
	}
	return nil
}

// findUser looks a user up by id or by name and domain; nil when there is none.
func (s *Service) findUser(r *userRef) (*directory.User, error) {
	if r.ID == "" && r.Name == "" {
		return nil, errs.Invalidf("Expecting to find id or name in user.")
	}
	if r.ID != "" {
		u, err := s.dir.Users.Get(r.ID)
		if err != nil {
			return nil, nil
		}
		return u, nil
	}
	if r.Domain == nil {
		return nil, errs.Invalidf("Expecting to find domain in user.")
	}
	d := s.findDomain(r.Domain)
	if d == nil {
		return nil, nil
	}
	u, _ := s.dir.Users.Unique("name", directory.Name(d.ID, r.Name))
	return u, nil
}

func (s *Service) findDomain(r *domainRef) *directory.Project {
	if r.ID != "" {
		if d, err := s.dir.Projects.Get(r.ID); err == nil && d.IsDomain {
			return d
		}
		return nil
	}
	d, _ := s.dir.Projects.Unique("name", directory.Name("", r.Name))
	return d
}

func (s *Service) byPassword(ctx context.Context, in *login, r *userRef) error {
	u, err := s.findUser(r)
	if err != nil {
		return err
	}
	if err := s.checkPassword(ctx, u, r.Password); err != nil {
		return err
	}
	return in.establish(u, "password")
}

// checkPassword takes the same time for a user that does not exist (nil), is
// disabled or locked out as for a wrong password.
func (s *Service) checkPassword(ctx context.Context, u *directory.User, secret string) error {
	hash := ""
	if u != nil {
		if _, _, err := s.activeUser(u.ID); err == nil && !s.lockedOut(u) {
			hash = u.PasswordHash
		}
	}
	if !s.hasher.Check(ctx, hash, secret) {
		if hash != "" {
			s.countFailure(ctx, u)
		}
		return errLogin()
	}
	if directory.Expired(u.PasswordExpires, s.now()) && !truthy(u.Options["ignore_password_expiry"]) {
		return errs.New(errs.Unauthenticated, "The password is expired and needs to be changed for user: %s.", u.ID)
	}
	if u.Failures > 0 {
		s.setFailures(ctx, u, 0)
	}
	return nil
}

// lockedOut follows [security_compliance] lockout_failure_attempts and lockout_duration.
func (s *Service) lockedOut(u *directory.User) bool {
	return s.opt.LockoutAfter > 0 && u.Failures >= s.opt.LockoutAfter && !truthy(u.Options["ignore_lockout_failure_attempts"]) &&
		s.now().Before(u.LastFailed.Add(s.opt.LockoutFor))
}

func (s *Service) countFailure(ctx context.Context, u *directory.User) {
	if s.opt.LockoutAfter <= 0 {
		return
	}
	n := u.Failures + 1
	if u.Failures >= s.opt.LockoutAfter { // a lockout has run out
		n = 1
	}
	s.setFailures(ctx, u, n)
}

// setFailures is best effort: a log-in does not fail because the store cannot count.
func (s *Service) setFailures(ctx context.Context, u *directory.User, n int) {
	err := s.dir.Write(ctx, func(tx *store.Tx) error {
		_, err := s.dir.Users.TxUpdate(tx, u.ID, func(u *directory.User) error {
			u.Failures, u.LastFailed = n, s.now().UTC()
			return nil
		})
		return err
	})
	if err != nil {
		s.log.Warn("failed log-ins cannot be counted", "user", u.ID, "err", err)
	}
}

// byToken makes a token out of another one. Expiry and audit chain go on; a token
// that was delegated cannot be traded for one that was not
// (keystone/auth/plugins/token.py).
func (s *Service) byToken(in *login, text string, scope *scopeRequest) error {
	sub, err := s.subject(text, 0)
	if err != nil {
		return errToken() // 404, as upstream's TokenNotFound
	}
	p := sub.payload
	switch {
	case p.TrustID != "":
		return errs.Forbiddenf("Using trust-scoped token to create another token. Create a new trust-scoped token instead")
	case p.Scope == token.System && scope != nil && (scope.Project != nil || scope.Domain != nil):
		return errs.Forbiddenf("Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed.")
	case p.AppCredID != "" && scope != nil && !scope.empty():
		return errs.Forbiddenf("Using an application credential token to create a scoped token is not allowed.")
	}
	if err := in.establish(sub.user, "token"); err != nil {
		return err
	}
	in.appCred, in.previous = sub.appCred, sub
	for _, m := range p.Methods {
		if err := in.establish(sub.user, m); err != nil {
			return err
		}
	}
	if p.ExpiresAt.Before(in.expires) {
		in.expires = p.ExpiresAt
	}
	in.parent = p.AuditID
	if p.HasParent() {
		in.parent = p.ParentAudit
	}
	return nil
}

func (s *Service) byAppCred(ctx context.Context, in *login, a *authRequest) error {
	if a.Scope != nil {
		return errs.New(errs.Unauthenticated, "Error authenticating with application credential: Application credentials cannot request a scope.")
	}
	r := a.Identity.AppCred
	var cred *directory.AppCred
	switch {
	case r.ID != "":
		cred, _ = s.dir.AppCreds.Get(r.ID)
	case r.Name == "" || r.User == nil:
		return errs.Invalidf("Expecting to find name or ID and user in application credential.")
	default:
		u, err := s.findUser(r.User)
		if err != nil {
			return err
		}
		if u != nil {
			cred, _ = s.dir.AppCreds.Unique("name", u.ID+"\x00"+r.Name)
		}
	}
	hash := ""
	var u *directory.User
	if cred != nil && !directory.Expired(cred.ExpiresAt, s.now()) {
		var err error
		if u, _, err = s.activeUser(cred.UserID); err == nil {
			hash = cred.SecretHash
		}
	}
	if !s.hasher.Check(ctx, hash, r.Secret) {
		return errLogin()
	}
	in.appCred = cred
	return in.establish(u, "application_credential")
}

// mfaSatisfied judges multi_factor_auth_rules. Methods that do not exist here are
// left out of a rule, and a rule of none of ours is ignored, so that nobody locks
// himself out (keystone/auth/core.py, UserMFARulesValidator).
func mfaSatisfied(u *directory.User, methods []string) bool {
	rules, _ := u.Options["multi_factor_auth_rules"].([]any)
	if enabled, ok := u.Options["multi_factor_auth_enabled"].(bool); ok && !enabled {
		return true
	}
	applicable := false
	for _, r := range rules {
		list, _ := r.([]any)
		known, met := false, true
		for _, m := range list {
			name, _ := m.(string)
			if slices.Contains([]string{"password", "token", "application_credential"}, name) {
				known = true
				met = met && slices.Contains(methods, name)
			}
		}
		if known && met {
			return true
		}
		applicable = applicable || known
	}
	return !applicable
}

func truthy(v any) bool { b, _ := v.(bool); return b }
