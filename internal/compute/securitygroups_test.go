package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/securitygroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
)

// fakeGroups plays the network service's security groups: three a project at most.
type fakeGroups struct {
	groups []securitygroup.Group
	made   int
	last   securitygroup.NewRule
}

func newGroups() *fakeGroups { return &fakeGroups{} }

func (f *fakeGroups) id() string {
	f.made++
	return fmt.Sprintf("33333333-3333-4333-8333-%012d", f.made)
}

func (f *fakeGroups) Describe(_ context.Context, ids []string) ([]securitygroup.Group, error) {
	var out []securitygroup.Group
	for _, id := range ids {
		out = append(out, securitygroup.Group{ID: id, Name: strings.TrimPrefix(id, "sg-"), ProjectID: project1,
			Rules: []securitygroup.Rule{{ID: "r1", Protocol: "tcp", CIDR: "0.0.0.0/0"}}})
	}
	return out, nil
}

func (f *fakeGroups) List(_ context.Context, r *rest.Request, all bool) ([]securitygroup.Group, error) {
	return slices.DeleteFunc(slices.Clone(f.groups), func(g securitygroup.Group) bool { return !all && g.ProjectID != r.Creds.ProjectID }), nil
}

func (f *fakeGroups) at(r *rest.Request, id string) (int, error) {
	i := slices.IndexFunc(f.groups, func(g securitygroup.Group) bool { return g.ID == id && g.ProjectID == r.Creds.ProjectID })
	if i < 0 {
		return 0, errs.NotFoundf("Security group %s does not exist", id)
	}
	return i, nil
}

func (f *fakeGroups) Get(_ context.Context, r *rest.Request, id string) (*securitygroup.Group, error) {
	i, err := f.at(r, id)
	if err != nil {
		return nil, err
	}
	return &f.groups[i], nil
}

func (f *fakeGroups) Create(_ context.Context, r *rest.Request, name, description string) (*securitygroup.Group, error) {
	if len(f.groups) == 3 {
		return nil, errs.New(errs.QuotaExceeded, "Quota exceeded for resources: ['security_group'].")
	}
	if name == "default" {
		return nil, errs.Conflictf("Default security group already exists.")
	}
	f.groups = append(f.groups, securitygroup.Group{ID: f.id(), Name: name, Description: description, ProjectID: r.Creds.ProjectID})
	return &f.groups[len(f.groups)-1], nil
}

func (f *fakeGroups) Update(_ context.Context, r *rest.Request, id, name, description string) (*securitygroup.Group, error) {
	i, err := f.at(r, id)
	if err != nil {
		return nil, err
	}
	f.groups[i].Name, f.groups[i].Description = name, description
	return &f.groups[i], nil
}

func (f *fakeGroups) Delete(_ context.Context, r *rest.Request, id string) error {
	i, err := f.at(r, id)
	if err != nil {
		return err
	}
	if f.groups[i].Name == "used" {
		return errs.Conflictf("Security Group %s in use.", id)
	}
	f.groups = slices.Delete(f.groups, i, i+1)
	return nil
}

func (f *fakeGroups) AddRule(_ context.Context, r *rest.Request, n securitygroup.NewRule) (*securitygroup.Rule, error) {
	i, err := f.at(r, n.Group)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(n, f.last) {
		return nil, errs.Coded(errs.Conflict, "SecurityGroupRuleExists", "Security group rule already exists.")
	}
	f.last = n
	v := securitygroup.Rule{ID: f.id(), Protocol: n.Protocol, FromPort: n.FromPort, ToPort: n.ToPort, CIDR: n.CIDR}
	if n.RemoteGroup != "" {
		v.RemoteGroup, v.RemoteGroupOwner = f.groups[i].Name, f.groups[i].ProjectID
	}
	f.groups[i].Rules = append(f.groups[i].Rules, v)
	return &v, nil
}

func (f *fakeGroups) DropRule(_ context.Context, _ *rest.Request, id string) error {
	for i := range f.groups {
		if j := slices.IndexFunc(f.groups[i].Rules, func(v securitygroup.Rule) bool { return v.ID == id }); j >= 0 {
			f.groups[i].Rules = slices.Delete(f.groups[i].Rules, j, j+1)
			return nil
		}
	}
	return errs.NotFoundf("Security group rule %s does not exist", id)
}

func TestSecurityGroups(t *testing.T) {
	c := newClient(t, "h1")
	const at = "/os-security-groups"
	made := c.do("member", "POST", at, `{"security_group":{"name":"web","description":"d"}}`).want(200).is("web", "security_group", "name").is(project1, "security_group", "tenant_id")
	id := made.at("security_group", "id").(string)
	c.do("member", "PUT", at+"/"+id, `{"security_group":{"name":"www","description":""}}`).want(200).is("www", "security_group", "name")
	c.do("member", "GET", at, "").want(200).count(1, "security_groups")
	c.do("member", "GET", at+"?offset=1", "").want(200).count(0, "security_groups")
	c.do("other", "GET", at+"/"+id, "").want(404)

	rule := func(more string) *answer {
		return c.do("member", "POST", "/os-security-group-rules", `{"security_group_rule":{"parent_group_id":"`+id+`",`+more+`}}`)
	}
	ssh := rule(`"ip_protocol":"tcp","from_port":22,"to_port":"22"`).want(200).is("0.0.0.0/0", "security_group_rule", "ip_range", "cidr").is(22.0, "security_group_rule", "to_port")
	rule(`"ip_protocol":"tcp","from_port":22,"to_port":22`).want(400)
	rule(`"ip_protocol":"icmp","from_port":-1,"to_port":-1,"cidr":"10.2.3.124/24"`).want(200).is(-1.0, "security_group_rule", "from_port").is("10.2.3.124/24", "security_group_rule", "ip_range", "cidr")
	rule(`"ip_protocol":"udp","group_id":"`+id+`"`).want(200).is(1.0, "security_group_rule", "from_port").is(65535.0, "security_group_rule", "to_port").is("www", "security_group_rule", "group", "name")
	for _, bad := range []string{`"ip_protocol":"tcp"`, `"ip_protocol":"gre","from_port":1,"to_port":2`, `"ip_protocol":"tcp","from_port":2,"to_port":1`, `"ip_protocol":"tcp","from_port":0,"to_port":1`,
		`"ip_protocol":"tcp","from_port":1,"to_port":65536`, `"ip_protocol":"icmp","from_port":256,"to_port":-1`, `"ip_protocol":"tcp","from_port":"x","to_port":1`,
		`"ip_protocol":"tcp","from_port":1,"to_port":1,"cidr":"10.0.0.0/33"`, `"ip_protocol":"tcp","from_port":1,"to_port":1,"cidr":"10.0.0.0/0"`, `"group_id":"x"`, `"from_port":true`} {
		rule(bad).want(400)
	}
	c.do("member", "GET", at+"/"+id, "").want(200).count(3, "security_group", "rules")
	c.do("member", "DELETE", "/os-security-group-rules/"+ssh.at("security_group_rule", "id").(string), "").want(202)
	c.do("member", "DELETE", "/os-security-group-rules/"+imageID, "").want(404)
	c.do("member", "DELETE", at+"/"+id, "").want(202)
	c.do("member", "GET", at+"/"+id, "").want(404)
	c.do("member", "GET", at+"/7", "").want(400)
}

func TestSecurityGroupRefusals(t *testing.T) {
	c := newClient(t, "h1")
	const at = "/os-security-groups"
	for body, status := range map[string]int{`{}`: 400, `{"security_group":{"name":"n"}}`: 400, `{"security_group":{"name":7,"description":""}}`: 400,
		`{"security_group":{"name":"` + strings.Repeat("n", 256) + `","description":""}}`: 400, `{"security_group":{"name":"default","description":""}}`: 403} {
		c.do("member", "POST", at, body).want(status)
	}
	for range 3 {
		c.do("member", "POST", at, `{"security_group":{"name":"used","description":""}}`).want(200)
	}
	c.do("member", "POST", at, `{"security_group":{"name":"n","description":""}}`).want(403)
	id := c.do("member", "GET", at+"?limit=1", "").want(200).count(1, "security_groups").at("security_groups", 0, "id").(string)
	c.do("member", "DELETE", at+"/"+id, "").want(400)
	c.do("reader", "DELETE", at+"/"+id, "").want(403)
	c.do("member@2.36", "GET", at, "").want(404)
}

// TestLegacy holds the older name of the API to be deaf to microversions, and every
// listed version to answer at its own link.
func TestLegacy(t *testing.T) {
	w := newWorld(t, saga.Options{}, "h1")
	srv := httptest.NewServer(w.handler())
	t.Cleanup(srv.Close)
	c := &client{w, srv.URL}
	get := func(url string) (*http.Response, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", "member")
		req.Header.Set("OpenStack-API-Version", "compute 2.90")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body := map[string]any{}
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	_, body := get(c.url + "/compute/")
	var ids []string
	for _, v := range body["versions"].([]any) {
		v := v.(map[string]any)
		ids = append(ids, v["id"].(string))
		link := v["links"].([]any)[0].(map[string]any)["href"].(string)
		_, one := get(link)
		if got := one["version"].(map[string]any); got["id"] != v["id"] || got["links"].([]any)[0].(map[string]any)["href"] != link {
			t.Errorf("%s answers %v", link, got)
		}
	}
	if !slices.Equal(ids, []string{"v2.0", "v2.1"}) {
		t.Errorf("the versions are %v", ids)
	}
	resp, body := get(c.url + "/compute/v2/flavors/detail")
	if _, new := body["flavors"].([]any)[0].(map[string]any)["description"]; new || resp.StatusCode != 200 || resp.Header.Get("OpenStack-API-Version") != "" {
		t.Errorf("the old name speaks a new version: %d %v %v", resp.StatusCode, resp.Header, body)
	}
}
