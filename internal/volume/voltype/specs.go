package voltype

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// seen are the extra specs that the caller may see.
func seen(r *rest.Request, t *Type) map[string]string {
	out := map[string]string{}
	all := r.Allows("volume_extension:types_extra_specs:read_sensitive", r.Own())
	for k, v := range t.Specs {
		if all || slices.Contains(visibleSpecs, k) {
			out[k] = v
		}
	}
	return out
}

func (s *Types) listSpecs(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"extra_specs": seen(r, t)}), nil
}

func noSpec(t, key string) error {
	return errs.NotFoundf("Volume Type %s has no extra specs with key %s.", t, key)
}

func (s *Types) showSpec(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	val, ok := seen(r, t)[r.Path("key")]
	if !ok {
		return nil, noSpec(t.ID, r.Path("key"))
	}
	return rest.JSON(200, map[string]string{r.Path("key"): val}), nil
}

func (s *Types) createSpecs(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]string `json:"extra_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if err := s.putSpecs(ctx, r, b.Specs); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"extra_specs": b.Specs}), nil
}

func (s *Types) updateSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]string
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b[r.Path("key")]; !ok {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if len(b) > 1 {
		return nil, errs.Invalidf("Request body contains too many items")
	}
	if err := s.putSpecs(ctx, r, b); err != nil {
		return nil, err
	}
	return rest.JSON(200, b), nil
}

// putSpecs adds extra specs. What decides where a type's volumes may live cannot
// change under them (cinder/api/contrib/types_extra_specs.py).
func (s *Types) putSpecs(ctx context.Context, r *rest.Request, specs map[string]string) error {
	_, err := s.change(ctx, r, func(t *Type) error {
		now := maps.Clone(wire.Map(t.Specs))
		maps.Copy(now, specs)
		if changes(t.Specs, now, "multiattach") && s.used(t.ID) > 0 {
			return errs.Invalidf("Volume Type is currently in use.")
		}
		t.Specs = now
		return nil
	})
	return err
}

func changes(old, now map[string]string, key string) bool {
	a, had := old[key]
	b, has := now[key]
	return had != has || !strings.EqualFold(a, b)
}

func (s *Types) deleteSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key := r.Path("key")
	_, err := s.change(ctx, r, func(t *Type) error {
		if _, ok := t.Specs[key]; !ok {
			return noSpec(t.ID, key)
		}
		if key == "multiattach" && s.used(t.ID) > 0 {
			return errs.Invalidf("Volume Type is currently in use.")
		}
		delete(t.Specs, key)
		return nil
	})
	return rest.Empty(202), err
}
