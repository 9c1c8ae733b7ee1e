package identity

import (
	"context"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// mount is the API under one prefix; the same API is served under two.
type mount struct {
	*Service
	prefix string
}

// request is a request to identity.
type request struct {
	*rest.Request
	m      *mount
	params []string
	gone   error // see targeter
}

// handler serves a route.
type handler func(ctx context.Context, r *request) (*rest.Response, error)

// targeter adds to a target what the rules of a route may ask about its resource.
// What does not exist adds nothing: the rule is then judged without, so that
// only those who may see everything learn by a 404 that it is missing. Where
// upstream tells everybody, the targeter sets gone.
type targeter func(r *request, t policy.Target)

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// route is a row of the table whose rule is judged on its target before the handler runs.
func (m *mount) route(method, path, rule string, target targeter, body []rest.Schema, h handler) rest.Route {
	var params []string
	for _, p := range pathParam.FindAllStringSubmatch(path, -1) {
		params = append(params, p[1])
	}
	return rest.Route{Method: method, Path: path, Policy: rule, Body: body,
		Handle: func(ctx context.Context, rr *rest.Request) (*rest.Response, error) {
			r := &request{Request: rr, m: m, params: params}
			if rule != "" {
				if err := r.judge(rule, target); err != nil {
					return nil, err
				}
			}
			return h(ctx, r)
		}}
}

// judge enforces a rule on the path's parameters and what target adds.
func (r *request) judge(rule string, target targeter) error {
	t := policy.Target{}
	for _, p := range r.params {
		t[p] = r.Path(p)
	}
	if target != nil {
		if target(r, t); r.gone != nil {
			return r.gone
		}
	}
	return r.EnforceRule(rule, t)
}

// self is the address of a path of this API.
func (r *request) self(path string) string { return r.Base() + r.m.prefix + path }

func (r *request) links(path string) object { return object{"self": r.self(path)} }

// selfPath is the path of the request below the prefix.
func (r *request) selfPath() string { return strings.TrimSuffix(r.HTTP.URL.Path, "/") }

// unjudged is for the few handlers that choose their rule themselves.
func (m *mount) unjudged(h handler) rest.Handler {
	return func(ctx context.Context, rr *rest.Request) (*rest.Response, error) {
		return h(ctx, &request{Request: rr, m: m})
	}
}
