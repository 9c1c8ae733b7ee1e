package grouptype

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

const (
	optName  = `{"type":["string","null"],"maxLength":255}`
	keySpecs = `"type":"object","patternProperties":{"^[a-zA-Z0-9-_:.]{1,255}$":{"type":["string","null"],"maxLength":255}},"additionalProperties":false`
)

// Routes are this package's part of the API.
func (s *Types) Routes() []rest.Route {
	create := wire.Body("group_type", wire.Object(`"name":`+wire.SomeName+`,"description":`+optName+`,"is_public":`+wire.Bool+`,"group_specs":`+wire.OptSpecs, `"name"`, "false"))
	update := wire.Body("group_type", wire.Object(`"name":`+optName+`,"description":`+optName+`,"is_public":`+wire.Bool, "", "false"))
	const all, one, manage, spec = "/group_types", "/group_types/{type}", "group:group_types:", "group:group_types_specs:"
	routes := []rest.Route{
		// Everybody may read types, as upstream asks no policy.
		{Method: "GET", Path: all, Policy: "group:group_types:read", Handle: s.list},
		{Method: "POST", Path: all, Policy: manage + "create", Body: create, Handle: s.create},
		{Method: "GET", Path: one, Policy: "group:group_types:read", Handle: s.show},
		{Method: "PUT", Path: one, Policy: manage + "update", Body: update, Handle: s.update},
		{Method: "DELETE", Path: one, Policy: manage + "delete", Handle: s.remove},
		{Method: "GET", Path: one + "/group_specs", Policy: spec + "get_all", Handle: s.listSpecs},
		{Method: "POST", Path: one + "/group_specs", Policy: spec + "create", Body: wire.Body("group_specs", "{"+keySpecs+"}"), Handle: s.createSpecs},
		{Method: "GET", Path: one + "/group_specs/{key}", Policy: spec + "get", Handle: s.showSpec},
		{Method: "PUT", Path: one + "/group_specs/{key}", Policy: spec + "update", Body: []rest.Schema{rest.SchemaOf("{" + keySpecs + `,"minProperties":1,"maxProperties":1}`)}, Handle: s.updateSpec},
		{Method: "DELETE", Path: one + "/group_specs/{key}", Policy: spec + "delete", Handle: s.deleteSpec},
	}
	for i := range routes {
		routes[i].Min = rest.V(3, 11)
	}
	return routes
}

// view is a type in the API's form (cinder/api/v3/views/group_types.py).
func view(r *rest.Request, t *Type) map[string]any {
	v := map[string]any{"id": t.ID, "name": t.Name, "description": t.Description, "is_public": t.Public}
	if r.Allows("group:access_group_types_specs", r.Own()) {
		v["group_specs"] = wire.Map(t.Specs)
	}
	return v
}

func one(status int, r *rest.Request, t *Type) *rest.Response {
	return rest.JSON(status, map[string]any{"group_type": view(r, t)})
}

// wanted reads which types an administrator asks for: the public ones unless the
// query says otherwise, and "none" is all. Others see the public ones.
func wanted(r *rest.Request) (func(*Type) bool, error) {
	want := true
	if text := r.Query().Get("is_public"); r.Creds.Admin() && text != "" {
		if strings.EqualFold(text, "none") {
			return func(*Type) bool { return true }, nil
		}
		var err error
		if want, err = wire.Flag("is_public", text); err != nil {
			return nil, errs.Invalidf("Invalid is_public filter [%s]", text)
		}
	}
	return func(t *Type) bool { return t.Public == want }, nil
}

func (s *Types) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := wire.ReadQuery(r)
	if err != nil {
		return nil, err
	}
	ok, err := wanted(r)
	if err != nil {
		return nil, err
	}
	var found []*Type
	for _, t := range s.types.All() {
		if ok(t) {
			found = append(found, t)
		}
	}
	page, err := wire.Cut(q, found, "Group type", func(t *Type) string { return t.ID }, wire.Keys[*Type]{
		"id": func(t *Type) string { return t.ID }, "name": func(t *Type) string { return t.Name }, "is_public": func(t *Type) string { return strconv.FormatBool(t.Public) },
		"created_at": func(t *Type) string { return t.Created.Format("2006-01-02T15:04:05.000000") }})
	if err != nil {
		return nil, err
	}
	var views []any
	last := ""
	for _, t := range page {
		views, last = append(views, view(r, t)), t.ID
	}
	return wire.GroupListing(r, q, "group_types", false, views, last), nil
}

func (s *Types) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if r.Path("type") == "default" {
		return nil, errs.NotFoundf("Default group type can not be found.")
	}
	t, err := s.Get(r.Creds, r.Path("type"))
	if err != nil {
		return nil, err
	}
	return one(200, r, t), nil
}

type typeBody struct {
	Type struct {
		Name        *string           `json:"name"`
		Description *string           `json:"description"`
		Public      any               `json:"is_public"`
		Specs       map[string]string `json:"group_specs"`
	} `json:"group_type"`
}

func (s *Types) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b typeBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	t := &Type{ID: uuid.NewString(), Name: wire.Text(b.Type.Name), Description: b.Type.Description, Specs: b.Type.Specs, Created: wire.Now(),
		Public: b.Type.Public == nil || wire.Truthy(b.Type.Public)}
	if err := s.types.Create(ctx, t); err != nil {
		return nil, nameTaken(err, t.Name)
	}
	return one(202, r, t), nil
}

func nameTaken(err error, name string) error {
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Group Type %s already exists.", name)
	}
	return err
}

// change alters the type of the path.
func (s *Types) change(ctx context.Context, r *rest.Request, fn func(*Type) error) (t *Type, err error) {
	id := r.Path("type")
	err = s.db.Txn(ctx, func(tx *store.Tx) error {
		if _, err := s.types.TxGet(tx, id); err != nil {
			return wire.NotFound("Group type", id)
		}
		t, err = s.types.TxUpdate(tx, id, fn)
		return err
	})
	return t, err
}

func (s *Types) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b typeBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	name := wire.Text(b.Type.Name)
	switch {
	case b.Type.Name != nil && name == "":
		return nil, errs.Invalidf("Group type name can not be empty.")
	case b.Type.Name == nil && b.Type.Description == nil && b.Type.Public == nil:
		return nil, errs.Invalidf("Specify group type name, description or a combination thereof.")
	}
	t, err := s.change(ctx, r, func(t *Type) error {
		if name != "" {
			t.Name = name
		}
		if b.Type.Description != nil {
			t.Description = b.Type.Description
		}
		if b.Type.Public != nil {
			t.Public = wire.Truthy(b.Type.Public)
		}
		return nil
	})
	if err != nil {
		return nil, nameTaken(err, name)
	}
	return one(200, r, t), nil
}

func (s *Types) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("type")
	return rest.Empty(202), s.db.Txn(ctx, func(tx *store.Tx) error {
		if err := s.Holds(tx, id); err != nil {
			return err
		}
		if s.used(tx, id) > 0 {
			return errs.Invalidf("Target group type is still in use.")
		}
		return s.types.TxDelete(tx, id)
	})
}

func (s *Types) listSpecs(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.Get(r.Creds, r.Path("type"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"group_specs": wire.Map(t.Specs)}), nil
}

func (s *Types) showSpec(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.Get(r.Creds, r.Path("type"))
	if err != nil {
		return nil, err
	}
	key := r.Path("key")
	val, ok := t.Specs[key]
	if !ok {
		return nil, errs.NotFoundf("Group Type %s has no extra spec with key %s.", t.ID, key)
	}
	return rest.JSON(200, map[string]string{key: val}), nil
}

func (s *Types) createSpecs(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]string `json:"group_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := s.change(ctx, r, func(t *Type) error { put(t, b.Specs); return nil }); err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"group_specs": wire.Map(b.Specs)}), nil
}

func (s *Types) updateSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]string
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b[r.Path("key")]; !ok {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if _, err := s.change(ctx, r, func(t *Type) error { put(t, b); return nil }); err != nil {
		return nil, err
	}
	return rest.JSON(200, b), nil
}

func put(t *Type, specs map[string]string) {
	if t.Specs == nil {
		t.Specs = map[string]string{}
	}
	maps.Copy(t.Specs, specs)
}

func (s *Types) deleteSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key := r.Path("key")
	_, err := s.change(ctx, r, func(t *Type) error {
		if _, ok := t.Specs[key]; !ok {
			return errs.NotFoundf("Group Type %s has no specs with key %s.", t.ID, key)
		}
		delete(t.Specs, key)
		return nil
	})
	return rest.Empty(202), err
}
