package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) appCredView(a *directory.AppCred) object {
	roles := []object{}
	for _, id := range a.RoleIDs {
		if x, err := r.m.dir.Roles.Get(id); err == nil {
			v := r.roleView(x)
			delete(v, "links")
			roles = append(roles, v)
		}
	}
	v := object{"id": a.ID, "name": a.Name, "description": nil, "project_id": a.ProjectID, "user_id": a.UserID, "roles": roles,
		"expires_at": nil, "unrestricted": a.Unrestricted, "system": nil,
		"links": r.links("/users/" + a.UserID + "/application_credentials/" + a.ID)}
	if a.Description != nil {
		v["description"] = *a.Description
	}
	if a.ExpiresAt != nil {
		v["expires_at"] = a.ExpiresAt.UTC().Format("2006-01-02T15:04:05.000000")
	}
	if len(a.RuleIDs) > 0 {
		v["access_rules"] = r.m.ruleViews(a)
	}
	return v
}

// targetAppCred makes the credential's own user the owner, whatever the path says.
func targetAppCred(r *request, t policy.Target) {
	if a, err := r.m.dir.AppCreds.Get(r.Path("application_credential_id")); err == nil {
		t["user_id"] = a.UserID
	}
}

// notDelegated refuses tokens that were delegated by a trust, and, where secrets are
// managed, those of restricted application credentials.
func (r *request) notDelegated(managing bool) error {
	if r.Creds.TrustID != "" {
		return errs.Forbiddenf("Cannot manage application credentials with a token issued via delegation.")
	}
	if managing && r.Creds.AppCredRestrict {
		return errs.Forbiddenf("Using method 'application_credential' is not allowed for managing additional application credentials.")
	}
	return nil
}

func (m *mount) listAppCreds(_ context.Context, r *request) (*rest.Response, error) {
	if err := r.notDelegated(false); err != nil {
		return nil, err
	}
	if _, err := m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	var views []object
	for _, a := range m.dir.AppCreds.By("user", r.Path("user_id")) {
		views = append(views, r.appCredView(a))
	}
	return r.list("application_credentials", views, "name")
}

func (s *Service) appCred(id string) (*directory.AppCred, error) {
	a, err := s.dir.AppCreds.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find Application Credential: %s.", id)
	}
	return a, nil
}

func (m *mount) showAppCred(_ context.Context, r *request) (*rest.Response, error) {
	if err := r.notDelegated(false); err != nil {
		return nil, err
	}
	a, err := m.appCred(r.Path("application_credential_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"application_credential": r.appCredView(a)}), nil
}

// createAppCred is POST /users/{user_id}/application_credentials. The secret is
// shown in the answer and never again.
func (m *mount) createAppCred(ctx context.Context, r *request) (*rest.Response, error) {
	if err := r.notDelegated(true); err != nil {
		return nil, err
	}
	if r.Creds.UserID != r.Path("user_id") {
		return nil, errs.Forbiddenf("Cannot create an application credential for another user.")
	}
	if r.Creds.ProjectID == "" {
		return nil, errs.Invalidf("Application credentials can only be created with a project-scoped token.")
	}
	b, err := r.ref("application_credential")
	if err != nil {
		return nil, err
	}
	secret := b.text("secret")
	if secret == "" {
		raw := make([]byte, 64)
		rand.Read(raw)
		secret = base64.RawURLEncoding.EncodeToString(raw)
	}
	a := &directory.AppCred{ID: directory.NewID(), Name: b.text("name"), Description: b.optional("description"),
		UserID: r.Creds.UserID, ProjectID: r.Creds.ProjectID, Unrestricted: b.flag("unrestricted", false)}
	if a.ExpiresAt, err = b.instant("expires_at"); err != nil {
		return nil, err
	}
	if directory.Expired(a.ExpiresAt, m.now()) {
		return nil, errs.Invalidf("The expiration time of the application credential is in the past.")
	}
	if a.RoleIDs, err = r.appCredRoles(b); err != nil {
		return nil, err
	}
	if a.SecretHash, err = m.hasher.Hash(ctx, secret); err != nil {
		return nil, err
	}
	if err := m.storeAppCred(ctx, a, b["access_rules"]); err != nil {
		return nil, m.nameConflict(err, "application_credential", a.Name)
	}
	view := r.appCredView(a)
	view["secret"] = secret
	return rest.JSON(http.StatusCreated, object{"application_credential": view}), nil
}

// appCredRoles is the asked roles with those they imply, all of which the token
// must have; none asked means all of the token's.
func (r *request) appCredRoles(b ref) ([]string, error) {
	list, _ := b["roles"].([]any)
	if len(list) == 0 {
		return r.Creds.RoleIDs, nil
	}
	var ids []string
	for _, v := range list {
		role, _ := v.(map[string]any)
		id, _ := role["id"].(string)
		if id == "" {
			name, _ := role["name"].(string)
			x, ok := r.m.dir.Roles.Unique("name", directory.Name("", name))
			if !ok {
				return nil, errs.NotFoundf("Could not find role: %s.", name)
			}
			id = x.ID
		}
		ids = append(ids, id)
	}
	ids = r.m.dir.Expand(ids)
	for _, id := range ids {
		if !slices.Contains(r.Creds.RoleIDs, id) {
			return nil, errs.Invalidf("Invalid application credential: Cannot create an application credential with unassigned role")
		}
	}
	return ids, nil
}

// storeAppCred writes the credential with its access rules; equal rules of a
// user are one record.
func (s *Service) storeAppCred(ctx context.Context, a *directory.AppCred, rules any) error {
	list, _ := rules.([]any)
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		a.RuleIDs = nil
		for _, v := range list {
			m, _ := v.(map[string]any)
			b := ref(m)
			id, err := s.txAccessRule(tx, a.UserID, cloneRef(b))
			if err != nil {
				return err
			}
			a.RuleIDs = append(a.RuleIDs, id)
		}
		if _, err := s.dir.Users.TxGet(tx, a.UserID); err != nil {
			return err
		}
		return s.dir.AppCreds.TxCreate(tx, a)
	})
}

func (s *Service) txAccessRule(tx *store.Tx, user string, b ref) (string, error) {
	x := &directory.AccessRule{ID: b.text("id"), UserID: user, Service: b.text("service"), Path: b.text("path"), Method: b.text("method")}
	if x.ID != "" && x.Service == "" {
		old, err := s.dir.AccessRules.TxGet(tx, x.ID)
		if err != nil || old.UserID != user {
			return "", errs.NotFoundf("Could not find Access Rule: %s.", x.ID)
		}
		return old.ID, nil
	}
	if x.Service == "" || x.Path == "" || x.Method == "" {
		return "", errs.Invalidf("An access rule needs service, path and method.")
	}
	if old, ok := s.dir.AccessRules.TxUnique(tx, "rule", user+"\x00"+x.Service+"\x00"+x.Method+"\x00"+x.Path); ok {
		return old.ID, nil
	}
	if x.ID == "" {
		x.ID = directory.NewID()
	}
	return x.ID, s.dir.AccessRules.TxCreate(tx, x)
}

func (m *mount) deleteAppCred(ctx context.Context, r *request) (*rest.Response, error) {
	if err := r.notDelegated(true); err != nil {
		return nil, err
	}
	a, err := m.appCred(r.Path("application_credential_id"))
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if err := m.dir.TxRevoke(tx, directory.Revocation{AppCredID: a.ID}); err != nil {
			return err
		}
		return m.dir.AppCreds.TxDelete(tx, a.ID)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (r *request) ruleView(x *directory.AccessRule) object {
	return object{"id": x.ID, "service": x.Service, "path": x.Path, "method": x.Method,
		"links": r.links("/users/" + x.UserID + "/access_rules/" + x.ID)}
}

func (m *mount) listAccessRules(_ context.Context, r *request) (*rest.Response, error) {
	if err := r.notDelegated(false); err != nil {
		return nil, err
	}
	var views []object
	for _, x := range m.dir.AccessRules.By("user", r.Path("user_id")) {
		views = append(views, r.ruleView(x))
	}
	return r.list("access_rules", views, "service", "path", "method")
}

func (r *request) accessRule() (*directory.AccessRule, error) {
	if err := r.notDelegated(false); err != nil {
		return nil, err
	}
	x, err := r.m.dir.AccessRules.Get(r.Path("access_rule_id"))
	if err != nil || x.UserID != r.Path("user_id") {
		return nil, errs.NotFoundf("Could not find Access Rule: %s.", r.Path("access_rule_id"))
	}
	return x, nil
}

func (m *mount) showAccessRule(_ context.Context, r *request) (*rest.Response, error) {
	x, err := r.accessRule()
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"access_rule": r.ruleView(x)}), nil
}

func (m *mount) deleteAccessRule(ctx context.Context, r *request) (*rest.Response, error) {
	x, err := r.accessRule()
	if err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if m.dir.AppCreds.TxCount(tx, "rule", x.ID) > 0 {
			return errs.Forbiddenf("Unable to delete access rule %s because an application credential uses it.", x.ID)
		}
		return m.dir.AccessRules.TxDelete(tx, x.ID)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
