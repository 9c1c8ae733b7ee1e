package dockerwire

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/versions"

	"github.com/strata-cloud/strata/internal/errs"
)

// The versions of the API that are spoken.
const (
	MinVersion = "1.24"
	MaxVersion = "1.50"
)

// maxBody bounds a request's JSON, in bytes.
const maxBody = 4 << 20

// Request is one request, of a version of the API.
type Request struct {
	*http.Request
	Version string            // such as 1.50; without one in the path the newest
	Prefix  string            // of the path: /v1.50, or "" as the client has it
	Path    string            // without the prefix
	Vars    map[string]string // what the path has in the places of a route's names
	Form    url.Values        // of the query
}

var versioned = regexp.MustCompile(`^(/v([0-9]+\.[0-9]+))(/.*)$`)

// Open reads a request's head, and writes that of every answer; product is the version
// of ours. The request is there even with the error, which is Invalid for a version
// that is not spoken.
func Open(w http.ResponseWriter, hr *http.Request, product string) (*Request, error) {
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Strata/"+product+" (linux)")
	r := &Request{Request: hr, Version: MaxVersion, Path: hr.URL.Path, Vars: map[string]string{}, Form: hr.URL.Query()}
	if m := versioned.FindStringSubmatch(r.Path); m != nil {
		r.Prefix, r.Version, r.Path = m[1], m[2], m[3]
	}
	if versions.GreaterThan(r.Version, MaxVersion) {
		return r, errs.Invalidf("client version %s is too new. Maximum supported API version is %s", r.Version, MaxVersion)
	}
	if versions.LessThan(r.Version, MinVersion) {
		return r, errs.Invalidf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", r.Version, MinVersion)
	}
	return r, nil
}

// Read decodes the body.
func (r *Request) Read(v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "application/json") {
		return errs.Invalidf("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(v)
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return errs.Invalidf("invalid JSON: got EOF while reading request body")
	case errors.As(err, &large):
		return errs.New(errs.TooLarge, "the request is larger than %d bytes", maxBody)
	case err != nil:
		return errs.Invalidf("invalid JSON: %s", err)
	}
	return nil
}

// Value is a parameter of the query; "": it is not given.
func (r *Request) Value(key string) string { return r.Form.Get(key) }

// Flag is a parameter that is on unless it is one of these
// (moby, api/server/httputils/form.go, BoolValue).
func (r *Request) Flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.Value(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}
