package identity

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/identity/directory"
)

// step is one request and the status that keystone gives.
type step struct {
	method, path, body string
	status             int
}

// run does the steps; %s in path and body is replaced by ids in turn.
func (c *cloud) run(tok string, steps []step, ids ...any) {
	c.t.Helper()
	fill := func(s string) string {
		if strings.Contains(s, "%") {
			return fmt.Sprintf(s, ids...)
		}
		return s
	}
	for _, s := range steps {
		c.do(s.method, fill(s.path), tok, fill(s.body)).want(s.status)
	}
}

func TestDomains(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	d := c.do("POST", "/domains", tok, `{"domain":{"name":"acme","description":"d","color":"red"}}`).want(201)
	id := d.id("domain")
	if d.at("domain", "color") != "red" || d.at("domain", "links", "self") != c.url+"/v3/domains/"+id {
		t.Errorf("%v", d.body)
	}
	c.run(tok, []step{
		{"POST", "/domains", `{"domain":{"name":"acme"}}`, 409},
		{"POST", "/domains", `{"domain":{}}`, 400},
		{"POST", "/domains", `{"domain":{"name":""}}`, 400},
		{"POST", "/domains", `{"domain":{"name":"x","enabled":"maybe"}}`, 400},
		{"POST", "/domains", `{"domain":{"name":"` + strings.Repeat("x", 65) + `"}}`, 400},
		{"GET", "/domains/%[1]s", ``, 200},
		{"GET", "/projects/%[1]s", ``, 200},
		{"GET", "/domains/none", ``, 404},
		{"DELETE", "/domains/%[1]s", ``, 403},
		{"PATCH", "/domains/%[1]s", `{"domain":{"enabled":false}}`, 200},
		{"DELETE", "/domains/default", ``, 403},
	}, id)
	// All that is in a domain goes with it.
	u := c.do("POST", "/users", tok, `{"user":{"name":"u","domain_id":"`+id+`","password":"p"}}`).want(201).id("user")
	g := c.do("POST", "/groups", tok, `{"group":{"name":"g","domain_id":"`+id+`"}}`).want(201).id("group")
	c.do("PUT", "/groups/"+g+"/users/"+u, tok, "").want(204)
	c.do("POST", "/roles", tok, `{"role":{"name":"r","domain_id":"`+id+`"}}`).want(201)
	before := c.svc.dir.Assignments.Len()
	reader, _ := c.svc.dir.Roles.Unique("name", directory.Name("", "reader"))
	c.do("PUT", "/domains/"+id+"/users/"+u+"/roles/"+reader.ID, tok, "").want(204)
	c.do("PUT", "/projects/"+c.project("demo")+"/groups/"+g+"/roles/"+reader.ID, tok, "").want(204)
	c.do("DELETE", "/domains/"+id, tok, "").want(204)
	c.run(tok, []step{{"GET", "/users/%s", "", 404}}, u)
	c.run(tok, []step{{"GET", "/groups/%s", "", 404}}, g)
	if n := c.svc.dir.Assignments.Len(); n != before {
		t.Errorf("%d assignments are left over", n-before)
	}
	if c.svc.dir.Members.Len() != 0 || c.svc.dir.Roles.Len() != 6 {
		t.Error("memberships or domain roles are left over")
	}
}

// project gives the id of a project of the default domain.
func (c *cloud) project(name string) string {
	c.t.Helper()
	p, ok := c.svc.ProjectNamed(DefaultDomain, name)
	if !ok {
		c.t.Fatalf("no project %s", name)
	}
	return p.ID
}

func (c *cloud) roleID(name string) string {
	c.t.Helper()
	r, ok := c.svc.dir.Roles.Unique("name", directory.Name("", name))
	if !ok {
		c.t.Fatalf("no role %s", name)
	}
	return r.ID
}

func (c *cloud) userID(name string) string {
	c.t.Helper()
	u, ok := c.svc.dir.Users.Unique("name", directory.Name(DefaultDomain, name))
	if !ok {
		c.t.Fatalf("no user %s", name)
	}
	return u.ID
}

func TestProjects(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	top := c.do("POST", "/projects", tok, `{"project":{"name":"top","tags":["a","b"]}}`).want(201)
	id := top.id("project")
	if top.at("project", "parent_id") != "default" || top.at("project", "domain_id") != "default" || top.at("project", "is_domain") != false {
		t.Errorf("%v", top.body)
	}
	child := c.do("POST", "/projects", tok, `{"project":{"name":"child","parent_id":"`+id+`"}}`).want(201).id("project")
	c.run(tok, []step{
		{"POST", "/projects", `{"project":{"name":"top"}}`, 409},
		{"POST", "/projects", `{"project":{"name":"x","parent_id":"none"}}`, 400},
		{"POST", "/projects", `{"project":{"name":"x","domain_id":"none"}}`, 400},
		{"POST", "/projects", `{"project":{"name":"x","tags":["a,b"]}}`, 400},
		{"DELETE", "/projects/%[1]s", "", 403},
		{"PATCH", "/projects/%[1]s", `{"project":{"enabled":false}}`, 403},
		{"PATCH", "/projects/%[2]s", `{"project":{"parent_id":"default"}}`, 403},
		{"PATCH", "/projects/%[2]s", `{"project":{"domain_id":"other"}}`, 400},
		{"PATCH", "/projects/%[2]s", `{"project":{"is_domain":true}}`, 400},
		{"PATCH", "/projects/%[2]s", `{"project":{"description":null,"mood":"fine"}}`, 200},
		{"PUT", "/projects/%[1]s/tags/c", "", 201},
		{"GET", "/projects/%[1]s/tags/c", "", 204},
		{"GET", "/projects/%[1]s/tags/z", "", 404},
		{"DELETE", "/projects/%[1]s/tags/a", "", 204},
		{"PUT", "/projects/%[1]s/tags", `{"tags":["x","x"]}`, 400},
	}, id, child)
	if got := c.do("GET", "/projects/"+id+"/tags", tok, "").want(200).at("tags"); fmt.Sprint(got) != "[b c]" {
		t.Errorf("tags %v", got)
	}
	if got := c.do("GET", "/projects?tags=b,c", tok, "").column("projects", "name"); !slices.Equal(got, []string{"top"}) {
		t.Errorf("with tags b and c: %v", got)
	}
	if got := c.do("GET", "/projects?not-tags-any=b&name__startswith=t", tok, "").column("projects", "name"); len(got) != 0 {
		t.Errorf("without tag b: %v", got)
	}
	up := c.do("GET", "/projects/"+child+"?parents_as_ids", tok, "").want(200)
	if up.at("project", "parents", id, "default") != nil || up.at("project", "mood") != "fine" {
		t.Errorf("%v", up.body)
	}
	down := c.do("GET", "/projects/"+id+"?subtree_as_ids", tok, "").want(200).at("project", "subtree").(map[string]any)
	if _, ok := down[child]; !ok {
		t.Errorf("%v", down)
	}
	// Five levels, and no more.
	last := child
	for i := 3; i <= directory.MaxDepth; i++ {
		last = c.do("POST", "/projects", tok, fmt.Sprintf(`{"project":{"name":"l%d","parent_id":"%s"}}`, i, last)).want(201).id("project")
	}
	c.do("POST", "/projects", tok, `{"project":{"name":"deep","parent_id":"`+last+`"}}`).want(403)
	c.do("PATCH", "/projects/"+last, tok, `{"project":{"options":{"immutable":true}}}`).want(200)
	c.do("DELETE", "/projects/"+last, tok, "").want(403)
	c.do("PATCH", "/projects/"+last, tok, `{"project":{"options":{"immutable":false}}}`).want(200)
	c.do("DELETE", "/projects/"+last, tok, "").want(204)
}

func TestProjectsOfTenants(t *testing.T) {
	c := newCloud(t)
	demo := c.demo()
	c.run(demo, []step{
		{"GET", "/projects", "", 403},
		{"GET", "/projects/%[1]s", "", 200},
		{"GET", "/projects/%[2]s", "", 403},
		{"POST", "/projects", `{"project":{"name":"mine"}}`, 403},
		{"PATCH", "/projects/%[1]s", `{"project":{"name":"mine"}}`, 403},
		{"DELETE", "/projects/%[1]s", "", 403},
		{"GET", "/users/%[3]s", "", 200},
		{"GET", "/users/%[4]s", "", 403},
		{"GET", "/users", "", 403},
		{"GET", "/users/none", "", 403},
		{"GET", "/users/%[3]s/projects", "", 200},
		{"GET", "/users/%[4]s/projects", "", 403},
		{"GET", "/role_assignments", "", 403},
		{"GET", "/roles", "", 403},
		{"GET", "/services", "", 403},
		{"GET", "/regions", "", 200},
		{"PUT", "/projects/%[1]s/users/%[3]s/roles/%[5]s", "", 403},
		{"GET", "/users/%[4]s/application_credentials", "", 403},
		{"GET", "/users/%[4]s/credentials/OS-EC2", "", 403},
	}, c.project("demo"), c.project("admin"), c.userID("demo"), c.userID("admin"), c.roleID("admin"))
}

func TestUsers(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	u := c.do("POST", "/users", tok, `{"user":{"name":"eve","password":"one","email":"e@x","default_project_id":"`+c.project("demo")+`"}}`).want(201)
	id := u.id("user")
	if u.at("user").(map[string]any)["password"] != nil || u.at("user", "email") != "e@x" || u.at("user", "enabled") != true {
		t.Errorf("%v", u.body)
	}
	c.run(tok, []step{
		{"POST", "/users", `{"user":{"name":"eve"}}`, 409},
		{"POST", "/users", `{"user":{"name":"x","domain_id":"none"}}`, 404},
		{"POST", "/users", `{"user":{"name":"x","default_project_id":"default"}}`, 400},
		{"POST", "/users", `{"user":{"name":"x","options":{"nonsense":1}}}`, 400},
		{"POST", "/users", `{"user":{"name":"` + strings.Repeat("x", 256) + `"}}`, 400},
		{"POST", "/users", `{"nobody":{}}`, 400},
		{"PATCH", "/users/%[1]s", `{"user":{"domain_id":"x"}}`, 400},
		{"PATCH", "/users/none", `{"user":{"name":"y"}}`, 404},
		{"GET", "/users/%[1]s", "", 200},
		{"HEAD", "/users/%[1]s", "", 200},
	}, id)
	if got := c.do("GET", "/users?name=eve", tok, "").column("users", "id"); !slices.Equal(got, []string{id}) {
		t.Errorf("by name: %v", got)
	}
	if got := c.do("GET", "/users?enabled=false", tok, "").column("users", "id"); len(got) != 0 {
		t.Errorf("disabled: %v", got)
	}
	page := c.do("GET", "/users?limit=2", tok, "").want(200)
	if next, _ := page.at("links", "next").(string); len(page.column("users", "id")) != 2 || !strings.Contains(next, "marker=") {
		t.Errorf("a page: %v", page.body)
	}
	unscoped := c.login("eve", "one", "")
	if v := c.do("GET", "/auth/tokens", unscoped, "", "X-Subject-Token", unscoped).want(200).at("token").(map[string]any); v["project"] != nil {
		t.Error("the default project is used without a role on it")
	}
	// A password change voids tokens and the former password.
	c.do("POST", "/users/"+id+"/password", "", `{"user":{"password":"two","original_password":"wrong"}}`).want(401)
	c.do("POST", "/users/none/password", "", `{"user":{"password":"two","original_password":"wrong"}}`).want(401)
	c.do("POST", "/users/"+id+"/password", "", `{"user":{"password":"two","original_password":"one"}}`).want(204)
	c.do("GET", "/auth/projects", unscoped, "").want(401)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "one", "")).want(401)
	second := c.login("eve", "two", "")
	// So does disabling, for good, and enabling does not bring tokens back.
	c.do("PATCH", "/users/"+id, tok, `{"user":{"enabled":false}}`).want(200)
	c.do("GET", "/auth/projects", second, "").want(401)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "two", "")).want(401)
	c.do("PATCH", "/users/"+id, tok, `{"user":{"enabled":true}}`).want(200)
	c.do("GET", "/auth/projects", second, "").want(401)
	third := c.login("eve", "two", "")
	c.do("DELETE", "/users/"+id, tok, "").want(204)
	c.do("GET", "/auth/projects", third, "").want(401)
	c.do("DELETE", "/users/"+id, tok, "").want(404)
}

func TestGrantsInTokens(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	eve := c.do("POST", "/users", tok, `{"user":{"name":"eve","password":"pw"}}`).want(201).id("user")
	group := c.do("POST", "/groups", tok, `{"group":{"name":"g"}}`).want(201).id("group")
	demo, member := c.project("demo"), c.roleID("member")
	login := func(status int) string {
		t.Helper()
		return c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", inDemo)).want(status).header.Get("X-Subject-Token")
	}
	login(401)
	for name, grant := range map[string]string{
		"user on project":     "/projects/" + demo + "/users/" + eve + "/roles/" + member,
		"group on project":    "/projects/" + demo + "/groups/" + group + "/roles/" + member,
		"user inherited":      "/OS-INHERIT/domains/default/users/" + eve + "/roles/" + member + "/inherited_to_projects",
		"group inherited":     "/OS-INHERIT/domains/default/groups/" + group + "/roles/" + member + "/inherited_to_projects",
		"membership of group": "/groups/" + group + "/users/" + eve,
	} {
		t.Run(name, func(t *testing.T) {
			onProject := "/projects/" + demo + "/groups/" + group + "/roles/" + member
			if name == "membership of group" {
				c.do("PUT", onProject, tok, "").want(204)
				c.do("DELETE", grant, tok, "") // an earlier case may have left it
			} else {
				c.do("DELETE", onProject, tok, "")
				c.do("PUT", "/groups/"+group+"/users/"+eve, tok, "").want(204)
			}
			c.do("GET", grant, tok, "").want(404)
			c.do("PUT", grant, tok, "").want(204)
			c.do("PUT", grant, tok, "").want(204)
			c.do("HEAD", grant, tok, "").want(204)
			got := login(201)
			c.do("GET", "/projects/"+demo, got, "").want(200)
			c.do("DELETE", grant, tok, "").want(204)
			// A role that is gone is gone from tokens in use.
			c.do("GET", "/projects/"+demo, got, "").want(401)
			login(401)
			c.do("DELETE", grant, tok, "").want(404)
		})
	}
	c.do("DELETE", "/projects/"+demo+"/groups/"+group+"/roles/"+member, tok, "")
	// A domain's own inherited role is not one on the domain.
	inherited := "/OS-INHERIT/domains/default/users/" + eve + "/roles/" + member + "/inherited_to_projects"
	c.do("PUT", inherited, tok, "").want(204)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", inDomain)).want(401)
	c.run(tok, []step{
		{"PUT", "/projects/none/users/%[1]s/roles/%[2]s", "", 404},
		{"PUT", "/projects/%[3]s/users/none/roles/%[2]s", "", 404},
		{"PUT", "/projects/%[3]s/users/%[1]s/roles/none", "", 404},
		{"PUT", "/system/users/%[1]s/roles/%[2]s", "", 204},
		{"GET", "/system/users/%[1]s/roles", "", 200},
		{"DELETE", "/system/users/%[1]s/roles/%[2]s", "", 204},
		{"GET", "/system/users/%[1]s/roles/%[2]s", "", 404},
	}, eve, member, demo)
}

func TestRoleAssignments(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	eve := c.do("POST", "/users", tok, `{"user":{"name":"eve","password":"pw"}}`).want(201).id("user")
	group := c.do("POST", "/groups", tok, `{"group":{"name":"g"}}`).want(201).id("group")
	c.do("PUT", "/groups/"+group+"/users/"+eve, tok, "").want(204)
	demo, member := c.project("demo"), c.roleID("member")
	c.do("PUT", "/projects/"+demo+"/groups/"+group+"/roles/"+member, tok, "").want(204)
	c.do("PUT", "/OS-INHERIT/domains/default/users/"+eve+"/roles/"+member+"/inherited_to_projects", tok, "").want(204)
	count := func(query string) int {
		t.Helper()
		return len(c.do("GET", "/role_assignments?"+query, tok, "").want(200).at("role_assignments").([]any))
	}
	for query, want := range map[string]int{
		"user.id=" + eve:                                             1, // the inherited one, on the domain
		"group.id=" + group:                                          1,
		"user.id=" + eve + "&effective":                              8, // member and reader, by inheritance on 3 projects and by the group on one
		"user.id=" + eve + "&effective&role.id=" + member:            4,
		"user.id=" + eve + "&effective&scope.project.id=" + demo:     4,
		"scope.project.id=" + demo:                                   2,
		"scope.system=all":                                           1,
		"user.id=" + eve + "&scope.OS-INHERIT:inherited_to=projects": 1,
		"user.id=" + eve + "&scope.domain.id=default":                1,
		"scope.project.id=default&include_subtree&effective&user.id=" + c.userID("demo"): 2,
	} {
		if got := count(query); got != want {
			t.Errorf("%s: got %d, want %d", query, got, want)
		}
	}
	named := c.do("GET", "/role_assignments?include_names&group.id="+group, tok, "").want(200)
	if named.at("role_assignments", 0, "group", "domain", "name") != "Default" || named.at("role_assignments", 0, "scope", "project", "name") != "demo" ||
		named.at("role_assignments", 0, "role", "name") != "member" {
		t.Errorf("%v", named.body)
	}
	c.run(tok, []step{
		{"GET", "/role_assignments?user.id=a&group.id=b", "", 400},
		{"GET", "/role_assignments?scope.project.id=a&scope.domain.id=b", "", 400},
		{"GET", "/role_assignments?effective&group.id=a", "", 400},
		{"GET", "/role_assignments?include_subtree", "", 400},
	})
}

func TestImpliedRoles(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	a := c.do("POST", "/roles", tok, `{"role":{"name":"a"}}`).want(201).id("role")
	d := c.do("POST", "/roles", tok, `{"role":{"name":"d","domain_id":"default"}}`).want(201).id("role")
	member := c.roleID("member")
	c.run(tok, []step{
		{"PUT", "/roles/%[1]s/implies/%[2]s", "", 201},
		{"GET", "/roles/%[1]s/implies/%[2]s", "", 200},
		{"HEAD", "/roles/%[1]s/implies/%[2]s", "", 204},
		{"PUT", "/roles/%[1]s/implies/%[3]s", "", 403},
		{"PUT", "/roles/%[1]s/implies/%[4]s", "", 403},
		{"PUT", "/roles/%[4]s/implies/%[1]s", "", 201},
		{"PUT", "/roles/%[1]s/implies/none", "", 404},
		{"PUT", "/projects/%[6]s/users/%[5]s/roles/%[4]s", "", 204},
		{"PATCH", "/roles/%[3]s", `{"role":{"name":"root"}}`, 403},
		{"DELETE", "/roles/%[3]s", "", 403},
	}, a, member, c.roleID("admin"), d, c.userID("admin"), c.project("demo"))
	// The domain role gives what it implies, and does not show itself.
	var names []string
	for _, r := range c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", inDemo)).want(201).at("token", "roles").([]any) {
		names = append(names, r.(map[string]any)["name"].(string))
	}
	if !slices.Equal(names, []string{"a", "member", "reader"}) {
		t.Errorf("roles %v", names)
	}
	if n := len(c.do("GET", "/role_inferences", tok, "").want(200).at("role_inferences").([]any)); n != 5 {
		t.Errorf("%d inference rules", n)
	}
	if got := c.do("GET", "/roles?domain_id=default", tok, "").column("roles", "name"); !slices.Equal(got, []string{"d"}) {
		t.Errorf("domain roles: %v", got)
	}
	c.run(tok, []step{{"DELETE", "/roles/%[1]s/implies/%[2]s", "", 204}, {"DELETE", "/roles/%[1]s/implies/%[2]s", "", 404}, {"DELETE", "/roles/%[1]s", "", 204}}, a, member)
}
