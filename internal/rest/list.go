package rest

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Sort is one key of an ordering.
type Sort struct {
	Key  string
	Desc bool
}

// Page is what a list request asks for.
type Page struct {
	Limit   int // 0: all
	Marker  string
	Reverse bool // neutron's page_reverse
	Sorts   []Sort
}

// PageOf reads limit, marker, page_reverse, sort_key/sort_dir pairs and glance's and
// cinder's sort=key:dir,... from a query. Max caps the limit (0: no cap).
func PageOf(q url.Values, max int) (Page, error) {
	p := Page{Marker: q.Get("marker"), Reverse: strings.EqualFold(q.Get("page_reverse"), "true")}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return p, errs.Invalidf("limit must be an integer of at least 0, not %q", s)
		}
		p.Limit = n
	}
	if max > 0 && (p.Limit == 0 || p.Limit > max) {
		p.Limit = max
	}
	dirs := q["sort_dir"]
	for i, key := range q["sort_key"] {
		dir := ""
		if i < len(dirs) {
			dir = dirs[i]
		} else if len(dirs) > 0 {
			dir = dirs[len(dirs)-1]
		}
		s, err := sortOf(key, dir)
		if err != nil {
			return p, err
		}
		p.Sorts = append(p.Sorts, s)
	}
	for _, part := range strings.FieldsFunc(q.Get("sort"), func(r rune) bool { return r == ',' }) {
		key, dir, _ := strings.Cut(part, ":")
		s, err := sortOf(strings.TrimSpace(key), dir)
		if err != nil {
			return p, err
		}
		p.Sorts = append(p.Sorts, s)
	}
	return p, nil
}

func sortOf(key, dir string) (Sort, error) {
	switch strings.ToLower(dir) {
	case "", "asc":
		return Sort{key, false}, nil
	case "desc":
		return Sort{key, true}, nil
	}
	return Sort{}, errs.Invalidf("Unknown sort direction %q, must be asc or desc", dir)
}

// Paginate orders items and cuts the page out. id names an item, field gives the
// text of a sort key (ok false: the key is unknown, an Invalid error); ties are broken
// by id so that paging never skips. A marker that is not in items is an Invalid
// error. more tells whether items follow the page.
func Paginate[T any](items []T, p Page, id func(T) string, field func(T, string) (string, bool)) (page []T, more bool, err error) {
	for _, s := range p.Sorts {
		if len(items) > 0 {
			if _, ok := field(items[0], s.Key); !ok {
				return nil, false, errs.Invalidf("Sort key supplied is not valid: %s", s.Key)
			}
		}
	}
	order(items, p.Sorts, id, field)
	if p.Reverse {
		slices.Reverse(items)
	}
	if p.Marker != "" {
		i := slices.IndexFunc(items, func(x T) bool { return id(x) == p.Marker })
		if i < 0 {
			return nil, false, errs.Invalidf("marker [%s] not found", p.Marker)
		}
		items = items[i+1:]
	}
	if p.Limit > 0 && len(items) > p.Limit {
		items, more = items[:p.Limit], true
	}
	if p.Reverse {
		slices.Reverse(items)
	}
	return items, more, nil
}

// order sorts the items by the keys and then by id. The text of each key is made once per item.
func order[T any](items []T, sorts []Sort, id func(T) string, field func(T, string) (string, bool)) {
	type keyed struct {
		item T
		id   string
		keys []string
	}
	list := make([]keyed, len(items))
	texts := make([]string, len(items)*len(sorts))
	for i, x := range items {
		keys := texts[i*len(sorts) : (i+1)*len(sorts)]
		for j, s := range sorts {
			keys[j], _ = field(x, s.Key)
		}
		list[i] = keyed{x, id(x), keys}
	}
	slices.SortStableFunc(list, func(a, b keyed) int {
		for j, s := range sorts {
			if c := compareText(a.keys[j], b.keys[j]); c != 0 {
				if s.Desc {
					return -c
				}
				return c
			}
		}
		return cmp.Compare(a.id, b.id)
	})
	for i := range list {
		items[i] = list[i].item
	}
}

// compareText orders numbers by value and everything else as text.
func compareText(a, b string) int {
	x, err1 := strconv.ParseInt(a, 10, 64)
	y, err2 := strconv.ParseInt(b, 10, 64)
	if err1 == nil && err2 == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}

// NextLink is the address of the page after marker: the request's own query with
// another marker.
func NextLink(base, path string, q url.Values, marker string) string {
	next := url.Values{}
	for k, v := range q {
		next[k] = v
	}
	next.Set("marker", marker)
	return base + path + "?" + next.Encode()
}

// Fields keeps only the asked keys of a view (neutron's fields=); none asked keeps all.
func Fields(view map[string]any, asked []string) map[string]any {
	if len(asked) == 0 {
		return view
	}
	out := make(map[string]any, len(asked))
	for _, k := range asked {
		if v, ok := view[k]; ok {
			out[k] = v
		}
	}
	return out
}
