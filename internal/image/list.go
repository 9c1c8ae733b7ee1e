package image

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// The limits of a page: upstream's limit_param_default and api_limit_max.
const (
	defaultLimit = 25
	maxLimit     = 1000
)

func (s *Service) listImages(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q := r.Query()
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	match, err := filterOf(q)
	if err != nil {
		return nil, err
	}
	sorts, err := sortsOf(q)
	if err != nil {
		return nil, err
	}
	seen, err := listed(r.Creds, q)
	if err != nil {
		return nil, err
	}
	if m := q.Get("marker"); m != "" {
		if v, err := s.images.Get(m); err != nil || !v.visibleTo(r.Creds) {
			return nil, errs.Invalidf("No image found with ID %s", m)
		}
	}
	var list []*Image
	for _, v := range s.images.All() {
		if v.ID == q.Get("marker") || seen(v) && match(v) {
			list = append(list, v)
		}
	}
	list, _, err = rest.Paginate(list, rest.Page{Limit: max(limit, 1), Marker: q.Get("marker"), Sorts: sorts}, func(v *Image) string { return v.ID }, sortText)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		list = nil
	}
	return rest.JSON(200, listView(list, limit, q)), nil
}

func listView(list []*Image, limit int, q url.Values) map[string]any {
	views := make([]any, len(list))
	for i, v := range list {
		views[i] = v.view()
	}
	first := url.Values{}
	for k, v := range q {
		if k != "marker" {
			first[k] = v
		}
	}
	body := map[string]any{"images": views, "first": "/v2/images", "schema": "/v2/schemas/images"}
	if len(first) > 0 {
		body["first"] = "/v2/images?" + first.Encode()
	}
	// As upstream, a full page has a next one, even if that turns out empty.
	if len(list) > 0 && len(list) == limit {
		body["next"] = rest.NextLink("", "/v2/images", q, list[len(list)-1].ID)
	}
	return body
}

func limitOf(q url.Values) (int, error) {
	if !q.Has("limit") {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		return 0, errs.Invalidf("limit param must be an integer")
	}
	if n < 0 {
		return 0, errs.Invalidf("limit param must be positive")
	}
	return min(n, maxLimit), nil
}

// listed tells which images belong into the caller's list: its own, public ones,
// those shared with it and accepted, and community images when they are asked for
// (glance/db/sqlalchemy/api.py, _select_images_query).
func listed(c *policy.Credentials, q url.Values) (func(*Image) bool, error) {
	asked := q.Get("visibility")
	if q.Has("visibility") && asked != "all" && !slices.Contains(visibilities, asked) {
		return nil, errs.Invalidf("Invalid visibility value: %s", asked)
	}
	status := "accepted"
	if q.Has("member_status") {
		if status = q.Get("member_status"); !slices.Contains([]string{"pending", "accepted", "rejected", "all"}, status) {
			return nil, errs.Invalidf("Invalid status: %s", status)
		}
	}
	return func(v *Image) bool {
		own := v.Owner == c.ProjectID && c.ProjectID != ""
		switch {
		case asked != "" && asked != "all" && v.Visibility != asked:
			return false
		case asked == "" && v.Visibility == Community && !own:
			return false
		case c.Admin(), own, v.Visibility == Public, v.Visibility == Community:
			return true
		case v.Visibility != Shared || c.ProjectID == "":
			return false
		}
		m := v.member(c.ProjectID)
		return m != nil && (status == "all" || m.Status == status)
	}, nil
}

// sortsOf reads sort_key/sort_dir or sort; the default direction is descending.
func sortsOf(q url.Values) ([]rest.Sort, error) {
	var keys, dirs []string
	if q.Has("sort") {
		if q.Has("sort_key") || q.Has("sort_dir") {
			return nil, errs.Invalidf("Old and new sorting syntax cannot be combined")
		}
		for _, part := range strings.Split(strings.TrimSpace(q.Get("sort")), ",") {
			key, dir, _ := strings.Cut(part, ":")
			if dir == "" {
				dir = "desc"
			}
			keys, dirs = append(keys, strings.TrimSpace(key)), append(dirs, strings.TrimSpace(dir))
		}
	} else {
		keys, dirs = q["sort_key"], q["sort_dir"]
		if len(dirs) > 1 && len(dirs) != len(keys) {
			return nil, errs.Invalidf("Number of sort dirs does not match the number of sort keys")
		}
	}
	last := "desc"
	if len(dirs) > 0 {
		last = dirs[0]
	}
	var out []rest.Sort
	for i, key := range keys {
		if _, ok := sortText(&Image{}, key); !ok {
			return nil, errs.Invalidf("Invalid sort key: %s. It must be one of the following: name, status, container_format, disk_format, size, id, created_at, updated_at.", key)
		}
		dir := last
		if i < len(dirs) {
			dir = dirs[i]
		}
		out = append(out, rest.Sort{Key: key, Desc: dir == "desc"})
	}
	for _, d := range dirs {
		if d != "asc" && d != "desc" {
			return nil, errs.Invalidf("Invalid sort direction: %s", d)
		}
	}
	for _, key := range []string{"created_at", "id"} {
		if !slices.Contains(keys, key) {
			out = append(out, rest.Sort{Key: key, Desc: last == "desc"})
		}
	}
	return out, nil
}

// importMethod is the only way of import: no service of this region fetches from
// addresses that a user names.
const importMethod = "glance-direct"

const sortTime = "2006-01-02T15:04:05.000000"

func sortText(v *Image, key string) (string, bool) {
	switch key {
	case "name":
		if v.Name == nil {
			return "", true
		}
		return *v.Name, true
	case "status":
		return string(v.Status), true
	case "container_format":
		return v.ContainerFormat, true
	case "disk_format":
		return v.DiskFormat, true
	case "size":
		if v.Size == nil {
			return "-1", true
		}
		return strconv.FormatInt(*v.Size, 10), true
	case "id":
		return v.ID, true
	case "created_at":
		return v.Created.Format(sortTime), true
	case "updated_at":
		return v.Updated.Format(sortTime), true
	}
	return "", false
}
