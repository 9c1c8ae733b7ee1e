package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// ec2Type is the type of a credential whose blob holds an access key and its secret.
const ec2Type = "ec2"

// ec2Blob is the blob of an EC2 credential.
type ec2Blob struct {
	Access    string `json:"access"`
	Secret    string `json:"secret"`
	TrustID   string `json:"trust_id,omitempty"`
	AppCredID string `json:"app_cred_id,omitempty"`
}

// accessKeyID is the id of the credential of an access key
// (keystone/common/utils.py, hash_access_key).
func accessKeyID(access string) string {
	sum := sha256.Sum256([]byte(access))
	return hex.EncodeToString(sum[:])
}

func (r *request) credentialView(c *directory.Credential) object {
	return withExtra(object{"id": c.ID, "user_id": c.UserID, "project_id": orNull(c.ProjectID), "type": c.Type, "blob": c.Blob,
		"links": r.links("/credentials/" + c.ID)}, c.Extra)
}

func targetCredential(r *request, t policy.Target) {
	id := r.Path("credential_id")
	if r.Path("user_id") != "" {
		id = accessKeyID(id)
	}
	if c, err := r.m.dir.Credentials.Get(id); err == nil {
		t["target.credential.user_id"] = c.UserID
	} else {
		r.gone = errs.NotFoundf("Could not find credential: %s.", r.Path("credential_id"))
	}
}

// targetUsersCredentials is for making credentials of the user in the path or body.
func targetUsersCredentials(r *request, t policy.Target) {
	user := r.Path("user_id")
	if user == "" {
		if b, err := r.ref("credential"); err == nil {
			if user = b.text("user_id"); user == "" {
				user = r.Creds.UserID
			}
		}
	}
	t["target.credential.user_id"] = user
}

func (s *Service) credential(id string) (*directory.Credential, error) {
	c, err := s.dir.Credentials.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find credential: %s.", id)
	}
	return c, nil
}

// delegatedTo refuses a delegated token anything outside its own project.
func (r *request) delegatedTo(project string) error {
	if (r.Creds.TrustID != "" || r.Creds.AppCredentialID != "") && project != r.Creds.ProjectID {
		return errs.Forbiddenf("The credential's project does not match the scope of the delegated token.")
	}
	return nil
}

// listCredentials shows what the rule lets the caller see of each.
func (m *mount) listCredentials(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, c := range m.dir.Credentials.All() {
		if r.delegatedTo(c.ProjectID) == nil && r.Allows("identity:list_credentials", policy.Target{"target.credential.user_id": c.UserID}) {
			views = append(views, r.credentialView(c))
		}
	}
	return r.list("credentials", views, "user_id", "type")
}

func (m *mount) showCredential(_ context.Context, r *request) (*rest.Response, error) {
	c, err := m.credential(r.Path("credential_id"))
	if err == nil {
		err = r.delegatedTo(c.ProjectID)
	}
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"credential": r.credentialView(c)}), nil
}

func (m *mount) createCredential(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("credential")
	if err != nil {
		return nil, err
	}
	c := &directory.Credential{ID: directory.NewID(), UserID: b.text("user_id"), ProjectID: b.text("project_id"), Type: b.text("type"), Blob: b.text("blob")}
	if c.UserID == "" {
		c.UserID = r.Creds.UserID
	}
	c.Extra = b.extra(nil)
	if err := r.delegatedTo(c.ProjectID); err != nil {
		return nil, err
	}
	if c.Type == ec2Type {
		var blob ec2Blob
		if json.Unmarshal([]byte(c.Blob), &blob) != nil || blob.Access == "" || blob.Secret == "" {
			return nil, errs.Invalidf("Invalid blob in credential: an ec2 credential's blob is a JSON object with access and secret.")
		}
		if c.ProjectID == "" {
			return nil, errs.Invalidf("Expecting to find project_id in credential.")
		}
		c.ID = accessKeyID(blob.Access)
	}
	if err := m.storeCredential(ctx, c); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"credential": r.credentialView(c)}), nil
}

func (s *Service) storeCredential(ctx context.Context, c *directory.Credential) error {
	err := s.dir.Write(ctx, func(tx *store.Tx) error {
		if _, err := s.dir.Users.TxGet(tx, c.UserID); err != nil {
			return errs.NotFoundf("Could not find user: %s.", c.UserID)
		}
		if c.ProjectID != "" && c.Type == ec2Type {
			if _, err := s.dir.Projects.TxGet(tx, c.ProjectID); err != nil {
				return errs.NotFoundf("Could not find project: %s.", c.ProjectID)
			}
		}
		return s.dir.Credentials.TxCreate(tx, c)
	})
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Conflict occurred attempting to store credential - Duplicate entry.")
	}
	return err
}

func (m *mount) updateCredential(ctx context.Context, r *request) (*rest.Response, error) {
	c, err := m.credential(r.Path("credential_id"))
	if err == nil {
		err = r.delegatedTo(c.ProjectID)
	}
	if err != nil {
		return nil, err
	}
	b, err := r.ref("credential")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(c.ID); err != nil {
		return nil, err
	}
	if u, ok := b["user_id"].(string); ok && u != c.UserID && !r.Creds.Admin() {
		return nil, errs.Forbiddenf("Only an administrator may give a credential to another user.")
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		c, err = m.dir.Credentials.TxUpdate(tx, r.Path("credential_id"), func(c *directory.Credential) error {
			b := cloneRef(b)
			for key, field := range map[string]*string{"user_id": &c.UserID, "project_id": &c.ProjectID, "type": &c.Type, "blob": &c.Blob} {
				if b.has(key) {
					*field = b.text(key)
				}
			}
			c.Extra = b.extra(c.Extra)
			if c.Type == ec2Type && c.ProjectID == "" {
				return errs.Invalidf("Expecting to find project_id in credential.")
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"credential": r.credentialView(c)}), nil
}

func (m *mount) deleteCredential(ctx context.Context, r *request) (*rest.Response, error) {
	c, err := m.credential(r.Path("credential_id"))
	if err == nil {
		err = r.delegatedTo(c.ProjectID)
	}
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Credentials.TxDelete(tx, c.ID) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// ec2View is an EC2 credential in the form of OS-EC2.
func (r *request) ec2View(c *directory.Credential) object {
	var blob ec2Blob
	_ = json.Unmarshal([]byte(c.Blob), &blob)
	return object{"user_id": c.UserID, "tenant_id": c.ProjectID, "access": blob.Access, "secret": blob.Secret, "trust_id": orNull(blob.TrustID),
		"links": r.links("/users/" + c.UserID + "/credentials/OS-EC2/" + blob.Access)}
}

func (m *mount) listEC2(_ context.Context, r *request) (*rest.Response, error) {
	if _, err := m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	var views []object
	for _, c := range m.dir.Credentials.By("user", r.Path("user_id")) {
		if c.Type == ec2Type && r.delegatedTo(c.ProjectID) == nil {
			views = append(views, r.ec2View(c))
		}
	}
	return r.list("credentials", views)
}

func (m *mount) createEC2(ctx context.Context, r *request) (*rest.Response, error) {
	if r.Creds.AppCredRestrict {
		return nil, errs.Forbiddenf("Using method 'application_credential' is not allowed for managing additional application credentials.")
	}
	var body struct {
		TenantID string `json:"tenant_id"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if _, err := m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	if _, err := m.project(body.TenantID); err != nil {
		return nil, err
	}
	if err := r.delegatedTo(body.TenantID); err != nil {
		return nil, err
	}
	blob := ec2Blob{Access: directory.NewID(), Secret: directory.NewID(), TrustID: r.Creds.TrustID}
	text, err := json.Marshal(blob)
	if err != nil {
		return nil, err
	}
	c := &directory.Credential{ID: accessKeyID(blob.Access), UserID: r.Path("user_id"), ProjectID: body.TenantID, Type: ec2Type, Blob: string(text)}
	if err := m.storeCredential(ctx, c); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"credential": r.ec2View(c)}), nil
}

func (r *request) ec2() (*directory.Credential, error) {
	if _, err := r.m.user(r.Path("user_id")); err != nil {
		return nil, err
	}
	c, err := r.m.credential(accessKeyID(r.Path("credential_id")))
	if err != nil || c.Type != ec2Type || c.UserID != r.Path("user_id") {
		return nil, errs.NotFoundf("Could not find credential: %s.", r.Path("credential_id"))
	}
	return c, r.delegatedTo(c.ProjectID)
}

func (m *mount) showEC2(_ context.Context, r *request) (*rest.Response, error) {
	c, err := r.ec2()
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"credential": r.ec2View(c)}), nil
}

func (m *mount) deleteEC2(ctx context.Context, r *request) (*rest.Response, error) {
	c, err := r.ec2()
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.Credentials.TxDelete(tx, c.ID) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// EC2Secret finds the secret of an access key with whose it is, for services that
// verify signatures themselves (S3).
func (s *Service) EC2Secret(access string) (secret, userID, projectID string, err error) {
	c, err := s.credential(accessKeyID(access))
	if err != nil || c.Type != ec2Type {
		return "", "", "", errLogin()
	}
	var blob ec2Blob
	if err := json.Unmarshal([]byte(c.Blob), &blob); err != nil {
		return "", "", "", errLogin()
	}
	return blob.Secret, c.UserID, c.ProjectID, nil
}
