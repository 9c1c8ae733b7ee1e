package identity

import (
	"net/http"

	"github.com/strata-cloud/strata/internal/rest"
)

// version is the document of v3.14 whose own address is href.
func version(href string) object {
	return object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []object{{"rel": "self", "href": href}},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

// versions lists them with 300 Multiple Choices and the preferred one as Location
// (keystone/api/discovery.py).
func versions(prefix string) rest.Document {
	return func(base string) *rest.Response {
		href := base + prefix + "/v3/"
		return rest.JSON(http.StatusMultipleChoices, object{"versions": object{"values": []object{version(href)}}}).
			With("Location", href).With("Vary", "X-Auth-Token")
	}
}

// oneVersion shows v3 alone.
func oneVersion(prefix string) rest.Document {
	return func(base string) *rest.Response {
		return rest.JSON(http.StatusOK, object{"version": version(base + prefix + "/")}).With("Vary", "X-Auth-Token")
	}
}
