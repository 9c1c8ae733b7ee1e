package network

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// extensions are those of upstream that the tables in this package fulfil: alias and name.
var extensions = [][2]string{
	{"address-scope", "Address scope"}, {"agent", "agent"}, {"allowed-address-pairs", "Allowed Address Pairs"},
	{"availability_zone", "Availability Zone"}, {"binding", "Port Binding"}, {"default-subnetpools", "Default Subnetpools"},
	{"dns-integration", "DNS Integration"}, {"dns-domain-ports", "dns_domain for ports"}, {"subnet-dns-publish-fixed-ip", "Subnet DNS publish fixed IP"},
	{"empty-string-filtering", "Empty String Filtering Extension"}, {"ext-gw-mode", "Neutron L3 Configurable external gateway mode"},
	{"external-net", "Neutron external network"}, {"extra_dhcp_opt", "Neutron Extra DHCP options"}, {"extraroute", "Neutron Extra Route"},
	{"extraroute-atomic", "Atomically add/remove extra routes"}, {"filter-validation", "Filter parameters validation"},
	{"fip-port-details", "Floating IP Port Details Extension"}, {"ip-substring-filtering", "IP address substring filtering"},
	{"net-mtu", "Network MTU"}, {"net-mtu-writable", "Network MTU (writable)"}, {"network-ip-availability", "Network IP Availability"},
	{"network_availability_zone", "Network Availability Zone"}, {"pagination", "Pagination support"}, {"port-mac-address-regenerate", "Port MAC address regenerate"},
	{"port-security", "Port Security"}, {"project-id", "project_id field enabled"}, {"provider", "Provider Network"},
	{"quotas", "Quota management support"}, {"quota_details", "Quota details management support"}, {"quota-check-limit", "Quota engine limit check"},
	{"rbac-policies", "RBAC Policies"}, {"rbac-security-groups", "Add security_group type to network RBAC"}, {"rbac-address-scope", "Add address_scope type to RBAC"},
	{"rbac-subnetpool", "Add subnetpool type to RBAC"}, {"revision-if-match", "If-Match constraints based on revision_number"},
	{"router", "Neutron L3 Router"}, {"router_availability_zone", "Router Availability Zone"}, {"security-group", "security-group"},
	{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules"}, {"security-groups-shared-filtering", "Security group filtering on the shared field"},
	{"service-type", "Neutron Service Type Management"}, {"sorting", "Sorting support"},
	{"standard-attr-description", "standard-attr-description"}, {"standard-attr-revisions", "Resource revision numbers"},
	{"standard-attr-tag", "Tag support for resources with standard attribute: floatingip, network, port, router, security_group, security_group_rule, subnet, subnetpool"},
	{"standard-attr-timestamp", "Resource timestamps"}, {"stateful-security-group", "Stateful security group"}, {"subnet-service-types", "Subnet service types"},
	{"subnet_allocation", "Subnet Allocation"},
}

func view(e [2]string) map[string]any {
	return map[string]any{"alias": e[0], "name": e[1], "description": e[1], "updated": "2016-01-01T00:00:00-00:00", "links": []any{}}
}

func (s *Service) extensionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/extensions", Policy: "get_extension", Handle: listExtensions},
		{Method: "GET", Path: "/extensions/{alias}", Policy: "get_extension", Handle: showExtension},
		{Method: "GET", Path: "/service-providers", Policy: "get_service_provider", Handle: listProviders},
	}
}

func listExtensions(_ context.Context, r *rest.Request) (*rest.Response, error) {
	out := []map[string]any{}
	for _, e := range extensions {
		if v := view(e); len(r.Query()["alias"]) == 0 || match(v["alias"], r.Query()["alias"]) {
			out = append(out, v)
		}
	}
	return rest.JSON(http.StatusOK, map[string]any{"extensions": out}), nil
}

func showExtension(_ context.Context, r *rest.Request) (*rest.Response, error) {
	for _, e := range extensions {
		if e[0] == r.Path("alias") {
			return rest.JSON(http.StatusOK, map[string]any{"extension": view(e)}), nil
		}
	}
	return nil, errs.Coded(errs.NotFound, "HTTPNotFound", "Extension with alias %s does not exist", r.Path("alias"))
}

// listProviders names who provides routers.
func listProviders(context.Context, *rest.Request) (*rest.Response, error) {
	return rest.JSON(http.StatusOK, map[string]any{"service_providers": []any{
		map[string]any{"service_type": "L3_ROUTER_NAT", "name": "strata", "default": true}}}), nil
}
