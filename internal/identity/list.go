package identity

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/rest"
)

// selfQuery is the link of a list to itself, with the query that asked for it.
func (r *request) selfQuery() string {
	self := r.self(r.selfPath())
	if raw := r.HTTP.URL.RawQuery; raw != "" {
		self += "?" + raw
	}
	return self
}

// list answers with a collection, filtered by the named attributes
// (attribute=value and attribute__comparator=value, keystone/common/driver_hints.py)
// and cut by limit and marker.
func (r *request) list(key string, views []object, filters ...string) (*rest.Response, error) {
	views = r.filter(views, filters)
	links := object{"self": r.selfQuery(), "previous": nil, "next": nil}
	q := r.Query()
	if q.Has("limit") || q.Has("marker") {
		page, err := rest.PageOf(q, 0)
		if err != nil {
			return nil, err
		}
		id := func(v object) string { s, _ := v["id"].(string); return s }
		var more bool
		page.Sorts = nil
		views, more, err = rest.Paginate(views, page, id, nil)
		if err != nil {
			return nil, err
		}
		if more && len(views) > 0 {
			links["next"] = rest.NextLink(r.Base(), r.m.prefix+r.selfPath(), q, id(views[len(views)-1]))
		}
	}
	if views == nil {
		views = []object{}
	}
	return rest.JSON(http.StatusOK, object{key: views, "links": links}), nil
}

// filter keeps the views that match every filter of the query that is known.
func (r *request) filter(views []object, known []string) []object {
	for key, values := range r.Query() {
		name, comparator, _ := strings.Cut(key, "__")
		if !slices.Contains(known, name) || len(values) == 0 {
			continue
		}
		want := values[0]
		views = slices.DeleteFunc(views, func(v object) bool { return !matches(v[name], comparator, want) })
	}
	return views
}

func matches(have any, comparator, want string) bool {
	if b, ok := have.(bool); ok {
		return b == isTrue(want)
	}
	text, _ := have.(string)
	if have == nil {
		text = ""
	} else if _, ok := have.(string); !ok {
		text = fmt.Sprint(have)
	}
	lower, wantLower := strings.ToLower(text), strings.ToLower(want)
	switch comparator {
	case "contains":
		return strings.Contains(text, want)
	case "icontains":
		return strings.Contains(lower, wantLower)
	case "startswith":
		return strings.HasPrefix(text, want)
	case "istartswith":
		return strings.HasPrefix(lower, wantLower)
	case "endswith":
		return strings.HasSuffix(text, want)
	case "iendswith":
		return strings.HasSuffix(lower, wantLower)
	}
	return text == want
}

// isTrue reads a boolean of a query: anything but these is true, no value too.
func isTrue(s string) bool {
	return !slices.Contains([]string{"0", "false", "no", "off", "n", "f"}, strings.ToLower(s))
}

// queryTrue tells whether a flag of the query is set and not false.
func queryTrue(q url.Values, key string) bool { return q.Has(key) && isTrue(q.Get(key)) }
