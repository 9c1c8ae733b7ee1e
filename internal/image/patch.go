package image

import (
	"context"
	"encoding/json"
	"mime"
	"regexp"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// change is one operation of a patch.
type change struct {
	op, key string
	value   json.RawMessage
	draft4  bool
}

// patchImage changes attributes and properties (PATCH /images/{id}); all changes
// or none of them.
func (s *Service) patchImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	changes, err := parsePatch(r)
	if err != nil {
		return nil, err
	}
	if _, err := s.find(ctx, r, "modify_image"); err != nil {
		return nil, err
	}
	v, err := s.images.Update(ctx, r.Path("id"), func(v *Image) error {
		for _, c := range changes {
			if err := c.apply(r, v); err != nil {
				return err
			}
		}
		if len(changes) > 0 {
			v.touch()
		}
		return v.checkLimits()
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, v.view()), nil
}

// parsePatch reads both patch formats of upstream: v2.1 is RFC 6902 without move,
// copy and test; v2.0 names the path in the operation's own member.
func parsePatch(r *rest.Request) ([]change, error) {
	const family = "application/openstack-images-v2."
	ct, _, _ := mime.ParseMediaType(r.HTTP.Header.Get("Content-Type"))
	if ct != family+"0-json-patch" && ct != family+"1-json-patch" {
		return nil, errs.New(errs.MediaType, "Image PATCH expects Content-Type one of: %s0-json-patch, %s1-json-patch", family, family)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(r.Body(), &list); err != nil {
		return nil, errs.Invalidf("Request body must be a JSON array of operation objects.")
	}
	var out []change
	for _, raw := range list {
		var o map[string]json.RawMessage
		if json.Unmarshal(raw, &o) != nil || o == nil {
			return nil, errs.Invalidf("Operations must be JSON objects.")
		}
		c := change{draft4: ct == family+"0-json-patch"}
		if err := c.parse(o); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

var operations = []string{"add", "remove", "replace"}

func (c *change) parse(o map[string]json.RawMessage) error {
	var path string
	if c.draft4 {
		for _, op := range operations {
			raw, ok := o[op]
			if !ok {
				continue
			}
			if c.op != "" {
				return errs.Invalidf("Operation objects must contain only one member named \"add\", \"remove\", or \"replace\".")
			}
			c.op = op
			if json.Unmarshal(raw, &path) != nil {
				return errs.Invalidf("The path of an operation must be a string.")
			}
		}
		if c.op == "" {
			return errs.Invalidf("Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".")
		}
	} else {
		if json.Unmarshal(o["op"], &c.op) != nil || !slices.Contains(operations, c.op) {
			return errs.Invalidf("Invalid operation: `%s`. It must be one of the following: add, remove, replace.", c.op)
		}
		if json.Unmarshal(o["path"], &path) != nil {
			return errs.Invalidf("Unable to find 'path' in JSON Schema change")
		}
	}
	if err := c.point(path); err != nil {
		return err
	}
	if c.op == "remove" {
		return nil
	}
	value, ok := o["value"]
	if !ok {
		return errs.Invalidf("Operation \"%s\" requires a member named \"value\".", c.op)
	}
	c.value = value
	return nil
}

var (
	adjacent  = regexp.MustCompile(`/\s*/`)
	badEscape = regexp.MustCompile(`~([^01]|$)`)
)

// point reads a JSON pointer with one token.
func (c *change) point(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return errs.Invalidf("Pointer `%s` does not start with \"/\".", p)
	case adjacent.MatchString(p[1:]):
		return errs.Invalidf("Pointer `%s` contains adjacent \"/\".", p)
	case len(p) > 1 && strings.HasSuffix(p, "/"):
		return errs.Invalidf("Pointer `%s` end with \"/\".", p)
	case badEscape.MatchString(p):
		return errs.Invalidf("Pointer `%s` contains \"~\" not part of a recognized escape sequence.", p)
	}
	tokens := strings.Split(strings.TrimLeft(p, "/"), "/")
	c.key = strings.TrimSpace(strings.NewReplacer("~1", "/", "~0", "~").Replace(tokens[0]))
	if c.key == "locations" {
		return errs.Forbiddenf("It's not allowed to %s locations if locations are invisible.", c.op)
	}
	if len(tokens) != 1 || c.key == "" {
		return errs.Invalidf("Invalid JSON pointer for this resource: '/%s'", strings.Join(tokens, "/"))
	}
	return writable(c.key)
}

func (c *change) apply(r *rest.Request, v *Image) error {
	_, isProperty := v.Properties[c.key]
	switch {
	case c.op == "remove" && baseFields[c.key]:
		return errs.Forbiddenf("Property %s may not be removed.", c.key)
	case c.op != "add" && !baseFields[c.key] && !isProperty:
		return errs.Conflictf("Property %s does not exist.", c.key)
	case c.op == "add" && c.draft4 && (baseFields[c.key] || isProperty):
		return errs.Conflictf("Property %s already present.", c.key)
	case c.op == "remove":
		delete(v.Properties, c.key)
		return nil
	case c.key == "owner" && !r.Creds.Admin():
		return errs.Forbiddenf("Owner can't be updated by non admin.")
	}
	before := v.Visibility
	if err := v.set(c.key, c.value); err != nil {
		return err
	}
	if c.key == "visibility" && v.Visibility != before {
		wanted := v.Visibility
		return allowVisibility(r, v, wanted)
	}
	return nil
}
