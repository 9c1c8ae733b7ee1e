package placement

import "github.com/strata-cloud/strata/internal/rest"

// The range of microversions that this table is true for.
var (
	minVersion = rest.V(1, 0)
	maxVersion = rest.V(1, 39)
)

// discovery is the version document; its link is relative, as upstream's.
func discovery() map[string]rest.Document {
	return map[string]rest.Document{"/placement": func(string) *rest.Response {
		return rest.JSON(200, map[string]any{"versions": []any{map[string]any{"id": "v" + minVersion.String(), "status": "CURRENT",
			"min_version": minVersion.String(), "max_version": maxVersion.String(), "links": []any{map[string]string{"rel": "self", "href": ""}}}}}).
			With("Cache-Control", "no-cache")
	}}
}
