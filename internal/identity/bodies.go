package identity

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
)

// ref is the attributes in a request's body. Handlers take those they know;
// what is left is the resource's extra attributes.
type ref map[string]any

// ref reads the object under key; schemas have vouched for its shape.
func (r *request) ref(key string) (ref, error) {
	var body map[string]ref
	dec := json.NewDecoder(bytes.NewReader(r.Body()))
	if err := dec.Decode(&body); err != nil {
		return nil, errs.Invalidf("Malformed request body: %w", err)
	}
	if body[key] == nil {
		return nil, errs.Invalidf("Expecting to find %s in request body.", key)
	}
	return body[key], nil
}

// has tells whether the attribute is there, null or not.
func (b ref) has(key string) bool { _, ok := b[key]; return ok }

// text takes a string; "" when it is absent or null.
func (b ref) text(key string) string {
	s, _ := b[key].(string)
	delete(b, key)
	return s
}

// optional takes a string that may be null.
func (b ref) optional(key string) *string {
	s, ok := b[key].(string)
	delete(b, key)
	if !ok {
		return nil
	}
	return &s
}

// flag takes a boolean.
func (b ref) flag(key string, absent bool) bool {
	v, ok := b[key].(bool)
	delete(b, key)
	if !ok {
		return absent
	}
	return v
}

// texts takes a list of strings.
func (b ref) texts(key string) []string {
	list, _ := b[key].([]any)
	delete(b, key)
	out := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// instant takes a time; absent and null give nil.
func (b ref) instant(key string) (*time.Time, error) {
	s := b.text(key)
	if s == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			t = t.UTC()
			return &t, nil
		}
	}
	return nil, errs.Invalidf("Invalid timestamp format of %s: %s is not ISO 8601.", key, s)
}

// options merges the "options" of a body; null removes one.
func (b ref) options(into map[string]any) map[string]any {
	given, _ := b["options"].(map[string]any)
	delete(b, "options")
	if len(given) == 0 {
		return into
	}
	out := maps.Clone(into)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range given {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// extra is what nobody took, without what the service says itself.
func (b ref) extra(into directory.Extra) directory.Extra {
	delete(b, "id")
	delete(b, "links")
	if len(b) == 0 {
		return into
	}
	out := maps.Clone(into)
	if out == nil {
		out = directory.Extra{}
	}
	maps.Copy(out, b)
	return out
}

// matchID refuses a body that names another id than the path.
func (b ref) matchID(id string) error {
	if v, ok := b["id"]; ok && v != id {
		return errs.Invalidf("Cannot change the ID.")
	}
	return nil
}

// withExtra puts extra attributes into a view; known ones win.
func withExtra(view object, extra directory.Extra) object {
	for k, v := range extra {
		if _, known := view[k]; !known {
			view[k] = v
		}
	}
	return view
}

// orNull is a string, or null for "".
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func optionsView(o map[string]any) map[string]any {
	if o == nil {
		return map[string]any{}
	}
	return o
}

// immutable refuses to change what is marked so, unless the change lifts the mark alone
// (keystone/common/resource_options/options/immutable.py).
func immutable(options map[string]any, kind, id string, b ref) error {
	if !truthy(options["immutable"]) {
		return nil
	}
	if o, ok := b["options"].(map[string]any); ok && len(b) == 1 {
		if v, named := o["immutable"]; named && !truthy(v) {
			return nil
		}
	}
	return errs.Forbiddenf("Cannot update or delete the immutable resource %s %s. Set resource option immutable to false first.", kind, id)
}
