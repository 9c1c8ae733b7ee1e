package network

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/rest"
)

// maxBulk bounds a bulk create: all of it is one transaction.
const maxBulk = 100

// routes are the rows of one resource: create, list, show, update, delete.
func (rs *resource[T]) routes() []rest.Route {
	all := "/" + rs.plural
	if rs.path != "" {
		all = rs.path
	}
	one := all + "/{id}"
	rows := []rest.Route{
		{Method: "GET", Path: all, Policy: "get_" + rs.name, Handle: rs.list},
		{Method: "POST", Path: all, Policy: "create_" + rs.name, Handle: rs.post},
		{Method: "GET", Path: one, Policy: "get_" + rs.name, Handle: rs.show},
		{Method: "DELETE", Path: one, Policy: "delete_" + rs.name, Handle: rs.delete},
	}
	if rs.update != nil {
		rows = append(rows, rest.Route{Method: "PUT", Path: one, Policy: "update_" + rs.name, Handle: rs.put1})
	}
	return rows
}

func (rs *resource[T]) post(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	plural := ""
	if rs.bulk {
		plural = rs.plural
	}
	items, bulk, err := attr.Decode(r.Body(), rs.name, plural)
	if err != nil {
		return nil, err
	}
	if len(items) > maxBulk {
		return nil, badRequest("At most %d items can be created at once", maxBulk)
	}
	c := rs.look(r)
	owners, given := make([]string, len(items)), make([]attr.Values, len(items))
	for i, raw := range items {
		if owners[i], err = c.owner(raw); err != nil {
			return nil, err
		}
		if given[i], err = rs.table.Parse(raw, attr.Post); err != nil {
			return nil, err
		}
	}
	var views []map[string]any
	err = rs.do(ctx, r, func(c *call) error {
		views = make([]map[string]any, 0, len(items))
		for i := range items {
			v, err := rs.add(c, owners[i], given[i])
			if err != nil {
				return err
			}
			views = append(views, rs.view(c, v, nil))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if bulk {
		return rest.JSON(http.StatusCreated, map[string]any{rs.plural: views}), nil
	}
	return rest.JSON(http.StatusCreated, map[string]any{rs.name: views[0]}), nil
}

func (rs *resource[T]) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c := rs.look(r)
	v, err := rs.find(c, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{rs.name: rs.view(c, v, r.Query()["fields"])}), nil
}

func (rs *resource[T]) put1(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	items, _, err := attr.Decode(r.Body(), rs.name, "")
	if err != nil {
		return nil, err
	}
	var view map[string]any
	err = rs.do(ctx, r, func(c *call) error {
		v, err := rs.change(c, r.Path("id"), items[0])
		if err == nil {
			view = rs.view(c, v, nil)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{rs.name: view}), nil
}

func (rs *resource[T]) delete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	err := rs.do(ctx, r, func(c *call) error { return rs.drop(c, r.Path("id")) })
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
