package compute

import "github.com/strata-cloud/strata/internal/rest"

// discovery are the version documents (nova/api/openstack/compute/versions.py).
func discovery() map[string]rest.Document {
	v2 := func(base string) map[string]any {
		return map[string]any{"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z",
			"links": []any{map[string]string{"rel": "self", "href": base + "/compute/v2/"}}}
	}
	v21 := func(base string) map[string]any {
		return map[string]any{"id": "v2.1", "status": "CURRENT", "version": maxVersion.String(), "min_version": minVersion.String(), "updated": "2013-07-23T11:33:21Z",
			"links": []any{map[string]string{"rel": "self", "href": base + "/compute/v2.1/"}}}
	}
	all := func(base string) *rest.Response {
		return rest.JSON(200, map[string]any{"versions": []any{v2(base), v21(base)}})
	}
	one := func(entry func(string) map[string]any, number string) rest.Document {
		return func(base string) *rest.Response {
			e := entry(base)
			e["links"] = append(e["links"].([]any), map[string]string{"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
			e["media-types"] = []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=" + number}}
			return rest.JSON(200, map[string]any{"version": e})
		}
	}
	return map[string]rest.Document{"/compute": all, "/compute/v2": one(v2, "2"), "/compute/v2.1": one(v21, "2.1")}
}
