package image

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// filter says whether an image is asked for.
type filter func(*Image) bool

// pageKeys are the parameters of a list that are no filters, or are read elsewhere.
var pageKeys = set("limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status")

// filterOf reads all filters; images must pass each of them. Hidden images are
// listed only when they are asked for.
func filterOf(q url.Values) (filter, error) {
	filters := []filter{}
	if !q.Has("os_hidden") {
		filters = append(filters, func(v *Image) bool { return !v.Hidden })
	}
	for key, values := range q {
		if pageKeys[key] {
			continue
		}
		for _, val := range values {
			f, err := oneFilter(key, val)
			if err != nil {
				return nil, err
			}
			filters = append(filters, f)
			if key != "tag" {
				break
			}
		}
	}
	return func(v *Image) bool {
		for _, f := range filters {
			if !f(v) {
				return false
			}
		}
		return true
	}, nil
}

func oneFilter(key, val string) (filter, error) {
	switch key {
	case "changes-since":
		return nil, errs.Invalidf("The \"changes-since\" filter is no longer available on v2.")
	case "tag":
		val = strings.TrimSpace(val)
		return func(v *Image) bool { return slices.Contains(v.Tags, val) }, nil
	case "protected", "os_hidden":
		return boolFilter(key, val)
	case "created_at", "updated_at":
		return timeFilter(key, val)
	case "name", "id", "status", "container_format", "disk_format":
		return textFilter(key, val)
	case "size_min", "size_max", "min_disk_min", "min_disk_max", "min_ram_min", "min_ram_max", "virtual_size_min", "virtual_size_max":
		return rangeFilter(key, val)
	}
	return func(v *Image) bool {
		got, ok := v.text(key)
		return ok && got == val
	}, nil
}

// text is an attribute or property as a filter compares it.
func (v *Image) text(key string) (string, bool) {
	number := func(n *int64) (string, bool) {
		if n == nil {
			return "", false
		}
		return strconv.FormatInt(*n, 10), true
	}
	switch key {
	case "owner":
		return v.Owner, true
	case "checksum":
		return v.Checksum, true
	case "os_hash_value":
		return v.Hash, true
	case "os_hash_algo":
		return "sha512", v.Hash != ""
	case "size":
		return number(v.Size)
	case "virtual_size":
		return number(v.VirtualSize)
	case "min_disk":
		return number(&v.MinDisk)
	case "min_ram":
		return number(&v.MinRAM)
	}
	if s, ok := sortText(v, key); ok {
		return s, true
	}
	s, ok := v.Properties[key]
	return s, ok
}

func boolFilter(key, val string) (filter, error) {
	var want bool
	switch strings.ToLower(val) {
	case "true", "1", "t", "yes", "on", "y":
		want = true
	case "false", "0", "f", "no", "off", "n":
	default:
		return nil, errs.Invalidf("Invalid value '%s' for '%s' filter. Valid values are case insensitively 'true' or 'false'.", val, key)
	}
	return func(v *Image) bool {
		if key == "protected" {
			return v.Protected == want
		}
		return v.Hidden == want
	}, nil
}

// operator splits "gte:2020-01-01T00:00:00Z". A colon of the value itself is
// told apart by what stands before it.
func operator(val string, known ...string) (op, rest string, err error) {
	op, rest, ok := strings.Cut(val, ":")
	if !ok {
		return "eq", val, nil
	}
	if slices.Contains(known, op) {
		return op, rest, nil
	}
	return "", "", errs.Invalidf("Unable to filter by unknown operator '%s'.", op)
}

func textFilter(key, val string) (filter, error) {
	op, rest, err := operator(val, "in", "eq")
	if err != nil {
		return nil, err
	}
	wanted := []string{rest}
	if op == "in" {
		if wanted, err = splitQuoted(rest); err != nil {
			return nil, err
		}
	}
	return func(v *Image) bool {
		got, _ := v.text(key)
		return slices.Contains(wanted, got)
	}, nil
}

// splitQuoted splits at commas outside of double quotes; a backslash in quotes
// escapes the next character.
func splitQuoted(s string) ([]string, error) {
	var out []string
	var cur strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\' && i+1 < len(s):
			i++
			cur.WriteByte(s[i])
		case c == ',' && !quoted:
			out = append(out, cur.String())
			cur.Reset()
		default:
			cur.WriteByte(c)
		}
	}
	if quoted {
		return nil, errs.Invalidf("Invalid filter value %s. The quote is not closed.", s)
	}
	return append(out, cur.String()), nil
}

func timeFilter(key, val string) (filter, error) {
	op, rest := "eq", val
	if o, r, ok := strings.Cut(val, ":"); ok && o != "" && strings.Trim(o, "abcdefghijklmnopqrstuvwxyz") == "" {
		op, rest = o, r
	}
	want, err := parseTime(rest)
	if err != nil {
		return nil, errs.Invalidf("Bad \"%s\" query filter format. Use ISO 8601 DateTime notation.", key)
	}
	accept, ok := map[string]func(int) bool{
		"eq": func(c int) bool { return c == 0 }, "neq": func(c int) bool { return c != 0 },
		"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 },
		"lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 }}[op]
	if !ok {
		return nil, errs.Invalidf("Unable to filter on a unknown operator.")
	}
	return func(v *Image) bool {
		got := v.Created
		if key == "updated_at" {
			got = v.Updated
		}
		// Upstream's clock has seconds, and so has what clients have read.
		return accept(got.Truncate(time.Second).Compare(want))
	}, nil
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05.999999", "2006-01-02T15:04:05-0700", "2006-01-02 15:04:05", "2006-01-02", "20060102T150405Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time", s)
}

func rangeFilter(key, val string) (filter, error) {
	bound, err := strconv.ParseInt(val, 10, 64)
	if err != nil {
		return nil, errs.Invalidf("Unable to filter on a range with a non-numeric value.")
	}
	return func(v *Image) bool {
		got, ok := v.text(key[:len(key)-len("_min")])
		n, err := strconv.ParseInt(got, 10, 64)
		if !ok || err != nil {
			return false
		}
		if strings.HasSuffix(key, "_min") {
			return n >= bound
		}
		return n <= bound
	}, nil
}
