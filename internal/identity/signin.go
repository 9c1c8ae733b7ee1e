package identity

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// SignIn is how a client of another protocol than this API's says who it is.
type SignIn struct {
	// AppCredential is the id of one; without it User acts in Project.
	AppCredential string
	// Domain is the name of the user's and the project's; "" means the default domain.
	Domain  string
	Project string // name or id; "" means the user's default project
	User    string // name
	Secret  string
}

// SignIn issues a token as POST /auth/tokens would. What is wrong with the
// credentials is an error of kind Unauthenticated.
func (s *Service) SignIn(ctx context.Context, in SignIn) (string, *policy.Credentials, error) {
	text, sub, err := s.authenticate(ctx, s.signInRequest(in))
	if err != nil {
		return "", nil, err
	}
	return text, sub.creds, nil
}

func (s *Service) signInRequest(in SignIn) *authRequest {
	a := &authRequest{}
	if in.AppCredential != "" {
		a.Identity.Methods = []string{"application_credential"}
		a.Identity.AppCred = &appCredRef{ID: in.AppCredential, Secret: in.Secret}
		return a
	}
	domain := &domainRef{ID: DefaultDomain}
	if in.Domain != "" {
		domain = &domainRef{Name: in.Domain}
	}
	a.Identity.Methods = []string{"password"}
	a.Identity.Password = &passwordRef{User: userRef{Name: in.User, Domain: domain, Password: in.Secret}}
	if in.Project != "" {
		project := &projectRef{Name: in.Project, Domain: domain}
		if d := s.findDomain(domain); d == nil {
			project = &projectRef{ID: in.Project}
		} else if _, ok := s.ProjectNamed(d.ID, in.Project); !ok {
			project = &projectRef{ID: in.Project}
		}
		a.Scope = &scopeRequest{Project: project}
	}
	return a
}

// Seal makes a text of a secret that only Open of the same purpose reads, in this
// process or another one of the region, for as long as a token may live.
func (s *Service) Seal(purpose string, secret []byte) (string, error) {
	ring, err := s.keyRing()
	if err != nil {
		return "", err
	}
	return ring.SealBytes(purpose, secret), nil
}

// Open reads what Seal made; the error of any other text is Unauthenticated.
func (s *Service) Open(purpose, text string) ([]byte, error) {
	ring, err := s.keyRing()
	if err != nil {
		return nil, err
	}
	secret, err := ring.OpenBytes(purpose, text)
	if err != nil {
		return nil, errs.New(errs.Unauthenticated, "%w", err)
	}
	return secret, nil
}
