package identity

import (
	"context"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// maxRedelegation is [trust] max_redelegation_count.
const maxRedelegation = 3

func (r *request) trustView(t *directory.Trust, roles bool) object {
	path := "/OS-TRUST/trusts/" + t.ID
	v := object{"id": t.ID, "trustor_user_id": t.TrustorID, "trustee_user_id": t.TrusteeID, "project_id": orNull(t.ProjectID),
		"impersonation": t.Impersonation, "expires_at": stampOrNull(t.ExpiresAt), "remaining_uses": nil, "deleted_at": nil,
		"redelegation_count": t.RedelegationN, "redelegated_trust_id": orNull(t.RedelegatedID), "links": r.links(path)}
	if t.RemainingUses != nil {
		v["remaining_uses"] = *t.RemainingUses
	}
	if roles {
		v["roles"] = r.trustRoles(t)
		v["roles_links"] = object{"self": r.self(path + "/roles"), "next": nil, "previous": nil}
	}
	return withExtra(v, t.Extra)
}

func (r *request) trustRoles(t *directory.Trust) []object {
	out := []object{}
	for _, id := range t.RoleIDs {
		if x, err := r.m.dir.Roles.Get(id); err == nil {
			out = append(out, r.roleView(x))
		}
	}
	return out
}

// trust finds a trust that can still be used.
func (s *Service) trust(id string) (*directory.Trust, error) {
	t, err := s.dir.Trusts.Get(id)
	if err != nil || directory.Expired(t.ExpiresAt, s.now()) || t.RemainingUses != nil && *t.RemainingUses <= 0 {
		return nil, errs.NotFoundf("Could not find trust: %s.", id)
	}
	return t, nil
}

func targetTrust(r *request, t policy.Target) {
	if x, err := r.m.dir.Trusts.Get(r.Path("trust_id")); err == nil {
		t["target.trust.trustor_user_id"], t["target.trust.trustee_user_id"] = x.TrustorID, x.TrusteeID
	} else {
		r.gone = errs.NotFoundf("Could not find trust: %s.", r.Path("trust_id"))
	}
}

func targetNewTrust(r *request, t policy.Target) {
	if b, err := r.ref("trust"); err == nil {
		t["target.trust.trustor_user_id"] = b.text("trustor_user_id")
	}
}

// noAppCred refuses application credentials anything about trusts.
func (r *request) noAppCred() error {
	if r.Creds.AppCredentialID != "" {
		return errs.Forbiddenf("Using method 'application_credential' is not allowed for managing trusts.")
	}
	return nil
}

// listTrusts has a rule for each of its filters.
func (m *mount) listTrusts(_ context.Context, r *request) (*rest.Response, error) {
	q := r.Query()
	trustor, trustee := q.Get("trustor_user_id"), q.Get("trustee_user_id")
	rule := "identity:list_trusts"
	if trustor != "" {
		rule = "identity:list_trusts_for_trustor"
	} else if trustee != "" {
		rule = "identity:list_trusts_for_trustee"
	}
	err := r.judge(rule, func(_ *request, t policy.Target) {
		t["target.trust.trustor_user_id"], t["target.trust.trustee_user_id"] = trustor, trustee
	})
	if err == nil {
		err = r.noAppCred()
	}
	if err != nil {
		return nil, err
	}
	var views []object
	for _, t := range m.dir.Trusts.All() {
		if (trustor == "" || t.TrustorID == trustor) && (trustee == "" || t.TrusteeID == trustee) {
			if _, err := m.trust(t.ID); err == nil {
				views = append(views, r.trustView(t, false))
			}
		}
	}
	return r.list("trusts", views)
}

func (r *request) usableTrust() (*directory.Trust, error) {
	if err := r.noAppCred(); err != nil {
		return nil, err
	}
	return r.m.trust(r.Path("trust_id"))
}

func (m *mount) showTrust(_ context.Context, r *request) (*rest.Response, error) {
	t, err := r.usableTrust()
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"trust": r.trustView(t, true)}), nil
}

func (m *mount) listTrustRoles(_ context.Context, r *request) (*rest.Response, error) {
	t, err := r.usableTrust()
	if err != nil {
		return nil, err
	}
	return r.list("roles", r.trustRoles(t))
}

func (m *mount) showTrustRole(_ context.Context, r *request) (*rest.Response, error) {
	t, err := r.usableTrust()
	if err != nil {
		return nil, err
	}
	id := r.Path("role_id")
	x, err := m.role(id)
	if err != nil || !slices.Contains(t.RoleIDs, id) {
		return nil, errs.NotFoundf("Could not find role: %s.", id)
	}
	return rest.JSON(http.StatusOK, object{"role": r.roleView(x)}), nil
}

// createTrust is POST /OS-TRUST/trusts. Who creates it is the trustor, and can
// only give roles that he has.
func (m *mount) createTrust(ctx context.Context, r *request) (*rest.Response, error) {
	if err := r.noAppCred(); err != nil {
		return nil, err
	}
	b, err := r.ref("trust")
	if err != nil {
		return nil, err
	}
	t, err := m.readTrust(r, b)
	if err != nil {
		return nil, err
	}
	if err := m.checkDelegation(r, t, b); err != nil {
		return nil, err
	}
	delete(b, "roles")
	t.Extra = b.extra(nil)
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		for _, u := range []string{t.TrustorID, t.TrusteeID} {
			if _, err := m.dir.Users.TxGet(tx, u); err != nil {
				return errs.NotFoundf("Could not find user: %s.", u)
			}
		}
		return m.dir.Trusts.TxCreate(tx, t)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"trust": r.trustView(t, true)}), nil
}

func (m *mount) readTrust(r *request, b ref) (*directory.Trust, error) {
	t := &directory.Trust{ID: directory.NewID(), TrustorID: b.text("trustor_user_id"), TrusteeID: b.text("trustee_user_id"),
		ProjectID: b.text("project_id"), Impersonation: b.flag("impersonation", false)}
	roles, _ := b["roles"].([]any)
	if t.ProjectID != "" && len(roles) == 0 {
		return nil, errs.Forbiddenf("At least one role should be specified")
	}
	if r.Creds.UserID != t.TrustorID {
		return nil, errs.Forbiddenf("The authenticated user should match the trustor")
	}
	if _, err := m.user(t.TrusteeID); err != nil {
		return nil, err
	}
	if t.ProjectID != "" {
		if _, err := m.project(t.ProjectID); err != nil {
			return nil, err
		}
	}
	var err error
	if t.ExpiresAt, err = b.instant("expires_at"); err != nil {
		return nil, err
	}
	if directory.Expired(t.ExpiresAt, m.now()) {
		return nil, errs.Invalidf("The expiration time of the trust is in the past.")
	}
	for _, v := range roles {
		role, _ := v.(map[string]any)
		id, _ := role["id"].(string)
		if name, _ := role["name"].(string); id == "" {
			x, ok := m.dir.Roles.Unique("name", directory.Name("", name))
			if !ok {
				return nil, errs.NotFoundf("Could not find role: %s.", name)
			}
			id = x.ID
		}
		t.RoleIDs = append(t.RoleIDs, id)
	}
	if n, ok := b["remaining_uses"].(float64); ok {
		if n < 1 {
			return nil, errs.Invalidf("remaining_uses must be a positive integer or null.")
		}
		uses := int(n)
		t.RemainingUses = &uses
	}
	delete(b, "remaining_uses")
	return t, nil
}

// checkDelegation judges roles and redelegation (keystone/trust/core.py).
func (m *mount) checkDelegation(r *request, t *directory.Trust, b ref) error {
	requested, given := b["redelegation_count"].(float64)
	delete(b, "redelegation_count")
	t.RedelegationN = maxRedelegation
	if allow := b.flag("allow_redelegation", false); !allow || given && requested == 0 {
		t.RedelegationN = 0
	} else {
		if requested > maxRedelegation {
			return errs.Forbiddenf("Requested redelegation depth of %d is greater than allowed %d", int(requested), maxRedelegation)
		}
		if t.RemainingUses != nil {
			return errs.Invalidf("remaining_uses must not be set if redelegation is allowed")
		}
		if given {
			t.RedelegationN = int(requested)
		}
	}
	if r.Creds.TrustID != "" {
		if err := m.redelegate(r.Creds.TrustID, t); err != nil {
			return err
		}
	}
	has := m.dir.Expand(m.dir.AssignedRoles(m.originalTrustor(t), directory.Scope{ProjectID: t.ProjectID}))
	for _, id := range t.RoleIDs {
		if !slices.Contains(has, id) {
			return errs.NotFoundf("Could not find role: %s.", id)
		}
	}
	return nil
}

// redelegate makes t a part of the trust by whose token it is made.
func (m *mount) redelegate(source string, t *directory.Trust) error {
	up, err := m.trust(source)
	if err != nil {
		return err
	}
	switch {
	case up.RedelegationN <= 0:
		return errs.Forbiddenf("Remaining redelegation depth of 0 out of allowed range of [0..%d]", maxRedelegation)
	case t.RemainingUses != nil:
		return errs.Forbiddenf("Field \"remaining_uses\" must not be set in order to redelegate a trust")
	case t.Impersonation && !up.Impersonation:
		return errs.Forbiddenf("Impersonation is not allowed because redelegated trust does not specify impersonation. Redelegated trust id: %s", up.ID)
	case up.ExpiresAt != nil && t.ExpiresAt != nil && up.ExpiresAt.Before(*t.ExpiresAt):
		return errs.Forbiddenf("Requested expiration time is more than redelegated trust can provide")
	}
	if t.ExpiresAt == nil {
		t.ExpiresAt = up.ExpiresAt
	}
	for _, id := range t.RoleIDs {
		if !slices.Contains(m.dir.Expand(up.RoleIDs), id) {
			return errs.Forbiddenf("Some of requested roles are not in redelegated trust")
		}
	}
	t.RedelegatedID, t.RedelegationN = up.ID, min(t.RedelegationN, up.RedelegationN-1)
	return nil
}

func (m *mount) deleteTrust(ctx context.Context, r *request) (*rest.Response, error) {
	if err := r.noAppCred(); err != nil {
		return nil, err
	}
	if _, err := m.dir.Trusts.Get(r.Path("trust_id")); err != nil {
		return nil, errs.NotFoundf("Could not find trust: %s.", r.Path("trust_id"))
	}
	if err := m.dir.DeleteTrust(ctx, r.Path("trust_id")); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
