package image

import "github.com/strata-cloud/strata/internal/rest"

// minorVersions are what a glance with one store and no image cache announces, up
// to multihash and hidden images; they name no microversions (glance/api/versions.py).
var minorVersions = []string{"2.9", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0"}

// discovery are the version documents: 300 at the root, 200 when asked by name.
func discovery() map[string]rest.Document {
	doc := func(status int) rest.Document {
		return func(base string) *rest.Response {
			list := make([]any, len(minorVersions))
			for i, v := range minorVersions {
				state := "SUPPORTED"
				if i == 0 {
					state = "CURRENT"
				}
				list[i] = map[string]any{"id": "v" + v, "status": state,
					"links": []any{map[string]string{"rel": "self", "href": base + "/image/v2/"}}}
			}
			return rest.JSON(status, map[string]any{"versions": list})
		}
	}
	return map[string]rest.Document{"/image": doc(300), "/image/v2": doc(300), "/image/versions": doc(200)}
}
