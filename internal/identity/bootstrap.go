package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/store"
)

// DefaultDomain is the id of the domain that every cloud has.
const DefaultDomain = "default"

// BootstrapService is an entry of the catalog.
type BootstrapService struct {
	Type, Name, Description string
	// URL is the address of all three interfaces; it may hold $(project_id)s.
	URL string
}

// BootstrapOptions say what a new region is given.
type BootstrapOptions struct {
	AdminPassword string
	DemoPassword  string
	// ServicePassword, when set, makes a user "strata" with role service in project service.
	ServicePassword string
	Region          string // default "RegionOne"
	// Endpoints gives the address of a service type under the region's URL; "" leaves
	// the service out. nil means the well-known paths.
	Endpoints func(serviceType string) string
	// Services replaces the default catalog when not nil.
	Services []BootstrapService
}

// Bootstrap makes domain, projects, roles, users and catalog of a new region. It
// is idempotent: what exists is left as it is, except that passwords are set
// and endpoint addresses are brought up to date.
func (s *Service) Bootstrap(ctx context.Context, opt BootstrapOptions) error {
	if opt.Region == "" {
		opt.Region = "RegionOne"
	}
	if err := s.ensureKeys(ctx); err != nil {
		return fmt.Errorf("making token keys: %w", err)
	}
	projects, err := s.bootProjects(ctx)
	if err != nil {
		return fmt.Errorf("making projects: %w", err)
	}
	roles, err := s.bootRoles(ctx)
	if err != nil {
		return fmt.Errorf("making roles: %w", err)
	}
	if err := s.bootUsers(ctx, opt, projects, roles); err != nil {
		return fmt.Errorf("making users: %w", err)
	}
	if err := s.dir.Write(ctx, func(tx *store.Tx) error {
		return ignoreConflict(s.dir.Regions.TxCreate(tx, &directory.Region{ID: opt.Region}))
	}); err != nil {
		return fmt.Errorf("making region %s: %w", opt.Region, err)
	}
	services := opt.Services
	if services == nil {
		services = s.defaultServices(opt.Endpoints)
	}
	for _, b := range services {
		if err := s.EnsureService(ctx, opt.Region, b); err != nil {
			return fmt.Errorf("registering service %s: %w", b.Type, err)
		}
	}
	return nil
}

func ignoreConflict(err error) error {
	if errs.Is(err, errs.Conflict) {
		return nil
	}
	return err
}

// bootProjects returns the ids by name.
func (s *Service) bootProjects(ctx context.Context) (map[string]string, error) {
	ids := map[string]string{}
	domain := &directory.Project{ID: DefaultDomain, Name: "Default", Description: "The default domain", Enabled: true, IsDomain: true}
	if _, err := s.dir.Projects.Get(DefaultDomain); errs.Is(err, errs.NotFound) {
		if err := s.createProjectRecord(ctx, domain); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"admin", "service", "demo"} {
		if p, ok := s.ProjectNamed(DefaultDomain, name); ok {
			ids[name] = p.ID
			continue
		}
		p := &directory.Project{ID: directory.NewID(), Name: name, Enabled: true, DomainID: DefaultDomain, ParentID: DefaultDomain}
		if name == "admin" {
			p.Description = "Bootstrap project for initializing the cloud."
		}
		if err := s.createProjectRecord(ctx, p); err != nil {
			return nil, err
		}
		ids[name] = p.ID
	}
	return ids, nil
}

// bootRoles returns the ids by name. Implications are those of keystone-manage
// bootstrap: admin > manager > member > reader.
func (s *Service) bootRoles(ctx context.Context) (map[string]string, error) {
	ids := map[string]string{}
	for _, name := range []string{"admin", "manager", "member", "reader", "service", "ResellerAdmin"} {
		if r, ok := s.dir.Roles.Unique("name", directory.Name("", name)); ok {
			ids[name] = r.ID
			continue
		}
		r := &directory.Role{ID: directory.NewID(), Name: name}
		if name != "ResellerAdmin" { // as keystone-manage bootstrap --immutable-roles, its default
			r.Options = map[string]any{"immutable": true}
		}
		if err := s.dir.Write(ctx, func(tx *store.Tx) error { return s.dir.Roles.TxCreate(tx, r) }); err != nil {
			return nil, err
		}
		ids[name] = r.ID
	}
	return ids, s.dir.Write(ctx, func(tx *store.Tx) error {
		for _, pair := range [][2]string{{"admin", "manager"}, {"manager", "member"}, {"member", "reader"}} {
			if err := s.dir.Implied.TxPut(tx, &directory.Implied{Prior: ids[pair[0]], Role: ids[pair[1]]}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) bootUsers(ctx context.Context, opt BootstrapOptions, projects, roles map[string]string) error {
	admin, err := s.bootUser(ctx, "admin", opt.AdminPassword)
	if err != nil {
		return err
	}
	grants := []*directory.Assignment{
		{UserID: admin, ProjectID: projects["admin"], RoleID: roles["admin"]},
		{UserID: admin, DomainID: DefaultDomain, RoleID: roles["admin"]},
		{UserID: admin, System: true, RoleID: roles["admin"]},
	}
	if opt.DemoPassword != "" {
		demo, err := s.bootUser(ctx, "demo", opt.DemoPassword)
		if err != nil {
			return err
		}
		grants = append(grants, &directory.Assignment{UserID: demo, ProjectID: projects["demo"], RoleID: roles["member"]})
	}
	if opt.ServicePassword != "" {
		id, err := s.bootUser(ctx, "strata", opt.ServicePassword)
		if err != nil {
			return err
		}
		grants = append(grants, &directory.Assignment{UserID: id, ProjectID: projects["service"], RoleID: roles["service"]})
	}
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		for _, a := range grants {
			if err := s.dir.Assignments.TxPut(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// bootUser makes a user of the default domain or sets its password, and returns its id.
func (s *Service) bootUser(ctx context.Context, name, secret string) (string, error) {
	if secret == "" {
		return "", errs.Invalidf("the password of user %s is empty", name)
	}
	u, exists := s.dir.Users.Unique("name", directory.Name(DefaultDomain, name))
	if exists && s.hasher.Check(ctx, u.PasswordHash, secret) {
		return u.ID, nil
	}
	hash, err := s.hasher.Hash(ctx, secret)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	if !exists {
		u = &directory.User{ID: directory.NewID(), Name: name, DomainID: DefaultDomain, Enabled: true, PasswordHash: hash, PasswordSince: now}
		return u.ID, s.dir.Write(ctx, func(tx *store.Tx) error { return s.dir.Users.TxCreate(tx, u) })
	}
	return u.ID, s.dir.Write(ctx, func(tx *store.Tx) error {
		_, err := s.dir.Users.TxUpdate(tx, u.ID, func(u *directory.User) error {
			u.PasswordHash, u.PasswordSince, u.Enabled = hash, now, true
			return nil
		})
		return err
	})
}

// defaultServices is the catalog of a region whose APIs hang below one address.
func (s *Service) defaultServices(url func(string) string) []BootstrapService {
	paths := map[string]string{"identity": "/identity", "image": "/image", "placement": "/placement",
		"compute": "/compute/v2.1", "network": "/network"}
	if url == nil {
		url = func(kind string) string { return s.opt.PublicURL + paths[kind] }
	}
	names := [][2]string{{"identity", "keystone"}, {"image", "glance"}, {"placement", "placement"}, {"compute", "nova"}, {"network", "neutron"}}
	var out []BootstrapService
	for _, n := range names {
		if u := url(n[0]); u != "" {
			out = append(out, BootstrapService{Type: n[0], Name: n[1], URL: u})
		}
	}
	return out
}

// EnsureService registers a service with its public, internal and admin
// endpoints, or moves the endpoints of one that exists.
func (s *Service) EnsureService(ctx context.Context, region string, b BootstrapService) error {
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		var svc *directory.Service
		if list := s.dir.Services.TxBy(tx, "type", b.Type); len(list) > 0 {
			svc = list[0]
		} else {
			svc = &directory.Service{ID: directory.NewID(), Type: b.Type, Name: &b.Name, Description: &b.Description, Enabled: true}
			if err := s.dir.Services.TxCreate(tx, svc); err != nil {
				return err
			}
		}
		have := map[string]*directory.Endpoint{}
		for _, e := range s.dir.Endpoints.TxBy(tx, "service", svc.ID) {
			if e.RegionID == region {
				have[e.Interface] = e
			}
		}
		for _, iface := range []string{"public", "internal", "admin"} {
			e := directory.Endpoint{ID: directory.NewID(), ServiceID: svc.ID, RegionID: region, Interface: iface, Enabled: true}
			if old := have[iface]; old != nil {
				if old.URL == b.URL {
					continue
				}
				e = *old
			}
			e.URL = b.URL
			if err := s.dir.Endpoints.TxPut(tx, &e); err != nil {
				return err
			}
		}
		return nil
	})
}
