package identity

import (
	"strings"
	"testing"
	"time"
)

func byAppCred(id, secret string) string {
	return `{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"` + id + `","secret":"` + secret + `"}}}}`
}

func TestApplicationCredentials(t *testing.T) {
	c := newCloud(t)
	demo, path := c.demo(), "/users/"+c.userID("demo")+"/application_credentials"
	made := c.do("POST", path, demo, `{"application_credential":{"name":"ci","roles":[{"name":"reader"}]}}`).want(201)
	id, secret := made.id("application_credential"), made.at("application_credential", "secret").(string)
	if shown := c.do("GET", path+"/"+id, demo, "").want(200).at("application_credential").(map[string]any); shown["secret"] != nil || shown["unrestricted"] != false {
		t.Errorf("%v", shown)
	}
	c.run(demo, []step{
		{"POST", path, `{"application_credential":{"name":"ci"}}`, 409},
		{"POST", path, `{"application_credential":{"name":"x","roles":[{"name":"admin"}]}}`, 400},
		{"POST", path, `{"application_credential":{"name":"x","expires_at":"2001-01-01T00:00:00"}}`, 400},
		{"POST", path, `{"application_credential":{}}`, 400},
		{"POST", "/users/" + c.userID("admin") + "/application_credentials", `{"application_credential":{"name":"x"}}`, 403},
	})
	c.do("POST", "/auth/tokens", "", byAppCred(id, "wrong")).want(401)
	c.do("POST", "/auth/tokens", "", byAppCred("none", secret)).want(401)
	c.do("POST", "/auth/tokens", "", strings.Replace(byAppCred(id, secret), `}}}}`, `}},"scope":`+inDemo+`}}`, 1)).want(401)
	a := c.do("POST", "/auth/tokens", "", byAppCred(id, secret)).want(201)
	tok := a.header.Get("X-Subject-Token")
	if a.at("token", "application_credential", "restricted") != true || a.at("token", "project", "name") != "demo" || len(a.at("token", "roles").([]any)) != 1 {
		t.Errorf("%v", a.body)
	}
	// It can neither breed nor leave its project.
	c.do("POST", path, tok, `{"application_credential":{"name":"child"}}`).want(403)
	c.do("DELETE", path+"/"+id, tok, "").want(403)
	c.do("POST", "/users/"+c.userID("demo")+"/credentials/OS-EC2", tok, `{"tenant_id":"`+c.project("demo")+`"}`).want(403)
	c.do("POST", "/auth/tokens", "", byToken(tok, inDemo)).want(403)
	again := c.do("POST", "/auth/tokens", "", byToken(tok, "")).want(201)
	if again.at("token", "application_credential", "id") != id {
		t.Error("a token of a token has lost the credential")
	}
	c.do("DELETE", path+"/"+id, demo, "").want(204)
	c.do("GET", "/auth/projects", tok, "").want(401)
	c.do("POST", "/auth/tokens", "", byAppCred(id, secret)).want(401)
}

func TestApplicationCredentialGoesWithTheRole(t *testing.T) {
	c := newCloud(t)
	made := c.do("POST", "/users/"+c.userID("demo")+"/application_credentials", c.demo(), `{"application_credential":{"name":"ci"}}`).want(201)
	body := byAppCred(made.id("application_credential"), made.at("application_credential", "secret").(string))
	tok := c.do("POST", "/auth/tokens", "", body).want(201).header.Get("X-Subject-Token")
	grant := "/projects/" + c.project("demo") + "/users/" + c.userID("demo") + "/roles/" + c.roleID("member")
	c.do("DELETE", grant, c.admin(), "").want(204)
	c.do("GET", "/auth/projects", tok, "").want(401)
	c.do("PUT", grant, c.admin(), "").want(204)
	c.do("POST", "/auth/tokens", "", body).want(401)
}

func TestAccessRules(t *testing.T) {
	c := newCloud(t)
	demo, user := c.demo(), "/users/"+c.userID("demo")
	made := c.do("POST", user+"/application_credentials", demo, `{"application_credential":{"name":"narrow","access_rules":[
		{"service":"identity","method":"GET","path":"/v3/projects/{project_id}"}]}}`).want(201)
	tok := c.do("POST", "/auth/tokens", "", byAppCred(made.id("application_credential"), made.at("application_credential", "secret").(string))).
		want(201).header.Get("X-Subject-Token")
	for _, prefix := range []string{"/v3", "/identity/v3"} {
		c.do("GET", prefix+"/projects/"+c.project("demo"), tok, "").want(200)
		c.do("GET", prefix+"/projects/"+c.project("demo")+"/tags", tok, "").want(401)
		c.do("GET", prefix+"/auth/projects", tok, "").want(401)
		c.do("GET", prefix+user, tok, "").want(401)
	}
	rule := c.do("GET", user+"/access_rules", demo, "").column("access_rules", "id")[0]
	c.do("DELETE", user+"/access_rules/"+rule, demo, "").want(403)
	c.do("DELETE", user+"/application_credentials/"+made.id("application_credential"), demo, "").want(204)
	c.do("DELETE", user+"/access_rules/"+rule, demo, "").want(204)
}

func TestCredentials(t *testing.T) {
	c := newCloud(t)
	demo, admin, path := c.demo(), c.admin(), "/users/"+c.userID("demo")+"/credentials/OS-EC2"
	key := c.do("POST", path, demo, `{"tenant_id":"`+c.project("demo")+`"}`).want(201)
	access := key.at("credential", "access").(string)
	if secret, user, project, err := c.svc.EC2Secret(access); err != nil || secret != key.at("credential", "secret") || user != c.userID("demo") || project != c.project("demo") {
		t.Errorf("%s %s %s %v", secret, user, project, err)
	}
	c.run(demo, []step{
		{"POST", path, `{}`, 400},
		{"POST", path, `{"tenant_id":"none"}`, 404},
		{"GET", path + "/" + access, "", 200},
		{"GET", path + "/none", "", 404},
		{"POST", "/credentials", `{"credential":{"type":"cert","blob":"x"}}`, 201},
		{"POST", "/credentials", `{"credential":{"type":"cert","blob":"x","user_id":"` + c.userID("admin") + `"}}`, 403},
		{"POST", "/credentials", `{"credential":{"type":"ec2","blob":"x"}}`, 400},
		{"POST", "/credentials", `{"credential":{"type":"cert"}}`, 400},
	})
	other := c.do("POST", "/credentials", admin, `{"credential":{"type":"cert","blob":"secret"}}`).want(201).id("credential")
	if got := c.do("GET", "/credentials", demo, "").column("credentials", "type"); len(got) != 2 {
		t.Errorf("demo sees %v", got)
	}
	c.do("GET", "/credentials/"+other, demo, "").want(403)
	c.do("PATCH", "/credentials/"+other, admin, `{"credential":{"blob":"new"}}`).want(200)
	c.do("DELETE", path+"/"+access, demo, "").want(204)
	if _, _, _, err := c.svc.EC2Secret(access); err == nil {
		t.Error("a deleted key is still good")
	}
}

func TestTrusts(t *testing.T) {
	c := newCloud(t)
	demo, admin := c.demo(), c.admin()
	c.do("POST", "/users", admin, `{"user":{"name":"eve","password":"pw"}}`).want(201)
	eve := c.login("eve", "pw", "")
	body := func(extra string) string {
		return `{"trust":{"trustor_user_id":"` + c.userID("demo") + `","trustee_user_id":"` + c.userID("eve") + `","project_id":"` +
			c.project("demo") + `","roles":[{"name":"member"}],"impersonation":true` + extra + `}}`
	}
	c.run(demo, []step{
		{"POST", "/OS-TRUST/trusts", `{"trust":{}}`, 400},
		{"POST", "/OS-TRUST/trusts", strings.Replace(body(""), "member", "admin", 1), 404},
		{"POST", "/OS-TRUST/trusts", body(`,"expires_at":"2001-01-01T00:00:00Z"`), 400},
		{"POST", "/OS-TRUST/trusts", body(`,"remaining_uses":0`), 400},
	})
	c.do("POST", "/OS-TRUST/trusts", eve, body("")).want(403)
	id := c.do("POST", "/OS-TRUST/trusts", demo, body(`,"remaining_uses":2`)).want(201).id("trust")
	scope := `{"OS-TRUST:trust":{"id":"` + id + `"}}`
	a := c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", scope)).want(201)
	tok := a.header.Get("X-Subject-Token")
	if a.at("token", "user", "id") != c.userID("demo") || a.at("token", "OS-TRUST:trust", "trustee_user", "id") != c.userID("eve") || a.at("token", "project", "name") != "demo" {
		t.Errorf("%v", a.body)
	}
	c.do("GET", "/projects/"+c.project("demo"), tok, "").want(200)
	c.do("POST", "/auth/tokens", "", byToken(tok, inDemo)).want(403)
	c.do("POST", "/users/"+c.userID("demo")+"/application_credentials", tok, `{"application_credential":{"name":"x"}}`).want(403)
	c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", scope)).want(403)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", scope)).want(201)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", scope)).want(401) // used up
	c.do("DELETE", "/OS-TRUST/trusts/"+id, eve, "").want(403)
	c.do("DELETE", "/OS-TRUST/trusts/"+id, demo, "").want(204)
	c.do("GET", "/projects/"+c.project("demo"), tok, "").want(401)

	id = c.do("POST", "/OS-TRUST/trusts", demo, body(`,"expires_at":"`+time.Now().Add(time.Minute).UTC().Format(time.RFC3339)+`"`)).want(201).id("trust")
	scope = `{"OS-TRUST:trust":{"id":"` + id + `"}}`
	tok = c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", scope)).want(201).header.Get("X-Subject-Token")
	c.svc.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	c.do("GET", "/projects/"+c.project("demo"), tok, "").want(401)
	c.do("POST", "/auth/tokens", "", byPassword("eve", "pw", scope)).want(401)
}

func TestCatalogAPI(t *testing.T) {
	c := newCloud(t)
	tok := c.admin()
	svc := c.do("POST", "/services", tok, `{"service":{"type":"object-store","name":"swift"}}`).want(201).id("service")
	ep := `{"endpoint":{"service_id":"` + svc + `","interface":"public","region_id":"RegionOne","url":"%s"}}`
	c.run(tok, []step{
		{"POST", "/services", `{"service":{"name":"x"}}`, 400},
		{"POST", "/endpoints", `{"endpoint":{"service_id":"none","interface":"public","url":"http://x"}}`, 400},
		{"POST", "/endpoints", `{"endpoint":{"service_id":"` + svc + `","interface":"outer","url":"http://x"}}`, 400},
		{"POST", "/regions", `{"region":{"id":"RegionOne"}}`, 409},
		{"PUT", "/regions/two", `{"region":{"parent_region_id":"RegionOne"}}`, 201},
		{"PATCH", "/regions/RegionOne", `{"region":{"parent_region_id":"two"}}`, 400},
		{"DELETE", "/regions/RegionOne", "", 403},
		{"DELETE", "/regions/two", "", 204},
	})
	c.do("POST", "/endpoints", tok, strings.Replace(ep, "%s", "http://x/$(nonsense)s", 1)).want(400)
	id := c.do("POST", "/endpoints", tok, strings.Replace(ep, "%s", "http://x/v1/AUTH_$(project_id)s", 1)).want(201).id("endpoint")
	url := func(scope string) string {
		for _, s := range c.do("POST", "/auth/tokens", "", byPassword("admin", "admin-pw", scope)).want(201).at("token", "catalog").([]any) {
			if m := s.(map[string]any); m["type"] == "object-store" {
				if l := m["endpoints"].([]any); len(l) > 0 {
					return l[0].(map[string]any)["url"].(string)
				}
			}
		}
		return ""
	}
	if got := url(inAdmin); got != "http://x/v1/AUTH_"+c.project("admin") {
		t.Errorf("in a project: %q", got)
	}
	if got := url(inSystem); got != "" {
		t.Errorf("without a project: %q", got)
	}
	c.do("PATCH", "/endpoints/"+id, tok, `{"endpoint":{"enabled":false}}`).want(200)
	if got := url(inAdmin); got != "" {
		t.Errorf("disabled: %q", got)
	}
	c.do("DELETE", "/services/"+svc, tok, "").want(204)
	c.do("GET", "/endpoints/"+id, tok, "").want(404)
}

func TestLimits(t *testing.T) {
	c := newCloud(t)
	tok, demo := c.admin(), c.demo()
	svc := c.do("GET", "/services?type=compute", tok, "").column("services", "id")[0]
	reg := c.do("POST", "/registered_limits", tok, `{"registered_limits":[{"service_id":"`+svc+`","resource_name":"cores","default_limit":10}]}`).
		want(201).at("registered_limits", 0, "id").(string)
	one := `{"limits":[{"service_id":"` + svc + `","resource_name":"cores","resource_limit":20,"project_id":"` + c.project("demo") + `"}]}`
	c.do("POST", "/limits", demo, one).want(403)
	id := c.do("POST", "/limits", tok, one).want(201).at("limits", 0, "id").(string)
	c.run(tok, []step{
		{"POST", "/registered_limits", `{"registered_limits":[{"service_id":"none","resource_name":"x","default_limit":1}]}`, 400},
		{"POST", "/registered_limits", `{"registered_limits":[{"service_id":"` + svc + `","resource_name":"cores","default_limit":1}]}`, 409},
		{"POST", "/limits", one, 409},
		{"POST", "/limits", strings.Replace(one, "cores", "ram", 1), 403},
		{"PATCH", "/limits/" + id, `{"limit":{"resource_limit":-2}}`, 400},
		{"PATCH", "/limits/" + id, `{"limit":{"resource_limit":30}}`, 200},
		{"GET", "/limits/model", "", 200},
		{"DELETE", "/registered_limits/" + reg, "", 403},
		{"DELETE", "/services/" + svc, "", 403},
	})
	if got := c.do("GET", "/limits", demo, "").want(200); got.at("limits", 0, "resource_limit") != 30.0 {
		t.Errorf("%v", got.body)
	}
	c.do("GET", "/limits/"+id, demo, "").want(200)
	c.run(tok, []step{{"DELETE", "/limits/" + id, "", 204}, {"DELETE", "/registered_limits/" + reg, "", 204}})
}

func TestEndpointFilter(t *testing.T) {
	c := newCloud(t)
	tok, demo := c.admin(), "/OS-EP-FILTER/projects/"+c.project("demo")
	types := func() (out []string) {
		for _, s := range c.do("GET", "/auth/catalog", c.demo(), "").want(200).at("catalog").([]any) {
			out = append(out, s.(map[string]any)["type"].(string))
		}
		return out
	}
	ep := c.do("GET", "/endpoints?interface=public&service_id="+c.do("GET", "/services?type=image", tok, "").column("services", "id")[0], tok, "").column("endpoints", "id")[0]
	c.run(tok, []step{
		{"GET", demo + "/endpoints/" + ep, "", 404},
		{"PUT", demo + "/endpoints/" + ep, "", 204},
		{"GET", demo + "/endpoints/" + ep, "", 204},
		{"PUT", demo + "/endpoints/none", "", 404},
	})
	if got := types(); len(got) != 1 || got[0] != "image" {
		t.Errorf("the catalog shows %v", got)
	}
	c.do("POST", "/OS-EP-FILTER/endpoint_groups", tok, `{"endpoint_group":{"name":"g","filters":{"color":"red"}}}`).want(400)
	c.do("POST", "/OS-EP-FILTER/endpoint_groups", tok, `{"endpoint_group":{"name":"g","filters":{}}}`).want(400)
	id := c.do("POST", "/OS-EP-FILTER/endpoint_groups", tok, `{"endpoint_group":{"name":"g","filters":{"interface":"public"}}}`).want(201).id("endpoint_group")
	c.do("PUT", "/OS-EP-FILTER/endpoint_groups/"+id+"/projects/"+c.project("demo"), tok, "").want(204)
	if got := types(); len(got) != 5 {
		t.Errorf("with all public endpoints the catalog shows %v", got)
	}
	c.do("DELETE", "/OS-EP-FILTER/endpoint_groups/"+id, tok, "").want(204)
	c.do("DELETE", "/endpoints/"+ep, tok, "").want(204)
	if got := types(); len(got) != 5 || c.svc.dir.EndpointLinks.Len() != 0 {
		t.Errorf("without a filter the catalog shows %v, %d links are left over", got, c.svc.dir.EndpointLinks.Len())
	}
}
