package proxy

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (p *ImageProxy) listMeta(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := p.Images.Get(ctx, r, r.Path("id"))
	if err != nil {
		return nil, noImage(err)
	}
	return rest.JSON(200, map[string]any{"metadata": v.metadata()}), nil
}

func (p *ImageProxy) showMeta(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := p.Images.Get(ctx, r, r.Path("id"))
	if err != nil {
		return nil, noImage(err)
	}
	val, ok := v.Properties[r.Path("key")]
	if !ok {
		return nil, errs.NotFoundf("The resource could not be found.")
	}
	return rest.JSON(200, map[string]any{"meta": map[string]string{r.Path("key"): val}}), nil
}

// edit changes the image's properties within the project's quota
// (nova/api/openstack/common.py, check_img_metadata_properties_quota).
func (p *ImageProxy) edit(ctx context.Context, r *rest.Request, fn func(map[string]string) error) (*Image, error) {
	v, err := p.Images.SetProperties(ctx, r, r.Path("id"), func(m map[string]string) error {
		if err := fn(m); err != nil {
			return err
		}
		if limit := p.MaxMetadata(r.Creds.ProjectID); limit >= 0 && len(m) > limit {
			return errs.Forbiddenf("Image metadata limit exceeded")
		}
		return nil
	})
	return v, noImage(err)
}

// writeMeta merges into or replaces the properties.
func (p *ImageProxy) writeMeta(replace bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Metadata map[string]string `json:"metadata"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		v, err := p.edit(ctx, r, func(m map[string]string) error {
			if replace {
				clear(m)
			}
			for k, val := range b.Metadata {
				m[k] = val
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"metadata": v.metadata()}), nil
	}
}

func (p *ImageProxy) setMeta(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Meta map[string]string `json:"meta"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	key := r.Path("key")
	val, ok := b.Meta[key]
	if !ok || len(b.Meta) != 1 {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if _, err := p.edit(ctx, r, func(m map[string]string) error { m[key] = val; return nil }); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"meta": map[string]string{key: val}}), nil
}

func (p *ImageProxy) dropMeta(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key, missing := r.Path("key"), false
	_, err := p.edit(ctx, r, func(m map[string]string) error {
		if _, ok := m[key]; !ok {
			missing = true
			return errs.Invalidf("Invalid metadata key")
		}
		delete(m, key)
		return nil
	})
	if missing {
		return nil, errs.NotFoundf("Invalid metadata key")
	}
	return rest.Empty(204), err
}
