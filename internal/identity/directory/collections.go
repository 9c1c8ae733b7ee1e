package directory

import (
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

const service = "identity"

type keys[T any] = map[string]func(*T) []string

func collection[T any](db *store.DB, kind string, id func(*T) string, unique, index keys[T]) *store.Collection[T] {
	return store.Register(db, store.Schema[T]{Service: service, Kind: kind, ID: id, Unique: unique, Index: index, Version: 1})
}

// some is a key that an empty value does not have.
func some(values ...string) []string {
	out := values[:0]
	for _, v := range values {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}

// Name is the value of the unique key "name" of what is named within a domain.
func Name(domain, name string) string { return domain + "\x00" + name }

// New registers the collections; call it before db.Start. tokenTTL is how long a
// token may live, and so how long a revocation must.
func New(db *store.DB, tokenTTL time.Duration) *Directory {
	d := &Directory{DB: db, tokenTTL: tokenTTL}
	d.registerPrincipals(db)
	d.registerCatalog(db)
	d.registerDelegation(db)
	d.registerFilters(db)
	d.PolicyBlobs = collection(db, "policy", func(p *PolicyBlob) string { return p.ID }, nil, nil)
	return d
}

func (d *Directory) registerPrincipals(db *store.DB) {
	d.Projects = collection(db, "project", func(p *Project) string { return p.ID },
		keys[Project]{"name": func(p *Project) []string { return []string{Name(p.DomainID, p.Name)} }},
		keys[Project]{
			"domain": func(p *Project) []string { return some(p.DomainID) },
			"parent": func(p *Project) []string { return some(p.ParentID) },
			"kind":   func(p *Project) []string { return []string{kindOf(p)} },
		})
	d.Users = collection(db, "user", func(u *User) string { return u.ID },
		keys[User]{"name": func(u *User) []string { return []string{Name(u.DomainID, u.Name)} }},
		keys[User]{"domain": func(u *User) []string { return []string{u.DomainID} },
			"default": func(u *User) []string { return some(u.DefaultProjectID) }})
	d.Groups = collection(db, "group", func(g *Group) string { return g.ID },
		keys[Group]{"name": func(g *Group) []string { return []string{Name(g.DomainID, g.Name)} }},
		keys[Group]{"domain": func(g *Group) []string { return []string{g.DomainID} }})
	d.Members = collection(db, "member", (*Member).ID, nil, keys[Member]{
		"user":  func(m *Member) []string { return []string{m.UserID} },
		"group": func(m *Member) []string { return []string{m.GroupID} },
	})
	d.Roles = collection(db, "role", func(r *Role) string { return r.ID },
		keys[Role]{"name": func(r *Role) []string { return []string{Name(r.DomainID, r.Name)} }},
		keys[Role]{"domain": func(r *Role) []string { return []string{r.DomainID} }})
	d.Implied = collection(db, "implied", (*Implied).ID, nil, keys[Implied]{
		"prior": func(i *Implied) []string { return []string{i.Prior} },
		"role":  func(i *Implied) []string { return []string{i.Role} },
	})
	d.Assignments = collection(db, "assignment", (*Assignment).ID, nil, keys[Assignment]{
		"actor":  func(a *Assignment) []string { return []string{a.Actor()} },
		"target": func(a *Assignment) []string { return []string{a.Target()} },
		"grant":  func(a *Assignment) []string { return []string{a.Actor() + "@" + a.Target()} },
		"role":   func(a *Assignment) []string { return []string{a.RoleID} },
	})
}

// kindOf is the value of the index "kind".
func kindOf(p *Project) string {
	if p.IsDomain {
		return "domain"
	}
	return "project"
}

func (d *Directory) registerCatalog(db *store.DB) {
	d.Regions = collection(db, "region", func(r *Region) string { return r.ID }, nil,
		keys[Region]{"parent": func(r *Region) []string { return some(r.ParentID) }})
	d.Services = collection(db, "service", func(s *Service) string { return s.ID }, nil,
		keys[Service]{"type": func(s *Service) []string { return []string{s.Type} }})
	d.Endpoints = collection(db, "endpoint", func(e *Endpoint) string { return e.ID }, nil, keys[Endpoint]{
		"service": func(e *Endpoint) []string { return []string{e.ServiceID} },
		"region":  func(e *Endpoint) []string { return some(e.RegionID) },
	})
	d.RegLimits = collection(db, "reglimit", func(l *RegisteredLimit) string { return l.ID },
		keys[RegisteredLimit]{"resource": func(l *RegisteredLimit) []string {
			return []string{l.ServiceID + "\x00" + l.RegionID + "\x00" + l.ResourceName}
		}},
		keys[RegisteredLimit]{"service": func(l *RegisteredLimit) []string { return []string{l.ServiceID} },
			"region": func(l *RegisteredLimit) []string { return some(l.RegionID) }})
	d.Limits = collection(db, "limit", func(l *Limit) string { return l.ID },
		keys[Limit]{"owner": func(l *Limit) []string {
			return []string{l.RegisteredID + "\x00" + l.ProjectID + "\x00" + l.DomainID}
		}},
		keys[Limit]{"registered": func(l *Limit) []string { return []string{l.RegisteredID} },
			"project": func(l *Limit) []string { return some(l.ProjectID) },
			"domain":  func(l *Limit) []string { return some(l.DomainID) }})
}

func (d *Directory) registerDelegation(db *store.DB) {
	d.AppCreds = collection(db, "appcred", func(a *AppCred) string { return a.ID },
		keys[AppCred]{"name": func(a *AppCred) []string { return []string{a.UserID + "\x00" + a.Name} }},
		keys[AppCred]{"user": func(a *AppCred) []string { return []string{a.UserID} },
			"project": func(a *AppCred) []string { return []string{a.ProjectID} },
			"rule":    func(a *AppCred) []string { return a.RuleIDs }})
	d.AccessRules = collection(db, "accessrule", func(a *AccessRule) string { return a.ID },
		keys[AccessRule]{"rule": func(a *AccessRule) []string {
			return []string{a.UserID + "\x00" + a.Service + "\x00" + a.Method + "\x00" + a.Path}
		}},
		keys[AccessRule]{"user": func(a *AccessRule) []string { return []string{a.UserID} }})
	d.Credentials = collection(db, "credential", func(c *Credential) string { return c.ID }, nil, keys[Credential]{
		"user":    func(c *Credential) []string { return some(c.UserID) },
		"project": func(c *Credential) []string { return some(c.ProjectID) },
	})
	d.Trusts = collection(db, "trust", func(t *Trust) string { return t.ID }, nil, keys[Trust]{
		"user":    func(t *Trust) []string { return []string{t.TrustorID, t.TrusteeID} },
		"project": func(t *Trust) []string { return some(t.ProjectID) },
		"parent":  func(t *Trust) []string { return some(t.RedelegatedID) },
	})
	d.Revocations = collection(db, "revocation", func(r *Revocation) string { return r.ID }, nil, keys[Revocation]{
		"match": func(r *Revocation) []string { return []string{r.key()} },
	})
	d.Keys = collection(db, "keys", func(k *Keys) string { return k.ID }, nil, nil)
}
