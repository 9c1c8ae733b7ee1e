package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"

	"github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/errs"
)

// The versions of the API that are spoken.
const (
	MinVersion = "1.24"
	MaxVersion = "1.47"
)

// Server answers docker's clients.
type Server struct {
	engine  *container.Daemon
	log     *slog.Logger
	product string // version of Strata
	table   []compiled
}

type handler func(w http.ResponseWriter, r *request) error

type route struct {
	method, path string
	handle       handler
}

type compiled struct {
	method string
	re     *regexp.Regexp
	handle handler
}

// request is one request, of a version.
type request struct {
	*http.Request
	version string
	vars    map[string]string
	form    map[string][]string
}

// New makes a server over an engine.
func New(engine *container.Daemon, product string, log *slog.Logger) *Server {
	s := &Server{engine: engine, log: log, product: product}
	for _, r := range s.routes() {
		re := strings.NewReplacer("{id}", "(?P<id>[^/]+)", "{name}", "(?P<name>.+)").Replace(r.path)
		s.table = append(s.table, compiled{r.method, regexp.MustCompile("^" + re + "$"), r.handle})
	}
	return s
}

// Serve answers on the listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		server.Close()
	}()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-done
		return nil
	}
	return err
}

var versioned = regexp.MustCompile(`^/v([0-9]+\.[0-9]+)(/.*)$`)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Strata/"+s.product+" (linux)")
	r := &request{Request: hr, version: MaxVersion, vars: map[string]string{}, form: hr.URL.Query()}
	path := hr.URL.Path
	if m := versioned.FindStringSubmatch(path); m != nil {
		r.version, path = m[1], m[2]
	}
	begun := time.Now()
	err := s.serve(w, r, path)
	s.log.Debug("docker", "method", hr.Method, "path", path, "dur", time.Since(begun).Round(time.Microsecond), "err", err)
}

func (s *Server) serve(w http.ResponseWriter, r *request, path string) error {
	err := checkVersion(r.version)
	if err == nil {
		err = errs.NotFoundf("page not found")
		for _, c := range s.table {
			if m := c.re.FindStringSubmatch(path); m != nil && c.method == r.Method {
				for i, name := range c.re.SubexpNames() {
					r.vars[name] = m[i]
				}
				err = c.handle(w, r)
				break
			}
		}
	}
	if err != nil {
		s.fail(w, r, err)
	}
	return err
}

func checkVersion(v string) error {
	if versions.GreaterThan(v, MaxVersion) {
		return errs.Invalidf("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	}
	if versions.LessThan(v, MinVersion) {
		return errs.Invalidf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, MinVersion)
	}
	return nil
}

// started is an error that came after the answer had begun: it is too late for a status.
type started struct{ error }

// Unwrap gives the error.
func (s started) Unwrap() error { return s.error }

// fail tells the client of an error.
func (s *Server) fail(w http.ResponseWriter, r *request, err error) {
	var late started
	if errors.As(err, &late) {
		if r.Context().Err() == nil {
			s.log.Warn("an answer to docker ended early", "path", r.URL.Path, "err", err)
		}
		return
	}
	if errors.Is(err, container.ErrNotModified) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	code := status(err)
	if code == http.StatusInternalServerError {
		s.log.Warn("docker", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	answer(w, code, map[string]string{"message": err.Error()})
}

// status is upstream's for a kind of error.
func status(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	case errs.NotImplemented:
		return http.StatusNotImplemented
	}
	if errdefs.IsNotFound(err) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// answer writes JSON.
func answer(w http.ResponseWriter, code int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return started{err}
	}
	return nil
}

// read decodes the request's body.
func (r *request) read(v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "application/json") {
		return errs.Invalidf("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 4<<20)).Decode(v)
	switch {
	case errors.Is(err, io.EOF):
		return errs.Invalidf("invalid JSON: got EOF while reading request body")
	case err != nil:
		return errs.Invalidf("invalid JSON: %s", err)
	}
	return nil
}

// value is a parameter of the query.
func (r *request) value(key string) string {
	if v := r.form[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// flag is a parameter that is on unless it is one of these, as upstream reads it.
func (r *request) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.value(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number is a parameter that is a number; nil when it is not given.
func (r *request) number(key string) (*int, error) {
	v := r.value(key)
	if v == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, errs.Invalidf("invalid %s: %q is not a number", key, v)
	}
	return &n, nil
}

// filters reads the parameter of that name and refuses keys that are not honoured.
func (r *request) filters(known ...string) (filters.Args, error) {
	f, err := filters.FromJSON(r.value("filters"))
	if err != nil {
		return f, errs.Invalidf("%s", err)
	}
	if known == nil {
		return f, nil
	}
	accepted := map[string]bool{}
	for _, k := range known {
		accepted[k] = true
	}
	if err := f.Validate(accepted); err != nil {
		return f, errs.Invalidf("%s", err)
	}
	return f, nil
}

// timestamp reads seconds since 1970 with a fraction, RFC 3339, or how long ago.
func (r *request) timestamp(key string) (time.Time, error) {
	v := r.value(key)
	if v == "" || v == "0" {
		return time.Time{}, nil
	}
	if sec, frac, _ := strings.Cut(v, "."); sec != "" {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			ns, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
			if err == nil {
				return time.Unix(n, ns), nil
			}
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, errs.Invalidf("invalid value for %q: %q", key, v)
}

// before reads the filter until, and gives a test for what is newer than it.
func newer(f filters.Args) (func(time.Time) bool, error) {
	values := f.Get("until")
	if len(values) == 0 {
		return func(time.Time) bool { return false }, nil
	}
	at, err := (&request{form: map[string][]string{"until": values}}).timestamp("until")
	if err != nil {
		return nil, err
	}
	return func(t time.Time) bool { return t.After(at) }, nil
}
