package identity

import (
	"context"
	"net/http"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/password"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) userView(u *directory.User) object {
	v := object{"id": u.ID, "name": u.Name, "domain_id": u.DomainID, "enabled": u.Enabled,
		"password_expires_at": stampOrNull(u.PasswordExpires), "options": optionsView(u.Options), "links": r.links("/users/" + u.ID)}
	if u.DefaultProjectID != "" {
		v["default_project_id"] = u.DefaultProjectID
	}
	if u.Description != nil {
		v["description"] = *u.Description
	}
	return withExtra(v, u.Extra)
}

func (s *Service) user(id string) (*directory.User, error) {
	u, err := s.dir.Users.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find user: %s.", id)
	}
	return u, nil
}

func targetUser(r *request, t policy.Target) {
	if u, err := r.m.user(r.Path("user_id")); err == nil {
		t["target.user.id"], t["target.user.domain_id"] = u.ID, u.DomainID
	}
}

// targetNew is the domain that the new thing in the body would be in.
func targetNew(kind string) targeter {
	return func(r *request, t policy.Target) {
		if b, err := r.ref(kind); err == nil {
			t["target."+kind+".domain_id"] = r.domainOr(b.text("domain_id"))
		}
	}
}

func (r *request) domainOr(id string) string {
	if id == "" {
		return r.callersDomain()
	}
	return id
}

// listed is the domain to which a list is confined: the token's, or that of the query.
func (r *request) listed() string {
	if r.Creds.DomainID != "" {
		return r.Creds.DomainID
	}
	return r.Query().Get("domain_id")
}

func (m *mount) listUsers(_ context.Context, r *request) (*rest.Response, error) {
	all := m.dir.Users.All
	if d := r.listed(); d != "" {
		all = func() []*directory.User { return m.dir.Users.By("domain", d) }
	}
	var views []object
	for _, u := range all() {
		views = append(views, r.userView(u))
	}
	return r.list("users", views, "domain_id", "enabled", "name", "id", "unique_id", "idp_id", "protocol_id")
}

func (m *mount) showUser(_ context.Context, r *request) (*rest.Response, error) {
	u, err := m.user(r.Path("user_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"user": r.userView(u)}), nil
}

func (m *mount) createUser(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("user")
	if err != nil {
		return nil, err
	}
	delete(b, "federated") // identity providers are not supported
	u := &directory.User{ID: directory.NewID(), Name: strings.TrimSpace(b.text("name")), DomainID: r.domainOr(b.text("domain_id")),
		Enabled: b.flag("enabled", true), Description: b.optional("description"), DefaultProjectID: b.text("default_project_id"),
		Options: b.options(nil)}
	if err := m.setPassword(ctx, u, b); err != nil {
		return nil, err
	}
	u.Extra = b.extra(nil)
	if err := m.checkDefaultProject(u.DefaultProjectID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		if d, err := m.dir.Projects.TxGet(tx, u.DomainID); err != nil || !d.IsDomain {
			return errs.NotFoundf("Could not find domain: %s.", u.DomainID)
		}
		return m.dir.Users.TxCreate(tx, u)
	})
	if err != nil {
		return nil, m.nameConflict(err, "user", u.Name)
	}
	return rest.JSON(http.StatusCreated, object{"user": r.userView(u)}), nil
}

// setPassword takes the password out of a body.
func (s *Service) setPassword(ctx context.Context, u *directory.User, b ref) error {
	secret, given := b["password"].(string)
	delete(b, "password")
	if !given {
		return nil
	}
	if err := checkNewPassword(secret); err != nil {
		return err
	}
	hash, err := s.hasher.Hash(ctx, secret)
	if err != nil {
		return err
	}
	u.PasswordHash, u.PasswordSince, u.PasswordExpires, u.Failures = hash, s.now().UTC(), nil, 0
	return nil
}

func checkNewPassword(secret string) error {
	if len(secret) > password.MaxLength {
		return errs.Invalidf("The password is longer than %d bytes.", password.MaxLength)
	}
	return nil
}

// checkDefaultProject lets a project be missing, but not be a domain
// (keystone/identity/core.py, _assert_default_project_id_is_not_domain).
func (s *Service) checkDefaultProject(id string) error {
	if p, err := s.dir.Projects.Get(id); err == nil && p.IsDomain {
		return errs.Invalidf("User's default project ID cannot be a domain ID: %s", id)
	}
	return nil
}

func (m *mount) updateUser(ctx context.Context, r *request) (*rest.Response, error) {
	u, err := m.user(r.Path("user_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("user")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(u.ID); err != nil {
		return nil, err
	}
	if d, ok := b["domain_id"]; ok && d != u.DomainID {
		return nil, errs.Invalidf("Cannot change Domain ID.")
	}
	delete(b, "domain_id")
	delete(b, "federated")
	if id, ok := b["default_project_id"].(string); ok {
		if err := m.checkDefaultProject(id); err != nil {
			return nil, err
		}
	}
	var fresh directory.User
	if err := m.setPassword(ctx, &fresh, b); err != nil {
		return nil, err
	}
	u, err = m.changeUser(ctx, u.ID, func(u *directory.User) error {
		applyUser(u, cloneRef(b), &fresh)
		return nil
	})
	if err != nil {
		return nil, m.nameConflict(err, "user", r.Path("user_id"))
	}
	return rest.JSON(http.StatusOK, object{"user": r.userView(u)}), nil
}

func applyUser(u *directory.User, b ref, fresh *directory.User) {
	if b.has("name") {
		u.Name = strings.TrimSpace(b.text("name"))
	}
	if b.has("description") {
		u.Description = b.optional("description")
	}
	if b.has("default_project_id") {
		u.DefaultProjectID = b.text("default_project_id")
	}
	u.Enabled = b.flag("enabled", u.Enabled)
	u.Options = b.options(u.Options)
	u.Extra = b.extra(u.Extra)
	if fresh.PasswordHash != "" {
		u.PasswordHash, u.PasswordSince, u.PasswordExpires, u.Failures = fresh.PasswordHash, fresh.PasswordSince, nil, 0
	}
}

// changeUser changes a user; a new password and a disabled account void all tokens.
func (s *Service) changeUser(ctx context.Context, id string, fn func(*directory.User) error) (u *directory.User, err error) {
	err = s.dir.Write(ctx, func(tx *store.Tx) error {
		old, err := s.dir.Users.TxGet(tx, id)
		if err != nil {
			return err
		}
		if u, err = s.dir.Users.TxUpdate(tx, id, fn); err != nil {
			return err
		}
		if u.PasswordHash != old.PasswordHash || old.Enabled && !u.Enabled {
			return s.dir.TxRevoke(tx, directory.Revocation{UserID: id})
		}
		return nil
	})
	return u, err
}

func (m *mount) deleteUser(ctx context.Context, r *request) (*rest.Response, error) {
	u, err := m.user(r.Path("user_id"))
	if err != nil {
		return nil, err
	}
	if err := m.dir.DeleteUser(ctx, u.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// changePassword is POST /users/{user_id}/password: without a token, the original
// password is the authorization. An expired one still serves for this.
func (m *mount) changePassword(ctx context.Context, r *request) (*rest.Response, error) {
	var body struct {
		User struct {
			Password         string `json:"password"`
			OriginalPassword string `json:"original_password"`
		} `json:"user"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	u, _ := m.user(r.Path("user_id"))
	err := m.checkPassword(ctx, u, body.User.OriginalPassword)
	if err != nil && (u == nil || !directory.Expired(u.PasswordExpires, m.now()) || !m.hasher.Check(ctx, u.PasswordHash, body.User.OriginalPassword)) {
		return nil, errLogin()
	}
	if truthy(u.Options["lock_password"]) {
		return nil, errs.Invalidf("Changing the password of this user is not allowed.")
	}
	var fresh directory.User
	if err := m.setPassword(ctx, &fresh, ref{"password": body.User.Password}); err != nil {
		return nil, err
	}
	_, err = m.changeUser(ctx, u.ID, func(u *directory.User) error {
		applyUser(u, ref{}, &fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) listUserProjects(_ context.Context, r *request) (*rest.Response, error) {
	if _, err := m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	var views []object
	for _, p := range m.dir.ProjectsOf(r.Path("user_id")) {
		views = append(views, r.projectView(p))
	}
	return r.list("projects", views, "domain_id", "enabled", "name")
}

func (m *mount) listUserGroups(_ context.Context, r *request) (*rest.Response, error) {
	if _, err := m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	var views []object
	for _, id := range m.dir.GroupsOf(r.Path("user_id")) {
		if g, err := m.dir.Groups.Get(id); err == nil && (r.Creds.DomainID == "" || r.Creds.DomainID == g.DomainID) {
			v := r.groupView(g)
			v["membership_expires_at"] = nil
			views = append(views, v)
		}
	}
	return r.list("groups", views, "name")
}
