package network

import "github.com/strata-cloud/strata/internal/rest"

// discovery are the version documents (neutron/api/versions.py and neutron/pecan_wsgi/controllers/root.py).
func (s *Service) discovery() map[string]rest.Document {
	all := func(base string) *rest.Response {
		return rest.JSON(200, map[string]any{"versions": []any{map[string]any{"id": "v2.0", "status": "CURRENT",
			"links": []any{map[string]string{"rel": "self", "href": base + prefix + "/"}}}}})
	}
	resources := func(base string) *rest.Response {
		out := []any{}
		for _, c := range s.collectionNames() {
			out = append(out, map[string]any{"name": c[0], "collection": c[1],
				"links": []any{map[string]string{"rel": "self", "href": base + prefix + "/" + c[1]}}})
		}
		return rest.JSON(200, map[string]any{"resources": out})
	}
	return map[string]rest.Document{"/network": all, prefix: resources}
}

func (s *Service) collectionNames() [][2]string {
	return [][2]string{{"network", "networks"}, {"subnet", "subnets"}, {"port", "ports"}, {"router", "routers"}, {"floatingip", "floatingips"},
		{"security_group", "security-groups"}, {"security_group_rule", "security-group-rules"}, {"subnetpool", "subnetpools"},
		{"address_scope", "address-scopes"}, {"rbac_policy", "rbac-policies"}, {"quota", "quotas"}, {"extension", "extensions"},
		{"agent", "agents"}, {"availability_zone", "availability_zones"}, {"network_ip_availability", "network-ip-availabilities"},
		{"service_provider", "service-providers"}}
}
