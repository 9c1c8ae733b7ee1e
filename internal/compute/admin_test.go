package compute

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAggregatesAndZones(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	c.do("member", "POST", "/os-aggregates", `{"aggregate":{"name":"a"}}`).want(403)
	a := c.do("admin", "POST", "/os-aggregates", `{"aggregate":{"name":"a","availability_zone":"east"}}`).want(200).is("east", "aggregate", "availability_zone")
	if _, there := a.at("aggregate").(map[string]any)["hosts"]; there {
		t.Error("a create answers with hosts")
	}
	at := fmt.Sprintf("/os-aggregates/%v", a.at("aggregate", "id"))
	c.do("admin", "POST", "/os-aggregates", `{"aggregate":{"name":"a"}}`).want(409)
	c.do("admin", "POST", "/os-aggregates", `{"aggregate":{"name":""}}`).want(400)
	c.do("admin", "POST", "/os-aggregates", `{"aggregate":{"name":"b","availability_zone":"a:b"}}`).want(400)
	c.do("admin", "GET", "/os-aggregates/x", "").want(400)
	c.do("admin", "GET", "/os-aggregates/77", "").want(404)
	c.do("admin", "POST", at+"/action", `{"add_host":{"host":"nope"}}`).want(404)
	c.do("member@2.96", "POST", "/servers", createText("x", `,"availability_zone":"east"`)).want(400)
	c.do("admin", "POST", at+"/action", `{"add_host":{"host":"node-2"}}`).want(200).is("[node-2]", "aggregate", "hosts")
	c.do("admin", "POST", at+"/action", `{"add_host":{"host":"node-2"}}`).want(409)
	c.do("admin", "DELETE", at, "").want(400)
	c.do("member", "GET", "/os-availability-zone", "").want(200).is("east", "availabilityZoneInfo", 0, "zoneName").is("nova", "availabilityZoneInfo", 1, "zoneName").is(nil, "availabilityZoneInfo", 0, "hosts")
	c.do("member", "GET", "/os-availability-zone/detail", "").want(403)
	c.do("admin", "GET", "/os-availability-zone/detail", "").want(200).is(true, "availabilityZoneInfo", 0, "hosts", "node-2", "nova-compute", "available")
	for range 3 {
		id := c.server("e", `,"availability_zone":"east"`)
		c.do("admin@2.96", "GET", "/servers/"+id, "").want(200).is("node-2", "server", "OS-EXT-SRV-ATTR:host").is("east", "server", "OS-EXT-AZ:availability_zone").is("east", "server", "pinned_availability_zone")
	}
	c.do("member@2.83", "GET", "/servers?availability_zone=east", "").want(200).count(3, "servers")
	// The zone of servers never changes.
	c.do("admin", "PUT", at, `{"aggregate":{"availability_zone":"west"}}`).want(400)
	c.do("admin", "POST", at+"/action", `{"remove_host":{"host":"node-2"}}`).want(409)
	other := c.do("admin@2.41", "POST", "/os-aggregates", `{"aggregate":{"name":"o","availability_zone":"west"}}`).want(200)
	c.do("admin", "POST", fmt.Sprintf("/os-aggregates/%v/action", other.at("aggregate", "id")), `{"add_host":{"host":"node-2"}}`).want(409)
	c.do("admin", "POST", at+"/action", `{"set_metadata":{"metadata":{"k":"v","gone":null}}}`).want(200).is("v", "aggregate", "metadata", "k")
	c.do("admin", "POST", at+"/action", `{"set_metadata":{"metadata":{"availability_zone":""}}}`).want(400)
	c.do("admin", "PUT", at, `{"aggregate":{"name":"renamed"}}`).want(200).is("renamed", "aggregate", "name")
	c.do("admin", "PUT", at, `{"aggregate":{"name":"o"}}`).want(409)
	c.do("admin", "POST", at+"/action", `{"remove_host":{"host":"node-1"}}`).want(404)
	c.do("admin", "DELETE", fmt.Sprintf("/os-aggregates/%v", other.at("aggregate", "id")), "").want(200)
	c.do("admin", "GET", "/os-aggregates", "").want(200).count(1, "aggregates")
}

func TestServicesAndHypervisors(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	c.server("s1", `,"availability_zone":"nova"`)
	host := fmt.Sprint(c.do("admin", "GET", "/servers/detail?all_tenants=1", "").want(200).at("servers", 0, "OS-EXT-SRV-ATTR:host"))
	c.do("member", "GET", "/os-services", "").want(403)
	a := c.do("admin@2.53", "GET", "/os-services?host="+host, "").want(200).count(1, "services").is("up", "services", 0, "state")
	uuid := fmt.Sprint(a.at("services", 0, "id"))
	c.do("admin@2.53", "PUT", "/os-services/"+uuid, `{"status":"disabled","disabled_reason":"work"}`).want(200).is("disabled", "service", "status").is("work", "service", "disabled_reason")
	c.do("admin", "GET", "/servers/detail?all_tenants=1", "").want(200)
	c.do("admin@2.16", "GET", "/servers/detail?all_tenants=1", "").want(200).is("MAINTENANCE", "servers", 0, "host_status")
	for range 2 { // a disabled host gets no servers
		id := c.server("x", "")
		if got := c.do("admin", "GET", "/servers/"+id, "").at("server", "OS-EXT-SRV-ATTR:host"); got == host {
			t.Errorf("server %s is on the disabled host", id)
		}
	}
	c.do("admin@2.53", "PUT", "/os-services/"+uuid, `{"status":"enabled","disabled_reason":"x"}`).want(400)
	c.do("admin@2.53", "PUT", "/os-services/"+uuid, `{}`).want(400)
	c.do("admin@2.53", "PUT", "/os-services/enable", `{"status":"enabled"}`).want(400)
	c.do("admin@2.53", "PUT", "/os-services/99999999-9999-4999-8999-999999999999", `{"status":"enabled"}`).want(404)
	c.do("admin", "PUT", "/os-services/enable", `{"host":"`+host+`","binary":"nova-compute"}`).want(200).is("enabled", "service", "status")
	c.do("admin", "PUT", "/os-services/disable-log-reason", `{"host":"`+host+`","binary":"nova-compute"}`).want(400)
	c.do("admin", "PUT", "/os-services/bogus", `{"host":"`+host+`","binary":"nova-compute"}`).want(404)
	c.do("admin", "PUT", "/os-services/disable", `{"host":"nope","binary":"nova-compute"}`).want(404)
	c.do("admin@2.11", "PUT", "/os-services/force-down", `{"host":"`+host+`","binary":"nova-compute","forced_down":true}`).want(200)
	c.do("admin@2.11", "GET", "/os-services?host="+host, "").want(200).is("down", "services", 0, "state").is(true, "services", 0, "forced_down")
	c.do("admin@2.53", "PUT", "/os-services/"+uuid, `{"forced_down":false}`).want(200).is("up", "service", "state")
	c.do("admin@2.53", "DELETE", "/os-services/"+uuid, "").want(409)

	h := c.do("admin@2.53", "GET", "/os-hypervisors/detail?hypervisor_hostname_pattern="+host+"&with_servers=true", "").want(200).count(1, "hypervisors").
		is(providerOf(host), "hypervisors", 0, "id").is(128, "hypervisors", 0, "memory_mb_used").is(1, "hypervisors", 0, "running_vms").is(float64(7002015), "hypervisors", 0, "hypervisor_version").is("s1", "hypervisors", 0, "servers", 0, "name")
	id := fmt.Sprint(h.at("hypervisors", 0, "id"))
	c.do("admin@2.53", "GET", "/os-hypervisors/"+id, "").want(200).is("x86_64", "hypervisor", "cpu_info", "arch")
	if v := c.do("admin@2.88", "GET", "/os-hypervisors/"+id, "").want(200).is(host, "hypervisor", "service", "host").at("hypervisor").(map[string]any); v["uptime"] == nil || v["vcpus"] != nil {
		t.Errorf("at 2.88: %v", v)
	}
	c.do("admin@2.53", "GET", "/os-hypervisors/1", "").want(400)
	c.do("admin", "GET", "/os-hypervisors/1", "").want(404)
	c.do("admin", "GET", "/os-hypervisors/node/search", "").want(200).count(2, "hypervisors")
	c.do("admin", "GET", "/os-hypervisors/zz/search", "").want(404)
	c.do("admin@2.53", "GET", "/os-hypervisors/node/search", "").want(404)
	c.do("admin", "GET", "/os-hypervisors/statistics", "").want(200).is(2, "hypervisor_statistics", "count").is(16, "hypervisor_statistics", "vcpus").is(3, "hypervisor_statistics", "running_vms")
	c.do("admin@2.88", "GET", "/os-hypervisors/statistics", "").want(404)
	c.do("admin@2.33", "GET", "/os-hypervisors?limit=1", "").want(200).count(1, "hypervisors").count(1, "hypervisors_links")
	c.do("admin@2.53", "GET", "/os-hypervisors?bogus=1", "").want(400)
	c.do("member", "GET", "/os-hypervisors", "").want(403)
}

func TestServerGroups(t *testing.T) {
	c := newClient(t, "node-1", "node-2", "node-3")
	group := func(policy, rules string) string {
		return fmt.Sprint(c.do("member@2.64", "POST", "/os-server-groups", `{"server_group":{"name":"g","policy":"`+policy+`"`+rules+`}}`).want(200).is(policy, "server_group", "policy").at("server_group", "id"))
	}
	create := func(g string, status int) *answer {
		body := strings.TrimSuffix(createText("m", ""), "}") + `,"os:scheduler_hints":{"group":"` + g + `"}}`
		a := c.do("member@2.96", "POST", "/servers", body).want(status)
		return a
	}
	hosts := func(g string) map[string]int {
		n := map[string]int{}
		for _, v := range c.svc.servers.By("group", g) {
			n[v.Host]++
		}
		return n
	}
	anti := group("anti-affinity", "")
	for range 4 {
		create(anti, 202)
	}
	c.settled()
	if n := hosts(anti); len(n) != 4 || n["node-1"] != 1 || n["node-2"] != 1 || n["node-3"] != 1 || n[""] != 1 {
		t.Errorf("anti-affinity: %v", n)
	}
	c.do("member@2.64", "GET", "/os-server-groups/"+anti, "").want(200).count(4, "server_group", "members")
	c.do("admin", "GET", "/servers/detail?all_tenants=1&status=ERROR", "").want(200).count(1, "servers").is(500, "servers", 0, "fault", "code")
	two := group("anti-affinity", `,"rules":{"max_server_per_host":2}`)
	together := group("affinity", "")
	for range 3 {
		create(two, 202)
		create(together, 202)
	}
	c.settled()
	if n := hosts(together); len(n) != 1 || n[""] != 0 {
		t.Errorf("affinity: %v", n)
	}
	for h, n := range hosts(two) {
		if n > 2 || h == "" {
			t.Errorf("two per host: %v", hosts(two))
		}
	}
	create(anti, 403) // the quota of instances
	c.clean(t)

	c.do("member@2.14", "POST", "/os-server-groups", `{"server_group":{"name":"g","policies":["soft-affinity"]}}`).want(400)
	old := c.do("member@2.15", "POST", "/os-server-groups", `{"server_group":{"name":"g","policies":["soft-affinity"]}}`).want(200).is("[soft-affinity]", "server_group", "policies").is("map[]", "server_group", "metadata")
	c.do("member@2.64", "POST", "/os-server-groups", `{"server_group":{"name":"g","policy":"affinity","rules":{"max_server_per_host":2}}}`).want(400)
	c.do("member@2.64", "POST", "/os-server-groups", `{"server_group":{"name":"g","policies":["affinity"]}}`).want(400)
	c.do("member", "POST", "/os-server-groups", `{"server_group":{"name":"g","policies":[]}}`).want(400)
	id := fmt.Sprint(old.at("server_group", "id"))
	c.do("other", "GET", "/os-server-groups/"+id, "").want(404)
	c.do("other", "DELETE", "/os-server-groups/"+id, "").want(404)
	c.do("reader", "DELETE", "/os-server-groups/"+id, "").want(403)
	c.do("member", "GET", "/os-server-groups?limit=2&offset=1", "").want(200).count(2, "server_groups")
	c.do("other", "GET", "/os-server-groups?all_projects", "").want(200).count(0, "server_groups")
	c.do("admin", "GET", "/os-server-groups?all_projects", "").want(200).count(4, "server_groups")
	c.do("member", "DELETE", "/os-server-groups/"+id, "").want(204)
	c.do("member", "GET", "/os-server-groups/"+id, "").want(404)
}

func TestHints(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	first := c.server("first", "")
	host := func(id string) string { v, _ := c.svc.servers.Get(id); return v.Host }
	for hint, same := range map[string]bool{"same_host": true, "different_host": false} {
		for _, value := range []string{`"` + first + `"`, `["` + first + `"]`} {
			body := strings.TrimSuffix(createText("m", ""), "}") + `,"OS-SCH-HNT:scheduler_hints":{"` + hint + `":` + value + `}}`
			a := c.do("member@2.96", "POST", "/servers", body).want(202)
			c.settled()
			if got := host(fmt.Sprint(a.at("server", "id"))); (got == host(first)) != same || got == "" {
				t.Errorf("%s %s: on %q, the first on %q", hint, value, got, host(first))
			}
		}
	}
}

func TestQuotas(t *testing.T) {
	c := newClient(t)
	at := "/os-quota-sets/" + project1
	c.do("admin", "GET", "/os-quota-sets/nowhere", "").want(400)
	c.do("admin", "PUT", "/os-quota-sets/nowhere", `{"quota_set":{"cores":1}}`).want(400)
	c.do("admin", "DELETE", "/os-quota-sets/nowhere", "").want(202)
	c.do("other", "GET", at, "").want(403)
	c.do("member", "GET", at, "").want(200).is(10, "quota_set", "instances").is(-1, "quota_set", "floating_ips").is(project1, "quota_set", "id")
	for version, absent := range map[string]string{"2.36": "floating_ips", "2.57": "injected_files"} {
		if v := c.do("member@"+version, "GET", at, "").want(200).at("quota_set").(map[string]any); v[absent] != nil || v["cores"] == nil {
			t.Errorf("at %s: %v", version, v)
		}
		c.do("admin@"+version, "PUT", at, `{"quota_set":{"`+absent+`":1}}`).want(400)
	}
	c.do("member", "PUT", at, `{"quota_set":{"instances":20}}`).want(403)
	c.do("admin", "PUT", at, `{"quota_set":{"instances":2,"cores":"40"}}`).want(200).is(2, "quota_set", "instances").is(40, "quota_set", "cores").is(nil, "quota_set", "id")
	c.server("a", "")
	c.do("member@2.96", "POST", "/servers", createText("b", `,"min_count":2`)).want(403)
	c.do("member", "GET", at+"/detail", "").want(200).is(1, "quota_set", "instances", "in_use").is(2, "quota_set", "instances", "limit").is(0, "quota_set", "ram", "reserved")
	c.do("admin", "PUT", at, `{"quota_set":{"instances":0}}`).want(400)
	c.do("admin", "PUT", at, `{"quota_set":{"instances":0,"force":true}}`).want(200)
	c.do("admin", "PUT", at, `{"quota_set":{"instances":-2}}`).want(400)
	c.do("admin", "PUT", at, `{"quota_set":{"instances":"x"}}`).want(400)
	c.do("admin", "PUT", at, `{"quota_set":{"bogus":1}}`).want(400)
	c.do("member@2.96", "POST", "/servers", createText("b", "")).want(403)
	c.do("member", "GET", at+"/defaults", "").want(200).is(10, "quota_set", "instances")
	c.do("admin", "DELETE", at, "").want(202)
	c.do("admin", "DELETE", at, "").want(202)
	c.do("member", "GET", at, "").want(200).is(10, "quota_set", "instances")
	// One user's limit within the project's.
	c.do("admin", "PUT", at+"?user_id=u1", `{"quota_set":{"instances":11}}`).want(400)
	c.do("admin", "PUT", at+"?user_id=u1", `{"quota_set":{"instances":1}}`).want(200)
	c.do("member@2.96", "POST", "/servers", createText("b", "")).want(403)
	c.do("admin", "DELETE", at+"?user_id=u1", "").want(202)
	// The default class is every project's base.
	c.do("admin@2.50", "PUT", "/os-quota-class-sets/default", `{"quota_class_set":{"instances":1}}`).want(200).is(10, "quota_class_set", "server_groups")
	c.do("member@2.96", "POST", "/servers", createText("b", "")).want(403)
	c.do("admin", "GET", "/os-quota-class-sets/default", "").want(200).is(1, "quota_class_set", "instances").is(nil, "quota_class_set", "server_groups").is("default", "quota_class_set", "id")
	c.do("member", "GET", "/os-quota-class-sets/default", "").want(403)

	c.do("member", "GET", "/limits", "").want(200).is(1, "limits", "absolute", "maxTotalInstances").is(1, "limits", "absolute", "totalInstancesUsed").is(128, "limits", "absolute", "maxImageMeta").is(5, "limits", "absolute", "maxPersonality")
	c.do("member", "GET", "/limits?reserved=1", "").want(200)
	if v := c.do("member@2.57", "GET", "/limits", "").want(200).at("limits", "absolute").(map[string]any); v["maxImageMeta"] != nil || v["maxPersonality"] != nil || v["maxTotalFloatingIps"] != nil {
		t.Errorf("at 2.57: %v", v)
	}
	c.do("member", "GET", "/limits?tenant_id="+project2, "").want(403)
	c.do("admin", "GET", "/limits?tenant_id="+project1, "").want(200).is(1, "limits", "absolute", "totalInstancesUsed")
}

func TestAttached(t *testing.T) {
	c := newClient(t)
	at := "/servers/" + c.server("i", "")
	c.do("member", "GET", at+"/ips", "").want(200).is(4, "addresses", "private", 0, "version")
	c.do("member", "GET", at+"/ips/private", "").want(200).count(1, "private")
	c.do("member", "GET", at+"/ips/nope", "").want(404)
	port := fmt.Sprint(c.do("member", "GET", at+"/os-interface", "").want(200).count(1, "interfaceAttachments").at("interfaceAttachments", 0, "port_id"))
	c.do("member@2.70", "GET", at+"/os-interface/"+port, "").want(200).is(networkID, "interfaceAttachment", "net_id").is(nil, "interfaceAttachment", "tag")
	c.do("member", "GET", at+"/os-interface/nope", "").want(404)
	c.do("member", "GET", at+"/os-security-groups", "").want(200).is("default", "security_groups", 0, "name").is("0.0.0.0/0", "security_groups", 0, "rules", 0, "ip_range", "cidr")
}

func TestResetStateAndForceDelete(t *testing.T) {
	c := newClient(t)
	id := c.server("r", "")
	c.act("member", id, `{"os-resetState":{"state":"error"}}`).want(403)
	c.act("admin", id, `{"os-resetState":{"state":"bogus"}}`).want(400)
	c.act("admin", id, `{"os-resetState":{"state":"error"}}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ERROR", "server", "status")
	c.act("member", id, `{"reboot":{"type":"HARD"}}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status")
	c.act("member", id, `{"restore":null}`).want(409)
	c.act("member", "99999999-9999-4999-8999-999999999999", `{"restore":null}`).want(404)
	c.act("member", id, `{"forceDelete":null}`).want(202)
	c.do("member", "GET", "/servers/"+id, "").want(404)
	c.clean(t)
}

func TestUsage(t *testing.T) {
	c := newClient(t)
	id := c.server("u", "")
	c.server("v", "")
	span := "?start=" + time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05") + "&end=" + time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05")
	check := func(servers int) {
		t.Helper()
		c.do("member", "GET", "/os-simple-tenant-usage/"+project1+span, "").want(200).count(servers, "tenant_usage", "server_usages").is("m1.nano", "tenant_usage", "server_usages", 0, "flavor")
	}
	check(2)
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	check(2)
	if err := c.svc.purge(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	check(2)
	c.do("admin", "GET", "/os-simple-tenant-usage"+span+"&detailed=1", "").want(200).count(1, "tenant_usages").count(2, "tenant_usages", 0, "server_usages")
	c.do("admin@2.40", "GET", "/os-simple-tenant-usage"+span+"&detailed=1&limit=1", "").want(200).count(1, "tenant_usages", 0, "server_usages").count(1, "tenant_usages_links")
	c.do("member", "GET", "/os-simple-tenant-usage", "").want(403)
	c.do("member", "GET", "/os-simple-tenant-usage/"+project2, "").want(403)
	c.do("admin", "GET", "/os-simple-tenant-usage/"+project2, "").want(200).is("map[]", "tenant_usage")
	c.do("admin", "GET", "/os-simple-tenant-usage?start=x", "").want(400)
	c.do("admin", "GET", "/os-simple-tenant-usage?start=2030-01-01T00:00:00&end=2020-01-01T00:00:00", "").want(400)
	if got := c.svc.usages.Expired(time.Now().Add(400*24*time.Hour + time.Hour)); len(got) != 1 || c.svc.usages.Forget(t.Context(), got[0]) != nil || len(c.svc.usages.Expired(time.Now().Add(1e4*time.Hour))) != 0 {
		t.Errorf("old usage %v stays", got)
	}
}
