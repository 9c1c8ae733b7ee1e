package rest

import (
	"fmt"
	"log/slog"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// maxBody bounds a JSON request body, as nova's max_request_body_size does.
const maxBody = 1 << 20

// Kit builds one http.Handler out of many APIs.
type Kit struct {
	Auth    Authenticator
	Policy  *policy.Engine
	Log     *slog.Logger
	Metrics *Metrics
	// AuthURL is the path of the identity API, named in 401 answers.
	AuthURL string
}

// mounted is an API with its routing tables.
type mounted struct {
	*API
	kit *Kit
	mux *http.ServeMux
}

// Handler mounts the APIs. A route whose policy no service declares, or a table
// that contradicts itself, is a programming error and is returned as one.
func (k *Kit) Handler(apis ...*API) (http.Handler, error) {
	top := &topLevel{kit: k}
	for _, a := range apis {
		m := &mounted{API: a, kit: k, mux: http.NewServeMux()}
		if err := m.build(); err != nil {
			return nil, fmt.Errorf("API %s: %w", a.Name, err)
		}
		top.apis = append(top.apis, m)
	}
	sort.Slice(top.apis, func(i, j int) bool { return len(top.apis[i].Prefix) > len(top.apis[j].Prefix) })
	return top, nil
}

func (m *mounted) build() (err error) {
	defer func() {
		if p := recover(); p != nil { // ServeMux panics on conflicting patterns
			err = fmt.Errorf("%v", p)
		}
	}()
	groups := map[string]*group{}
	for i := range m.Routes {
		r := &m.Routes[i]
		if r.Policy != "" && !m.kit.Policy.Has(r.Policy) {
			return fmt.Errorf("%s %s: no policy rule is called %q", r.Method, r.Path, r.Policy)
		}
		pattern := r.Method + " " + r.Path
		g := groups[pattern]
		if g == nil {
			g = &group{m: m, pattern: pattern}
			groups[pattern] = g
			m.mux.Handle(pattern, g)
		}
		g.rows = append(g.rows, r)
	}
	return nil
}

// topLevel finds the API by the longest prefix.
type topLevel struct {
	kit  *Kit
	apis []*mounted
}

func (t *topLevel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	x := &exchange{w: w, r: r, id: "req-" + uuid.NewString(), kit: t.kit}
	w.Header().Set("X-Openstack-Request-Id", x.id)
	defer x.finish(start)
	clean := r.URL.Path
	if len(clean) > 1 {
		clean = strings.TrimSuffix(clean, "/")
	}
	for _, m := range t.apis {
		if doc, ok := m.Discovery[clean]; ok {
			x.api = m.API
			x.describe(m, clean)
			x.discover(doc)
			return
		}
		if rest, ok := strings.CutPrefix(clean, m.Prefix); ok && (rest == "" || rest[0] == '/') {
			x.api = m.API
			m.serve(x, rest)
			return
		}
	}
	x.api = &API{Name: "root", Family: IdentityFaults()}
	x.fail(errs.NotFoundf("The resource could not be found."))
}

// describe sets the headers that every answer of the API has.
func (x *exchange) describe(m *mounted, path string) {
	if v := m.Family.Vary; v != "" {
		x.w.Header().Add("Vary", v)
	}
	if strings.TrimSuffix(path, "/") == m.Prefix {
		if m.RequestIDHeader != "" {
			x.w.Header().Set(m.RequestIDHeader, x.id)
		}
		if m.Versions != nil {
			m.Versions.announce(x.w.Header(), m.Versions.Min)
		}
	}
}

// serve routes below the prefix; the mux's own plain-text 404 and 405 never reach a client.
func (m *mounted) serve(x *exchange, rest string) {
	if m.RequestIDHeader != "" {
		x.w.Header().Set(m.RequestIDHeader, x.id)
	}
	if v := m.Family.Vary; v != "" {
		x.w.Header().Add("Vary", v)
	}
	if m.StrictSlash && rest != "" && strings.HasSuffix(x.r.URL.Path, "/") {
		x.fail(errs.NotFoundf("The resource could not be found."))
		return
	}
	u := *x.r.URL
	if rest == "" {
		rest = "/"
	}
	u.Path, u.RawPath = rest, ""
	if raw := x.r.URL.RawPath; raw != "" {
		u.RawPath = strings.TrimPrefix(strings.TrimSuffix(raw, "/"), m.Prefix)
	}
	r := x.r.Clone(contextWith(x.r.Context(), x))
	r.URL = &u
	m.stripProject(x, r)
	if _, pattern := m.mux.Handler(r); pattern == "" || r.Method == http.MethodHead && m.Family.NoHead {
		x.refuseRoute(m, r)
		return
	}
	m.mux.ServeHTTP(x.w, r)
}

// stripProject drops a leading project id ("/<32 hex>/volumes"), which older
// clients write; it must be the token's project, checked after authentication.
func (m *mounted) stripProject(x *exchange, r *http.Request) {
	if !m.ProjectInPath {
		return
	}
	first, after, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if isProjectID(first) {
		x.pathProject = first
		r.URL.Path, r.URL.RawPath = "/"+after, ""
	}
}

func isProjectID(s string) bool {
	if s == "default" {
		return true
	}
	s = strings.ReplaceAll(s, "-", "")
	if len(s) != 32 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

func (x *exchange) refuseRoute(m *mounted, r *http.Request) {
	if m.Family.Guarded {
		if err := x.authenticate(&Request{HTTP: r, ID: x.id}, true); err != nil {
			x.fail(err)
			return
		}
	}
	allowed := []string{}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		probe := *r
		probe.Method = method
		if _, pattern := m.mux.Handler(&probe); pattern != "" && (method != http.MethodHead || !m.Family.NoHead) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 || m.Family.NoMethod == http.StatusNotFound {
		encode := m.Family.Encode
		if m.Family.Unrouted != nil {
			encode = m.Family.Unrouted
		}
		x.write(x.encoded(encode, http.StatusNotFound, "", "The resource could not be found."))
		return
	}
	x.w.Header().Set("Allow", strings.Join(allowed, ", "))
	x.write(x.fault(http.StatusMethodNotAllowed, "", "The method "+r.Method+" is not allowed for this resource."))
}

// group is the rows of one method and path.
type group struct {
	m       *mounted
	pattern string
	rows    []*Route
}

func (g *group) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	x := exchangeOf(r.Context())
	x.pattern = g.pattern
	resp, err := g.answer(x, r)
	if err != nil {
		x.fail(err)
		return
	}
	x.write(resp)
}

func (g *group) answer(x *exchange, r *http.Request) (*Response, error) {
	req := &Request{HTTP: r, ID: x.id, Log: x.kit.Log.With("req", x.id), engine: x.kit.Policy}
	if err := x.authenticate(req, g.rows[0].Policy != ""); err != nil {
		return nil, err
	}
	if v := g.m.Versions; v != nil {
		ver, err := v.negotiate(r.Header)
		if err != nil {
			if errs.KindOf(err) == errs.Unsupported {
				x.outside = v
				if g.m.Family.Echo {
					v.announce(x.w.Header(), ver)
				}
			}
			return nil, err
		}
		req.Version, x.version = ver, ver
		v.announce(x.w.Header(), ver)
	}
	row, err := g.choose(x, req)
	if err != nil {
		return nil, err
	}
	req.Route = row
	if row.Policy != "" && !g.m.TargetPolicy {
		if err := x.kit.Policy.Enforce(row.Policy, req.Creds, own(req.Creds)); err != nil && !crossProject(req.Creds) {
			return nil, err
		}
	}
	if err := validate(row, req); err != nil {
		return nil, err
	}
	return row.Handle(r.Context(), req)
}

// crossProject says that the rule must be judged on the resource alone: a
// token without a project can never match project_id of its own.
func crossProject(c *policy.Credentials) bool { return c.ProjectID == "" }

func validate(row *Route, req *Request) error {
	if s := pick(row.Query, req.Version); s != nil {
		if err := s.validateQuery(req.Query()); err != nil {
			return err
		}
	}
	if row.Raw || len(row.Body) == 0 {
		return nil
	}
	if len(req.body) == 0 {
		return errs.Invalidf("The request has no JSON body.")
	}
	if s := pick(row.Body, req.Version); s != nil {
		return s.validateBody(req.body)
	}
	return nil
}
