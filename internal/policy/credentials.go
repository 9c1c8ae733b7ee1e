package policy

import (
	"strings"
	"time"
)

// Credentials is who asks: what a validated token says.
type Credentials struct {
	UserID          string
	UserName        string
	UserDomainID    string
	ProjectID       string // project scope, or ""
	ProjectName     string
	ProjectDomainID string
	DomainID        string // domain scope, or ""
	DomainName      string
	System          bool     // system scope "all"
	Roles           []string // role names, implied roles included
	RoleIDs         []string
	AppCredentialID string
	AppCredRestrict bool // the application credential may not manage credentials and trusts
	// AccessRules, when not empty, are the only requests that the token may make.
	AccessRules []AccessRule
	TrustID     string
	Methods     []string
	AuditIDs    []string
	IssuedAt    time.Time
	ExpiresAt   time.Time
}

// AccessRule is a kind of request that an application credential is confined to.
type AccessRule struct {
	Service string // service type: "compute"
	Method  string // "GET"
	// Path of the API, "/v2.1/servers/{id}": {name} and * stand for one segment,
	// ** for any number of them.
	Path string
}

// MayRequest judges access rules as keystonemiddleware's auth_token does; without
// rules everything is allowed.
func (c *Credentials) MayRequest(service, method, path string) bool {
	for _, r := range c.AccessRules {
		if r.Service == service && r.Method == method && matchPath(splitPath(r.Path), splitPath(path)) {
			return true
		}
	}
	return len(c.AccessRules) == 0
}

func splitPath(p string) []string { return strings.Split(strings.Trim(p, "/"), "/") }

func matchPath(pattern, path []string) bool {
	for len(pattern) > 0 {
		seg := pattern[0]
		if seg == "**" {
			for i := range len(path) + 1 {
				if matchPath(pattern[1:], path[i:]) {
					return true
				}
			}
			return false
		}
		if len(path) == 0 || !(seg == "*" || seg == path[0] || strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}")) {
			return false
		}
		pattern, path = pattern[1:], path[1:]
	}
	return len(path) == 0
}

// HasRole tells whether the token carries the role, ignoring case as upstream does.
func (c *Credentials) HasRole(name string) bool {
	for _, r := range c.Roles {
		if equalFold(r, name) {
			return true
		}
	}
	return false
}

// Admin tells whether the token carries the admin role, whatever its scope.
func (c *Credentials) Admin() bool { return c.HasRole("admin") }

// attribute is the value that the left side of a generic check names.
func (c *Credentials) attribute(name string) (string, bool) {
	switch name {
	case "user_id", "token.user.id":
		return c.UserID, true
	case "project_id", "tenant_id", "tenant", "token.project.id":
		return c.ProjectID, true
	case "domain_id", "token.domain.id":
		return c.DomainID, true
	case "user_domain_id", "token.user.domain.id":
		return c.UserDomainID, true
	case "project_domain_id", "token.project.domain.id":
		return c.ProjectDomainID, true
	case "system_scope":
		if c.System {
			return "all", true
		}
		return "", false
	case "is_admin":
		if c.Admin() {
			return "True", true
		}
		return "False", true
	}
	return "", false
}
