package volume

import "github.com/strata-cloud/strata/internal/rest"

// discovery are the version documents (cinder/api/views/versions.py).
func discovery() map[string]rest.Document {
	doc := func(status int) rest.Document {
		return func(base string) *rest.Response {
			v3 := map[string]any{"id": "v3.0", "status": "CURRENT", "version": maxVersion.String(), "min_version": minVersion.String(), "updated": "2022-08-31T00:00:00Z",
				"links": []any{map[string]string{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
					map[string]string{"rel": "self", "href": base + "/volume/v3/"}},
				"media-types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}}}
			return rest.JSON(status, map[string]any{"versions": []any{v3}})
		}
	}
	return map[string]rest.Document{"/volume": doc(300), "/volume/v3": doc(200)}
}
