package placement

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/rest"
)

// The range of microversions that this table is true for.
var (
	minVersion = rest.V(1, 0)
	maxVersion = rest.V(1, 39)
)

// home is the version document. It needs no token but, unlike other services'
// documents, takes part in the negotiation of microversions. Its link is relative.
func home(_ context.Context, r *rest.Request) (*rest.Response, error) {
	return answer(r, 200, map[string]any{"versions": []any{map[string]any{"id": "v" + minVersion.String(), "status": "CURRENT",
		"min_version": minVersion.String(), "max_version": maxVersion.String(), "links": []any{link("self", "")}}}}, time.Time{}), nil
}
