package loadbalancer

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// kind is how children of one kind are found and shown.
type kind struct {
	name, plural, title string
	views               func(st *state) []view
}

var (
	balancerKind = kind{"loadbalancer", "loadbalancers", "Load Balancer", func(st *state) []view { return []view{st.view(false)} }}
	listenerKind = kind{"listener", "listeners", "Listener", func(st *state) []view {
		var out []view
		for _, l := range st.lb.Listeners {
			out = append(out, st.listenerView(l))
		}
		return out
	}}
	poolKind = kind{"pool", "pools", "Pool", func(st *state) []view {
		var out []view
		for _, p := range st.lb.Pools {
			out = append(out, st.poolView(p))
		}
		return out
	}}
	monitorKind = kind{"healthmonitor", "healthmonitors", "Health Monitor", func(st *state) []view {
		var out []view
		for _, p := range st.lb.Pools {
			if p.Monitor != nil {
				out = append(out, st.monitorView(p, p.Monitor))
			}
		}
		return out
	}}
)

// partOf finds the load balancer that has the child of the path, and judges the request.
func (s *Service) partOf(r *rest.Request, k kind) (*LoadBalancer, error) {
	lb, _, err := s.viewOf(r, k)
	return lb, err
}

func (s *Service) viewOf(r *rest.Request, k kind) (*LoadBalancer, view, error) {
	id := r.Path("id")
	for _, lb := range s.lbs.By("part", id) {
		for _, v := range k.views(s.stateOf(lb)) {
			if v["id"] == id {
				return lb, v, judge(r, r.Route.Policy, lb.ProjectID)
			}
		}
	}
	return nil, nil, notFound(k.title, id)
}

func (s *Service) show(k kind) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		_, v, err := s.viewOf(r, k)
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, view{k.name: rest.Fields(v, r.Query()["fields"])}), nil
	}
}

func (s *Service) list(k kind) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		project, err := scope(r, r.Route.Policy)
		if err != nil {
			return nil, err
		}
		lbs := s.lbs.All()
		if project != "" {
			lbs = s.lbs.By("project", project)
		}
		var views []view
		for _, lb := range lbs {
			views = append(views, k.views(s.stateOf(lb))...)
		}
		return page(r, k, views)
	}
}

// scope is the project that a list is of; "": all (octavia/api/v2/controllers/base.py, _auth_get_all).
func scope(r *rest.Request, rule string) (string, error) {
	project := r.Query().Get("project_id")
	if project == "" {
		project = r.Query().Get("tenant_id")
	}
	if r.Allows(rule+"-global", policy.Target{"project_id": project}) {
		return project, nil
	}
	if project == "" {
		project = r.Creds.ProjectID
	}
	if project == "" {
		return "", forbidden()
	}
	return project, judge(r, rule, project)
}

func (s *Service) listMembers(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, p, err := s.poolOf(r)
	if err != nil {
		return nil, err
	}
	var views []view
	for _, m := range p.Members {
		views = append(views, s.stateOf(lb).memberView(p, m))
	}
	return page(r, kind{name: "member", plural: "members"}, views)
}

// page selects, sorts and cuts what a list has.
func page(r *rest.Request, k kind, views []view) (*rest.Response, error) {
	q := r.Query()
	views, err := selected(q, views)
	if err != nil {
		return nil, err
	}
	p, err := pageOf(q)
	if err != nil {
		return nil, err
	}
	if p.Marker != "" && !slices.ContainsFunc(views, func(v view) bool { return v["id"] == p.Marker }) {
		return nil, coded(errs.Invalid, "Supplied pagination marker '%s' is not valid.", p.Marker)
	}
	id := func(v view) string { return v["id"].(string) }
	cut, more, err := rest.Paginate(views, p, id, func(v view, key string) (string, bool) {
		x, ok := v[key]
		return plain(x), ok
	})
	if err != nil {
		return nil, coded(errs.Invalid, "%s", err.Error())
	}
	out := []any{}
	for _, v := range cut {
		out = append(out, rest.Fields(v, q["fields"]))
	}
	links := []any{}
	if len(cut) > 0 && p.Limit > 0 {
		at := prefix + r.HTTP.URL.Path
		if more && !p.Reverse {
			next := url.Values{}
			for key, v := range q {
				if key != "page_reverse" {
					next[key] = v
				}
			}
			links = append(links, view{"rel": "next", "href": rest.NextLink(r.Base(), at, next, id(cut[len(cut)-1]))})
		}
		if p.Marker != "" {
			back := url.Values{"page_reverse": {"True"}}
			for key, v := range q {
				if key != "page_reverse" {
					back[key] = v
				}
			}
			links = append(links, view{"rel": "previous", "href": rest.NextLink(r.Base(), at, back, id(cut[0]))})
		}
	}
	return rest.JSON(200, view{k.plural: out, k.plural + "_links": links}), nil
}

// pageOf reads how a list is cut, with upstream's words for what is wrong.
func pageOf(q url.Values) (rest.Page, error) {
	if n, err := strconv.Atoi(q.Get("limit")); q.Get("limit") != "" && (err != nil || n < 0) {
		return rest.Page{}, coded(errs.Invalid, "Supplied pagination limit '%s' is not valid.", q.Get("limit"))
	}
	split := url.Values{}
	for key, v := range q {
		if key == "sort_key" || key == "sort_dir" { // one each, with commas
			v = strings.Split(strings.Join(v, ","), ",")
		}
		split[key] = v
	}
	p, err := rest.PageOf(split, 1000)
	if err != nil {
		return p, coded(errs.Invalid, "%s", err.Error())
	}
	if len(p.Sorts) == 0 {
		p.Sorts = []rest.Sort{{Key: "created_at"}}
	}
	return p, nil
}

// aux are the parts of a query that do not compare attributes.
var aux = []string{"limit", "marker", "sort", "sort_key", "sort_dir", "page_reverse", "fields", "project_id", "tenant_id", "tags", "tags-any", "not-tags", "not-tags-any"}

func selected(q url.Values, views []view) ([]view, error) {
	var out []view
	for _, v := range views {
		ok := tagged(q, v["tags"].([]string))
		for key, wanted := range q {
			if slices.Contains(aux, key) {
				continue
			}
			have, known := v[filterKey(key)]
			if !known {
				return nil, coded(errs.Invalid, "One or more arguments are either duplicate or invalid")
			}
			ok = ok && slices.ContainsFunc(wanted, func(w string) bool { return matches(have, w) })
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// filterKey is the attribute that a filter is about: children are found by their parent too.
func filterKey(key string) string {
	switch key {
	case "loadbalancer_id", "load_balancer_id":
		return "loadbalancers"
	case "pool_id":
		return "pools"
	case "listener_id":
		return "listeners"
	}
	return key
}

func matches(have any, wanted string) bool {
	switch x := have.(type) {
	case bool:
		b, err := truth("", wanted)
		return err == nil && b == x
	case []any: // of ids
		return slices.ContainsFunc(x, func(e any) bool { v, ok := e.(view); return ok && v["id"] == wanted })
	}
	return plain(have) == wanted
}

func plain(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// tagged tells whether tags are as the query wants them.
func tagged(q url.Values, have []string) bool {
	has := func(t string) bool { return slices.Contains(have, t) }
	lacks := func(t string) bool { return !has(t) }
	for _, c := range []struct {
		key string
		ok  func(tags []string) bool
	}{
		{"tags", func(t []string) bool { return !slices.ContainsFunc(t, lacks) }},
		{"tags-any", func(t []string) bool { return slices.ContainsFunc(t, has) }},
		{"not-tags", func(t []string) bool { return slices.ContainsFunc(t, lacks) }},
		{"not-tags-any", func(t []string) bool { return !slices.ContainsFunc(t, has) }},
	} {
		if v, given := q[c.key]; given && !c.ok(strings.Split(strings.Join(v, ","), ",")) {
			return false
		}
	}
	return true
}
