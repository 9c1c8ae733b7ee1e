package rest

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/policy"
)

// API is one service's HTTP interface.
type API struct {
	Name     string // service type, for metrics and docs: "compute"
	Prefix   string // where the routes hang: "/compute/v2.1"
	Family   Family
	Versions *Microversions // nil: the API has none
	Routes   []Route
	// Discovery are the version documents, by absolute path ("/compute/",
	// "/compute/v2.1"); they need no token.
	Discovery map[string]Document
	// RequestIDHeader is the family's own name of the request id
	// ("X-Compute-Request-Id"), besides X-Openstack-Request-Id.
	RequestIDHeader string
	// TargetPolicy says that every handler judges its route's policy itself, on
	// the resource: identity's rules speak of "target.user.id" and the like,
	// which a check against the caller's own project would always refuse. The
	// kit then only demands a token.
	TargetPolicy bool
	// StrictSlash makes a path with a slash at its end another path, which does not
	// exist: to glance "/images/" is an image without a name, not the list.
	StrictSlash bool
	// ProjectInPath strips an optional leading path segment with the project id.
	ProjectInPath bool
}

// Document makes a version document; base is scheme://host of the request.
type Document func(base string) *Response

// Handler serves one route.
type Handler func(ctx context.Context, r *Request) (*Response, error)

// Route is one row of an API's table.
type Route struct {
	Method string // "GET"; GET serves HEAD too
	Path   string // below the prefix, "/servers/{id}"
	// Action is the key of the body that chooses this row among several with
	// the same method and path: "os-start" of POST /servers/{id}/action.
	Action string
	// Policy is the rule that must allow the caller on its own project before
	// the handler runs; the handler enforces it on the resource with
	// Request.Enforce. "" means that no token is needed.
	Policy   string
	Min, Max Version // microversions in which the row exists; zero: open
	Body     []Schema
	Query    []Schema // over the query as an object of string lists
	// Raw routes read and write streams: no size limit, no schema, no JSON.
	Raw    bool
	Handle Handler
}

// Response is a handler's answer.
type Response struct {
	Status int
	Header http.Header
	Body   any // encoded as JSON; nil: no body
	// Stream, when set, writes the body itself after the header.
	Stream func(w http.ResponseWriter) error
}

// JSON answers with a body.
func JSON(status int, body any) *Response { return &Response{Status: status, Body: body} }

// Empty answers without one.
func Empty(status int) *Response { return &Response{Status: status} }

// With adds a header.
func (r *Response) With(key, value string) *Response {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set(key, value)
	return r
}

// Authenticator validates tokens. An unknown, expired or revoked token is an
// errs.Unauthenticated error.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (*policy.Credentials, error)
}
