package placement

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// group is one numbered or named group of a candidates query; the group without a
// suffix may be spread over several providers of a tree.
type group struct {
	suffix string
	wish
}

// question is a whole candidates query.
type question struct {
	groups   []group // the one without suffix first
	limit    int     // 0: no limit
	isolate  bool
	root     wish       // required and forbidden traits of the tree's root
	subtrees [][]string // suffixes whose providers must lie under one of them
	nested   bool
}

var (
	groupKey      = regexp.MustCompile(`^(resources|required|member_of|in_tree)(.*)$`)
	groupNumber   = regexp.MustCompile(`^[1-9][0-9]*$`)
	groupName     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	sinceOfPrefix = map[string]int{"resources": 10, "required": 17, "member_of": 21, "in_tree": 31}
)

// listCandidates answers which sets of allocations would satisfy a request
// (GET /allocation_candidates).
func (s *Service) listCandidates(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := s.question(r)
	if err != nil {
		return nil, err
	}
	found := s.search(q)
	return answer(r, 200, map[string]any{"allocation_requests": requestViews(r, found), "provider_summaries": s.summaries(r, q, found)}, time.Time{}), nil
}

func (s *Service) question(r *rest.Request) (*question, error) {
	q := &question{nested: r.AtLeast(1, 29)}
	params := r.Query()
	if err := q.options(r, params); err != nil {
		return nil, err
	}
	suffixes, err := groupSuffixes(r, params)
	if err != nil {
		return nil, err
	}
	granular := 0
	for _, suffix := range suffixes {
		w, err := s.readWish(r, params, suffix)
		if err != nil {
			return nil, err
		}
		q.groups = append(q.groups, group{suffix, w})
		if suffix != "" {
			granular++
		}
	}
	if v := params.Get("root_required"); v != "" {
		if err := s.readTraits(r, []string{v}, "root_required", &q.root); err != nil {
			return nil, err
		}
	}
	if err := q.check(r); err != nil {
		return nil, err
	}
	if granular > 1 && !params.Has("group_policy") {
		return nil, errs.Invalidf("The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.")
	}
	return q, nil
}

// options reads what belongs to no group.
func (q *question) options(r *rest.Request, params url.Values) error {
	if params.Has("limit") && r.AtLeast(1, 16) {
		n, err := strconv.Atoi(params.Get("limit"))
		if err != nil || n < 1 {
			return errs.Invalidf("Invalid query string parameters: limit '%s' is not an integer of at least 1", params.Get("limit"))
		}
		q.limit = n
	}
	if params.Has("group_policy") && r.AtLeast(1, 25) {
		switch p := params.Get("group_policy"); p {
		case "isolate":
			q.isolate = true
		case "none":
		default:
			return errs.Invalidf("Invalid query string parameters: group_policy '%s' is not one of 'none', 'isolate'", p)
		}
	}
	for _, v := range params["same_subtree"] {
		q.subtrees = append(q.subtrees, strings.Split(v, ","))
	}
	return nil
}

// groupSuffixes lists the groups of the query, sorted, and refuses parameters that
// the version does not know.
func groupSuffixes(r *rest.Request, params url.Values) ([]string, error) {
	var out []string
	for key := range params {
		since := map[string]int{"limit": 16, "group_policy": 25, "root_required": 35, "same_subtree": 36}[key]
		if since > 0 && r.AtLeast(1, since) {
			continue
		}
		m := groupKey.FindStringSubmatch(key)
		known := m != nil && r.AtLeast(1, sinceOfPrefix[m[1]])
		if known && m[2] != "" {
			known = r.AtLeast(1, 33) && groupName.MatchString(m[2]) || r.AtLeast(1, 25) && groupNumber.MatchString(m[2])
		}
		if !known {
			return nil, errs.Invalidf("Invalid query string parameters: '%s' does not match any of the regexes", key)
		}
		out = append(out, m[2])
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// check holds the groups against each other (placement/lib.py).
func (q *question) check(r *rest.Request) error {
	var bare, all []string
	for _, g := range q.groups {
		all = append(all, g.suffix)
		if len(g.resources) == 0 {
			bare = append(bare, g.suffix)
		}
	}
	if !r.AtLeast(1, 36) {
		for _, g := range q.groups {
			switch {
			case len(g.resources) > 0:
			case len(g.required) > 0:
				return errs.Invalidf("All traits parameters must be associated with resources.  Found the following orphaned traits keys: required%s", g.suffix)
			case len(g.memberOf)+len(g.notOf) > 0:
				return errs.Invalidf("All member_of parameters must be associated with resources. Found the following orphaned member_of keys: member_of%s", g.suffix)
			default:
				return errs.Invalidf("All request groups must specify resources.")
			}
		}
		if len(all) == 0 {
			return errs.Invalidf("At least one request group (`resources` or `resources{$S}`) is required.")
		}
		return nil
	}
	if len(bare) == len(all) {
		return errs.Coded(errs.Invalid, "placement.query.missing_value", "There must be at least one resources or resources[$S] parameter.")
	}
	in := slices.Concat(q.subtrees...)
	for _, suffix := range bare {
		if !slices.Contains(in, suffix) {
			return errs.Coded(errs.Invalid, "placement.query.bad_value", "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - %s.", suffix)
		}
	}
	for _, suffix := range in {
		if !slices.Contains(all, suffix) {
			return errs.Coded(errs.Invalid, "placement.query.bad_value", "Real suffixes should be specified in `same_subtree`: %s not found in %v.", suffix, all)
		}
	}
	return nil
}

func requestViews(r *rest.Request, found []offer) []any {
	out := make([]any, len(found))
	for i, o := range found {
		if !r.AtLeast(1, 12) {
			list := []any{}
			for _, id := range o.order {
				list = append(list, map[string]any{"resource_provider": map[string]string{"uuid": id}, "resources": o.held[id]})
			}
			out[i] = map[string]any{"allocations": list}
			continue
		}
		held := map[string]any{}
		for id, resources := range o.held {
			held[id] = map[string]any{"resources": resources}
		}
		v := map[string]any{"allocations": held}
		if r.AtLeast(1, 34) {
			v["mappings"] = o.mappings
		}
		out[i] = v
	}
	return out
}

// summaries describes the providers of the offers and, since 1.29, all others of
// their trees.
func (s *Service) summaries(r *rest.Request, q *question, found []offer) map[string]any {
	asked := map[string]bool{}
	for _, g := range q.groups {
		for class := range g.resources {
			asked[class] = true
		}
	}
	out := map[string]any{}
	add := func(p *Provider) {
		if out[p.UUID] != nil {
			return
		}
		resources := map[string]any{}
		for class, inv := range p.Inventories {
			if asked[class] || r.AtLeast(1, 27) {
				resources[class] = map[string]int64{"capacity": inv.Capacity(), "used": p.Used[class]}
			}
		}
		v := map[string]any{"resources": resources}
		if r.AtLeast(1, 17) {
			v["traits"] = append([]string{}, p.Traits...)
		}
		if r.AtLeast(1, 29) {
			v["parent_provider_uuid"], v["root_provider_uuid"] = orNull(p.Parent), p.Root
		}
		out[p.UUID] = v
	}
	roots := map[string]bool{}
	for _, o := range found {
		for _, p := range o.providers {
			add(p)
			roots[p.Root] = true
		}
	}
	if r.AtLeast(1, 29) {
		for root := range roots {
			for _, p := range s.providers.By("root", root) {
				add(p)
			}
		}
	}
	return out
}
