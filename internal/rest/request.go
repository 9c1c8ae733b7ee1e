package rest

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// Request is what a handler sees of an HTTP request.
type Request struct {
	HTTP    *http.Request // raw routes read HTTP.Body
	ID      string        // "req-<uuid>"
	Route   *Route
	Creds   *policy.Credentials // nil on routes without a policy
	Version Version             // negotiated microversion
	Log     *slog.Logger
	body    []byte
	engine  *policy.Engine
	query   url.Values
}

// Path gives a path parameter.
func (r *Request) Path(name string) string { return r.HTTP.PathValue(name) }

// Query gives the parsed query.
func (r *Request) Query() url.Values {
	if r.query == nil {
		r.query = r.HTTP.URL.Query()
	}
	return r.query
}

// Body gives the JSON body, already validated against the route's schema.
func (r *Request) Body() []byte { return r.body }

// Decode reads the JSON body into v. Use it after a schema has vouched for the shape.
func (r *Request) Decode(v any) error {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return errs.Invalidf("The request has no JSON body.")
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return errs.Invalidf("Malformed request body: %w", err)
	}
	return nil
}

// Enforce checks the route's policy against a resource.
func (r *Request) Enforce(t policy.Target) error {
	return r.engine.Enforce(r.Route.Policy, r.Creds, t)
}

// EnforceRule checks another rule, such as one for a single attribute.
func (r *Request) EnforceRule(rule string, t policy.Target) error {
	return r.engine.Enforce(rule, r.Creds, t)
}

// Allows is EnforceRule as a question.
func (r *Request) Allows(rule string, t policy.Target) bool { return r.engine.Allows(rule, r.Creds, t) }

// Own is the target for things that do not exist yet: they would be the caller's.
func (r *Request) Own() policy.Target { return own(r.Creds) }

func own(c *policy.Credentials) policy.Target {
	return policy.Target{"project_id": c.ProjectID, "tenant_id": c.ProjectID, "user_id": c.UserID, "domain_id": c.DomainID}
}

// Base is scheme://host as the client wrote it, for links.
func (r *Request) Base() string { return base(r.HTTP) }

func base(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// AtLeast tells whether the negotiated microversion is major.minor or newer.
func (r *Request) AtLeast(major, minor int) bool { return r.Version.AtLeast(V(major, minor)) }

func readBody(w http.ResponseWriter, req *http.Request, limit int64) ([]byte, error) {
	if req.Body == nil || req.ContentLength == 0 {
		return nil, nil
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, req.Body, limit))
	if err != nil {
		return nil, errs.New(errs.TooLarge, "The request body is larger than %d bytes.", limit)
	}
	return raw, nil
}
