package network

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/rest"
)

// reserved are the keys of a query that are not filters.
var reserved = []string{"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}

// list answers with what the caller may see and asked for.
func (rs *resource[T]) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, q := rs.look(r), r.Query()
	tests, err := rs.tests(q)
	if err != nil {
		return nil, err
	}
	var items []*T
	for _, v := range rs.candidates(c, q) {
		if c.allows("get_"+rs.name, rs.targetOf(c, v)) && passes(c, v, tests) {
			items = append(items, v)
		}
	}
	items, page, err := rs.page(c, items, q)
	if err != nil {
		return nil, err
	}
	views := make([]map[string]any, len(items))
	for i, v := range items {
		views[i] = rs.view(c, v, q["fields"])
	}
	body := map[string]any{rs.plural: views}
	if page.Limit > 0 {
		var ids []string
		for _, v := range items {
			ids = append(ids, rs.base(v).ID)
		}
		if links := pageLinks(r, q, ids, page); len(links) > 0 {
			body[rs.plural+"_links"] = links
		}
	}
	return rest.JSON(http.StatusOK, body), nil
}

// candidates narrows by the best filter that has an index.
func (rs *resource[T]) candidates(c *call, q url.Values) []*T {
	if ids := q["id"]; len(ids) > 0 {
		var out []*T
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
			if v, err := rs.coll.Get(id); err == nil {
				out = append(out, v)
			}
		}
		return out
	}
	for filter, index := range rs.hints {
		if vs := q[filter]; len(vs) == 1 && vs[0] != "" {
			return rs.coll.By(index, vs[0])
		}
	}
	return rs.coll.All()
}

type test[T any] func(c *call, v *T) bool

func passes[T any](c *call, v *T, tests []test[T]) bool {
	for _, t := range tests {
		if !t(c, v) {
			return false
		}
	}
	return true
}

// tests turns the query into predicates. An unknown key is refused, as upstream
// does since filter-validation (neutron/api/v2/base.py).
func (rs *resource[T]) tests(q url.Values) ([]test[T], error) {
	var out []test[T]
	var unknown []string
	for key, wanted := range q {
		if slices.Contains(reserved, key) {
			continue
		}
		if t := rs.tagTest(key, wanted); t != nil {
			out = append(out, t)
			continue
		}
		if key == "fixed_ips" {
			if i := slices.IndexFunc(wanted, func(w string) bool { return !strings.Contains(w, "=") }); i >= 0 {
				return nil, invalid("'%s' is not of the form <key>=[value]", wanted[i])
			}
		}
		if f := rs.filters[key]; f != nil {
			out = append(out, func(c *call, v *T) bool { return f(c, v, wanted) })
			continue
		}
		a := rs.table.Find(key)
		if a == nil || a.Get == nil || a.NoFilter {
			unknown = append(unknown, key)
			continue
		}
		if _, ok := a.Default.(bool); ok {
			for _, w := range wanted {
				if _, err := attr.Bool(w); err != nil && w != "" {
					return nil, err
				}
			}
		}
		out = append(out, func(c *call, v *T) bool {
			if strings.Contains(a.Own, "get") && !c.allows("get_"+rs.name+":"+a.Name, rs.targetOf(c, v)) {
				return false
			}
			return match(a.Get(v, c), wanted)
		})
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, badRequest("['%s'] is invalid attribute for filtering", strings.Join(unknown, "', '"))
	}
	return out, nil
}

// match compares a shown value with the wanted texts; any of them will do.
func match(v any, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		switch x := v.(type) {
		case nil:
			return w == "" || w == "None"
		case string:
			return x == w
		case bool:
			b, err := attr.Bool(w)
			return err == nil && b == x
		case []string:
			return slices.Contains(x, w)
		}
		return text(v) == w
	})
}

// text is a shown value as a sort key or a filter sees it.
func text(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case int:
		return strconv.Itoa(x)
	case bool:
		return strconv.FormatBool(x)
	case netip.Addr:
		return x.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.Trim(string(raw), `"`)
}

// tagTest is a predicate for tags, tags-any, not-tags and not-tags-any.
func (rs *resource[T]) tagTest(key string, wanted []string) test[T] {
	base, negate := strings.CutPrefix(key, "not-")
	if base != "tags" && base != "tags-any" {
		return nil
	}
	tags := strings.Split(strings.Join(wanted, ","), ",")
	return func(_ *call, v *T) bool {
		has := func(t string) bool { return slices.Contains(rs.base(v).Tags, t) }
		ok := false
		if base == "tags" {
			ok = !slices.ContainsFunc(tags, func(t string) bool { return !has(t) })
		} else {
			ok = slices.ContainsFunc(tags, has)
		}
		return ok != negate
	}
}

// page sorts and cuts.
func (rs *resource[T]) page(c *call, items []*T, q url.Values) ([]*T, rest.Page, error) {
	page, err := rest.PageOf(q, 0)
	if err != nil {
		return nil, page, errsBad("BadRequest", "%s", err.Error())
	}
	if d := q["sort_dir"]; len(d) != len(q["sort_key"]) {
		return nil, page, badRequest("The number of sort_keys and sort_dirs must be same")
	}
	for _, s := range page.Sorts {
		if a := rs.table.Find(s.Key); a == nil || a.Get == nil || a.NoSort {
			return nil, page, badRequest("'%s' is an invalid attribute for sort key", s.Key)
		}
	}
	if page.Marker != "" && !slices.ContainsFunc(items, func(v *T) bool { return rs.base(v).ID == page.Marker }) {
		return nil, page, rs.notFound(page.Marker)
	}
	if len(page.Sorts) == 0 && page.Limit == 0 && page.Marker == "" {
		slices.SortStableFunc(items, func(a, b *T) int {
			return cmp.Or(rs.base(a).Created.Compare(rs.base(b).Created), cmp.Compare(rs.base(a).ID, rs.base(b).ID))
		})
		return items, page, nil
	}
	out, _, err := rest.Paginate(items, page, func(v *T) string { return rs.base(v).ID },
		func(v *T, key string) (string, bool) { return text(rs.table.Find(key).Get(v, c)), true })
	return out, page, err
}

// pageLinks are the next and previous links (neutron/api/api_common.py, get_pagination_links).
// A full page has both, as whether there is more is not known before it is asked for.
func pageLinks(r *rest.Request, q url.Values, ids []string, page rest.Page) []any {
	var links []any
	link := func(rel, marker string, reverse bool) {
		next := url.Values{}
		for k, v := range q {
			if k != "marker" && k != "page_reverse" {
				next[k] = v
			}
		}
		if marker != "" {
			next.Set("marker", marker)
		}
		if reverse {
			next.Set("page_reverse", "True")
		}
		links = append(links, map[string]string{"rel": rel, "href": r.Base() + prefix + r.HTTP.URL.Path + "?" + next.Encode()})
	}
	if len(ids) == 0 {
		if page.Marker != "" && !page.Reverse {
			link("previous", "", true)
		}
		return links
	}
	first, last := ids[0], ids[len(ids)-1]
	full := len(ids) >= page.Limit
	if full || page.Reverse {
		link("next", last, false)
	}
	if full || !page.Reverse {
		link("previous", first, true)
	}
	return links
}
