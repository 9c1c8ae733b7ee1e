package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
)

// Fault is an error on its way to the wire.
type Fault struct {
	Status    int
	Code      string // upstream's name of the error, may be ""
	Message   string
	RequestID string
	Accept    string         // the request's Accept header
	Version   Version        // negotiated, zero before
	Range     *Microversions // set when the asked version is outside it
}

// FaultEncoder gives the body and the content type of a fault in one API family.
type FaultEncoder func(Fault) (body []byte, contentType string)

// Family is how an API family speaks of errors.
type Family struct {
	Encode FaultEncoder
	// Status overrides the status of a kind where upstream differs.
	Status map[errs.Kind]int
	// Guarded families demand a token before they tell that a path is unknown,
	// as keystonemiddleware sits before their routes.
	Guarded bool
	// NoHead families do not route HEAD.
	NoHead bool
	// Unrouted is the encoding of a 404 for a path that is no route, where the family's
	// router answers in other words than its handlers; nil: Encode.
	Unrouted FaultEncoder
	// NoMethod is the status of a known path with another method; zero: 405.
	NoMethod int
	// Vary is added to every answer.
	Vary string
	// Echo families repeat in the version headers what was asked for, supported or not.
	Echo bool
	// PlainAuth families tell in their own envelope that a token is missing.
	PlainAuth bool
	// JSONOnly families refuse a body that says it is plain text.
	JSONOnly bool
}

func (f *Family) status(kind errs.Kind) int {
	if s, ok := f.Status[kind]; ok {
		return s
	}
	return kind.Status()
}

func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("rest: a view cannot be encoded: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

const jsonType = "application/json"

// ComputeFaults is the envelope of compute and volume
// (nova/api/openstack/wsgi.py, Fault).
func ComputeFaults() Family {
	names := map[int]string{400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
		409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit", 501: "notImplemented", 503: "serviceUnavailable"}
	return Family{Guarded: true, NoHead: true, Echo: true, NoMethod: http.StatusNotFound, Unrouted: webob, Encode: func(f Fault) ([]byte, string) {
		name := names[f.Status]
		if name == "" {
			name = "computeFault"
		}
		return marshal(map[string]any{name: map[string]any{"code": f.Status, "message": f.Message}}), jsonType + "; charset=UTF-8"
	}}
}

// VolumeFaults is ComputeFaults with 413 for a quota, as cinder answers.
func VolumeFaults() Family {
	f := ComputeFaults()
	f.Status = map[errs.Kind]int{errs.QuotaExceeded: 413}
	return f
}

// IdentityFaults is the envelope of identity (keystone/exception.py).
func IdentityFaults() Family {
	return Family{Vary: "X-Auth-Token", JSONOnly: true, Status: map[errs.Kind]int{errs.MediaType: http.StatusBadRequest}, Encode: func(f Fault) ([]byte, string) {
		return marshal(map[string]any{"error": map[string]any{"code": f.Status, "message": f.Message, "title": http.StatusText(f.Status)}}), jsonType
	}}
}

// NetworkFaults is the envelope of network (neutron/api/api_common.py).
func NetworkFaults() Family {
	generic := map[int]string{400: "HTTPBadRequest", 401: "HTTPUnauthorized", 403: "PolicyNotAuthorized", 404: "HTTPNotFound",
		405: "HTTPMethodNotAllowed", 409: "Conflict", 412: "RevisionNumberConstraintFailed", 413: "HTTPRequestEntityTooLarge", 501: "HTTPNotImplemented", 503: "ServiceUnavailable"}
	return Family{Guarded: true, NoHead: true,
		Status: map[errs.Kind]int{errs.QuotaExceeded: 409},
		Encode: func(f Fault) ([]byte, string) {
			if f.Code == "" {
				f.Code = generic[f.Status]
			}
			if f.Code == "" {
				f.Code = "HTTPInternalServerError"
			}
			return marshal(map[string]any{"NeutronError": map[string]any{"type": f.Code, "message": f.Message, "detail": ""}}), jsonType
		},
	}
}

// PlacementFaults is the envelope of placement (placement/util.py, json_error_formatter):
// codes are told from 1.23 on, and the supported versions to who asked for another.
func PlacementFaults() Family {
	return Family{Guarded: true, NoHead: true, JSONOnly: true, Encode: func(f Fault) ([]byte, string) {
		e := map[string]any{"status": f.Status, "title": http.StatusText(f.Status), "detail": f.Message, "request_id": f.RequestID}
		if f.Version.AtLeast(V(1, 23)) {
			e["code"] = cmp.Or(f.Code, "placement.undefined_code")
		}
		if f.Range != nil {
			e["min_version"], e["max_version"] = f.Range.Min.String(), f.Range.Max.String()
		}
		return marshal(map[string]any{"errors": []any{e}}), jsonType
	}}
}

// ImageFaults is what glance answers with: errors as webob writes them.
func ImageFaults() Family {
	return Family{Guarded: true, NoHead: true, PlainAuth: true, Status: map[errs.Kind]int{errs.QuotaExceeded: 413}, Encode: webob}
}

// ClusterFaults is the envelope of container-infra (magnum/api/middleware/parsable_error.py).
func ClusterFaults() Family {
	return Family{Guarded: true, NoHead: true, Encode: func(f Fault) ([]byte, string) {
		title, _, _ := strings.Cut(f.Message, ".")
		e := map[string]any{"request_id": f.RequestID, "code": f.Code, "status": f.Status, "title": title, "detail": f.Message, "links": []any{}}
		if f.Range != nil {
			e["code"], e["title"] = "magnum.microversion-unsupported", "Requested microversion is unsupported"
			e["min_version"], e["max_version"] = f.Range.Type+" "+f.Range.Min.String(), f.Range.Type+" "+f.Range.Max.String()
		}
		return marshal(map[string]any{"errors": []any{e}}), jsonType
	}}
}

// webob is the library's own body of an error: a page for who takes any type or
// HTML, an object for who takes JSON, text for who says nothing (webob/exc.py).
func webob(f Fault) ([]byte, string) {
	text := http.StatusText(f.Status)
	title := fmt.Sprintf("%d %s", f.Status, text)
	switch {
	case strings.Contains(f.Accept, "*/*") || strings.Contains(f.Accept, "text/html"):
	case strings.Contains(f.Accept, jsonType):
		return marshal(map[string]any{"code": title, "title": text, "message": f.Message}), jsonType
	default:
		return fmt.Appendf(nil, "%s\n\n%s\n", title, f.Message), "text/plain; charset=UTF-8"
	}
	return fmt.Appendf(nil, "<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s<br /><br />\n\n\n\n </body>\n</html>",
		title, title, html.EscapeString(f.Message)), "text/html; charset=UTF-8"
}

// LoadBalancerFaults is the envelope of load balancers, which is wsme's (wsme/api.py,
// format_exception).
func LoadBalancerFaults() Family {
	return Family{Guarded: true, NoHead: true, Encode: func(f Fault) ([]byte, string) {
		code := "Client"
		if f.Status >= http.StatusInternalServerError && f.Code == "" {
			code = "Server"
		}
		return marshal(map[string]any{"faultcode": code, "faultstring": f.Message, "debuginfo": nil}), jsonType
	}}
}

// Refuse answers a request that reaches no API, in the words of the family.
func (f Family) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	id := "req-" + uuid.NewString()
	status := f.status(errs.KindOf(err))
	body, contentType := f.Encode(Fault{Status: status, Code: errs.CodeOf(err), Message: err.Error(), RequestID: id, Accept: r.Header.Get("Accept")})
	h := w.Header()
	h.Set("X-Openstack-Request-Id", id)
	h.Set("Content-Type", contentType)
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have gone
	}
}
