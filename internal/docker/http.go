package docker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/versions"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// request is one, of a caller.
type request struct {
	*http.Request
	who     *policy.Credentials
	path    string // without a version
	version string // "/v1.47", or "" as the client has it
	vars    map[string]string
}

type handler func(w http.ResponseWriter, r *request) error

// route is an operation; rule is the one that all of it is under, "" if there is none.
type route struct {
	method, path, rule string
	handle             handler
}

type compiled struct {
	route
	re *regexp.Regexp
}

// compile makes {id} match one part of a path and {name} any number: images' names
// have slashes.
func compile(routes []route) (out []compiled) {
	for _, r := range routes {
		re := strings.NewReplacer("{id}", "(?P<id>[^/]+)", "{name}", "(?P<name>.+)").Replace(r.path)
		out = append(out, compiled{r, regexp.MustCompile("^" + re + "$")})
	}
	return out
}

var versioned = regexp.MustCompile(`^(/v([0-9]+\.[0-9]+))(/.*)$`)

// ServeHTTP implements http.Handler, for paths as an engine has them.
func (s *Service) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	h := w.Header()
	h.Set("Api-Version", s.MaxAPI)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Strata/"+s.Version+" (linux)")
	r := &request{Request: hr, path: hr.URL.Path, vars: map[string]string{}}
	v := s.MaxAPI
	if m := versioned.FindStringSubmatch(r.path); m != nil {
		r.version, v, r.path = m[1], m[2], m[3]
	}
	if err := s.serve(w, r, v); err != nil {
		s.fail(w, r, err)
	}
}

func (s *Service) serve(w http.ResponseWriter, r *request, version string) (err error) {
	if r.who, err = s.caller(r.Request); err != nil {
		return err
	}
	if err := s.checkVersion(version); err != nil {
		return err
	}
	for _, c := range s.table {
		m := c.re.FindStringSubmatch(r.path)
		if m == nil || c.method != r.Method {
			continue
		}
		if c.rule != "" {
			if err := s.may(r.who, c.rule); err != nil {
				return err
			}
		}
		for i, name := range c.re.SubexpNames() {
			r.vars[name] = m[i]
		}
		return c.handle(w, r)
	}
	return errs.NotFoundf("page not found")
}

func (s *Service) checkVersion(v string) error {
	if versions.GreaterThan(v, s.MaxAPI) {
		return errs.Invalidf("client version %s is too new. Maximum supported API version is %s", v, s.MaxAPI)
	}
	if versions.LessThan(v, s.MinAPI) {
		return errs.Invalidf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, s.MinAPI)
	}
	return nil
}

// begun is an error that came when the answer had begun.
type begun struct{ error }

func (s *Service) fail(w http.ResponseWriter, r *request, err error) {
	var late begun
	if errors.As(err, &late) {
		return
	}
	code := status(err)
	if code == http.StatusInternalServerError {
		s.Log.Warn("docker", "method", r.Method, "path", r.path, "err", err)
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Strata"`)
	}
	_ = answer(w, code, map[string]string{"message": err.Error()})
}

// status is Docker's for a kind of error.
func status(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden, errs.QuotaExceeded:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict, errs.NoCapacity:
		return http.StatusConflict
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	case errs.NotImplemented:
		return http.StatusNotImplemented
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusInternalServerError
}

func answer(w http.ResponseWriter, code int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return begun{err}
	}
	return nil
}

// maxBody bounds a request's JSON.
const maxBody = 4 << 20

func (r *request) read(v any) error {
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

func (r *request) value(key string) string { return r.URL.Query().Get(key) }

// flag is a parameter that is on unless it is one of these, as upstream reads it.
func (r *request) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.value(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}
