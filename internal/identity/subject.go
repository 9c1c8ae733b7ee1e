package identity

import (
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/policy"
)

// subject is a token resolved against the records: what it means now.
type subject struct {
	payload  *token.Payload
	user     *directory.User // who acts: the trustor of an impersonating trust
	domain   *directory.Project
	scope    *directory.Project // project or domain; nil for system and unscoped
	inDomain *directory.Project // the domain of a project scope
	roles    []*directory.Role
	trust    *directory.Trust
	appCred  *directory.AppCred
	rules    []policy.AccessRule
	creds    *policy.Credentials

	// Answers of GET /auth/tokens, made when first asked for.
	full, brief lazyBody
}

// errLogin is the one answer to every failure to authenticate.
func errLogin() error {
	return errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

// errToken is the one answer to every token that is not valid.
func errToken() error {
	return errs.New(errs.NotFound, "Failed to validate token")
}

// subject validates a token's text; window extends its life. The error of an
// invalid one is Unauthenticated.
func (s *Service) subject(text string, window time.Duration) (*subject, error) {
	gen := s.dir.Generation()
	key := cacheKey(text)
	sub := s.cache.get(key, gen)
	if sub == nil {
		ring, err := s.keyRing()
		if err != nil {
			return nil, err
		}
		p, err := ring.Open(text)
		if err != nil {
			return nil, errLogin()
		}
		if s.dir.Revoked(p) {
			return nil, errLogin()
		}
		if sub, err = s.resolve(p); err != nil {
			return nil, err
		}
		s.cache.put(key, gen, sub)
	}
	if !s.now().Before(sub.payload.ExpiresAt.Add(window)) {
		return nil, errLogin()
	}
	return sub, nil
}

// resolve finds what a token refers to. It holds for new tokens and for those
// that come back alike (keystone/models/token_model.py, mint).
func (s *Service) resolve(p *token.Payload) (*subject, error) {
	sub := &subject{payload: p}
	var err error
	if sub.user, sub.domain, err = s.activeUser(p.UserID); err != nil {
		return nil, err
	}
	switch p.Scope {
	case token.Unscoped:
	case token.System:
		sub.roles = s.dir.EffectiveRoles(p.UserID, directory.Scope{System: true})
	case token.Domain:
		if sub.scope, err = s.activeDomain(p.ScopeID); err != nil {
			return nil, err
		}
		sub.roles = s.dir.EffectiveRoles(p.UserID, directory.Scope{DomainID: p.ScopeID})
	case token.Trust:
		err = s.resolveTrust(sub)
	case token.Project:
		if err = s.resolveProject(sub); err == nil {
			sub.roles = s.dir.EffectiveRoles(p.UserID, directory.Scope{ProjectID: p.ScopeID})
		}
	default:
		err = errLogin()
	}
	if err == nil && p.AppCredID != "" {
		err = s.resolveAppCred(sub)
	}
	if err != nil {
		return nil, err
	}
	if p.Scope != token.Unscoped && p.Scope != token.Trust && len(sub.roles) == 0 {
		return nil, errLogin()
	}
	sub.creds = sub.credentials()
	return sub, nil
}

func (s *Service) activeUser(id string) (*directory.User, *directory.Project, error) {
	u, err := s.dir.Users.Get(id)
	if err != nil || !u.Enabled {
		return nil, nil, errLogin()
	}
	d, err := s.activeDomain(u.DomainID)
	return u, d, err
}

func (s *Service) activeDomain(id string) (*directory.Project, error) {
	d, err := s.dir.Projects.Get(id)
	if err != nil || !d.IsDomain || !d.Enabled {
		return nil, errLogin()
	}
	return d, nil
}

// resolveProject sets scope and inDomain.
func (s *Service) resolveProject(sub *subject) error {
	p, err := s.dir.Projects.Get(sub.payload.ScopeID)
	if err != nil || !p.Enabled || p.IsDomain {
		return errLogin()
	}
	sub.scope = p
	sub.inDomain, err = s.activeDomain(p.DomainID)
	return err
}

// resolveAppCred leaves the roles that both the credential and its user have.
func (s *Service) resolveAppCred(sub *subject) error {
	a, err := s.dir.AppCreds.Get(sub.payload.AppCredID)
	if err != nil || a.UserID != sub.payload.UserID || directory.Expired(a.ExpiresAt, s.now()) {
		return errLogin()
	}
	sub.appCred = a
	for _, id := range a.RuleIDs {
		r, err := s.dir.AccessRules.Get(id)
		if err != nil { // fewer rules must never mean more rights
			return errLogin()
		}
		sub.rules = append(sub.rules, policy.AccessRule{Service: r.Service, Method: r.Method, Path: r.Path})
	}
	if sub.payload.Scope != token.Unscoped && sub.payload.ScopeID != a.ProjectID {
		return errLogin()
	}
	sub.roles = slices.DeleteFunc(sub.roles, func(r *directory.Role) bool { return !slices.Contains(a.RoleIDs, r.ID) })
	return nil
}

// resolveTrust finds what the trustor still can give.
func (s *Service) resolveTrust(sub *subject) error {
	t, err := s.dir.Trusts.Get(sub.payload.TrustID)
	if err != nil || directory.Expired(t.ExpiresAt, s.now()) || t.TrusteeID != sub.payload.UserID {
		return errLogin()
	}
	trustor, domain, err := s.activeUser(t.TrustorID)
	if err != nil {
		return err
	}
	sub.trust = t
	var has []string
	if t.ProjectID != "" {
		if err := s.resolveProject(sub); err != nil {
			return err
		}
		has = s.dir.Expand(s.dir.AssignedRoles(s.originalTrustor(t), directory.Scope{ProjectID: t.ProjectID}))
	}
	gives := s.dir.Expand(t.RoleIDs)
	for _, id := range gives {
		if !slices.Contains(has, id) {
			return errs.Forbiddenf("Trustee has no delegated roles.")
		}
	}
	sub.roles = s.dir.Visible(gives)
	if t.Impersonation {
		sub.user, sub.domain = trustor, domain
	}
	return nil
}

// originalTrustor is who stands at the beginning of a chain of redelegations.
func (s *Service) originalTrustor(t *directory.Trust) string {
	for t.RedelegatedID != "" {
		up, err := s.dir.Trusts.Get(t.RedelegatedID)
		if err != nil {
			break
		}
		t = up
	}
	return t.TrustorID
}

func (sub *subject) credentials() *policy.Credentials {
	p := sub.payload
	c := &policy.Credentials{
		UserID: sub.user.ID, UserName: sub.user.Name, UserDomainID: sub.user.DomainID,
		System: p.Scope == token.System, TrustID: p.TrustID, Methods: p.Methods,
		AuditIDs: auditIDs(p), IssuedAt: p.IssuedAt, ExpiresAt: p.ExpiresAt,
	}
	switch {
	case p.Scope == token.Domain:
		c.DomainID, c.DomainName = sub.scope.ID, sub.scope.Name
	case sub.scope != nil:
		c.ProjectID, c.ProjectName, c.ProjectDomainID = sub.scope.ID, sub.scope.Name, sub.scope.DomainID
	}
	for _, r := range sub.roles {
		c.Roles, c.RoleIDs = append(c.Roles, r.Name), append(c.RoleIDs, r.ID)
	}
	if a := sub.appCred; a != nil {
		c.AppCredentialID, c.AppCredRestrict = a.ID, !a.Unrestricted
		c.AccessRules = sub.rules
	}
	return c
}

func auditIDs(p *token.Payload) []string {
	out := []string{token.AuditText(p.AuditID)}
	if p.HasParent() {
		out = append(out, token.AuditText(p.ParentAudit))
	}
	return out
}
