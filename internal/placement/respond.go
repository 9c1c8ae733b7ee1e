package placement

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// answer is a JSON answer with the caching headers that 1.15 introduced; a zero
// time means now.
func answer(r *rest.Request, status int, body any, modified time.Time) *rest.Response {
	return stamped(r, rest.JSON(status, body), modified)
}

func stamped(r *rest.Request, resp *rest.Response, modified time.Time) *rest.Response {
	if r.AtLeast(1, 15) {
		if modified.IsZero() {
			modified = now()
		}
		resp.With("Last-Modified", modified.UTC().Format(http.TimeFormat)).With("Cache-Control", "no-cache")
	}
	return resp
}

// onlyQuery refuses parameters that the version does not know.
func onlyQuery(q url.Values, known ...string) error {
	for key := range q {
		if !slices.Contains(known, key) {
			return errs.Invalidf("Invalid query string parameters: '%s' was unexpected", key)
		}
	}
	return nil
}

func link(rel, href string) map[string]string { return map[string]string{"rel": rel, "href": href} }
