package cluster

import "github.com/strata-cloud/strata/internal/rest"

// discovery are the version documents (magnum/api/controllers/root.py and v1/__init__.py).
func discovery() map[string]rest.Document {
	return map[string]rest.Document{
		root: func(base string) *rest.Response {
			v1 := map[string]any{"id": "v1", "status": "CURRENT", "min_version": minVersion.String(), "max_version": maxVersion.String(),
				"links": []any{map[string]string{"rel": "self", "href": base + prefix + "/"}}}
			return rest.JSON(200, map[string]any{"name": "OpenStack Magnum API", "description": "Magnum is an OpenStack project which aims to provide container cluster management.", "versions": []any{v1}})
		},
		prefix: func(base string) *rest.Response {
			v := map[string]any{"id": "v1", "links": []any{map[string]string{"rel": "self", "href": base + prefix + "/"}},
				"media_types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.magnum.v1+json"}}}
			for name, path := range map[string]string{"clustertemplates": "clustertemplates/", "clusters": "clusters/", "quotas": "quotas/", "certificates": "certificates/", "mservices": "mservices/", "stats": "stats/", "nodegroups": "clusters/{cluster_id}/nodegroups"} {
				v[name] = []any{map[string]string{"rel": "self", "href": base + prefix + "/" + path}, map[string]string{"rel": "bookmark", "href": base + root + "/" + path}}
			}
			return rest.JSON(200, v)
		},
	}
}
