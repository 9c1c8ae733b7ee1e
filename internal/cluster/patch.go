package cluster

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// change is one operation of a JSON patch, as upstream takes them
// (magnum/api/controllers/v1/types.py, JsonPatchType; magnum/api/utils.py).
type change struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// internalPaths are not for anyone to change.
var internalPaths = []string{"/created_at", "/id", "/links", "/updated_at", "/uuid", "/project_id", "/user_id"}

// patches reads a patch, and refuses what it may not change.
func patches(r *rest.Request, internal, kept []string) ([]change, error) {
	var list []change
	if err := r.Decode(&list); err != nil {
		return nil, err
	}
	for _, c := range list {
		switch {
		case slices.Contains(internalPaths, c.Path) || slices.Contains(internal, c.Path):
			return nil, errs.Invalidf("'%s' is an internal attribute and can not be updated", c.Path)
		case c.Op == "remove" && slices.Contains(kept, c.Path):
			return nil, errs.Invalidf("'%s' is a mandatory attribute and can not be removed", c.Path)
		case c.Op != "remove" && (len(c.Value) == 0 || string(c.Value) == "null"):
			return nil, errs.Invalidf("'add' and 'replace' operations needs value")
		}
	}
	return list, nil
}

// apply changes a document.
func apply(doc map[string]any, list []change) error {
	for _, c := range list {
		if err := c.apply(doc); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) apply(doc map[string]any) error {
	root, inner, nested := strings.Cut(c.Path[1:], "/")
	value, err := c.value()
	if err != nil {
		return err
	}
	old, known := doc[root]
	switch {
	case nested:
		return c.inside(doc, root, inner, value)
	case !known && c.Op == "add":
		return errs.Invalidf("Adding a new attribute %s to the root of the resource is not allowed.", c.Path)
	case !known:
		return c.failed("can't %s a non-existent object '%s'", c.Op, root)
	case c.Op == "add" && old != nil:
		return errs.Invalidf("The attribute %s has existed, please use 'replace' operation instead.", c.Path)
	case c.Op == "remove":
		doc[root] = nil
	default:
		doc[root] = value
	}
	return nil
}

// inside changes a member of an object, such as a label.
func (c *change) inside(doc map[string]any, root, name string, value any) error {
	m, ok := doc[root].(map[string]any)
	if !ok || strings.Contains(name, "/") {
		return c.failed("there is no object at '%s'", c.Path)
	}
	if _, there := m[name]; !there && c.Op != "add" {
		return c.failed("can't %s a non-existent object '%s'", c.Op, name)
	}
	if c.Op == "remove" {
		delete(m, name)
	} else {
		m[name] = value
	}
	return nil
}

func (c *change) failed(format string, args ...any) error {
	return errs.Invalidf("Couldn't apply patch '%s %s'. Reason: "+format, append([]any{c.Op, c.Path}, args...)...)
}

// value is what the operation brings. Labels come from upstream's client as the text of
// a dictionary of Python's.
func (c *change) value() (any, error) {
	if c.Op == "remove" {
		return nil, nil
	}
	var v any
	if err := json.Unmarshal(c.Value, &v); err != nil {
		return nil, c.failed("%v", err)
	}
	if text, ok := v.(string); ok && c.Path == "/labels" {
		labels, ok := dictionary(text)
		if !ok {
			return nil, c.failed("'%s' is no dictionary", text)
		}
		return labels, nil
	}
	return v, nil
}

// dictionary reads a dictionary of texts as Python prints it, or an object of JSON.
func dictionary(text string) (map[string]any, bool) {
	out := map[string]any{}
	if json.Unmarshal([]byte(text), &out) == nil {
		return out, true
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "{")
	for first := true; ok; first = false {
		rest = strings.TrimSpace(rest)
		if end, done := strings.CutPrefix(rest, "}"); done {
			return out, strings.TrimSpace(end) == ""
		}
		if !first {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return nil, false
			}
		}
		var key, value string
		if key, rest, ok = quoted(rest); !ok {
			return nil, false
		}
		if rest, ok = strings.CutPrefix(strings.TrimSpace(rest), ":"); !ok {
			return nil, false
		}
		if value, rest, ok = quoted(rest); !ok {
			return nil, false
		}
		out[key] = value
	}
	return nil, false
}

// quoted takes a quoted text from the front.
func quoted(s string) (text, rest string, ok bool) {
	s = strings.TrimSpace(s)
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`\'"`, s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		case s[i] == '\\':
			return "", s, false // an escape that labels have no use for
		default:
			b.WriteByte(s[i])
		}
	}
	return "", s, false
}
