package identity

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/rest"
)

// timeLayout is how Keystone writes instants: UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// stampOrNull gives null for an instant that is not set.
func stampOrNull(t *time.Time) any {
	if t == nil {
		return nil
	}
	return stamp(*t)
}

type object = map[string]any

func idName(id, name string) object { return object{"id": id, "name": name} }

// view is the token as GET and POST /auth/tokens show it
// (keystone/common/render_token.py).
func (s *Service) tokenView(sub *subject, catalog bool) object {
	p, u := sub.payload, sub.user
	t := object{
		"methods": p.Methods, "audit_ids": auditIDs(p), "issued_at": stamp(p.IssuedAt), "expires_at": stamp(p.ExpiresAt),
		"user": object{"id": u.ID, "name": u.Name, "domain": idName(sub.domain.ID, sub.domain.Name),
			"password_expires_at": stampOrNull(u.PasswordExpires)},
	}
	switch p.Scope {
	case token.System:
		t["system"] = object{"all": true}
	case token.Domain:
		t["domain"] = idName(sub.scope.ID, sub.scope.Name)
	case token.Project:
		t["is_domain"] = false
	case token.Trust:
		t["OS-TRUST:trust"] = object{"id": sub.trust.ID, "impersonation": sub.trust.Impersonation,
			"trustor_user": object{"id": sub.trust.TrustorID}, "trustee_user": object{"id": sub.trust.TrusteeID}}
	}
	if sub.inDomain != nil {
		t["project"] = object{"id": sub.scope.ID, "name": sub.scope.Name, "domain": idName(sub.inDomain.ID, sub.inDomain.Name)}
	}
	if p.Scope != token.Unscoped {
		roles := make([]object, len(sub.roles))
		for i, r := range sub.roles {
			roles[i] = idName(r.ID, r.Name)
		}
		t["roles"] = roles
		if catalog {
			owner := p.UserID
			if sub.trust != nil {
				owner = sub.trust.TrustorID
			}
			t["catalog"] = s.dir.Catalog(owner, sub.creds.ProjectID)
		}
	}
	if a := sub.appCred; a != nil {
		v := object{"id": a.ID, "name": a.Name, "restricted": !a.Unrestricted}
		if len(a.RuleIDs) > 0 {
			v["access_rules"] = s.ruleViews(a)
		}
		t["application_credential"] = v
	}
	return object{"token": t}
}

// ruleViews lists the access rules of an application credential.
func (s *Service) ruleViews(a *directory.AppCred) []object {
	out := []object{}
	for _, id := range a.RuleIDs {
		if r, err := s.dir.AccessRules.Get(id); err == nil {
			out = append(out, object{"id": r.ID, "service": r.Service, "path": r.Path, "method": r.Method})
		}
	}
	return out
}

// lazyBody is an encoded answer that is made once.
type lazyBody struct {
	once sync.Once
	text []byte
	err  error
}

// tokenBody is the encoded view; it is as valid as sub is.
func (s *Service) tokenBody(sub *subject, catalog bool) ([]byte, error) {
	b := &sub.brief
	if catalog {
		b = &sub.full
	}
	b.once.Do(func() { b.text, b.err = json.Marshal(s.tokenView(sub, catalog)) })
	return b.text, b.err
}

// tokenAnswer is the response that carries a token.
func (m *mount) tokenAnswer(r *request, status int, text string, sub *subject) (*rest.Response, error) {
	body, err := m.tokenBody(sub, wantsCatalog(r))
	if err != nil {
		return nil, err
	}
	body = m.atBase(body, r.Base())
	return &rest.Response{
		Status: status,
		Header: http.Header{"X-Subject-Token": {text}, "Vary": {"X-Auth-Token"},
			"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}},
		Stream: func(w http.ResponseWriter) error {
			_, err := w.Write(body)
			return err
		},
	}, nil
}

// atBase has endpoints at the region's own address show the one by which the client
// came, so that a client of one control member is not sent to another: what keystone
// does with its own links when public_endpoint is not set. Endpoints elsewhere stay.
// The text is found in addresses only: quotes inside of strings are escaped.
func (s *Service) atBase(body []byte, base string) []byte {
	if own := s.opt.PublicURL; own != "" && own != base {
		return bytes.ReplaceAll(body, []byte(`"url":"`+own+`/`), []byte(`"url":"`+base+`/`))
	}
	return body
}
