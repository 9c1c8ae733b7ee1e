package network

import (
	"fmt"
	"testing"
)

// TestCanonical holds what is stored to the form upstream gives it.
func TestCanonical(t *testing.T) {
	w := start(t)
	net := w.net("alice", `"name":"n"`)
	if s := w.make("alice", "subnet", "/subnets", `"network_id":"%s","ip_version":4,"cidr":"10.1.0.9/24"`, net); s["cidr"] != "10.1.0.0/24" {
		t.Errorf("host bits stay: %v", s["cidr"])
	}
	auto := w.make("alice", "subnet", "/subnets",
		`"network_id":"%s","ip_version":6,"cidr":"2001:db8::/64","ipv6_ra_mode":"slaac","ipv6_address_mode":"slaac"`, net)["id"]
	p := w.make("alice", "port", "/ports", `"network_id":"%s","fixed_ips":[{"ip_address":"10.1.0.7"}]`, net)
	if ips := p["fixed_ips"].([]any); len(ips) != 2 || ips[1].(map[string]any)["subnet_id"] != auto {
		t.Errorf("an address that the guest takes by itself is not the port's: %v", ips)
	}
	group := w.make("alice", "security_group", "/security-groups", `"name":"g"`)["id"]
	for _, name := range []string{"icmp", "icmpv6", "ipv6-icmp"} {
		body := fmt.Sprintf(`{"security_group_rule":{"security_group_id":"%s","direction":"ingress","ethertype":"IPv6","protocol":"%s"}}`, group, name)
		status, out := w.call("alice", "POST", "/security-group-rules", body)
		if r, ok := out["security_group_rule"].(map[string]any); ok && r["protocol"] != "ipv6-icmp" || status != 201 && refusal(out) != "SecurityGroupRuleExists" {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
}

// TestSharing lets tenants share with a project and leaves everybody to the administrator.
func TestSharing(t *testing.T) {
	w := start(t)
	net := w.net("alice", `"name":"n"`)
	share := func(user, target string) int {
		status, _ := w.call(user, "POST", "/rbac-policies",
			fmt.Sprintf(`{"rbac_policy":{"object_type":"network","object_id":"%s","action":"access_as_shared","target_tenant":"%s"}}`, net, target))
		return status
	}
	if s := share("alice", "*"); s != 403 {
		t.Errorf("a tenant shares with everybody: %d", s)
	}
	w.want(404, "bob", "GET", "/networks/"+net, nil)
	if s := share("alice", "p2"); s != 201 {
		t.Errorf("a tenant shares with a project: %d", s)
	}
	w.want(200, "bob", "GET", "/networks/"+net, nil)
	if s := share("admin", "*"); s != 201 {
		t.Errorf("the administrator shares with everybody: %d", s)
	}
}
