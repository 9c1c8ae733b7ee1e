// Package attr is the attribute-map engine of the network API: one table per
// resource says which attributes there are, who may set them when, how a value
// is checked and converted, what it is by default, and how it is shown.
//
// It plays the role of neutron-lib's api/attributes.py, api/validators and
// api/converters, and speaks in their words, because clients show them.
package attr

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Access says in which requests an attribute may be given.
type Access int

// The requests.
const (
	Post Access = 1 << iota // create
	Put                     // update
)

// Check validates a decoded JSON value and converts it. The error's text is the
// reason alone; Table adds the attribute's name.
type Check func(v any) (any, error)

// Values are checked and converted attributes by name.
type Values map[string]any

// Has tells whether the attribute was given.
func (v Values) Has(name string) bool { _, ok := v[name]; return ok }

// Attr is one attribute of a resource T, seen by a viewer V.
type Attr[T, V any] struct {
	Name     string
	In       Access // 0: read-only
	Required bool   // must be in a create
	Check    Check
	Default  any // converted value of a create without it
	// Own are the operations ("create", "update", "get") for which the attribute
	// has a policy rule of its own, such as "create_network:shared".
	Own string
	// Get shows the attribute; nil: never shown.
	Get func(*T, V) any
	// Set stores a converted value; nil when the rules of the resource do.
	Set func(*T, any)
	// NoSort and NoFilter take the attribute from what lists may be ordered and filtered by.
	NoSort, NoFilter bool
}

// Table is a resource's attributes, in the order of the documentation.
type Table[T, V any] struct {
	Name  string // "network"
	Attrs []Attr[T, V]
	by    map[string]*Attr[T, V]
}

// NewTable indexes attributes.
func NewTable[T, V any](name string, attrs ...[]Attr[T, V]) *Table[T, V] {
	t := &Table[T, V]{Name: name, Attrs: slices.Concat(attrs...), by: map[string]*Attr[T, V]{}}
	for i := range t.Attrs {
		t.by[t.Attrs[i].Name] = &t.Attrs[i]
	}
	return t
}

// Find gives an attribute, nil when there is none of the name.
func (t *Table[T, V]) Find(name string) *Attr[T, V] { return t.by[name] }

// Parse checks the attributes of a create or update body.
func (t *Table[T, V]) Parse(raw map[string]any, in Access) (Values, error) {
	var unknown []string
	for name := range raw {
		if t.by[name] == nil {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, bad("Unrecognized attribute(s) '%s'", strings.Join(unknown, ", "))
	}
	out := Values{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		a := t.by[name]
		if a.In&in == 0 {
			if in == Post {
				return nil, bad("Attribute '%s' not allowed in POST", name)
			}
			return nil, bad("Cannot update read-only attribute %s", name)
		}
		v, err := a.Check(raw[name])
		if errs.CodeOf(err) != "" {
			return nil, err // the check has words of its own
		}
		if err != nil {
			return nil, bad("Invalid input for %s. Reason: %s.", name, strings.TrimSuffix(err.Error(), "."))
		}
		out[name] = v
	}
	if in == Post {
		for i := range t.Attrs {
			if a := &t.Attrs[i]; a.Required && !out.Has(a.Name) {
				return nil, bad("Failed to parse request. Required attribute '%s' not specified", a.Name)
			}
		}
	}
	return out, nil
}

// Fill stores the given values, and in a create the defaults of the others.
func (t *Table[T, V]) Fill(r *T, given Values, in Access) {
	for i := range t.Attrs {
		a := &t.Attrs[i]
		if a.Set == nil || a.In&in == 0 {
			continue
		}
		if v, ok := given[a.Name]; ok {
			a.Set(r, v)
		} else if in == Post && a.Default != nil {
			a.Set(r, a.Default)
		}
	}
}

func bad(format string, args ...any) error {
	return errs.Coded(errs.Invalid, "HTTPBadRequest", format, args...)
}

// Decode reads {"<name>": {...}} or, when plural is not "", {"<plural>": [{...}]}.
func Decode(body []byte, name, plural string) (items []map[string]any, bulk bool, err error) {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) != nil || len(outer) == 0 {
		return nil, false, bad("Resource body required")
	}
	if raw, ok := outer[plural]; ok && plural != "" {
		if json.Unmarshal(raw, &items) != nil || len(items) == 0 || slices.ContainsFunc(items, func(m map[string]any) bool { return m == nil }) {
			return nil, true, bad("Resource body required")
		}
		return items, true, nil
	}
	raw, ok := outer[name]
	if !ok {
		return nil, false, bad("Unable to find '%s' in request body", name)
	}
	var one map[string]any
	if json.Unmarshal(raw, &one) != nil || one == nil {
		return nil, false, bad("Invalid input for %s. Reason: it is not a dictionary.", name)
	}
	return []map[string]any{one}, false, nil
}
