package compute

import "github.com/strata-cloud/strata/internal/rest"

// discovery are the version documents (nova/api/openstack/compute/versions.py).
func discovery() map[string]rest.Document {
	entry := func(base string) map[string]any {
		return map[string]any{"id": "v2.1", "status": "CURRENT", "version": maxVersion.String(), "min_version": minVersion.String(), "updated": "2013-07-23T11:33:21Z",
			"links": []any{map[string]string{"rel": "self", "href": base + "/compute/v2.1/"}}}
	}
	all := func(base string) *rest.Response {
		return rest.JSON(200, map[string]any{"versions": []any{entry(base)}})
	}
	one := func(base string) *rest.Response {
		e := entry(base)
		e["links"] = append(e["links"].([]any), map[string]string{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"})
		e["media-types"] = []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}}
		return rest.JSON(200, map[string]any{"version": e})
	}
	return map[string]rest.Document{"/compute": all, "/compute/v2.1": one}
}
