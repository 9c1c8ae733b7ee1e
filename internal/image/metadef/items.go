package metadef

import (
	"context"
	"encoding/json"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// kind is what distinguishes objects, properties and tags.
type kind struct {
	singular, plural string
	list             func(*Namespace) *[]Item
	asMap            bool // lists are objects by name
}

// The kinds of things in a namespace.
var (
	objects    = kind{"object", "objects", func(n *Namespace) *[]Item { return &n.Objects }, false}
	properties = kind{"property", "properties", func(n *Namespace) *[]Item { return &n.Properties }, true}
	tags       = kind{"tag", "tags", func(n *Namespace) *[]Item { return &n.Tags }, false}
)

func (k *kind) view(n *Namespace, i *Item) map[string]any {
	v := map[string]any{}
	if len(i.Body) > 0 {
		_ = json.Unmarshal(i.Body, &v) // it was an object when it was stored
	}
	v["name"] = i.Name
	if k.asMap {
		return v
	}
	if k == &objects {
		v["schema"], v["self"] = "/v2/schemas/metadefs/object", root+"/"+n.Name+"/objects/"+i.Name
		if v["required"] == nil {
			v["required"] = []any{}
		}
		if v["properties"] == nil {
			v["properties"] = map[string]any{}
		}
	}
	return stamps(v, i.Created, i.Updated)
}

func (k *kind) listView(n *Namespace) any {
	list := *k.list(n)
	if k.asMap {
		out := map[string]any{}
		for i := range list {
			out[list[i].Name] = k.view(n, &list[i])
		}
		return out
	}
	out := make([]any, len(list))
	for i := range list {
		out[i] = k.view(n, &list[i])
	}
	return out
}

// add puts a new item into the namespace; its name is in the body, or given.
func (k *kind) add(n *Namespace, raw json.RawMessage, name string) (*Item, error) {
	var b struct {
		Name string `json:"name"`
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &b); err != nil {
			return nil, errs.Invalidf("Malformed request body: %w", err)
		}
	}
	if name == "" {
		name = b.Name
	}
	list := k.list(n)
	switch {
	case name == "" || len([]rune(name)) > 80:
		return nil, errs.Invalidf("The name of a metadata definition %s has 1 to 80 characters", k.singular)
	case index(*list, name) >= 0:
		return nil, errs.Conflictf("A metadata definition %s with name=%s already exists in namespace=%s.", k.singular, name, n.Name)
	case len(*list) >= maxItems:
		return nil, errs.New(errs.TooLarge, "A namespace can have %d %s at most", maxItems, k.plural)
	}
	*list = append(*list, Item{Name: name, Body: raw, Created: now(), Updated: now()})
	return &(*list)[len(*list)-1], nil
}

func (k *kind) missing(name, namespace string) error {
	return errs.NotFoundf("The metadata definition %s with name=%s was not found in namespace=%s.", k.singular, name, namespace)
}

func (c *Catalogue) listItems(k *kind) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		n, err := c.find(r)
		if err != nil {
			return nil, err
		}
		out := map[string]any{k.plural: k.listView(n)}
		if !k.asMap {
			out["schema"] = "/v2/schemas/metadefs/" + k.plural
			out["first"] = root + "/" + n.Name + "/" + k.plural
		}
		return rest.JSON(200, out), nil
	}
}

func (c *Catalogue) showItem(k *kind) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		n, err := c.find(r)
		if err != nil {
			return nil, err
		}
		i := index(*k.list(n), r.Path("name"))
		if i < 0 {
			return nil, k.missing(r.Path("name"), n.Name)
		}
		return rest.JSON(200, k.view(n, &(*k.list(n))[i])), nil
	}
}

// createItem makes one; a tag is named by the path.
func (c *Catalogue) createItem(k *kind) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		if _, err := c.find(r); err != nil {
			return nil, err
		}
		name := r.Path("name")
		n, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
			_, err := k.add(n, r.Body(), name)
			return err
		})
		if err != nil {
			return nil, err
		}
		list := *k.list(n)
		return rest.JSON(201, k.view(n, &list[len(list)-1])), nil
	}
}

// createTags replaces all tags, or adds to them with X-Openstack-Append.
func (c *Catalogue) createTags(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Tags []json.RawMessage `json:"tags"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := c.find(r); err != nil {
		return nil, err
	}
	n, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
		if v := r.HTTP.Header.Get("X-Openstack-Append"); v != "True" && v != "true" {
			n.Tags = nil
		}
		for _, raw := range b.Tags {
			if _, err := tags.add(n, raw, ""); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, map[string]any{"tags": tags.listView(n)}), nil
}

func (c *Catalogue) updateItem(k *kind) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Name string `json:"name"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		if _, err := c.find(r); err != nil {
			return nil, err
		}
		at := 0
		n, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
			list := *k.list(n)
			if at = index(list, r.Path("name")); at < 0 {
				return k.missing(r.Path("name"), n.Name)
			}
			if other := index(list, b.Name); other >= 0 && other != at {
				return errs.Conflictf("A metadata definition %s with name=%s already exists in namespace=%s.", k.singular, b.Name, n.Name)
			}
			list[at].Name, list[at].Body, list[at].Updated = b.Name, r.Body(), now()
			return nil
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, k.view(n, &(*k.list(n))[at])), nil
	}
}

// deleteItems deletes one or, where the path names none, all.
func (c *Catalogue) deleteItems(k *kind) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		if _, err := c.find(r); err != nil {
			return nil, err
		}
		name := r.Path("name")
		_, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
			list := k.list(n)
			i := index(*list, name)
			switch {
			case n.Protected:
				return protected(n)
			case name == "":
				*list = nil
			case i < 0:
				return k.missing(name, n.Name)
			default:
				*list = append((*list)[:i], (*list)[i+1:]...)
			}
			return nil
		})
		return rest.Empty(204), err
	}
}

// rename changes a namespace, under another name if that differs.
func (c *Catalogue) rename(ctx context.Context, from, to string, fn func(*Namespace)) (*Namespace, error) {
	if from == to {
		return c.namespaces.Update(ctx, from, func(n *Namespace) error { fn(n); return nil })
	}
	err := c.db.Txn(ctx, func(tx *store.Tx) error {
		old, err := c.namespaces.TxGet(tx, from)
		if err != nil {
			return errs.NotFoundf("Metadata definition namespace=%s was not found.", from)
		}
		if _, err := c.namespaces.TxGet(tx, to); err == nil {
			return errs.Conflictf("The metadata definition namespace=%s already exists.", to)
		}
		n := *old
		n.Name = to
		fn(&n)
		if err := c.namespaces.TxDelete(tx, from); err != nil {
			return err
		}
		return c.namespaces.TxCreate(tx, &n)
	})
	if err != nil {
		return nil, err
	}
	return c.namespaces.Get(to)
}
