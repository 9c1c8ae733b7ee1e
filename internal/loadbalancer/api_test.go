package loadbalancer

import (
	"slices"
	"strings"
	"testing"
)

// TestRefusals holds wrong requests to upstream's status and words, and checks that they
// leave nothing behind.
func TestRefusals(t *testing.T) {
	w := start(t)
	lb := w.balancer()
	l := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"TCP","protocol_port":80`, lb)
	p := w.make("pool", "/pools", `"listener_id":"%s","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"`, l)
	u := w.make("pool", "/pools", `"loadbalancer_id":"%s","protocol":"UDP","lb_algorithm":"ROUND_ROBIN"`, lb)
	m := w.make("member", "/pools/"+p+"/members", `"address":"10.0.0.40","protocol_port":8080`)
	hm := w.make("healthmonitor", "/healthmonitors", `"pool_id":"%s","type":"TCP","delay":5,"timeout":3,"max_retries":2`, p)
	bare := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"HTTPS","protocol_port":443`, lb)
	w.at("/network/v2.0", 201, "bob", "POST", "/networks", `{"network":{"name":"private"}}`)
	before := w.s.DB.Revision()
	vip := `"vip_subnet_id":"` + w.subnet + `"`
	for _, tc := range []struct {
		user, method, path, body string
		status                   int
		words                    string
	}{
		{"", "GET", "/loadbalancers", "", 401, ""},
		{"alice", "POST", "/loadbalancers", `{`, 400, "JSON"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{}}`, 400, "VIP must contain one of"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"colour":"red"}}`, 400, "Unknown attribute: colour"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"name":"` + strings.Repeat("x", 256) + `"}}`, 400, "field/attribute name"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"provisioning_status":"ACTIVE"}}`, 400, "Unknown attribute"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"admin_state_up":"maybe"}}`, 400, "admin_state_up"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"vip_address":"10.9.9.9"}}`, 400, ""},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"provider":"f5"}}`, 400, "Provider 'f5' is not enabled."},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"availability_zone":"z"}}`, 400, "Invalid availability zone."},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"flavor_id":"` + absent + `"}}`, 400, "Invalid flavor_id."},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"project_id":"p2"}}`, 403, "Policy does not allow"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"additional_vips":[{"subnet_id":"` + w.subnet + `"}]}}`, 400, "Duplicate VIP subnet(s) specified."},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"additional_vips":[{"subnet_id":"` + absent + `"}]}}`, 400, "Subnet " + absent + " not found"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"additional_vips":[{"ip_address":"fd00::1"}]}}`, 400, "Mandatory field missing"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"vip_qos_policy_id":"` + absent + `"}}`, 501, "vip_qos_policy_id"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `,"vip_sg_ids":["` + absent + `"]}}`, 400, "Security Group"},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{"vip_subnet_id":"` + absent + `"}}`, 400, "Subnet " + absent + " not found."},
		{"alice", "POST", "/loadbalancers", `{"loadbalancer":{"vip_network_id":"` + w.network + `","vip_address":"10.9.9.9"}}`, 400, "does not contain a subnet"},
		{"bob", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `}}`, 400, "not found"},
		{"ro", "POST", "/loadbalancers", `{"loadbalancer":{` + vip + `}}`, 403, "Policy does not allow"},
		{"bob", "GET", "/loadbalancers/" + lb, "", 403, "Policy does not allow"},
		{"bob", "DELETE", "/loadbalancers/" + lb + "?cascade=true", "", 403, ""},
		{"bob", "GET", "/loadbalancers/" + lb + "/stats", "", 403, ""},
		{"alice", "GET", "/loadbalancers/" + absent, "", 404, "Load Balancer " + absent + " not found."},
		{"alice", "GET", "/loadbalancers?colour=red", "", 400, "duplicate or invalid"},
		{"alice", "GET", "/loadbalancers?limit=-1", "", 400, "limit"},
		{"alice", "GET", "/loadbalancers?marker=" + absent, "", 400, "marker"},
		{"alice", "GET", "/loadbalancers?project_id=p2", "", 403, ""},
		{"alice", "POST", "/listeners", `{"listener":{"protocol":"TCP","protocol_port":80}}`, 400, "loadbalancer_id"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":80}}`, 409, "already using protocol TCP and protocol_port 80"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":0}}`, 400, "protocol_port"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"ICMP","protocol_port":81}}`, 400, "protocol"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"HTTP","protocol_port":81}}`, 501, "protocol HTTP"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TERMINATED_HTTPS","protocol_port":81,"default_tls_container_ref":"x"}}`, 501, "does not support"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":81,"allowed_cidrs":["fd00::/8"]}}`, 400, "incompatible"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":81,"allowed_cidrs":["10.0.0.0/33"]}}`, 400, "CIDR"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":81,"default_pool_id":"` + u + `"}}`, 400, "pool protocol 'UDP' is invalid"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + absent + `","protocol":"TCP","protocol_port":81}}`, 404, ""},
		{"bob", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":81}}`, 403, ""},
		{"alice", "PUT", "/listeners/" + l, `{"listener":{"protocol":"UDP"}}`, 400, "Unknown attribute: protocol"},
		{"alice", "PUT", "/listeners/" + l, `{"listener":{"default_pool_id":"` + absent + `"}}`, 404, ""},
		{"bob", "PUT", "/listeners/" + l, `{"listener":{}}`, 403, ""},
		{"alice", "POST", "/pools", `{"pool":{"protocol":"TCP","lb_algorithm":"ROUND_ROBIN"}}`, 400, "Must provide at least one of"},
		{"alice", "POST", "/pools", `{"pool":{"listener_id":"` + l + `","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"}}`, 409, "already has a default pool"},
		{"alice", "POST", "/pools", `{"pool":{"listener_id":"` + l + `","protocol":"UDP","lb_algorithm":"ROUND_ROBIN"}}`, 400, "pool protocol"},
		{"alice", "POST", "/pools", `{"pool":{"listener_id":"` + bare + `","protocol":"PROXY","lb_algorithm":"ROUND_ROBIN"}}`, 501, "does not support"},
		{"alice", "POST", "/pools", `{"pool":{"listener_id":"` + bare + `","protocol":"HTTP","lb_algorithm":"ROUND_ROBIN"}}`, 400, "invalid while the listener protocol is 'HTTPS'"},
		{"alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"` + lb + `","protocol":"TCP","protocol_port":443}}`, 409, "already using protocol"},
		{"alice", "POST", "/pools", `{"pool":{"loadbalancer_id":"` + lb + `","protocol":"PROXY","lb_algorithm":"ROUND_ROBIN"}}`, 501, ""},
		{"alice", "POST", "/pools", `{"pool":{"loadbalancer_id":"` + lb + `","protocol":"TCP","lb_algorithm":"RANDOM"}}`, 400, "lb_algorithm"},
		{"alice", "POST", "/pools", `{"pool":{"loadbalancer_id":"` + lb + `","protocol":"TCP","lb_algorithm":"SOURCE_IP","session_persistence":{"type":"HTTP_COOKIE"}}}`, 501, ""},
		{"alice", "POST", "/pools", `{"pool":{"loadbalancer_id":"` + lb + `","protocol":"UDP","lb_algorithm":"SOURCE_IP","session_persistence":{"type":"APP_COOKIE","cookie_name":"c"}}}`, 400, ""},
		{"alice", "PUT", "/pools/" + p, `{"pool":{"protocol":"UDP"}}`, 400, "Unknown attribute"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"10.0.0.40","protocol_port":8080}}`, 409, "already using ip 10.0.0.40 on protocol_port 8080"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"::ffff:10.0.0.40","protocol_port":8080}}`, 409, "already using ip"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"127.0.0.1","protocol_port":8080}}`, 400, "member address"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"169.254.169.254","protocol_port":80}}`, 400, "member address"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"fd00::1","protocol_port":80}}`, 501, "IP version"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"10.0.0.41","protocol_port":80,"weight":257}}`, 400, "weight"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"10.0.0.41","protocol_port":80,"subnet_id":"` + absent + `"}}`, 404, "Subnet"},
		{"alice", "POST", "/pools/" + p + "/members", `{"member":{"address":"10.0.0.41"}}`, 400, "protocol_port"},
		{"alice", "PUT", "/pools/" + p + "/members/" + m, `{"member":{"address":"10.0.0.42"}}`, 400, "Unknown attribute"},
		{"alice", "GET", "/pools/" + u + "/members/" + m, "", 404, "Member"},
		{"bob", "DELETE", "/pools/" + p + "/members/" + m, "", 403, ""},
		{"ro", "PUT", "/pools/" + p + "/members", `{"members":[]}`, 403, ""},
		{"alice", "PUT", "/pools/" + p + "/members", `{"member":{}}`, 400, "members"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + p + `","type":"TCP","delay":5,"timeout":3,"max_retries":2}}`, 409, "already has a health monitor"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"PING","delay":5,"timeout":3,"max_retries":2}}`, 400, "UDP-CONNECT"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"UDP-CONNECT","delay":2,"timeout":1,"max_retries":2}}`, 400, "delay"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"TCP","delay":5,"timeout":3,"max_retries":2,"url_path":"/x"}}`, 400, "url_path"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"HTTP","delay":5,"timeout":3,"max_retries":2,"url_path":"/x\r\nHost: y"}}`, 400, "url_path"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"TCP","timeout":3,"max_retries":2}}`, 400, "delay"},
		{"alice", "POST", "/healthmonitors", `{"healthmonitor":{"pool_id":"` + u + `","type":"TCP","delay":5,"timeout":3,"max_retries":11}}`, 400, "max_retries"},
		{"alice", "PUT", "/healthmonitors/" + hm, `{"healthmonitor":{"http_method":"GET"}}`, 400, "http_method"},
		{"alice", "PUT", "/healthmonitors/" + hm, `{"healthmonitor":{"delay":null}}`, 400, "delay"},
		{"alice", "PUT", "/quotas/p1", `{"quota":{"pool":5}}`, 403, ""},
		{"bob", "GET", "/quotas/p1", "", 403, ""},
		{"alice", "GET", "/l7policies", "", 404, ""},
		{"alice", "GET", "/flavors/" + absent, "", 404, "Flavor"},
	} {
		got := w.at(prefix, tc.status, tc.user, tc.method, tc.path, tc.body)
		if tc.status == 401 {
			continue // which is the middleware's envelope
		}
		if text, _ := got["faultstring"].(string); !strings.Contains(text, tc.words) || got["faultcode"] == nil {
			t.Errorf("%s %s %s says %v, not %q", tc.method, tc.path, tc.body, got, tc.words)
		}
	}
	if w.s.DB.Revision() != before {
		t.Error("a refused request has written something")
	}
}

func names(list any) []string {
	out := []string{}
	for _, x := range list.([]any) {
		out = append(out, x.(view)["name"].(string))
	}
	return out
}

// TestLists selects, sorts, cuts and pages.
func TestLists(t *testing.T) {
	w := start(t)
	for _, n := range []string{"a", "b", "c"} {
		w.make("loadbalancer", "/loadbalancers", `"name":"%s","vip_subnet_id":"%s","tags":["all","%s"]`, n, w.subnet, n)
	}
	for query, want := range map[string]string{
		"?sort=name:desc": "c b a", "?sort_key=name&sort_dir=asc": "a b c", "?name=b": "b", "?tags=all&sort=name": "a b c", "?tags=all,b": "b",
		"?tags-any=a,c&sort=name": "a c", "?not-tags-any=a,c": "b", "?not-tags=all,b&sort=name": "a c", "?vip_subnet_id=" + absent: "",
		"?admin_state_up=true&sort=name": "a b c", "?project_id=p1&sort=name": "a b c", "?provisioning_status=ACTIVE&sort=name": "a b c",
	} {
		if got := strings.Join(names(w.want(200, "alice", "GET", "/loadbalancers"+query, "")["loadbalancers"]), " "); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	if got := w.want(200, "bob", "GET", "/loadbalancers", "")["loadbalancers"].([]any); len(got) != 0 {
		t.Errorf("bob sees %v", got)
	}
	if got := w.want(200, "admin", "GET", "/loadbalancers", "")["loadbalancers"].([]any); len(got) != 3 {
		t.Errorf("an administrator sees %v", got)
	}
	var seen []string
	for path := "/loadbalancers?limit=2&sort=name&fields=id&fields=name"; path != ""; {
		got := w.want(200, "alice", "GET", path, "")
		for _, x := range got["loadbalancers"].([]any) {
			if len(x.(view)) != 2 {
				t.Fatalf("fields: %v", x)
			}
		}
		seen = append(seen, names(got["loadbalancers"])...)
		path = ""
		for _, l := range got["loadbalancers_links"].([]any) {
			if l.(view)["rel"] == "next" {
				_, path, _ = strings.Cut(l.(view)["href"].(string), prefix)
			}
		}
	}
	if !slices.Equal(seen, []string{"a", "b", "c"}) {
		t.Errorf("paged: %v", seen)
	}
}

// TestQuotas counts what a project has, and what a request would add.
func TestQuotas(t *testing.T) {
	w := start(t)
	if q := w.want(200, "alice", "GET", "/quotas/defaults", "")["quota"].(view); q["loadbalancer"] != -1.0 || q["load_balancer"] != -1.0 {
		t.Errorf("defaults: %v", q)
	}
	w.want(202, "admin", "PUT", "/quotas/p1", `{"quota":{"load_balancer":1,"member":2,"listener":0}}`)
	if q := w.want(200, "alice", "GET", "/quotas/p1", "")["quota"].(view); q["loadbalancer"] != 1.0 || q["member"] != 2.0 || q["pool"] != -1.0 {
		t.Errorf("set: %v", q)
	}
	lb := w.balancer()
	w.want(403, "alice", "POST", "/loadbalancers", `{"loadbalancer":{"vip_subnet_id":"%s"}}`, w.subnet)
	w.want(403, "alice", "POST", "/listeners", `{"listener":{"loadbalancer_id":"%s","protocol":"TCP","protocol_port":80}}`, lb)
	p := w.make("pool", "/pools", `"loadbalancer_id":"%s","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"`, lb)
	at := "/pools/" + p + "/members"
	three := `{"members":[{"address":"10.0.0.1","protocol_port":1},{"address":"10.0.0.2","protocol_port":1},{"address":"10.0.0.3","protocol_port":1}]}`
	w.at(prefix, 403, "alice", "PUT", at, three)
	w.make("member", at, `"address":"10.0.0.1","protocol_port":1`)
	w.make("member", at, `"address":"10.0.0.2","protocol_port":1`)
	w.want(403, "alice", "POST", at, `{"member":{"address":"10.0.0.3","protocol_port":1}}`)
	if len(w.ports()) != 1 {
		t.Errorf("ports: %v", w.ports())
	}
	w.want(202, "admin", "DELETE", "/quotas/p1", "")
	w.want(202, "admin", "DELETE", "/quotas/p1", "")
	w.at(prefix, 202, "alice", "PUT", at, three)
}

// TestDiscovery holds the version documents, and the older places of the API.
func TestDiscovery(t *testing.T) {
	w := start(t)
	list := w.at("/load-balancer", 200, "", "GET", "", "")["versions"].([]any)
	last := list[len(list)-1].(view)
	if len(list) != 17 || last["id"] != "v2.16" || last["status"] != "CURRENT" || last["links"].([]any)[0].(view)["href"] != w.url+prefix {
		t.Errorf("versions: %v", list)
	}
	lb := w.balancer()
	for _, at := range []string{"/load-balancer/v2.0", "/load-balancer/v2.0/lbaas", "/load-balancer/v2/lbaas"} {
		if got := w.at(at, 200, "alice", "GET", "/loadbalancers/"+lb, "")["loadbalancer"].(view); got["id"] != lb {
			t.Errorf("%s: %v", at, got)
		}
	}
	if got := w.want(200, "alice", "GET", "/providers", "")["providers"].([]any); len(got) != 3 {
		t.Errorf("providers: %v", got)
	}
}
