// Package proxy is the part of the compute API that shows other services: images,
// floating IPs, networks, volumes, and the addresses of a server's ports. Upstream took it
// over from the days when one service did it all and ended it by microversions; a
// newer request gets 404, as it does there.
//
// Nothing is kept here. The request that a service is handed says who asks, so that
// its own policy and quotas hold.
package proxy

import (
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// The last microversions (nova/api/openstack/api_version_request.py,
// MAX_PROXY_API_SUPPORT_VERSION and MAX_IMAGE_META_PROXY_API_VERSION; floating_ips.py).
var (
	lastProxy     = rest.V(2, 35)
	lastImageMeta = rest.V(2, 38)
	lastAddress   = rest.V(2, 43)
)

// Policies are upstream's names and defaults. Images have none there: the image
// service's alone hold.
func Policies() []policy.Rule {
	var out []policy.Rule
	for check, names := range map[string][]string{
		"@": {"images", "os-floating-ip-pools"},
		"rule:project_reader_or_admin": {"os-floating-ips:list", "os-floating-ips:show", "os-networks:list", "os-networks:show",
			"os-tenant-networks:list", "os-tenant-networks:show", "os-volumes:list", "os-volumes:detail", "os-volumes:show",
			"os-volumes:snapshots:list", "os-volumes:snapshots:detail", "os-volumes:snapshots:show"},
		"rule:project_member_or_admin": {"os-floating-ips:create", "os-floating-ips:delete", "os-floating-ips:add", "os-floating-ips:remove", "os-multinic:add", "os-multinic:remove",
			"os-volumes:create", "os-volumes:delete", "os-volumes:snapshots:create", "os-volumes:snapshots:delete"},
	} {
		for _, n := range names {
			out = append(out, policy.Rule{Name: "os_compute_api:" + n, Check: check})
		}
	}
	return out
}

// loose is the schema of a body with one key, which upstream checks no further.
func loose(key, value string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(`{"type":"object","properties":{"` + key + `":` + value + `},"required":["` + key + `"],"additionalProperties":false}`)}
}
