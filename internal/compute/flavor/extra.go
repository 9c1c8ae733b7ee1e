package flavor

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Flavors) listSpecs(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"extra_specs": specsOf(f.ExtraSpecs)}), nil
}

func (s *Flavors) showSpec(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	val, ok := f.ExtraSpecs[r.Path("key")]
	if !ok {
		return nil, errs.NotFoundf("Flavor %s has no extra specs with key %s.", f.ID, r.Path("key"))
	}
	return rest.JSON(200, map[string]string{r.Path("key"): val}), nil
}

var specKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func (s *Flavors) createSpecs(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]any `json:"extra_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if err := checkSpecs(r, b.Specs); err != nil {
		return nil, err
	}
	out := map[string]string{}
	_, err := s.change(ctx, r, func(f *Flavor) error { return addSpecs(f, b.Specs, out) })
	return rest.JSON(200, map[string]any{"extra_specs": out}), err
}

func addSpecs(f *Flavor, specs map[string]any, out map[string]string) error {
	if f.ExtraSpecs == nil {
		f.ExtraSpecs = map[string]string{}
	}
	for k, v := range specs {
		if !specKey.MatchString(k) || len(fmt.Sprint(v)) > 255 {
			return errs.Invalidf("Invalid input for field/attribute extra_specs. Value: %v.", specs)
		}
		f.ExtraSpecs[k], out[k] = fmt.Sprint(v), fmt.Sprint(v)
	}
	return nil
}

func (s *Flavors) updateSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]any
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b[r.Path("key")]; !ok || len(b) != 1 {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if err := checkSpecs(r, b); err != nil {
		return nil, err
	}
	out := map[string]string{}
	_, err := s.change(ctx, r, func(f *Flavor) error { return addSpecs(f, b, out) })
	return rest.JSON(200, out), err
}

func (s *Flavors) deleteSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.change(ctx, r, func(f *Flavor) error {
		if _, ok := f.ExtraSpecs[r.Path("key")]; !ok {
			return errs.NotFoundf("Flavor %s has no extra specs with key %s.", f.ID, r.Path("key"))
		}
		delete(f.ExtraSpecs, r.Path("key"))
		return nil
	})
	return rest.Empty(200), err
}

func accessView(f *Flavor) map[string]any {
	list := make([]any, len(f.Projects))
	for i, p := range f.Projects {
		list[i] = map[string]string{"flavor_id": f.ID, "tenant_id": p}
	}
	return map[string]any{"flavor_access": list}
}

func (s *Flavors) listAccess(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	if f.Public {
		return nil, errs.NotFoundf("Access list not available for public flavors.")
	}
	return rest.JSON(200, accessView(f)), nil
}

// changeAccess adds or removes a project (addTenantAccess, removeTenantAccess).
func (s *Flavors) changeAccess(key string, add bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b map[string]struct {
			Tenant string `json:"tenant"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		project := b[key].Tenant
		if err := s.knownProject(ctx, project); err != nil {
			return nil, err
		}
		f, err := s.change(ctx, r, func(f *Flavor) error {
			i := slices.Index(f.Projects, project)
			switch {
			case add && f.Public && r.AtLeast(2, 7):
				return errs.Conflictf("Can not add access to a public flavor.")
			case add && i >= 0:
				return errs.Conflictf("Flavor access already exists for flavor %s and project %s combination.", f.ID, project)
			case !add && i < 0:
				return errs.NotFoundf("Flavor access not found for %s / %s combination.", f.ID, project)
			case add:
				f.Projects = append(f.Projects, project)
			default:
				f.Projects = slices.Delete(f.Projects, i, i+1)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, accessView(f)), nil
	}
}
