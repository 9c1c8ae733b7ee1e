package wire

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// maxLimit is upstream's osapi_max_limit.
const maxLimit = 1000

// Query is what a list request asks for.
type Query struct {
	Filters       url.Values // without what orders and pages
	Limit, Offset int
	Marker        string
	Sorts         []rest.Sort
	Count         bool // with_count
	AllProjects   bool // asked for, by an administrator
}

// ReadQuery reads a list request (cinder/api/common.py, get_pagination_params and get_sort_params).
func ReadQuery(r *rest.Request) (*Query, error) {
	q := &Query{Filters: url.Values{}, Limit: maxLimit}
	for k, v := range r.Query() {
		q.Filters[k] = v
	}
	take := func(k string) string { v := q.Filters.Get(k); q.Filters.Del(k); return v }
	var err error
	if q.Filters.Has("limit") {
		if q.Limit, err = whole("limit", take("limit")); err != nil {
			return nil, err
		}
		q.Limit = min(q.Limit, maxLimit)
	}
	if q.Filters.Has("offset") {
		if q.Offset, err = whole("offset", take("offset")); err != nil {
			return nil, err
		}
	}
	q.Marker = take("marker")
	if r.AtLeast(3, 45) {
		if q.Count, err = Flag("with_count", take("with_count")); err != nil {
			return nil, err
		}
	}
	all, err := Flag("all_tenants", take("all_tenants"))
	if err != nil {
		return nil, err
	}
	q.AllProjects = all && r.Creds.Admin()
	q.Sorts, err = sorts(take("sort"), take("sort_key"), take("sort_dir"))
	return q, err
}

func whole(name, text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case err != nil || n > 0x7fffffff:
		return 0, errs.Invalidf("%s param must be an integer", name)
	case n < 0:
		return 0, errs.Invalidf("%s param must be positive", name)
	}
	return n, nil
}

func sorts(list, key, dir string) ([]rest.Sort, error) {
	if list != "" && (key != "" || dir != "") {
		return nil, errs.Invalidf("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	if list == "" {
		if key == "" {
			key = "created_at"
		}
		list = key + ":" + dir
	}
	var out []rest.Sort
	for part := range strings.SplitSeq(list, ",") {
		k, d, _ := strings.Cut(strings.TrimSpace(part), ":")
		switch strings.TrimSpace(d) {
		case "", "desc":
			out = append(out, rest.Sort{Key: k, Desc: true})
		case "asc":
			out = append(out, rest.Sort{Key: k})
		default:
			return nil, InvalidInput("Unknown sort direction, must be 'desc' or 'asc'.")
		}
	}
	return out, nil
}

// Keys gives the text of every key that a list can be sorted by.
type Keys[T any] map[string]func(T) string

// Cut orders the items and cuts out the page. noun is what a marker that does not
// exist is called in the error.
func Cut[T any](q *Query, items []T, noun string, id func(T) string, keys Keys[T]) ([]T, error) {
	for _, s := range q.Sorts {
		if keys[s.Key] == nil {
			return nil, InvalidInput("Sort key supplied is invalid: %s", s.Key)
		}
	}
	if q.Marker != "" && !slices.ContainsFunc(items, func(x T) bool { return id(x) == q.Marker }) {
		return nil, NotFound(noun, q.Marker)
	}
	page, _, err := rest.Paginate(items, rest.Page{Marker: q.Marker, Sorts: q.Sorts}, id, func(x T, key string) (string, bool) { return keys[key](x), true })
	if err != nil {
		return nil, err
	}
	page = page[min(q.Offset, len(page)):]
	return page[:min(q.Limit, len(page))], nil
}

// Listing is the answer to a list request: the views, the count when it was asked
// for, and the next page's address when this one is full.
func Listing(r *rest.Request, q *Query, key, path string, views []any, last string, total int) *rest.Response {
	return listing(r, q, key, key+"_links", path, views, last, total)
}

// GroupListing is Listing for groups and what belongs to them: without a count, and
// with links that are called after one of them.
func GroupListing(r *rest.Request, q *Query, key string, detail bool, views []any, last string) *rest.Response {
	plain, path := *q, key
	plain.Count = false
	if detail {
		path += "/detail"
	}
	return listing(r, &plain, key, strings.TrimSuffix(key, "s")+"_links", path, views, last, 0)
}

func listing(r *rest.Request, q *Query, key, links, path string, views []any, last string, total int) *rest.Response {
	if views == nil {
		views = []any{}
	}
	out := map[string]any{key: views}
	if q.Count {
		out["count"] = total
	}
	if len(views) > 0 && len(views) == q.Limit {
		href := rest.NextLink(r.Base(), root(r)+"/"+path, r.Query(), last)
		out[links] = []map[string]string{{"rel": "next", "href": href}}
	}
	return rest.JSON(200, out)
}
