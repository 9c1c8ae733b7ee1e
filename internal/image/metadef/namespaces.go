package metadef

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

const root = "/v2/metadefs/namespaces"

// body is a namespace in a request.
type body struct {
	Namespace   string                     `json:"namespace"`
	DisplayName string                     `json:"display_name"`
	Description string                     `json:"description"`
	Visibility  string                     `json:"visibility"`
	Protected   bool                       `json:"protected"`
	Owner       string                     `json:"owner"`
	Types       []typeBody                 `json:"resource_type_associations"`
	Properties  map[string]json.RawMessage `json:"properties"`
	Objects     []json.RawMessage          `json:"objects"`
	Tags        []json.RawMessage          `json:"tags"`
}

type typeBody struct {
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
	Target string `json:"properties_target"`
}

func (b typeBody) association() Association {
	return Association{Name: b.Name, Prefix: b.Prefix, Target: b.Target, Created: now(), Updated: now()}
}

func (a Association) view() map[string]any {
	v := map[string]any{"name": a.Name}
	if a.Prefix != "" {
		v["prefix"] = a.Prefix
	}
	if a.Target != "" {
		v["properties_target"] = a.Target
	}
	return stamps(v, a.Created, a.Updated)
}

// view is the namespace; whole adds what is in it.
func (n *Namespace) view(whole bool) map[string]any {
	v := map[string]any{"namespace": n.Name, "visibility": n.Visibility, "protected": n.Protected, "owner": n.Owner,
		"self": root + "/" + n.Name, "schema": "/v2/schemas/metadefs/namespace"}
	if n.DisplayName != "" {
		v["display_name"] = n.DisplayName
	}
	if n.Description != "" {
		v["description"] = n.Description
	}
	if len(n.Types) > 0 {
		list := make([]any, len(n.Types))
		for i, t := range n.Types {
			list[i] = t.view()
		}
		v["resource_type_associations"] = list
	}
	for _, k := range []*kind{&objects, &properties, &tags} {
		if whole && len(*k.list(n)) > 0 {
			v[k.plural] = k.listView(n)
		}
	}
	return stamps(v, n.Created, n.Updated)
}

func (c *Catalogue) listNamespaces(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q := r.Query()
	page, err := rest.PageOf(q, 1000)
	if err != nil {
		return nil, err
	}
	if !q.Has("limit") {
		page.Limit = 25
	}
	if len(page.Sorts) == 0 {
		page.Sorts = []rest.Sort{{Key: "created_at", Desc: true}}
	}
	var list []*Namespace
	for _, n := range c.namespaces.All() {
		if n.visibleTo(r.Creds) && (!q.Has("visibility") || q.Get("visibility") == n.Visibility) &&
			(!q.Has("resource_types") || slices.ContainsFunc(n.Types, func(t Association) bool { return t.Name == q.Get("resource_types") })) {
			list = append(list, n)
		}
	}
	list, more, err := rest.Paginate(list, page, func(n *Namespace) string { return n.Name }, func(n *Namespace, key string) (string, bool) {
		switch key {
		case "namespace":
			return n.Name, true
		case "created_at":
			return n.Created.Format("2006-01-02T15:04:05.000000"), true
		case "updated_at":
			return n.Updated.Format("2006-01-02T15:04:05.000000"), true
		}
		return "", false
	})
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i, n := range list {
		views[i] = n.view(false)
	}
	out := map[string]any{"namespaces": views, "first": root, "schema": "/v2/schemas/metadefs/namespaces"}
	if more {
		out["next"] = rest.NextLink("", root, q, list[len(list)-1].Name)
	}
	return rest.JSON(200, out), nil
}

func (c *Catalogue) showNamespace(_ context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := c.find(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, n.view(true)), nil
}

func (c *Catalogue) createNamespace(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b body
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	n := &Namespace{Name: b.Namespace, Visibility: "private", Owner: r.Creds.ProjectID, Created: now(), Updated: now()}
	b.apply(n)
	for _, t := range b.Types {
		n.Types = append(n.Types, t.association())
	}
	for name, raw := range b.Properties {
		n.Properties = append(n.Properties, Item{name, raw, now(), now()})
	}
	for _, part := range []struct {
		k    *kind
		list []json.RawMessage
	}{{&objects, b.Objects}, {&tags, b.Tags}} {
		for _, raw := range part.list {
			if _, err := part.k.add(n, raw, ""); err != nil {
				return nil, err
			}
		}
	}
	if err := c.namespaces.Create(ctx, n); errs.Is(err, errs.Conflict) {
		return nil, errs.Conflictf("The metadata definition namespace=%s already exists.", n.Name)
	} else if err != nil {
		return nil, err
	}
	return rest.JSON(201, n.view(true)).With("Location", root+"/"+n.Name), nil
}

func (b *body) apply(n *Namespace) {
	n.DisplayName, n.Description, n.Protected = b.DisplayName, b.Description, b.Protected
	if b.Visibility != "" {
		n.Visibility = b.Visibility
	}
	if b.Owner != "" {
		n.Owner = b.Owner
	}
}

// updateNamespace replaces the attributes; the name is the record's id and may
// change as well.
func (c *Catalogue) updateNamespace(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b body
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	old, err := c.find(r)
	if err != nil {
		return nil, err
	}
	n, err := c.rename(ctx, old.Name, b.Namespace, func(n *Namespace) {
		b.apply(n)
		n.Updated = now()
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, n.view(false)), nil
}

func (c *Catalogue) deleteNamespace(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := c.find(r)
	if err != nil {
		return nil, err
	}
	if n.Protected {
		return nil, protected(n)
	}
	return rest.Empty(204), c.namespaces.Delete(ctx, n.Name)
}

func protected(n *Namespace) error {
	return errs.Forbiddenf("Metadata definition namespace %s is protected and cannot be deleted.", n.Name)
}

// resourceTypes are those that upstream's own catalogue names.
var resourceTypes = []string{"OS::Glance::Image", "OS::Cinder::Volume", "OS::Nova::Flavor", "OS::Nova::Aggregate", "OS::Nova::Server", "OS::Trove::Instance"}

func (c *Catalogue) listTypes(context.Context, *rest.Request) (*rest.Response, error) {
	names := slices.Clone(resourceTypes)
	for _, n := range c.namespaces.All() {
		for _, t := range n.Types {
			if !slices.Contains(names, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	views := make([]any, len(names))
	for i, name := range names {
		views[i] = map[string]any{"name": name}
	}
	return rest.JSON(200, map[string]any{"resource_types": views}), nil
}

func (c *Catalogue) listAssociations(_ context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := c.find(r)
	if err != nil {
		return nil, err
	}
	views := make([]any, len(n.Types))
	for i, t := range n.Types {
		views[i] = t.view()
	}
	return rest.JSON(200, map[string]any{"resource_type_associations": views}), nil
}

func (c *Catalogue) associate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b typeBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := c.find(r); err != nil {
		return nil, err
	}
	a := b.association()
	_, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
		if slices.ContainsFunc(n.Types, func(t Association) bool { return t.Name == a.Name }) {
			return errs.Conflictf("The metadata definition resource-type association of resource-type=%s to namespace=%s already exists.", a.Name, n.Name)
		}
		if len(n.Types) >= maxItems {
			return errs.New(errs.TooLarge, "A namespace can have %d resource types at most", maxItems)
		}
		n.Types = append(n.Types, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, a.view()), nil
}

func (c *Catalogue) dissociate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := c.find(r); err != nil {
		return nil, err
	}
	name := r.Path("name")
	_, err := c.namespaces.Update(ctx, r.Path("namespace"), func(n *Namespace) error {
		if n.Protected {
			return protected(n)
		}
		i := slices.IndexFunc(n.Types, func(t Association) bool { return t.Name == name })
		if i < 0 {
			return errs.NotFoundf("The metadata definition resource-type association of resource-type=%s to namespace=%s, was not found.", name, n.Name)
		}
		n.Types = slices.Delete(n.Types, i, i+1)
		return nil
	})
	return rest.Empty(204), err
}
