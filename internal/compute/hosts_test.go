package compute

import "testing"

func TestHosts(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("web", "")
	v, err := c.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	c.do("member", "GET", "/os-hosts", "").want(403)
	c.do("admin@2.43", "GET", "/os-hosts", "").want(404)
	c.do("admin@2.42", "GET", "/os-hosts", "").want(200).count(2, "hosts").is("compute", "hosts", 0, "service").is("nova", "hosts", 0, "zone")
	c.do("admin", "GET", "/os-hosts?zone=", "").want(200).count(2, "hosts")
	c.do("admin", "GET", "/os-hosts?zone=mars", "").want(200).count(0, "hosts")
	c.do("admin", "GET", "/os-hosts/"+v.Host, "").want(200).count(4, "host").is("(total)", "host", 0, "resource", "project").is(8, "host", 0, "resource", "cpu").
		is(1, "host", 1, "resource", "cpu").is(project1, "host", 3, "resource", "project").is(128, "host", 3, "resource", "memory_mb")
	c.do("admin", "GET", "/os-hosts/mars", "").want(404)
	for body, status := range map[string]int{`{"status":"enable"}`: 501, `{"maintenance_mode":"disable"}`: 501, `{"status":"on"}`: 400, `{}`: 400,
		`{"status":null,"maintenance_mode":null}`: 400, `{"status":"enable","x":1}`: 400} {
		c.do("admin", "PUT", "/os-hosts/"+v.Host, body).want(status)
	}
	c.do("admin", "PUT", "/os-hosts/mars", `{"status":"enable"}`).want(404)
	c.do("member", "PUT", "/os-hosts/"+v.Host, `{"status":"enable"}`).want(403)
	for _, verb := range []string{"startup", "shutdown", "reboot"} {
		c.do("admin", "GET", "/os-hosts/"+v.Host+"/"+verb, "").want(501)
		c.do("admin", "GET", "/os-hosts/mars/"+verb, "").want(404)
		c.do("member", "GET", "/os-hosts/"+v.Host+"/"+verb, "").want(403)
	}
}

func TestInstanceUsageAuditLog(t *testing.T) {
	c := newClient(t)
	at := "/os-instance_usage_audit_log"
	c.do("member", "GET", at, "").want(403)
	c.do("admin@2.96", "GET", at, "").want(200).is("[node-1]", "instance_usage_audit_logs", "hosts_not_run").is(1, "instance_usage_audit_logs", "num_hosts_not_run").
		is("0 of 1 hosts done. 0 errors.", "instance_usage_audit_logs", "overall_status")
	for before, month := range map[string]string{"2026-03-31%2012:00:00": "2026-02-01 00:00:00", "2026-03-01%2000:00:00": "2026-01-01 00:00:00",
		"2026-01-15%2001:02:03.000004": "2025-12-01 00:00:00"} {
		c.do("admin", "GET", at+"/"+before, "").want(200).is(month, "instance_usage_audit_log", "period_beginning")
	}
	for _, bad := range []string{"invalid_time", "2026-13-01%2000:00:00"} {
		c.do("admin", "GET", at+"/"+bad, "").want(400)
	}
}
