package identity

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func wantsCatalog(r *request) bool { return !r.Query().Has("nocatalog") }

// issueToken is POST /auth/tokens.
func (m *mount) issueToken(ctx context.Context, r *request) (*rest.Response, error) {
	var body struct {
		Auth authRequest `json:"auth"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	text, sub, err := m.authenticate(ctx, &body.Auth)
	if err != nil {
		return nil, err
	}
	return m.tokenAnswer(r, http.StatusCreated, text, sub)
}

// subjectOf validates X-Subject-Token; what is wrong with it is a 404.
func (r *request) subjectOf(window time.Duration) (*subject, string, error) {
	text := r.HTTP.Header.Get("X-Subject-Token")
	sub, err := r.m.subject(text, window)
	if err != nil {
		if errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Internal) {
			return nil, "", err
		}
		return nil, "", errToken()
	}
	return sub, text, nil
}

// targetToken lets rules ask whose token it is.
func targetToken(r *request, t policy.Target) {
	sub, _, err := r.subjectOf(r.window())
	if err != nil {
		r.gone = err
		return
	}
	t["target.token.user_id"] = sub.user.ID
}

// window is how long after its end the request may ask about a token.
func (r *request) window() time.Duration {
	if !queryTrue(r.Query(), "allow_expired") {
		return 0
	}
	return r.m.opt.ExpiredWindow
}

// showToken is GET and HEAD /auth/tokens. HEAD has a rule of its own upstream.
func (m *mount) showToken(_ context.Context, r *request) (*rest.Response, error) {
	rule := "identity:validate_token"
	if r.HTTP.Method == http.MethodHead {
		rule = "identity:check_token"
	}
	if err := r.judge(rule, targetToken); err != nil {
		return nil, err
	}
	sub, text, err := r.subjectOf(r.window())
	if err != nil {
		return nil, err
	}
	return m.tokenAnswer(r, http.StatusOK, text, sub)
}

// revokeToken is DELETE /auth/tokens.
func (m *mount) revokeToken(ctx context.Context, r *request) (*rest.Response, error) {
	sub, _, err := r.subjectOf(0)
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		return m.dir.TxRevoke(tx, directory.Revocation{AuditID: token.AuditText(sub.payload.AuditID)})
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent).With("Vary", "X-Auth-Token"), nil
}

// authCatalog is GET /auth/catalog.
func (m *mount) authCatalog(_ context.Context, r *request) (*rest.Response, error) {
	if r.Creds.ProjectID == "" {
		return nil, errs.Forbiddenf("A project-scoped token is required to produce a service catalog.")
	}
	list := m.dir.Catalog(r.Creds.UserID, r.Creds.ProjectID)
	for i := range list {
		for j := range list[i].Endpoints {
			e := &list[i].Endpoints[j]
			if rest, ok := strings.CutPrefix(e.URL, m.opt.PublicURL+"/"); ok && m.opt.PublicURL != "" {
				e.URL = r.Base() + "/" + rest
			}
		}
	}
	return rest.JSON(http.StatusOK, object{"catalog": list,
		"links": r.links("/auth/catalog")}), nil
}

// authProjects is GET /auth/projects: where the user could scope to. Disabled
// projects are left out.
func (m *mount) authProjects(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, p := range m.dir.ProjectsOf(r.Creds.UserID) {
		if p.Enabled {
			views = append(views, r.projectView(p))
		}
	}
	return r.list("projects", views)
}

// authDomains is GET /auth/domains.
func (m *mount) authDomains(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, p := range m.dir.DomainsOf(r.Creds.UserID) {
		if p.Enabled {
			views = append(views, r.domainView(p))
		}
	}
	return r.list("domains", views)
}

// authSystem is GET /auth/system.
func (m *mount) authSystem(_ context.Context, r *request) (*rest.Response, error) {
	system := []object{}
	if len(m.dir.AssignedRoles(r.Creds.UserID, directory.Scope{System: true})) > 0 {
		system = append(system, object{"all": true})
	}
	return rest.JSON(http.StatusOK, object{"system": system, "links": r.links("/auth/system")}), nil
}
