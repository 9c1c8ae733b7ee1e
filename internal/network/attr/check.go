package attr

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/strata-cloud/strata/internal/errs"
)

// Text shows a value in an error as upstream's %s would.
func Text(v any) string {
	switch x := v.(type) {
	case nil:
		return "None"
	case string:
		return x
	case bool:
		if x {
			return "True"
		}
		return "False"
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1e15 {
			return strconv.FormatInt(int64(x), 10)
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(raw) > 200 {
		raw = append(raw[:200], "..."...)
	}
	return string(raw)
}

// String accepts text of at most max characters.
func String(max int) Check {
	return func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("'%s' is not a valid string", Text(v))
		}
		if n := utf8.RuneCountInString(s); n > max {
			return nil, fmt.Errorf("'%s' exceeds maximum length of %d", clip(s), max)
		}
		return s, nil
	}
}

// NotEmpty refuses blank text.
func NotEmpty(max int) Check {
	return func(v any) (any, error) {
		s, err := String(max)(v)
		if err == nil && strings.TrimSpace(s.(string)) == "" {
			return nil, fmt.Errorf("'%s' Blank strings are not permitted", Text(v))
		}
		return s, err
	}
}

func clip(s string) string {
	if len(s) > 300 {
		return strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

// OrNone lets null through as nil.
func OrNone(c Check) Check {
	return func(v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		return c(v)
	}
}

// NoneAs turns null into a value.
func NoneAs(value any, c Check) Check {
	return func(v any) (any, error) {
		if v == nil {
			return value, nil
		}
		return c(v)
	}
}

// unconverted is what upstream says of a value that it cannot convert, rather than
// one that it finds invalid (neutron_lib/api/converters.py).
func unconverted(format string, v any) error {
	return errs.Coded(errs.Invalid, "InvalidInput", "Invalid input for operation: "+format, Text(v))
}

// Bool accepts booleans and what upstream's convert_to_boolean does.
func Bool(v any) (any, error) {
	switch x := v.(type) {
	case bool:
		return x, nil
	case string:
		switch strings.ToLower(x) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
	case float64:
		if x == 0 || x == 1 {
			return x == 1, nil
		}
	}
	return nil, unconverted("'%s' cannot be converted to boolean.", v)
}

// Whole reads an integer written as a number or as text.
func Whole(v any) (int, bool) {
	switch x := v.(type) {
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1e15 {
			return int(x), true
		}
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(x))
		return n, err == nil
	}
	return 0, false
}

// Int accepts integers in [lo, hi].
func Int(lo, hi int) Check {
	return func(v any) (any, error) {
		n, ok := Whole(v)
		if !ok {
			return nil, unconverted("'%s' is not an integer.", v)
		}
		if n < lo {
			return nil, fmt.Errorf("'%d' is too small - must be at least '%d'", n, lo)
		}
		if n > hi {
			return nil, fmt.Errorf("'%d' is too large - must be no larger than '%d'", n, hi)
		}
		return n, nil
	}
}

// OneOf accepts a closed set of words.
func OneOf(words ...string) Check {
	return func(v any) (any, error) {
		if s, ok := v.(string); ok && slices.Contains(words, s) {
			return s, nil
		}
		return nil, fmt.Errorf("'%s' is not in ['%s']", Text(v), strings.Join(words, "', '"))
	}
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// IsUUID tells whether s is written as a UUID.
func IsUUID(s string) bool { return uuidForm.MatchString(s) }

// UUID accepts an id.
func UUID(v any) (any, error) {
	if s, ok := v.(string); ok && uuidForm.MatchString(s) {
		return s, nil
	}
	return nil, fmt.Errorf("'%s' is not a valid UUID", Text(v))
}

// IP accepts an address without a zone.
func IP(v any) (any, error) {
	if s, ok := v.(string); ok {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			return a, nil
		}
	}
	return nil, fmt.Errorf("'%s' is not a valid IP address", Text(v))
}

// Subnet accepts a network and drops its host bits.
func Subnet(v any) (any, error) {
	if s, ok := v.(string); ok {
		if p, err := netip.ParsePrefix(s); err == nil {
			return p.Masked(), nil
		}
	}
	return CIDR(v)
}

// CIDR accepts a network without host bits.
func CIDR(v any) (any, error) {
	if s, ok := v.(string); ok {
		if p, err := netip.ParsePrefix(s); err == nil {
			if p.Masked() == p {
				return p, nil
			}
			return nil, fmt.Errorf("'%s' is not a recognized IP subnet cidr, '%s' is recommended", s, p.Masked())
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return nil, fmt.Errorf("'%s' is not a recognized IP subnet cidr, '%s' is recommended", s, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return nil, fmt.Errorf("'%s' is not a valid IP subnet", Text(v))
}

// MAC accepts a unicast hardware address and writes it in lower case with colons.
func MAC(v any) (any, error) {
	if s, ok := v.(string); ok {
		if m, err := net.ParseMAC(s); err == nil && len(m) == 6 && m.String() != "00:00:00:00:00:00" {
			return m.String(), nil
		}
	}
	return nil, fmt.Errorf("'%s' is not a valid MAC address", Text(v))
}

// List accepts at most max items that each pass; the result is []any.
func List(max int, item Check) Check {
	return func(v any) (any, error) {
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("'%s' is not a list", Text(v))
		}
		if len(list) > max {
			return nil, fmt.Errorf("%d items exceed the maximum of %d", len(list), max)
		}
		out := make([]any, 0, len(list))
		for _, x := range list {
			y, err := item(x)
			if err != nil {
				return nil, err
			}
			out = append(out, y)
		}
		return out, nil
	}
}

// Set is List of scalars without duplicates.
func Set(max int, item Check) Check {
	list := List(max, item)
	return func(v any) (any, error) {
		out, err := list(v)
		if err != nil {
			return nil, err
		}
		items := out.([]any)
		for i, y := range items {
			if slices.Contains(items[:i], y) {
				return nil, errs.Invalidf("Duplicate items in the list: '%v'", y)
			}
		}
		return items, nil
	}
}

// Of turns the result of List into a typed slice.
func Of[E any](v any) []E {
	list, _ := v.([]any)
	out := make([]E, 0, len(list))
	for _, x := range list {
		out = append(out, x.(E))
	}
	return out
}

// Dict accepts an object with the known keys; each present one must pass, and need names the required ones.
func Dict(keys map[string]Check, need ...string) Check {
	return func(v any) (any, error) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("'%s' is not a dictionary", Text(v))
		}
		out := map[string]any{}
		for k, x := range m {
			c := keys[k]
			if c == nil {
				return nil, errs.Invalidf("Unexpected keys supplied: %s", k)
			}
			y, err := c(x)
			if err != nil {
				return nil, err
			}
			out[k] = y
		}
		for _, k := range need {
			if _, ok := m[k]; !ok {
				return nil, errs.Invalidf("Expected keys not found: %s in '%s'", k, Text(v))
			}
		}
		return out, nil
	}
}

var labelForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// DNS accepts a host or domain name, or "" (neutron-lib's dns validators).
func DNS(max int) Check {
	return func(v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("'%s' is not a valid string", Text(v))
		}
		if len(s) > max {
			return nil, fmt.Errorf("'%s' exceeds the %d character limit for a name", clip(s), max)
		}
		if s == "" {
			return "", nil
		}
		for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
			if !labelForm.MatchString(label) {
				return nil, fmt.Errorf("'%s' not a valid PQDN or FQDN. Reason: Encountered an empty or malformed component", clip(s))
			}
		}
		return strings.ToLower(s), nil
	}
}
