package loadbalancer

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// mode is which request an attribute may be in.
type mode int

const (
	inPost mode = 1 << iota
	inPut
	inTree // as a part of a load balancer or pool that is being made
)

const always = inPost | inPut | inTree

// field is an attribute of requests. set takes the decoded value; it is not called for
// null, which in a create is as good as nothing and in an update calls reset.
type field[T any] struct {
	name  string
	in    mode
	must  bool // in a create
	set   func(x *T, v any) error
	reset func(x *T)
}

// read checks the attributes of a request and stores them in x.
func read[T any](fields []field[T], raw map[string]any, in mode, x *T) error {
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		v := raw[name]
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.name == name && f.in&in != 0 })
		if i < 0 {
			return coded(errs.Invalid, "Unknown attribute: %s", name)
		}
		f := fields[i]
		if v == nil {
			if in == inPut && f.reset != nil {
				f.reset(x)
			} else if in == inPut && f.must {
				return badField(name, "None", "Value is required.")
			}
			continue
		}
		if err := f.set(x, v); err != nil {
			return err
		}
	}
	if in == inPut {
		return nil
	}
	for _, f := range fields {
		if f.must && f.in&in != 0 && raw[f.name] == nil {
			return coded(errs.Invalid, "Invalid input for field/attribute %s. Value: 'None'. Mandatory field missing.", f.name)
		}
	}
	return nil
}

// body reads {"<name>": {...}}.
func body(r *rest.Request, name string) (map[string]any, error) {
	outer, err := object(r.Body())
	if err != nil {
		return nil, err
	}
	for key := range outer {
		if key != name {
			return nil, coded(errs.Invalid, "Unknown attribute: %s", key)
		}
	}
	inner, ok := outer[name].(map[string]any)
	if !ok {
		return nil, badField(name, outer[name], "Mandatory field missing.")
	}
	return inner, nil
}

func object(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil || out == nil {
		return nil, coded(errs.Invalid, "Request must be a JSON dict")
	}
	return out, nil
}

// The makers of attributes. Each gives a field that may be in every request.

func text[T any](name string, max int, at func(*T) *string) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		s, ok := v.(string)
		if !ok {
			return badField(name, v, "Wrong type. Expected 'str'")
		}
		if utf8.RuneCountInString(s) > max {
			return badField(name, v, "Value should have a maximum character requirement of "+strconv.Itoa(max))
		}
		*at(x) = s
		return nil
	}, reset: func(x *T) { *at(x) = "" }}
}

func flag[T any](name string, normal bool, at func(*T) *bool) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		b, err := truth(name, v)
		if err == nil {
			*at(x) = b
		}
		return err
	}, reset: func(x *T) { *at(x) = normal }}
}

// truth takes what wsme takes for a bool.
func truth(name string, v any) (bool, error) {
	switch b := v.(type) {
	case bool:
		return b, nil
	case json.Number:
		return b != "0", nil
	case string:
		switch strings.ToLower(b) {
		case "true", "on", "yes", "y", "t", "1":
			return true, nil
		case "false", "off", "no", "n", "f", "0":
			return false, nil
		}
	}
	return false, badField(name, v, "Value not convertible to bool")
}

func number[T any](name string, min, max, normal int, at func(*T) *int) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		var digits string
		switch n := v.(type) {
		case json.Number:
			digits = n.String()
		case string: // as clients write that do not convert their options
			digits = n
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return badField(name, v, "Wrong type. Expected 'int'")
		}
		if n < min {
			return badField(name, v, "Value should be greater or equal to "+strconv.Itoa(min))
		}
		if n > max {
			return badField(name, v, "Value should be lower or equal to "+strconv.Itoa(max))
		}
		*at(x) = n
		return nil
	}, reset: func(x *T) { *at(x) = normal }}
}

func choice[T any](name string, of []string, at func(*T) *string) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		s, ok := v.(string)
		if !ok || !slices.Contains(of, s) {
			return badField(name, v, "Value should be one of: "+strings.Join(of, ", "))
		}
		*at(x) = s
		return nil
	}}
}

func id[T any](name string, at func(*T) *string) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		s, ok := v.(string)
		u, err := uuid.Parse(s)
		if !ok || err != nil {
			return badField(name, v, "Value should be UUID format")
		}
		*at(x) = u.String()
		return nil
	}, reset: func(x *T) { *at(x) = "" }}
}

func address[T any](name string, at func(*T) *string) field[T] {
	f := written(name, at)
	check := f.set
	f.set = func(x *T, v any) error {
		err := check(x, v)
		if err == nil {
			*at(x) = parsed(*at(x)).String()
		}
		return err
	}
	return f
}

// written is an address that is kept as it was written.
func written[T any](name string, at func(*T) *string) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		s, _ := v.(string)
		if a := parsed(s); !a.IsValid() || a.Zone() != "" {
			return badField(name, v, "Value should be IPv4 or IPv6 format")
		}
		*at(x) = s
		return nil
	}, reset: func(x *T) { *at(x) = "" }}
}

// parsed is the zero address when it is none.
func parsed(address string) netip.Addr {
	a, _ := netip.ParseAddr(address) // then it is zero
	return a.Unmap()
}

func texts[T any](name string, check func(string) (string, error), at func(*T) *[]string) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		list, ok := v.([]any)
		if !ok {
			return badField(name, v, "Expected a list")
		}
		var out []string
		for _, e := range list {
			s, ok := e.(string)
			if !ok {
				return badField(name, e, "Wrong type. Expected 'str'")
			}
			s, err := check(s)
			if err != nil {
				return badField(name, e, err.Error())
			}
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
		*at(x) = out
		return nil
	}, reset: func(x *T) { *at(x) = nil }}
}

func tagText(s string) (string, error) {
	if utf8.RuneCountInString(s) > 255 {
		return "", errs.Invalidf("Value should have a maximum character requirement of 255")
	}
	return s, nil
}

func cidrText(s string) (string, error) {
	p, err := netip.ParsePrefix(s)
	if a, e := netip.ParseAddr(s); e == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return "", errs.Invalidf("Value should be IPv4 or IPv6 CIDR format")
	}
	return p.Masked().String(), nil
}

func uuidText(s string) (string, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return "", errs.Invalidf("Value should be UUID format")
	}
	return u.String(), nil
}

func matching[T any](name string, re *regexp.Regexp, at func(*T) *string) field[T] {
	f := text(name, 255, at)
	inner := f.set
	f.set = func(x *T, v any) error {
		if s, ok := v.(string); ok && !re.MatchString(s) {
			return badField(name, v, "Value should match the pattern "+re.String())
		}
		return inner(x, v)
	}
	return f
}

// only gives the field with other requests.
func only[T any](in mode, f field[T]) field[T] { f.in = in; return f }

// must gives the field as one that a create needs, and that an update may not empty.
func must[T any](f field[T]) field[T] { f.must = true; f.reset = nil; return f }

// ignored is an attribute whose place is elsewhere now.
func ignored[T any](name string, in mode) field[T] {
	return field[T]{name: name, in: in, set: func(*T, any) error { return nil }}
}

// without is an attribute of upstream's that this provider can do nothing about: what
// asks for nothing passes, the rest is refused.
func without[T any](names ...string) []field[T] {
	var out []field[T]
	for _, name := range names {
		out = append(out, field[T]{name: name, in: always, reset: func(*T) {}, set: func(_ *T, v any) error {
			switch n := v.(type) {
			case []any:
				if len(n) == 0 {
					return nil
				}
			case map[string]any:
				if len(n) == 0 {
					return nil
				}
			case bool:
				if !n {
					return nil
				}
			case string:
				if n == "" || n == "NONE" {
					return nil
				}
			}
			return unsupported("%s", name)
		}})
	}
	return out
}

// common are the attributes of everything; some have no description.
func common[T any](described bool, meta func(*T) *Meta) []field[T] {
	out := []field[T]{
		text("name", 255, func(x *T) *string { return &meta(x).Name }),
		flag("admin_state_up", false, func(x *T) *bool { return &meta(x).AdminUp }),
		texts("tags", tagText, func(x *T) *[]string { return &meta(x).Tags }),
	}
	if described {
		out = append(out, text("description", 255, func(x *T) *string { return &meta(x).Description }))
	}
	return out
}

// version is a number, or the text of one, as it was written.
func version(v any) string {
	switch n := v.(type) {
	case json.Number:
		return n.String()
	case string:
		return n
	}
	return ""
}
