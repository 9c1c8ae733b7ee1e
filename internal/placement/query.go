package placement

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// wish is what a group of a candidates query, or a list of providers, asks of
// providers (placement/lib.py, RequestGroup).
type wish struct {
	resources map[string]int64
	required  [][]string // each: any of these traits
	forbidden []string
	memberOf  [][]string // each: any of these aggregates
	notOf     []string
	inTree    string
}

// readWish reads the parameters resources, required, member_of and in_tree with
// the suffix.
func (s *Service) readWish(r *rest.Request, q url.Values, suffix string) (w wish, err error) {
	if v := q["resources"+suffix]; len(v) > 0 {
		if w.resources, err = s.readResources(v[len(v)-1]); err != nil {
			return w, err
		}
	}
	if err = s.readTraits(r, q["required"+suffix], "required"+suffix, &w); err != nil {
		return w, err
	}
	if err = readAggregates(r, q["member_of"+suffix], "member_of"+suffix, &w); err != nil {
		return w, err
	}
	if v := q.Get("in_tree" + suffix); v != "" {
		if _, err := uuid.Parse(v); err != nil {
			return w, errs.Invalidf("Expected 'in_tree' parameter to be a format of uuid. Got: %s", v)
		}
		w.inTree = normal(v)
	}
	return w, nil
}

func (s *Service) readResources(text string) (map[string]int64, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errs.Coded(errs.Invalid, "placement.query.bad_value", "Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024. Got: empty string.")
	}
	out := map[string]int64{}
	for _, part := range strings.Split(text, ",") {
		class, amount, ok := strings.Cut(part, ":")
		n, err := strconv.ParseInt(amount, 10, 64)
		if !ok || err != nil || class == "" {
			return nil, errs.Coded(errs.Invalid, "placement.query.bad_value", "Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024. Got: %s.", text)
		}
		if n < 1 {
			return nil, errs.Coded(errs.Invalid, "placement.query.bad_value", "Requested resource %s requires amount > 0. Got: %d", class, n)
		}
		if !s.class(class) {
			return nil, errs.Invalidf("Invalid resource class in resources parameter: No such resource class %s.", class)
		}
		out[class] = n
	}
	return out, nil
}

// readTraits reads required parameters: before 1.39 one, without "in:"; before
// 1.22 without forbidden traits.
func (s *Service) readTraits(r *rest.Request, values []string, key string, w *wish) error {
	if len(values) > 1 && !r.AtLeast(1, 39) {
		values = values[len(values)-1:]
	}
	for _, v := range values {
		any, isAny := strings.CutPrefix(v, "in:")
		if isAny && !r.AtLeast(1, 39) {
			return badTraits(key, v)
		}
		var names []string
		for _, t := range strings.Split(any, ",") {
			name, not := strings.CutPrefix(strings.TrimSpace(t), "!")
			if name == "" || not && (isAny || !r.AtLeast(1, 22)) {
				return badTraits(key, v)
			}
			if !s.trait(name) {
				return errs.Invalidf("Invalid trait(s) in \"required\" parameter: No such trait(s): %s.", name)
			}
			switch {
			case not:
				w.forbidden = append(w.forbidden, name)
			case isAny:
				names = append(names, name)
			default:
				w.required = append(w.required, []string{name})
			}
		}
		if isAny {
			w.required = append(w.required, names)
		}
	}
	if r.AtLeast(1, 22) {
		for _, any := range w.required {
			if !slices.ContainsFunc(any, func(t string) bool { return !slices.Contains(w.forbidden, t) }) {
				return errs.Invalidf("Conflicting required and forbidden traits found in the following traits keys: %s: (%s)", key, strings.Join(any, ", "))
			}
		}
	}
	return nil
}

func badTraits(key, v string) error {
	return errs.Invalidf("Invalid query string parameters: Expected '%s' parameter value of the form: HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: \"%s\"", key, v)
}

// readAggregates reads member_of parameters: several since 1.24, negative ones since 1.32.
func readAggregates(r *rest.Request, values []string, key string, w *wish) error {
	if len(values) > 1 && !r.AtLeast(1, 24) {
		return errs.Coded(errs.Invalid, "placement.query.duplicate_key", "Multiple %s parameters are not supported", key)
	}
	for _, v := range values {
		rest, not := strings.CutPrefix(v, "!")
		if not && !r.AtLeast(1, 32) {
			return errs.Invalidf("Forbidden member_of parameters are not supported in the specified microversion")
		}
		list, in := strings.CutPrefix(rest, "in:")
		ids := []string{list}
		if in {
			ids = strings.Split(list, ",")
		}
		for i, id := range ids {
			if _, err := uuid.Parse(id); err != nil {
				return errs.Invalidf("Invalid query string parameters: Expected '%s' parameter to contain valid UUID(s). Got: %s", key, v)
			}
			ids[i] = normal(id)
		}
		if not {
			w.notOf = append(w.notOf, ids...)
		} else {
			w.memberOf = append(w.memberOf, ids)
		}
	}
	return nil
}

// inAggregates judges member_of by a provider's own aggregates or, where extra is
// given, also by those of its tree's root.
func (w *wish) inAggregates(aggregates, extra []string) bool {
	in := func(a string) bool { return slices.Contains(aggregates, a) || slices.Contains(extra, a) }
	for _, any := range w.memberOf {
		if !slices.ContainsFunc(any, in) {
			return false
		}
	}
	return !slices.ContainsFunc(w.notOf, in)
}

// hasTraits judges required and forbidden traits by a set.
func (w *wish) hasTraits(has func(string) bool) bool {
	for _, any := range w.required {
		if !slices.ContainsFunc(any, has) {
			return false
		}
	}
	return !slices.ContainsFunc(w.forbidden, has)
}

func (p *Provider) trait(name string) bool {
	_, ok := slices.BinarySearch(p.Traits, name)
	return ok
}

// providerFilter reads the filters of GET /resource_providers.
func (s *Service) providerFilter(r *rest.Request) (func(*Provider) bool, error) {
	q := r.Query()
	known := []string{"name", "uuid"}
	for _, k := range []struct {
		minor int
		key   string
	}{{3, "member_of"}, {4, "resources"}, {14, "in_tree"}, {18, "required"}} {
		if r.AtLeast(1, k.minor) {
			known = append(known, k.key)
		}
	}
	if err := onlyQuery(q, known...); err != nil {
		return nil, err
	}
	if id := q.Get("uuid"); q.Has("uuid") {
		if _, err := uuid.Parse(id); err != nil {
			return nil, errs.Invalidf("Invalid query string parameters: '%s' is not a 'uuid'", id)
		}
	}
	w, err := s.readWish(r, q, "")
	if err != nil {
		return nil, err
	}
	root := ""
	if w.inTree != "" {
		if p, err := s.providers.Get(w.inTree); err == nil {
			root = p.Root
		}
	}
	return func(p *Provider) bool {
		switch {
		case q.Has("name") && p.Name != q.Get("name"), q.Has("uuid") && p.UUID != normal(q.Get("uuid")), w.inTree != "" && p.Root != root:
			return false
		}
		return p.fits(w.resources) == nil && w.hasTraits(p.trait) && w.inAggregates(p.Aggregates, nil)
	}, nil
}
