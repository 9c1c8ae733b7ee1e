package image

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// switchTo makes an active image unusable for everyone but administrators, or
// usable again (POST /images/{id}/actions/deactivate and reactivate). Switching
// to the state that it is in changes nothing.
func (s *Service) switchTo(from, to Status, rule string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		if _, err := s.find(ctx, r, rule); err != nil {
			return nil, err
		}
		_, err := s.images.Update(ctx, r.Path("id"), func(v *Image) error {
			switch v.Status {
			case to:
			case from:
				v.Status = to
				v.touch()
			default:
				return errs.Forbiddenf("Not allowed to %s image in status '%s'", rule, v.Status)
			}
			return nil
		})
		return rest.Empty(204), err
	}
}

func (s *Service) addTag(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	tag := r.Path("tag")
	if len([]rune(tag)) > maxName {
		return nil, errs.Invalidf("Provided object does not match schema 'image': the tag is longer than 255 characters")
	}
	return s.changeTags(ctx, r, func(v *Image) error {
		if i, found := slices.BinarySearch(v.Tags, tag); !found {
			v.Tags = slices.Insert(v.Tags, i, tag)
			v.touch()
		}
		return v.checkLimits()
	})
}

func (s *Service) removeTag(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	tag := r.Path("tag")
	return s.changeTags(ctx, r, func(v *Image) error {
		i, found := slices.BinarySearch(v.Tags, tag)
		if !found {
			return errs.NotFoundf("Image %s has no tag %s", v.ID, tag)
		}
		v.Tags = slices.Delete(v.Tags, i, i+1)
		v.touch()
		return nil
	})
}

func (s *Service) changeTags(ctx context.Context, r *rest.Request, fn func(*Image) error) (*rest.Response, error) {
	if _, err := s.find(ctx, r, "modify_image"); err != nil {
		return nil, err
	}
	_, err := s.images.Update(ctx, r.Path("id"), fn)
	return rest.Empty(204), err
}

// importInfo tells which ways of import there are (GET /info/import).
func (s *Service) importInfo(context.Context, *rest.Request) (*rest.Response, error) {
	return rest.JSON(200, map[string]any{"import-methods": map[string]any{
		"description": "Import methods available.", "type": "array", "value": []string{importMethod}}}), nil
}
