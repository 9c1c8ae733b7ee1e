package network

import "github.com/strata-cloud/strata/internal/policy"

// The personas of upstream's defaults (neutron/conf/policies/base.py).
const (
	admin    = "role:admin"
	member   = "role:admin or (role:member and project_id:%(project_id)s)"
	reader   = "role:admin or (role:reader and project_id:%(project_id)s)"
	netOwner = "role:admin or (role:member and project_id:%(network:project_id)s)"
	shared   = "'True':%(shared)s"
	service  = "role:service"
)

// Policies are upstream's names and secure-RBAC defaults (neutron/conf/policies/).
func Policies() []policy.Rule {
	var out []policy.Rule
	add := func(check string, names ...string) {
		for _, n := range names {
			out = append(out, policy.Rule{Name: n, Check: check})
		}
	}
	add(admin,
		"create_network:shared", "create_network:router:external", "create_network:is_default",
		"create_network:provider:network_type", "create_network:provider:physical_network", "create_network:provider:segmentation_id",
		"update_network:shared", "update_network:router:external", "update_network:is_default",
		"update_network:provider:network_type", "update_network:provider:physical_network", "update_network:provider:segmentation_id",
		"get_network:provider:network_type", "get_network:provider:physical_network", "get_network:provider:segmentation_id",
		"create_port:binding:host_id", "create_port:binding:profile", "update_port:binding:profile",
		"get_port:binding:vif_type", "get_port:binding:vif_details", "get_port:binding:host_id", "get_port:binding:profile",
		"create_router:external_gateway_info:enable_snat", "create_router:external_gateway_info:external_fixed_ips",
		"update_router:external_gateway_info:enable_snat", "update_router:external_gateway_info:external_fixed_ips",
		"create_floatingip:floating_ip_address",
		"create_subnetpool:shared", "create_subnetpool:is_default", "update_subnetpool:is_default",
		"create_address_scope:shared", "update_address_scope:shared",
		"update_quota", "delete_quota", "get_agent", "update_agent", "delete_agent", "get_network_ip_availability")
	add(admin+" or not '*':%(target_tenant)s", "create_rbac_policy:target_tenant", "update_rbac_policy:target_tenant")
	add(member,
		"create_network", "update_network", "delete_network", "create_network:port_security_enabled", "update_network:port_security_enabled",
		"create_port", "create_port:binding:vnic_type",
		"create_router", "update_router", "delete_router", "create_router:external_gateway_info:network_id", "update_router:external_gateway_info:network_id",
		"add_router_interface", "remove_router_interface", "add_extraroutes", "remove_extraroutes",
		"create_floatingip", "update_floatingip", "delete_floatingip",
		"create_security_group", "update_security_group", "delete_security_group", "create_security_group_rule", "update_security_group_rule", "delete_security_group_rule",
		"create_subnetpool", "update_subnetpool", "delete_subnetpool", "create_address_scope", "update_address_scope", "delete_address_scope",
		"create_rbac_policy", "update_rbac_policy", "delete_rbac_policy")
	add(reader, "get_router", "get_floatingip", "get_rbac_policy", "get_quota")
	add(reader+" or "+shared, "get_security_group", "get_subnetpool", "get_address_scope", "get_subnet")
	add(reader+" or "+shared+" or 'True':%(external)s", "get_network")
	add(reader+" or role:reader and project_id:%(security_group:project_id)s", "get_security_group_rule")
	addPortRules(add)
	add("", "get_extension", "get_availability_zone", "get_service_provider")
	return out
}

func addPortRules(add func(check string, names ...string)) {
	owner := member + " or (role:member and project_id:%(network:project_id)s)"
	add(netOwner, "create_subnet", "update_subnet", "delete_subnet")
	add(reader+" or (role:reader and project_id:%(network:project_id)s)", "get_port")
	add(member+" or "+service, "update_port")
	add(owner+" or "+service, "delete_port")
	plain := "not 'True':%(network_device)s"
	add(plain+" or "+service+" or "+netOwner, "create_port:device_owner", "update_port:device_owner")
	for _, op := range []string{"create_port:", "update_port:"} {
		add(netOwner+" or "+service, op+"fixed_ips:ip_address", op+"port_security_enabled")
		add(netOwner+" or "+service+" or "+shared, op+"fixed_ips", op+"fixed_ips:subnet_id")
		add(netOwner, op+"allowed_address_pairs")
	}
	add(netOwner+" or "+service, "create_port:mac_address")
	add(admin+" or "+service, "update_port:mac_address", "update_port:binding:host_id")
}
