package image

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// What compute's older API of images needs. The request says who asks: the rules
// of this service hold.

// List gives the images that a list without filters would have, newest first.
func (s *Service) List(_ context.Context, r *rest.Request) ([]*Image, error) {
	if err := r.EnforceRule("get_images", r.Own()); err != nil {
		return nil, err
	}
	seen, err := listed(r.Creds, url.Values{})
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(slices.Clone(s.images.All()), func(v *Image) bool { return v.Hidden || !seen(v) })
	slices.SortFunc(list, func(a, b *Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return list, nil
}

// Show gives an image that the caller may see.
func (s *Service) Show(ctx context.Context, r *rest.Request, id string) (*Image, error) {
	return s.allowed(ctx, r, id, "get_image")
}

func (s *Service) allowed(ctx context.Context, r *rest.Request, id, rule string) (*Image, error) {
	v, err := s.Image(ctx, r.Creds, id)
	if err != nil {
		return nil, err
	}
	return v, allow(r, rule, v)
}

// Drop deletes an image, as DELETE /images/{id} would.
func (s *Service) Drop(ctx context.Context, r *rest.Request, id string) error {
	if _, err := s.allowed(ctx, r, id, "delete_image"); err != nil {
		return err
	}
	return s.Delete(ctx, id)
}

// SetProperties changes an image's properties: edit is given a copy of them.
func (s *Service) SetProperties(ctx context.Context, r *rest.Request, id string, edit func(map[string]string) error) (*Image, error) {
	if _, err := s.allowed(ctx, r, id, "modify_image"); err != nil {
		return nil, err
	}
	return s.images.Update(ctx, id, func(v *Image) error {
		had := v.Properties
		now := map[string]string{}
		for k, val := range had {
			now[k] = val
		}
		if err := edit(now); err != nil {
			return err
		}
		v.Properties = nil
		for k, val := range now {
			if was, ok := had[k]; ok && was == val {
				v.keep(k, val)
				continue
			}
			if err := v.setNew(k, val); err != nil {
				return err
			}
		}
		v.touch()
		return v.checkLimits()
	})
}

// keep takes over a property that was there: it may be one that only we write.
func (v *Image) keep(key, val string) {
	if v.Properties == nil {
		v.Properties = map[string]string{}
	}
	v.Properties[key] = val
}

// setNew sets a property that a user named. An attribute is none.
func (v *Image) setNew(key, val string) error {
	if baseFields[key] {
		return errs.Invalidf("'%s' is an attribute of the image and no property of it", key)
	}
	raw, err := json.Marshal(val)
	if err != nil {
		return err
	}
	return v.set(key, raw)
}
