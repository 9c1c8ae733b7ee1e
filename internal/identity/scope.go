package identity

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/store"
)

// scopeRequest is the "scope" of POST /auth/tokens.
type scopeRequest struct {
	Project  *projectRef `json:"project"`
	Domain   *domainRef  `json:"domain"`
	System   *struct{}   `json:"system"`
	Unscoped *struct{}   `json:"unscoped"`
	Trust    *idRef      `json:"OS-TRUST:trust"`
	isEmpty  bool
}

// UnmarshalJSON reads "unscoped" as text too, as keystoneauth once wrote it.
func (r *scopeRequest) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte(`"unscoped"`)) {
		r.Unscoped = &struct{}{}
		return nil
	}
	type plain scopeRequest
	if err := json.Unmarshal(raw, (*plain)(r)); err != nil {
		return err
	}
	r.isEmpty = bytes.Equal(bytes.TrimSpace(raw), []byte("{}"))
	return nil
}

func (r *scopeRequest) empty() bool { return r.isEmpty }

func (r *scopeRequest) count() int {
	n := 0
	for _, set := range []bool{r.Project != nil, r.Domain != nil, r.System != nil, r.Unscoped != nil, r.Trust != nil} {
		if set {
			n++
		}
	}
	return n
}

// scope fills in what the token is good for.
func (s *Service) scope(p *token.Payload, in *login, r *scopeRequest) error {
	if in.appCred != nil {
		p.AppCredID = in.appCred.ID
		if at := in.appCred.ExpiresAt; at != nil && at.Before(p.ExpiresAt) {
			p.ExpiresAt = *at
		}
		p.Scope, p.ScopeID = token.Project, in.appCred.ProjectID
		return nil
	}
	if r == nil {
		s.defaultScope(p, in.user)
		return nil
	}
	if r.count() != 1 {
		return errs.Invalidf("Expecting to find system, project, domain, OS-TRUST:trust or unscoped in scope.")
	}
	switch {
	case r.System != nil:
		p.Scope = token.System
	case r.Domain != nil:
		if r.Domain.ID == "" && r.Domain.Name == "" {
			return errs.Invalidf("Invalid input for field scope/domain: id or name must be present.")
		}
		d := s.findDomain(r.Domain)
		if d == nil {
			return errLogin()
		}
		p.Scope, p.ScopeID = token.Domain, d.ID
	case r.Project != nil:
		return s.projectScope(p, r.Project)
	case r.Trust != nil:
		t, err := s.dir.Trusts.Get(r.Trust.ID)
		if err != nil || t.RemainingUses != nil && *t.RemainingUses <= 0 {
			return errLogin()
		}
		if t.TrusteeID != p.UserID {
			return errs.Forbiddenf("User is not a trustee.")
		}
		p.Scope, p.ScopeID, p.TrustID = token.Trust, t.ProjectID, t.ID
		if t.ExpiresAt != nil && t.ExpiresAt.Before(p.ExpiresAt) {
			p.ExpiresAt = *t.ExpiresAt
		}
	}
	return nil
}

func (s *Service) projectScope(p *token.Payload, r *projectRef) error {
	p.Scope = token.Project
	switch {
	case r.ID == "" && r.Name == "":
		return errs.Invalidf("Invalid input for field scope/project: id or name must be present.")
	case r.Name == "":
		p.ScopeID = r.ID
		return nil
	case r.Domain == nil:
		return errs.Invalidf("Expecting to find domain in project.")
	}
	d := s.findDomain(r.Domain)
	if d == nil {
		return errLogin()
	}
	found, ok := s.dir.Projects.Unique("name", directory.Name(d.ID, r.Name))
	if !ok {
		return errLogin()
	}
	p.ScopeID = found.ID
	return nil
}

// defaultScope is the user's default project if a token for it would be valid,
// else none.
func (s *Service) defaultScope(p *token.Payload, u *directory.User) {
	if u.DefaultProjectID == "" {
		return
	}
	trial := *p
	trial.Scope, trial.ScopeID = token.Project, u.DefaultProjectID
	if _, err := s.resolve(&trial); err == nil {
		p.Scope, p.ScopeID = trial.Scope, trial.ScopeID
	}
}

// consumeTrust takes one of the remaining uses of a trust.
func (s *Service) consumeTrust(ctx context.Context, id string) error {
	t, err := s.dir.Trusts.Get(id)
	if err != nil {
		return errLogin()
	}
	if t.RemainingUses == nil {
		return nil
	}
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		_, err := s.dir.Trusts.TxUpdate(tx, id, func(t *directory.Trust) error {
			if *t.RemainingUses <= 0 {
				return errLogin()
			}
			*t.RemainingUses--
			return nil
		})
		return err
	})
}
