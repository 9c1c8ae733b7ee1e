package network

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/rest"
)

const (
	maxTag  = 255
	maxTags = 50
)

// tagRoutes are the rows for a resource's tags (neutron/extensions/tagging.py).
func (rs *resource[T]) tagRoutes() []rest.Route {
	all := "/" + rs.plural
	if rs.path != "" {
		all = rs.path
	}
	all += "/{id}/tags"
	see, set := "get_"+rs.name, "update_"+rs.name
	return []rest.Route{
		{Method: "GET", Path: all, Policy: see, Handle: rs.showTags},
		{Method: "PUT", Path: all, Policy: set, Handle: rs.replaceTags},
		{Method: "DELETE", Path: all, Policy: set, Handle: rs.editTags(http.StatusNoContent, func(*rest.Request, []string) ([]string, error) { return nil, nil })},
		{Method: "GET", Path: all + "/{tag}", Policy: see, Handle: rs.hasTag},
		{Method: "PUT", Path: all + "/{tag}", Policy: set, Handle: rs.editTags(http.StatusCreated, addTag)},
		{Method: "DELETE", Path: all + "/{tag}", Policy: set, Handle: rs.editTags(http.StatusNoContent, removeTag)},
	}
}

func tagMissing(r *rest.Request) error {
	return errs.Coded(errs.NotFound, "TagNotFound", "Tag %s could not be found.", r.Path("tag"))
}

func addTag(r *rest.Request, tags []string) ([]string, error) {
	if _, err := attr.String(maxTag)(r.Path("tag")); err != nil {
		return nil, badRequest("Invalid input for tag. Reason: %v.", err)
	}
	if slices.Contains(tags, r.Path("tag")) {
		return tags, nil
	}
	return append(slices.Clone(tags), r.Path("tag")), nil
}

func removeTag(r *rest.Request, tags []string) ([]string, error) {
	if !slices.Contains(tags, r.Path("tag")) {
		return nil, tagMissing(r)
	}
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t == r.Path("tag") }), nil
}

func (rs *resource[T]) showTags(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := rs.find(rs.look(r), r.Path("id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{"tags": list(rs.base(v).Tags)}), nil
}

func (rs *resource[T]) hasTag(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := rs.find(rs.look(r), r.Path("id"))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(rs.base(v).Tags, r.Path("tag")) {
		return nil, tagMissing(r)
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (rs *resource[T]) replaceTags(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]any
	if json.Unmarshal(r.Body(), &b) != nil || b["tags"] == nil {
		return nil, badRequest("Invalid tags body.")
	}
	v, err := attr.List(1000, attr.NotEmpty(maxTag))(b["tags"])
	if err != nil {
		return nil, badRequest("Invalid input for tags. Reason: %v.", err)
	}
	var tags []string
	for _, t := range attr.Of[string](v) {
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	_, err = rs.editTags(http.StatusOK, func(*rest.Request, []string) ([]string, error) { return tags, nil })(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{"tags": list(tags)}), nil
}

func (rs *resource[T]) editTags(status int, edit func(*rest.Request, []string) ([]string, error)) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		err := rs.do(ctx, r, func(c *call) error {
			old, err := rs.find(c, r.Path("id"))
			if err != nil {
				return err
			}
			if err := c.enforce("update_"+rs.name, rs.targetOf(c, old)); err != nil {
				return err
			}
			now := *old
			if rs.base(&now).Tags, err = edit(r, rs.base(old).Tags); err != nil {
				return err
			}
			if len(rs.base(&now).Tags) > maxTags {
				return badRequest("Invalid input for tags. Reason: more than %d tags.", maxTags)
			}
			return rs.put(c, old, &now)
		})
		if err != nil {
			return nil, err
		}
		return rest.Empty(status), nil
	}
}
