package voltype

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func newID() string { return uuid.NewString() }

// visibleSpecs are the extra specs that everybody may see (cinder/policies/type_extra_specs.py).
var visibleSpecs = []string{"RESKEY:availability_zones", "multiattach", "replication_enabled"}

// view is a type in the API's form (cinder/api/v3/views/types.py).
func (s *Types) view(r *rest.Request, t *Type) map[string]any {
	v := map[string]any{"id": t.ID, "name": t.Name, "description": t.Description, "is_public": t.Public}
	specs := map[string]string{}
	admin := r.Allows("volume_extension:types_extra_specs:read_sensitive", r.Own())
	for k, val := range t.Specs {
		if admin || slices.Contains(visibleSpecs, k) {
			specs[k] = val
		}
	}
	if r.Allows("volume_extension:access_types_extra_specs", r.Own()) {
		v["extra_specs"] = specs
	}
	if r.Allows("volume_extension:access_types_qos_specs_id", r.Own()) {
		v["qos_specs_id"] = wire.Null(t.QoSID)
	}
	v["os-volume-type-access:is_public"] = t.Public
	return v
}

func (s *Types) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := wire.ReadQuery(r)
	if err != nil {
		return nil, err
	}
	var found []*Type
	for _, t := range s.types.All() {
		ok, err := s.matches(r, q, t)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, t)
		}
	}
	page, err := wire.Cut(q, found, "Volume type", func(t *Type) string { return t.ID }, wire.Keys[*Type]{
		"id": func(t *Type) string { return t.ID }, "name": func(t *Type) string { return t.Name }, "is_public": func(t *Type) string { return boolText(t.Public) },
		"created_at": func(t *Type) string { return t.Created.Format("2006-01-02T15:04:05.000000") }})
	if err != nil {
		return nil, err
	}
	var views []any
	last := ""
	for _, t := range page {
		views, last = append(views, s.view(r, t)), t.ID
	}
	return wire.Listing(r, q, "volume_types", "types", views, last, len(found)), nil
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func (s *Types) matches(r *rest.Request, q *wire.Query, t *Type) (bool, error) {
	if !t.visibleTo(r.Creds) {
		return false, nil
	}
	if n := q.Filters.Get("name"); n != "" && n != t.Name {
		return false, nil
	}
	if r.Creds.Admin() {
		switch public := q.Filters.Get("is_public"); strings.ToLower(public) {
		case "none":
		case "":
			// By default an administrator sees public types and those of its project.
			if !t.Public && !slices.Contains(t.Projects, r.Creds.ProjectID) {
				return false, nil
			}
		default:
			want, err := wire.Flag("is_public", public)
			if err != nil {
				return false, errs.Invalidf("Invalid is_public filter [%s]", public)
			}
			if want != t.Public {
				return false, nil
			}
		}
	}
	if raw := q.Filters.Get("extra_specs"); raw != "" && r.AtLeast(3, 52) {
		return specsMatch(raw, t, r.Allows("volume_extension:types_extra_specs:read_sensitive", r.Own()))
	}
	return true, nil
}

// specsMatch reads the filter {'key':'value'}, which clients write as Python does.
func specsMatch(raw string, t *Type, all bool) (bool, error) {
	var want map[string]string
	if err := json.Unmarshal([]byte(strings.ReplaceAll(raw, "'", `"`)), &want); err != nil {
		return false, errs.Invalidf("Could not evaluate value %s, assuming string", raw)
	}
	for k, v := range want {
		if t.Specs[k] != v || !all && !slices.Contains(visibleSpecs, k) {
			return false, nil
		}
	}
	return true, nil
}

func (s *Types) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if r.Path("type") == "default" {
		t, err := s.Of(r.Creds.ProjectID)
		if err != nil {
			return nil, wire.NotFound("Volume type", "default")
		}
		return rest.JSON(200, map[string]any{"volume_type": s.view(r, t)}), nil
	}
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"volume_type": s.view(r, t)}), nil
}

type typeBody struct {
	Type struct {
		Name        *string            `json:"name"`
		Description *string            `json:"description"`
		Specs       map[string]*string `json:"extra_specs"`
		Public      any                `json:"os-volume-type-access:is_public"`
		Public2     any                `json:"is_public"`
	} `json:"volume_type"`
}

func (s *Types) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b typeBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	t := &Type{ID: newID(), Name: wire.Text(b.Type.Name), Description: b.Type.Description, Public: true, Specs: map[string]string{}, Created: wire.Now()}
	if t.Name == "" {
		return nil, errs.Invalidf("Volume type name can not be empty.")
	}
	for k, v := range b.Type.Specs {
		if v != nil {
			t.Specs[k] = *v
		}
	}
	if p := b.Type.Public; p != nil {
		t.Public = wire.Truthy(p)
	}
	if err := s.types.Create(ctx, t); err != nil {
		return nil, nameTaken(err, t.Name)
	}
	return s.written(r, t, true), nil
}

// written is the answer to a create or an update, which lack the QoS specs; an
// update says once whether the type is public (cinder/api/contrib/types_manage.py).
func (s *Types) written(r *rest.Request, t *Type, made bool) *rest.Response {
	v := s.view(r, t)
	delete(v, "qos_specs_id")
	if !made {
		delete(v, "os-volume-type-access:is_public")
	}
	return rest.JSON(200, map[string]any{"volume_type": v})
}

func nameTaken(err error, name string) error {
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Volume Type %s already exists.", name)
	}
	return err
}

func (s *Types) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b typeBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	name, public := wire.Text(b.Type.Name), b.Type.Public2
	if b.Type.Name == nil && b.Type.Description == nil && public == nil {
		return nil, errs.Invalidf("Specify volume type name, description, is_public or a combination thereof.")
	}
	if b.Type.Name != nil && name == "" {
		return nil, errs.Invalidf("Volume type name can not be empty.")
	}
	t, err := s.change(ctx, r, func(t *Type) error {
		if t.Name == DefaultName && name != "" && name != DefaultName {
			return errs.Invalidf("Invalid volume type: the default volume type can not be renamed")
		}
		if name != "" {
			t.Name = name
		}
		if b.Type.Description != nil {
			t.Description = b.Type.Description
		}
		if public != nil {
			t.Public = wire.Truthy(public)
		}
		return nil
	})
	if err != nil {
		return nil, nameTaken(err, name)
	}
	return s.written(r, t, false), nil
}

func (s *Types) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	if t.Name == DefaultName {
		return nil, errs.Invalidf("Volume type %s is the default type and cannot be deleted.", t.ID)
	}
	if s.used(t.ID) > 0 || s.grouped(t.ID) > 0 {
		return nil, errs.Invalidf("Target volume type is still in use.")
	}
	if len(s.defaults.By("type", t.ID)) > 0 {
		return nil, errs.Invalidf("Volume type %s is a default type of a project and cannot be deleted.", t.ID)
	}
	err = s.types.Delete(ctx, t.ID)
	if errs.Is(err, errs.NotFound) {
		return nil, wire.NotFound("Volume type", t.ID)
	}
	return rest.Empty(202), err
}

func accessList(t *Type) []any {
	out := []any{}
	for _, p := range t.Projects {
		out = append(out, map[string]string{"volume_type_id": t.ID, "project_id": p})
	}
	return out
}

func (s *Types) listAccess(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	if t.Public {
		return nil, errs.NotFoundf("Access list not available for public volume types.")
	}
	return rest.JSON(200, map[string]any{"volume_type_access": accessList(t)}), nil
}

// changeAccess is addProjectAccess and removeProjectAccess.
func (s *Types) changeAccess(key string, add bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b map[string]struct {
			Project string `json:"project"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		project := b[key].Project
		_, err := s.change(ctx, r, func(t *Type) error {
			i := slices.Index(t.Projects, project)
			switch {
			case t.Public && add:
				return errs.Conflictf("Type access modification is not applicable to public volume type.")
			case t.Public:
				return errs.Conflictf("Type access modification is not applicable to public volume type.")
			case add && i >= 0:
				return errs.Conflictf("Volume type access for %s / %s combination already exists.", t.ID, project)
			case !add && i < 0:
				return errs.NotFoundf("Volume type access not found for %s / %s combination.", t.ID, project)
			case add:
				t.Projects = append(t.Projects, project)
			default:
				t.Projects = slices.Delete(t.Projects, i, i+1)
			}
			return nil
		})
		return rest.Empty(202), err
	}
}

func (s *Types) listDefaults(_ context.Context, r *rest.Request) (*rest.Response, error) {
	out := []any{}
	for _, d := range s.defaults.All() {
		out = append(out, map[string]string{"project_id": d.ProjectID, "volume_type_id": d.TypeID})
	}
	return rest.JSON(200, map[string]any{"default_types": out}), nil
}

func (s *Types) showDefault(_ context.Context, r *rest.Request) (*rest.Response, error) {
	d, err := s.defaults.Get(r.Path("project"))
	if err != nil {
		return nil, errs.NotFoundf("Default type for project %s could not be found.", r.Path("project"))
	}
	return rest.JSON(200, map[string]any{"default_type": map[string]string{"project_id": d.ProjectID, "volume_type_id": d.TypeID}}), nil
}

func (s *Types) setDefault(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Default struct {
			Type string `json:"volume_type"`
		} `json:"default_type"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	t, err := s.Find(r.Creds, b.Default.Type)
	if err != nil {
		return nil, err
	}
	d := &Default{r.Path("project"), t.ID}
	err = s.db.Txn(ctx, func(tx *store.Tx) error { return s.defaults.TxPut(tx, d) })
	return rest.JSON(200, map[string]any{"default_type": map[string]string{"project_id": d.ProjectID, "volume_type_id": d.TypeID}}), err
}

func (s *Types) unsetDefault(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	err := s.defaults.Delete(ctx, r.Path("project"))
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return rest.Empty(204), err
}
