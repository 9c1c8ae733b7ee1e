package compute

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
)

func TestServerLife(t *testing.T) {
	c := newClient(t)
	a := c.do("member@2.96", "POST", "/servers", createText("My Web_1", `,"metadata":{"a":"1"},"description":"d","tags":["x"]`)).want(202)
	id, _ := a.at("server", "id").(string)
	if got := a.header.Get("Location"); !strings.HasSuffix(got, "/compute/v2.1/servers/"+id) {
		t.Errorf("Location %q", got)
	}
	if p, _ := a.at("server", "adminPass").(string); len(p) != 12 {
		t.Errorf("adminPass %q", p)
	}
	c.settled()
	show := c.do("member@2.96", "GET", "/servers/"+id, "").want(200).
		is("ACTIVE", "server", "status").is(1, "server", "OS-EXT-STS:power_state").is("active", "server", "OS-EXT-STS:vm_state").
		is("my-web-1", "server", "OS-EXT-SRV-ATTR:hostname").is("d", "server", "description").is("[x]", "server", "tags").
		is("fixed", "server", "addresses", "private", 0, "OS-EXT-IPS:type").is("default", "server", "security_groups", 0, "name").
		is("m1.nano", "server", "flavor", "original_name").is(project1, "server", "tenant_id")
	if _, there := show.at("server").(map[string]any)["OS-EXT-SRV-ATTR:host"]; there {
		t.Error("a member learns the host")
	}
	c.do("admin@2.96", "GET", "/servers/"+id, "").want(200).is("node-1", "server", "OS-EXT-SRV-ATTR:host").is("UP", "server", "host_status")
	c.do("member", "PUT", "/servers/"+id, `{"server":{"name":"new","accessIPv4":"192.0.2.1"}}`).want(200).is("new", "server", "name").is("192.0.2.1", "server", "accessIPv4")
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.do("member", "GET", "/servers/"+id, "").want(404)
	c.do("member", "DELETE", "/servers/"+id, "").want(404)
	c.clean(t)
	c.do("member@2.96", "GET", "/servers/"+id+"/os-instance-actions", "").want(200).is("delete", "instanceActions", 0, "action").is("create", "instanceActions", 1, "action")
	made := fmt.Sprint(c.do("member@2.96", "GET", "/servers/"+id+"/os-instance-actions", "").at("instanceActions", 1, "request_id"))
	c.do("member@2.96", "GET", "/servers/"+id+"/os-instance-actions/"+made, "").want(200).is("compute__do_build_and_run_instance", "instanceAction", "events", 0, "event").is("Success", "instanceAction", "events", 0, "result")
	c.do("member@2.20", "GET", "/servers/"+id+"/os-instance-actions", "").want(404)
	c.do("admin", "GET", "/servers/detail?deleted=true&all_tenants=1", "").want(200).is("DELETED", "servers", 0, "status")
	c.do("member", "GET", "/servers/detail?changes-since="+time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "").want(200).count(1, "servers")
}

func TestCreateRefuses(t *testing.T) {
	c := newClient(t)
	port := c.nets.addPort(project1)
	foreign := c.nets.addPort(project2)
	missing := "99999999-9999-4999-8999-999999999999"
	for name, tc := range map[string]struct {
		status int
		who    string
		body   string
	}{
		"not JSON":              {400, "member", `{`},
		"no body":               {400, "member", ``},
		"no name":               {400, "member", `{"server":{"flavorRef":"42","imageRef":"` + imageID + `"}}`},
		"blank name":            {400, "member@2.96", createText(" ", "")},
		"long name":             {400, "member@2.96", createText(strings.Repeat("x", 256), "")},
		"unknown field":         {400, "member@2.96", createText("x", `,"bogus":1`)},
		"tags are newer":        {400, "member@2.51", createText("x", `,"tags":["a"]`)},
		"networks needed":       {400, "member@2.37", `{"server":{"name":"x","flavorRef":"42","imageRef":"` + imageID + `"}}`},
		"no flavor":             {400, "member@2.96", strings.Replace(createText("x", ""), `"42"`, `"nope"`, 1)},
		"no image":              {400, "member@2.96", strings.Replace(createText("x", ""), imageID, missing, 1)},
		"empty image":           {400, "member@2.96", strings.Replace(createText("x", ""), imageID, "", 1)},
		"no key":                {400, "member@2.96", createText("x", `,"key_name":"nope"`)},
		"no zone":               {400, "member@2.96", createText("x", `,"availability_zone":"mars"`)},
		"forced host":           {403, "member@2.96", createText("x", `,"availability_zone":"nova:node-1"`)},
		"host":                  {403, "member@2.96", createText("x", `,"host":"node-1"`)},
		"no such host":          {400, "admin@2.96", createText("x", `,"host":"node-9"`)},
		"user data":             {400, "member@2.96", createText("x", `,"user_data":"%%%"`)},
		"no network":            {400, "member@2.96", strings.Replace(createText("x", ""), `"auto"`, `[{"uuid":"`+missing+`"}]`, 1)},
		"no port":               {400, "member@2.96", strings.Replace(createText("x", ""), `"auto"`, `[{"port":"`+missing+`"}]`, 1)},
		"foreign port":          {400, "member@2.96", strings.Replace(createText("x", ""), `"auto"`, `[{"port":"`+foreign+`"}]`, 1)},
		"port twice":            {409, "member@2.96", strings.Replace(createText("x", ""), `"auto"`, `[{"port":"`+port+`"},{"port":"`+port+`"}]`, 1)},
		"several with a port":   {400, "member@2.96", strings.Replace(createText("x", `,"max_count":2`), `"auto"`, `[{"port":"`+port+`"}]`, 1)},
		"several with an IP":    {400, "member@2.96", strings.Replace(createText("x", `,"max_count":2`), `"auto"`, `[{"uuid":"`+networkID+`","fixed_ip":"10.0.0.9"}]`, 1)},
		"no group":              {400, "member@2.96", createText("x", `,"security_groups":[{"name":"nope"}]`)},
		"min above max":         {400, "member@2.96", createText("x", `,"min_count":3,"max_count":2`)},
		"zero":                  {400, "member@2.96", createText("x", `,"min_count":0`)},
		"boot from volume":      {400, "member@2.96", createText("x", `,"block_device_mapping_v2":[{"source_type":"volume","destination_type":"volume","uuid":"`+missing+`","boot_index":0}]`)},
		"metadata too long":     {400, "member@2.96", createText("x", `,"metadata":{"a":"`+strings.Repeat("x", 256)+`"}`)},
		"hostname with a space": {400, "member@2.96", createText("x", `,"hostname":"a b"`)},
		"hostname for several":  {400, "member@2.96", createText("x", `,"hostname":"abc","max_count":2`)},
		"no group hint":         {400, "member@2.96", strings.TrimSuffix(createText("x", ""), "}") + `,"os:scheduler_hints":{"group":"` + missing + `"}}`},
		"reader":                {403, "reader@2.96", createText("x", "")},
		"nobody":                {401, "nobody", createText("x", "")},
		"over the quota":        {403, "member@2.96", createText("x", `,"min_count":11`)},
		"version":               {406, "member@2.999", createText("x", "")},
	} {
		t.Run(name, func(t *testing.T) {
			was := c.t
			c.t = t
			defer func() { c.t = was }()
			c.do(tc.who, "POST", "/servers", tc.body).want(tc.status)
			if n := len(c.svc.servers.All()); n != 0 {
				t.Errorf("%d servers were made", n)
			}
		})
	}
}

func TestMultiCreate(t *testing.T) {
	c := newClient(t)
	a := c.do("member@2.96", "POST", "/servers", createText("n", `,"min_count":2,"max_count":30,"return_reservation_id":true`)).want(202)
	c.settled()
	c.do("admin@2.96", "GET", "/servers?all_tenants=1&reservation_id="+fmt.Sprint(a.at("reservation_id")), "").want(200).count(10, "servers")
	c.do("member@2.96", "POST", "/servers", createText("n", "")).want(403)
	c.do("member@2.96", "GET", "/servers?name=n-10", "").want(200).count(1, "servers")
	c.clean(t)
}

func TestPowerActions(t *testing.T) {
	c := newClient(t)
	id := c.server("p", "")
	for _, tc := range []struct {
		action, status string
		code           int
	}{
		{`{"os-start":null}`, "ACTIVE", 409},
		{`{"unpause":null}`, "ACTIVE", 409},
		{`{"pause":null}`, "PAUSED", 202},
		{`{"reboot":{"type":"SOFT"}}`, "PAUSED", 409},
		{`{"unpause":null}`, "ACTIVE", 202},
		{`{"suspend":null}`, "SUSPENDED", 202},
		{`{"resume":null}`, "ACTIVE", 202},
		{`{"reboot":{"type":"SOFT"}}`, "ACTIVE", 202},
		{`{"reboot":{"type":"WARM"}}`, "ACTIVE", 400},
		{`{"reboot":{}}`, "ACTIVE", 400},
		{`{"os-stop":null}`, "SHUTOFF", 202},
		{`{"os-stop":null}`, "SHUTOFF", 409},
		{`{"os-stop":{"x":1}}`, "SHUTOFF", 409},
		{`{"reboot":{"type":"HARD"}}`, "ACTIVE", 202},
		{`{"nope":null}`, "ACTIVE", 400},
		{`{}`, "ACTIVE", 400},
		{`[]`, "ACTIVE", 400},
	} {
		c.act("member", id, tc.action).want(tc.code)
		c.do("member", "GET", "/servers/"+id, "").want(200).is(tc.status, "server", "status")
	}
	if n := c.agents["node-1"].Boots(id); n != 3 {
		t.Errorf("booted %d times, want 3", n)
	}
	c.act("reader", id, `{"os-stop":null}`).want(403)
	c.act("other", id, `{"os-stop":null}`).want(404)
	c.do("member@2.96", "GET", "/servers/"+id+"/os-instance-actions", "").want(200).is("reboot", "instanceActions", 0, "action").count(8, "instanceActions")
}

func TestIsolation(t *testing.T) {
	c := newClient(t)
	id := c.server("mine", "")
	for _, call := range [][3]string{{"GET", "", ""}, {"DELETE", "", ""}, {"PUT", "", `{"server":{"name":"y"}}`}, {"GET", "/metadata", ""}, {"POST", "/metadata", `{"metadata":{}}`},
		{"GET", "/tags", ""}, {"GET", "/os-instance-actions", ""}, {"POST", "/action", `{"lock":null}`}, {"GET", "/os-security-groups", ""}, {"GET", "/os-interface", ""}, {"GET", "/ips", ""}} {
		c.do("other@2.96", call[0], "/servers/"+id+call[1], call[2]).want(404)
	}
	c.do("other", "GET", "/servers/detail", "").want(200).count(0, "servers")
	c.do("other", "GET", "/servers?all_tenants=1", "").want(403)
	c.do("other", "GET", "/servers?project_id="+project1, "").want(200).count(0, "servers")
	c.do("admin", "GET", "/servers?all_tenants=1&project_id="+project1, "").want(200).count(1, "servers")
	c.do("reader", "GET", "/servers/"+id, "").want(200)
	for _, call := range [][3]string{{"DELETE", "", ""}, {"PUT", "", `{"server":{"name":"y"}}`}, {"POST", "/metadata", `{"metadata":{}}`}, {"PUT", "/tags/x", ""}, {"POST", "/action", `{"lock":null}`}} {
		c.do("reader@2.96", call[0], "/servers/"+id+call[1], call[2]).want(403)
	}
}

func TestListAndFilter(t *testing.T) {
	c := newClient(t)
	for _, n := range []string{"alpha", "beta", "gamma"} {
		c.server(n, `,"tags":["all","`+n+`"]`)
	}
	beta := fmt.Sprint(c.do("member", "GET", "/servers?name=bet", "").want(200).count(1, "servers").at("servers", 0, "id"))
	for query, n := range map[string]int{"": 3, "?name=a": 3, "?name=^al": 1, "?status=ACTIVE": 3, "?status=active": 3, "?status=SHUTOFF": 0, "?flavor=42": 3, "?flavor=1": 0, "?image=" + imageID: 3,
		"?tags=all,beta": 1, "?tags-any=alpha,beta": 2, "?not-tags=beta": 2, "?not-tags-any=alpha,beta": 1, "?limit=2": 2, "?bogus=1": 3, "?ip=10.0.0": 3, "?ip=10.0.0.1": 1, "?locked=true": 0, "?vm_state=stopped": 3,
		"?limit=1&marker=" + beta + "&sort_key=display_name&sort_dir=asc": 1} {
		c.do("member@2.74", "GET", "/servers"+query, "").want(200).count(n, "servers")
		c.do("member@2.74", "GET", "/servers/detail"+query, "").want(200).count(n, "servers")
	}
	a := c.do("member", "GET", "/servers?limit=2&sort_key=display_name&sort_dir=asc", "").want(200).is("alpha", "servers", 0, "name").is("beta", "servers", 1, "name")
	href := fmt.Sprint(a.at("servers_links", 0, "href"))
	c.do("member", "GET", strings.SplitN(href, "/compute/v2.1", 2)[1], "").want(200).is("gamma", "servers", 0, "name").count(1, "servers")
	for _, query := range []string{"?limit=-1", "?limit=x", "?marker=nope", "?sort_key=nope", "?changes-since=yesterday", "?name=(", "?sort_dir=up&sort_key=uuid", "?changes-since=2020-01-02&changes-before=2020-01-01"} {
		c.do("member@2.66", "GET", "/servers"+query, "").want(400)
	}
	c.do("member@2.37", "GET", "/servers?status=nope", "").want(200).count(0, "servers")
	c.do("member@2.38", "GET", "/servers?status=nope", "").want(400)
	c.do("member", "GET", "/servers?status=deleted", "").want(403)
	c.do("member@2.75", "GET", "/servers?bogus=1", "").want(400)
}

func TestMetadataTagsLock(t *testing.T) {
	c := newClient(t)
	at := "/servers/" + c.server("m", `,"metadata":{"a":"1"}`)
	c.do("member", "POST", at+"/metadata", `{"metadata":{"b":"2"}}`).want(200).is("map[a:1 b:2]", "metadata")
	c.do("member", "PUT", at+"/metadata", `{"metadata":{"c":"3"}}`).want(200).is("map[c:3]", "metadata")
	c.do("member", "PUT", at+"/metadata/d", `{"meta":{"d":"4"}}`).want(200).is("map[d:4]", "meta")
	c.do("member", "PUT", at+"/metadata/d", `{"meta":{"e":"4"}}`).want(400)
	c.do("member", "PUT", at+"/metadata/d", `{"meta":{"d":"4","e":"5"}}`).want(400)
	c.do("member", "GET", at+"/metadata/d", "").want(200).is("4", "meta", "d")
	c.do("member", "DELETE", at+"/metadata/d", "").want(204)
	c.do("member", "DELETE", at+"/metadata/d", "").want(404)
	c.do("member", "GET", at+"/metadata/d", "").want(404)
	c.do("member", "POST", at+"/metadata", `{"metadata":{"":"x"}}`).want(400)
	c.do("member", "POST", at+"/metadata", `{"metadata":{"x":1}}`).want(400)
	c.do("member", "POST", at+"/metadata", `{}`).want(400)
	many := []string{}
	for i := range 129 {
		many = append(many, fmt.Sprintf(`"k%d":"v"`, i))
	}
	c.do("member", "PUT", at+"/metadata", `{"metadata":{`+strings.Join(many, ",")+`}}`).want(403)
	c.do("member", "GET", at+"/metadata", "").want(200).is("map[c:3]", "metadata")

	c.do("member@2.25", "GET", at+"/tags", "").want(404)
	c.do("member@2.26", "PUT", at+"/tags", `{"tags":["a","b"]}`).want(200).count(2, "tags")
	c.do("member@2.26", "PUT", at+"/tags/c", "").want(201)
	c.do("member@2.26", "PUT", at+"/tags/c", "").want(204)
	c.do("member@2.26", "GET", at+"/tags/c", "").want(204)
	c.do("member@2.26", "DELETE", at+"/tags/c", "").want(204)
	c.do("member@2.26", "GET", at+"/tags/c", "").want(404)
	c.do("member@2.26", "PUT", at+"/tags/"+strings.Repeat("x", 61), "").want(400)
	c.do("member@2.26", "PUT", at+"/tags", `{"tags":["a,b"]}`).want(400)
	c.do("member@2.26", "DELETE", at+"/tags", "").want(204)
	c.do("member@2.26", "GET", at+"/tags", "").want(200).count(0, "tags")

	act := at + "/action"
	c.do("member@2.73", "POST", act, `{"lock":{"locked_reason":"mine"}}`).want(202)
	c.do("member@2.73", "GET", at, "").want(200).is(true, "server", "locked").is("mine", "server", "locked_reason")
	c.do("member", "POST", act, `{"os-stop":null}`).want(409)
	c.do("member", "DELETE", at, "").want(409)
	c.do("member", "PUT", at+"/metadata", `{"metadata":{"x":"y"}}`).want(409)
	c.do("member", "PUT", at, `{"server":{"name":"still"}}`).want(200)
	c.do("member@2.73", "POST", act, `{"lock":{"reason":"mine"}}`).want(400)
	c.do("member", "POST", act, `{"unlock":null}`).want(202)
	c.do("admin", "POST", act, `{"lock":null}`).want(202)
	c.do("member", "POST", act, `{"unlock":null}`).want(403)
	c.do("admin", "POST", act, `{"os-stop":null}`).want(202)
	c.settled()
	c.do("admin", "POST", act, `{"unlock":null}`).want(202)
	c.do("member", "GET", at, "").want(200).is("SHUTOFF", "server", "status")
}

func TestConsoleAndGroups(t *testing.T) {
	c := newClient(t)
	at := "/servers/" + c.server("g", "")
	c.do("member", "POST", at+"/action", `{"os-getConsoleOutput":{}}`).want(200)
	c.do("member", "POST", at+"/action", `{"os-getConsoleOutput":{"length":2}}`).want(200).is("line 19 of g\nline 20 of g\n", "output")
	c.do("member", "POST", at+"/action", `{"os-getConsoleOutput":{"length":"1"}}`).want(200).is("line 20 of g\n", "output")
	c.do("member", "POST", at+"/action", `{"os-getConsoleOutput":{"length":-9}}`).want(400)
	c.do("reader", "POST", at+"/action", `{"os-getConsoleOutput":{}}`).want(403)
	c.do("member", "POST", at+"/action", `{"addSecurityGroup":{"name":"web"}}`).want(202)
	c.do("member", "GET", at, "").want(200).count(2, "server", "security_groups")
	c.do("member", "POST", at+"/action", `{"removeSecurityGroup":{"name":"web"}}`).want(202)
	c.do("member", "POST", at+"/action", `{"addSecurityGroup":{"name":"nope"}}`).want(404)
	c.do("member", "POST", at+"/action", `{"addSecurityGroup":{}}`).want(400)
}

// The Go SDK understands what is answered.
func TestGophercloud(t *testing.T) {
	c := newClient(t)
	pc := &gophercloud.ProviderClient{TokenID: "member"}
	sc := &gophercloud.ServiceClient{ProviderClient: pc, Endpoint: c.url + "/compute/v2.1/", Type: "compute", Microversion: "2.79"}
	ctx := t.Context()
	if _, err := keypairs.Create(ctx, sc, keypairs.CreateOpts{Name: "k"}).Extract(); err != nil {
		t.Fatal(err)
	}
	pages, err := flavors.ListDetail(sc, nil).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := flavors.ExtractFlavors(pages); err != nil || len(list) != 5 || list[0].RAM == 0 {
		t.Fatalf("flavors %v: %v", list, err)
	}
	srv, err := servers.Create(ctx, sc, keypairs.CreateOptsExt{KeyName: "k",
		CreateOptsBuilder: servers.CreateOpts{Name: "sdk", ImageRef: imageID, FlavorRef: "42", Networks: "auto", UserData: []byte("#!/bin/sh")}}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	c.settled()
	if srv, err = servers.Get(ctx, sc, srv.ID).Extract(); err != nil || srv.Status != "ACTIVE" || srv.KeyName != "k" || srv.Created.IsZero() || len(srv.Addresses) != 1 {
		t.Fatalf("server %+v: %v", srv, err)
	}
	if err := servers.Stop(ctx, sc, srv.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := servers.Delete(ctx, sc, srv.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	c.settled()
	if _, err := servers.Get(ctx, sc, srv.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("after the delete: %v", err)
	}
	c.clean(t)
}

// Every schema compiles and every route's policy exists and is read by the engine.
func TestTables(t *testing.T) {
	w := newWorld(t, saga.Options{})
	w.handler()
	for _, r := range w.svc.API().Routes {
		for _, s := range append(r.Body, r.Query...) {
			if err := s.Check(); err != nil {
				t.Errorf("%s %s %s: %v", r.Method, r.Path, r.Action, err)
			}
		}
	}
	seen := map[string]bool{}
	for _, p := range Policies() {
		if seen[p.Name] {
			t.Errorf("%s is declared twice", p.Name)
		}
		seen[p.Name] = true
	}
	if _, err := policy.New("", Policies()); err != nil {
		t.Error(err)
	}
}
