package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestRefusals holds wrong requests to upstream's status and type, and checks
// that they leave nothing behind.
func TestRefusals(t *testing.T) {
	w := start(t)
	net := w.net("alice", `"name":"n"`)
	sub := w.sub("alice", net, "10.0.0.0/29", "")
	ext := w.net("admin", `"name":"ext","router:external":true`)
	w.sub("admin", ext, "203.0.113.0/29", `,"enable_dhcp":false`)
	priv := w.net("bob", `"name":"private"`)
	port := w.make("alice", "port", "/ports", `"network_id":"%s","fixed_ips":[{"ip_address":"10.0.0.3"}]`, net)["id"].(string)
	group := w.want(200, "alice", "GET", "/security-groups", nil)["security_groups"].([]any)[0].(map[string]any)["id"].(string)
	before := w.s.DB.Revision()
	for _, tc := range []struct {
		user, method, path, body string
		status                   int
		code                     string
	}{
		{"alice", "POST", "/networks", `{`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"net":{}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"network":{"nam":"x"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"network":{"name":"` + strings.Repeat("x", 256) + `"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"network":{"admin_state_up":"maybe"}}`, 400, "InvalidInput"},
		{"alice", "GET", "/networks?admin_state_up=maybe", "", 400, "InvalidInput"},
		{"alice", "GET", "/ports?fixed_ips=maybe", "", 400, "InvalidInput"},
		{"alice", "POST", "/networks", `{"network":{"status":"ACTIVE"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"network":{"shared":true}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/networks", `{"network":{"router:external":true}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/networks", `{"network":{"provider:network_type":"vxlan"}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/networks", `{"network":{"project_id":"p2"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/networks", `{"network":{"mtu":9000}}`, 400, "InvalidInput"},
		{"ro", "POST", "/networks", `{"network":{}}`, 403, "PolicyNotAuthorized"},
		{"", "GET", "/networks", "", 401, ""},
		{"alice", "GET", "/networks/" + absent, "", 404, "NetworkNotFound"},
		{"alice", "GET", "/networks/" + priv, "", 404, "NetworkNotFound"},
		{"alice", "DELETE", "/networks/" + priv, "", 404, "NetworkNotFound"},
		{"alice", "PUT", "/networks/" + ext, `{"network":{"name":"mine"}}`, 403, "PolicyNotAuthorized"},
		{"alice", "DELETE", "/networks/" + ext, "", 403, "PolicyNotAuthorized"},
		{"alice", "GET", "/networks?colour=red", "", 400, "HTTPBadRequest"},
		{"alice", "GET", "/networks?sort_key=colour&sort_dir=asc", "", 400, "HTTPBadRequest"},
		{"alice", "GET", "/networks?limit=-1", "", 400, "BadRequest"},
		{"alice", "GET", "/networks?marker=" + absent, "", 404, "NetworkNotFound"},
		{"alice", "DELETE", "/networks/" + net, "", 409, "NetworkInUse"},
		{"admin", "POST", "/networks", `{"network":{"provider:network_type":"token-ring"}}`, 400, "InvalidInput"},
		{"admin", "POST", "/networks", `{"network":{"provider:network_type":"flat","provider:physical_network":"moon"}}`, 400, "InvalidInput"},
		{"admin", "POST", "/networks", `{"network":{"provider:network_type":"vxlan","provider:segmentation_id":1}}`, 409, "TunnelIdInUse"},

		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + absent + `","cidr":"10.1.0.0/24","ip_version":4}}`, 404, "NetworkNotFound"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + ext + `","cidr":"10.1.0.0/24","ip_version":4}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/subnets", `{"subnet":{"cidr":"10.1.0.0/24","ip_version":4}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","ip_version":4}}`, 400, "BadRequest"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.1/240","ip_version":4}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":5}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":6}}`, 400, "InvalidInput"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.0.0.0/24","ip_version":4}}`, 400, "InvalidInput"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":4,"gateway_ip":"10.1.0.0"}}`, 400, "InvalidInput"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":4,"allocation_pools":[{"start":"10.1.0.1","end":"10.1.0.9"}]}}`, 409, "GatewayConflictWithAllocationPools"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":4,"allocation_pools":[{"start":"10.1.0.9","end":"10.1.0.3"}]}}`, 400, "InvalidAllocationPool"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":4,"allocation_pools":[{"start":"10.1.0.9","end":"10.1.1.3"}]}}`, 400, "OutOfBoundsAllocationPool"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"10.1.0.0/24","ip_version":4,"ipv6_ra_mode":"slaac"}}`, 400, "InvalidInput"},
		{"alice", "POST", "/subnets", `{"subnet":{"network_id":"` + net + `","cidr":"2001:db8::/48","ip_version":6,"ipv6_address_mode":"slaac"}}`, 400, "InvalidInput"},
		{"alice", "PUT", "/subnets/" + sub, `{"subnet":{"cidr":"10.9.0.0/24"}}`, 400, "HTTPBadRequest"},
		{"alice", "DELETE", "/subnets/" + sub, "", 409, "SubnetInUse"},

		{"alice", "POST", "/ports", `{"port":{"network_id":"` + priv + `"}}`, 404, "NetworkNotFound"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","fixed_ips":[{"ip_address":"10.0.0.3"}]}}`, 409, "IpAddressAlreadyAllocated"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","fixed_ips":[{"ip_address":"10.7.0.3"}]}}`, 400, "InvalidIpForNetwork"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","fixed_ips":[{"subnet_id":"` + sub + `","ip_address":"10.7.0.3"}]}}`, 400, "InvalidIpForSubnet"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","fixed_ips":[{"subnet_id":"` + absent + `"}]}}`, 404, "SubnetNotFound"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","mac_address":"zz"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","binding:host_id":"n1"}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","security_groups":["` + absent + `"]}}`, 404, "SecurityGroupNotFound"},
		{"alice", "POST", "/ports", `{"port":{"network_id":"` + net + `","port_security_enabled":false,"security_groups":["` + group + `"]}}`, 400, "PortSecurityAndIPRequiredForSecurityGroups"},
		{"alice", "PUT", "/ports/" + port, `{"port":{"port_security_enabled":false}}`, 409, "PortSecurityPortHasSecurityGroup"},
		{"alice", "PUT", "/ports/" + port, `{"port":{"network_id":"` + net + `"}}`, 400, "HTTPBadRequest"},
		{"bob", "DELETE", "/ports/" + port, "", 404, "PortNotFound"},

		{"alice", "DELETE", "/security-groups/" + group, "", 409, "SecurityGroupInUse"},
		{"alice", "POST", "/security-groups", `{"security_group":{"name":"default"}}`, 409, "SecurityGroupDefaultAlreadyExists"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"egress"}}`, 409, "SecurityGroupRuleExists"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"in"}}`, 400, "HTTPBadRequest"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"ingress","port_range_min":1}}`, 400, "SecurityGroupProtocolRequiredWithPorts"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"ingress","protocol":"tcp","port_range_min":9,"port_range_max":2}}`, 400, "SecurityGroupInvalidPortRange"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"ingress","protocol":"icmp","port_range_min":300}}`, 400, "SecurityGroupInvalidIcmpValue"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + group + `","direction":"ingress","remote_ip_prefix":"::/0"}}`, 400, "SecurityGroupRuleParameterConflict"},
		{"alice", "POST", "/security-group-rules", `{"security_group_rule":{"security_group_id":"` + absent + `","direction":"ingress"}}`, 404, "SecurityGroupNotFound"},

		{"alice", "POST", "/routers", `{"router":{"external_gateway_info":{"network_id":"` + net + `"}}}`, 400, "BadRequest"},
		{"alice", "POST", "/routers", `{"router":{"external_gateway_info":{"network_id":"` + ext + `","enable_snat":false}}}`, 403, "PolicyNotAuthorized"},
		{"alice", "POST", "/floatingips", `{"floatingip":{"floating_network_id":"` + net + `"}}`, 400, "BadRequest"},
		{"alice", "POST", "/floatingips", `{"floatingip":{"floating_network_id":"` + ext + `","port_id":"` + port + `"}}`, 404, "ExternalGatewayForFloatingIPNotFound"},
		{"alice", "POST", "/floatingips", `{"floatingip":{"floating_network_id":"` + ext + `","fixed_ip_address":"10.0.0.3"}}`, 400, "BadRequest"},
		{"alice", "PUT", "/quotas/p1", `{"quota":{"network":5}}`, 403, "PolicyNotAuthorized"},
		{"admin", "PUT", "/quotas/p1", `{"quota":{"moons":5}}`, 400, "HTTPBadRequest"},
		{"alice", "GET", "/agents", "", 200, ""},
		{"alice", "GET", "/network-ip-availabilities", "", 403, "PolicyNotAuthorized"},
		{"alice", "GET", "/extensions/moon", "", 404, "HTTPNotFound"},
		{"alice", "GET", "/moons", "", 404, "HTTPNotFound"},
	} {
		status, out := w.call(tc.user, tc.method, tc.path, tc.body)
		if status != tc.status || tc.code != "" && refusal(out) != tc.code {
			t.Errorf("%s %s %s: %d %v, want %d %s", tc.method, tc.path, tc.body, status, out, tc.status, tc.code)
		}
	}
	if now := w.s.DB.Revision(); now != before {
		t.Errorf("refused requests wrote something: revision %d became %d", before, now)
	}
}

// TestServerPath walks from nothing to a port of a server behind a floating IP, and back.
func TestServerPath(t *testing.T) {
	w, ctx := start(t), context.Background()
	ext := w.net("admin", `"name":"public","router:external":true,"provider:network_type":"flat","provider:physical_network":"public"`)
	w.sub("admin", ext, "203.0.113.0/24", `,"enable_dhcp":false`)
	net := w.net("alice", `"name":"private"`)
	sub := w.sub("alice", net, "10.0.0.0/24", "")
	r := w.make("alice", "router", "/routers", `"name":"r","external_gateway_info":{"network_id":"%s"}`, ext)["id"].(string)
	w.want(200, "alice", "PUT", "/routers/"+r+"/add_router_interface", fmt.Sprintf(`{"subnet_id":"%s"}`, sub))
	spec := PortSpec{ID: absent, NetworkID: net, ProjectID: "p1", Server: "s1", Host: "n1", Hostname: "web"}
	for range 2 {
		p, err := w.s.EnsurePort(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		if p.Bound != "n1" || len(p.FixedIPs) != 1 || p.GroupNames[0] != "default" || p.MTU != 1450 {
			t.Fatalf("%+v", p)
		}
	}
	f := w.make("alice", "floatingip", "/floatingips", `"floating_network_id":"%s","port_id":"%s"`, ext, absent)
	if f["router_id"] != r || f["status"] != "ACTIVE" {
		t.Errorf("%v", f)
	}
	st := w.s.NetState("n1")
	if len(st.Networks) != 2 || len(st.Routers) != 1 || len(st.Ports) != 1 || len(st.SecurityGroups) != 1 {
		t.Fatalf("%+v", st)
	}
	x := st.Routers[0]
	if x.Gateway == nil || !x.Gateway.EnableSNAT || x.Gateway.NextHops[0].String() != "203.0.113.1" || len(x.FloatingIPs) != 1 || x.Interfaces[0].Addrs[0].String() != "10.0.0.1/24" {
		t.Errorf("%+v", x)
	}
	for _, n := range st.Networks {
		if n.ID == net && (n.ServiceMAC == "" || !n.Subnets[0].ServiceAddr.IsValid() || n.Subnets[0].RouterAddr.String() != "10.0.0.1") {
			t.Errorf("%+v", n)
		}
	}
	if err := w.s.ReportPorts(ctx, "n1", []nodeapi.PortStatus{{PortID: absent, Up: true}, {PortID: "gone", Up: true}}); err != nil {
		t.Fatal(err)
	}
	if got := w.s.Ports("s1"); len(got) != 1 || got[0].Status != "ACTIVE" || len(got[0].Floating) != 1 {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct{ method, path, body, code string }{
		{"DELETE", "/routers/" + r, "", "RouterInUse"},
		{"PUT", "/routers/" + r + "/remove_router_interface", `{"subnet_id":"` + sub + `"}`, "RouterInterfaceInUseByFloatingIP"},
		{"PUT", "/routers/" + r, `{"router":{"external_gateway_info":null}}`, "RouterExternalGatewayInUseByFloatingIp"},
		{"PUT", "/subnets/" + sub, `{"subnet":{"gateway_ip":null}}`, "GatewayIpInUse"},
	} {
		if status, out := w.call("alice", tc.method, tc.path, tc.body); status != 409 || refusal(out) != tc.code {
			t.Errorf("%s %s: %d %v", tc.method, tc.path, status, out)
		}
	}
	legs := w.want(200, "alice", "GET", "/ports?device_id="+r, nil)["ports"].([]any)
	leg := legs[slices.IndexFunc(legs, func(p any) bool { return p.(map[string]any)["device_owner"] == ownerInterface })].(map[string]any)["id"].(string)
	if status, out := w.call("alice", "DELETE", "/ports/"+leg, nil); status != 409 || refusal(out) != "ServicePortInUse" {
		t.Errorf("%d %v", status, out)
	}
	for range 2 {
		if err := w.s.ReleasePort(ctx, absent, false); err != nil {
			t.Fatal(err)
		}
	}
	id := f["id"].(string)
	if f = w.want(200, "alice", "GET", "/floatingips/"+id, nil)["floatingip"].(map[string]any); f["port_id"] != nil || f["status"] != "DOWN" {
		t.Errorf("%v", f)
	}
	w.want(204, "alice", "DELETE", "/floatingips/"+id, nil)
	w.want(200, "alice", "PUT", "/routers/"+r+"/remove_router_interface", `{"subnet_id":"`+sub+`"}`)
	w.want(204, "alice", "DELETE", "/routers/"+r, nil)
	w.want(204, "alice", "DELETE", "/networks/"+net, nil)
	w.want(204, "admin", "DELETE", "/networks/"+ext, nil)
	if n := w.s.ports.Len() + w.s.subnets.Len() + w.s.rbacs.Len() + w.s.floating.Len(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}
