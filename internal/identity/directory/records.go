package directory

import (
	"time"

	"github.com/strata-cloud/strata/internal/identity/token"
)

// Extra is attributes of a client's own that Keystone keeps and gives back.
type Extra map[string]any

// Project is a project or a domain.
type Project struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Enabled     bool           `json:"enabled"`
	IsDomain    bool           `json:"is_domain,omitempty"`
	DomainID    string         `json:"domain_id,omitempty"` // "" for a domain
	ParentID    string         `json:"parent_id,omitempty"` // "" for a domain
	Tags        []string       `json:"tags,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Extra       Extra          `json:"extra,omitempty"`
}

// Domain is the id of the domain that the project belongs to, itself for a domain.
func (p *Project) Domain() string {
	if p.IsDomain {
		return p.ID
	}
	return p.DomainID
}

// User is a person or a service.
type User struct {
	ID               string         `json:"id"`
	Name             string         `json:"name"`
	DomainID         string         `json:"domain_id"`
	Enabled          bool           `json:"enabled"`
	Description      *string        `json:"description,omitempty"`
	DefaultProjectID string         `json:"default_project_id,omitempty"`
	Options          map[string]any `json:"options,omitempty"`
	Extra            Extra          `json:"extra,omitempty"`

	PasswordHash    string     `json:"password_hash,omitempty"` // "": none, cannot log in by password
	PasswordSince   time.Time  `json:"password_since,omitzero"`
	PasswordExpires *time.Time `json:"password_expires,omitempty"`

	Failures   int       `json:"failures,omitempty"` // in a row, counted when lockout is on
	LastFailed time.Time `json:"last_failed,omitzero"`
}

// Group is a set of users.
type Group struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DomainID    string `json:"domain_id"`
	Description string `json:"description"`
	Extra       Extra  `json:"extra,omitempty"`
}

// Member says that a user belongs to a group.
type Member struct {
	GroupID string    `json:"group_id"`
	UserID  string    `json:"user_id"`
	Since   time.Time `json:"since"`
}

// ID is that of the pair.
func (m *Member) ID() string { return m.GroupID + "+" + m.UserID }

// Role is a name that policy rules speak of; with a DomainID it is a domain role,
// which never shows in tokens but may imply roles that do.
type Role struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	DomainID    string         `json:"domain_id,omitempty"`
	Description *string        `json:"description,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Extra       Extra          `json:"extra,omitempty"`
}

// Implied says that whoever has Prior has Role too.
type Implied struct {
	Prior string `json:"prior"`
	Role  string `json:"role"`
}

// ID is that of the pair.
func (i *Implied) ID() string { return i.Prior + "+" + i.Role }

// Assignment gives a role to a user or a group on one target.
type Assignment struct {
	UserID    string `json:"user_id,omitempty"` // exactly one of UserID and GroupID
	GroupID   string `json:"group_id,omitempty"`
	ProjectID string `json:"project_id,omitempty"` // exactly one target
	DomainID  string `json:"domain_id,omitempty"`
	System    bool   `json:"system,omitempty"`
	RoleID    string `json:"role_id"`
	Inherited bool   `json:"inherited,omitempty"` // to the projects below the target, not to it
}

// Actor names who has it.
func (a *Assignment) Actor() string {
	if a.UserID != "" {
		return "u:" + a.UserID
	}
	return "g:" + a.GroupID
}

// Target names where.
func (a *Assignment) Target() string {
	switch {
	case a.System:
		return "s:all"
	case a.DomainID != "":
		return "d:" + a.DomainID
	}
	return "p:" + a.ProjectID
}

// ID makes an assignment unique by what it says.
func (a *Assignment) ID() string {
	id := a.Actor() + "@" + a.Target() + "#" + a.RoleID
	if a.Inherited {
		id += "*"
	}
	return id
}

// Region is a part of the cloud.
type Region struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	ParentID    string `json:"parent_id,omitempty"`
	Extra       Extra  `json:"extra,omitempty"`
}

// Service is an entry of the catalog.
type Service struct {
	ID          string  `json:"id"`
	Type        string  `json:"type"`
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	Enabled     bool    `json:"enabled"`
	Extra       Extra   `json:"extra,omitempty"`
}

// Endpoint is an address of a service.
type Endpoint struct {
	ID        string `json:"id"`
	ServiceID string `json:"service_id"`
	RegionID  string `json:"region_id,omitempty"`
	Interface string `json:"interface"` // public, internal, admin
	URL       string `json:"url"`       // may hold $(project_id)s, %(tenant_id)s, ...
	Enabled   bool   `json:"enabled"`
	Extra     Extra  `json:"extra,omitempty"`
}

// PolicyBlob is a text that a service may fetch.
type PolicyBlob struct {
	ID    string `json:"id"`
	Type  string `json:"type"`
	Blob  string `json:"blob"`
	Extra Extra  `json:"extra,omitempty"`
}

// AppCred is an application credential.
type AppCred struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Description  *string    `json:"description,omitempty"`
	UserID       string     `json:"user_id"`
	ProjectID    string     `json:"project_id"`
	RoleIDs      []string   `json:"role_ids"`
	SecretHash   string     `json:"secret_hash"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"`
	Unrestricted bool       `json:"unrestricted,omitempty"`
	RuleIDs      []string   `json:"rule_ids,omitempty"` // access rules; nil: no restriction
}

// AccessRule limits an application credential to one kind of request.
type AccessRule struct {
	ID      string `json:"id"`
	UserID  string `json:"user_id"`
	Service string `json:"service"`
	Path    string `json:"path"`
	Method  string `json:"method"`
}

// Credential is a secret that other APIs verify (EC2 keys, certificates, TOTP).
type Credential struct {
	ID        string `json:"id"`
	UserID    string `json:"user_id"`
	ProjectID string `json:"project_id,omitempty"`
	Type      string `json:"type"`
	Blob      string `json:"blob"`
	Extra     Extra  `json:"extra,omitempty"`
}

// Trust lets a trustee act with roles of the trustor.
type Trust struct {
	ID            string     `json:"id"`
	TrustorID     string     `json:"trustor_id"`
	TrusteeID     string     `json:"trustee_id"`
	ProjectID     string     `json:"project_id,omitempty"`
	Impersonation bool       `json:"impersonation"`
	RoleIDs       []string   `json:"role_ids,omitempty"`
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`
	RemainingUses *int       `json:"remaining_uses,omitempty"`
	RedelegationN int        `json:"redelegation_count"`
	RedelegatedID string     `json:"redelegated_trust_id,omitempty"`
	Extra         Extra      `json:"extra,omitempty"`
}

// RegisteredLimit is a default limit of a resource.
type RegisteredLimit struct {
	ID           string  `json:"id"`
	ServiceID    string  `json:"service_id"`
	RegionID     string  `json:"region_id,omitempty"`
	ResourceName string  `json:"resource_name"`
	DefaultLimit int     `json:"default_limit"`
	Description  *string `json:"description,omitempty"`
}

// Limit overrides a registered limit for a project or a domain.
type Limit struct {
	ID            string  `json:"id"`
	RegisteredID  string  `json:"registered_id"`
	ProjectID     string  `json:"project_id,omitempty"`
	DomainID      string  `json:"domain_id,omitempty"`
	ResourceLimit int     `json:"resource_limit"`
	Description   *string `json:"description,omitempty"`
}

// Revocation voids the tokens that match all of its set fields.
type Revocation struct {
	ID           string    `json:"id"`
	AuditID      string    `json:"audit_id,omitempty"`
	UserID       string    `json:"user_id,omitempty"`
	ProjectID    string    `json:"project_id,omitempty"`
	TrustID      string    `json:"trust_id,omitempty"`
	AppCredID    string    `json:"app_cred_id,omitempty"`
	IssuedBefore time.Time `json:"issued_before"` // tokens issued at or before this instant
	Until        time.Time `json:"until"`         // no such token can be alive any more
}

// Keys is the record of the token key set.
type Keys struct {
	ID  string       `json:"id"`
	Set token.KeySet `json:"set"`
}
