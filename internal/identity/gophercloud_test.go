package identity

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

// client logs in with gophercloud and finds identity as any client does.
func (c *cloud) client(opt gophercloud.AuthOptions) *gophercloud.ServiceClient {
	c.t.Helper()
	opt.IdentityEndpoint = c.url + "/identity/v3"
	p, err := openstack.AuthenticatedClient(c.t.Context(), opt)
	must(c.t, err)
	id, err := openstack.NewIdentityV3(p, gophercloud.EndpointOpts{})
	must(c.t, err)
	id.Endpoint = c.url + "/identity/v3/" // the catalog names the public address
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGophercloud(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	admin := c.client(gophercloud.AuthOptions{Username: "admin", Password: "admin-pw", DomainID: "default", TenantName: "admin"})

	p, err := projects.Create(ctx, admin, projects.CreateOpts{Name: "lab", DomainID: "default", Tags: []string{"x"}}).Extract()
	must(t, err)
	on := false
	p, err = projects.Update(ctx, admin, p.ID, projects.UpdateOpts{Enabled: &on}).Extract()
	must(t, err)
	if p.Enabled {
		t.Error("the project is still enabled")
	}
	on = true
	_, err = projects.Update(ctx, admin, p.ID, projects.UpdateOpts{Enabled: &on}).Extract()
	must(t, err)

	u, err := users.Create(ctx, admin, users.CreateOpts{Name: "ann", DomainID: "default", Password: "pw", DefaultProjectID: p.ID,
		Options: map[users.Option]any{users.IgnorePasswordExpiry: true}, Extra: map[string]any{"email": "ann@example.org"}}).Extract()
	must(t, err)
	if u.Extra["email"] != "ann@example.org" || u.Options["ignore_password_expiry"] != true {
		t.Errorf("%+v", u)
	}
	g, err := groups.Create(ctx, admin, groups.CreateOpts{Name: "team", DomainID: "default"}).Extract()
	must(t, err)
	must(t, users.AddToGroup(ctx, admin, g.ID, u.ID).ExtractErr())
	in, err := users.IsMemberOfGroup(ctx, admin, g.ID, u.ID).Extract()
	must(t, err)
	if !in {
		t.Error("not a member")
	}
	must(t, roles.Assign(ctx, admin, c.roleID("member"), roles.AssignOpts{GroupID: g.ID, ProjectID: p.ID}).ExtractErr())
	pages, err := roles.ListAssignments(admin, roles.ListAssignmentsOpts{UserID: u.ID, Effective: ptr(true), IncludeNames: ptr(true)}).AllPages(ctx)
	must(t, err)
	list, err := roles.ExtractRoleAssignments(pages)
	must(t, err)
	if len(list) != 2 || list[0].Scope.Project.Name != "lab" {
		t.Errorf("%+v", list)
	}

	ann := c.client(gophercloud.AuthOptions{Username: "ann", Password: "pw", DomainID: "default"})
	scoped, err := tokens.Get(ctx, ann, ann.Token()).ExtractProject()
	must(t, err)
	if scoped == nil || scoped.ID != p.ID {
		t.Errorf("the default project is not used: %+v", scoped)
	}
	cred, err := applicationcredentials.Create(ctx, ann, u.ID, applicationcredentials.CreateOpts{Name: "ci"}).Extract()
	must(t, err)
	robot := c.client(gophercloud.AuthOptions{ApplicationCredentialID: cred.ID, ApplicationCredentialSecret: cred.Secret})
	if _, err = projects.Get(ctx, robot, p.ID).Extract(); err != nil {
		t.Error(err)
	}
	if _, err = projects.List(robot, nil).AllPages(ctx); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("a member lists projects: %v", err)
	}

	s, err := services.Create(ctx, admin, services.CreateOpts{Type: "dns", Extra: map[string]any{"name": "designate"}}).Extract()
	must(t, err)
	e, err := endpoints.Create(ctx, admin, endpoints.CreateOpts{Availability: gophercloud.AvailabilityPublic, Name: "dns", Region: "RegionOne", URL: "http://dns", ServiceID: s.ID}).Extract()
	must(t, err)
	must(t, endpoints.Delete(ctx, admin, e.ID).ExtractErr())
	must(t, services.Delete(ctx, admin, s.ID).ExtractErr())

	must(t, tokens.Revoke(ctx, ann, ann.Token()).Err)
	if ok, err := tokens.Validate(ctx, admin, ann.Token()); ok || err != nil {
		t.Errorf("a revoked token: %v %v", ok, err)
	}
	must(t, users.Delete(ctx, admin, u.ID).ExtractErr())
	must(t, groups.Delete(ctx, admin, g.ID).ExtractErr())
	must(t, projects.Delete(ctx, admin, p.ID).ExtractErr())
}

func ptr[T any](v T) *T { return &v }
