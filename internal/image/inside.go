package image

import (
	"context"
	"io"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// EnsureRecord makes the record of an image whose data another part of the region
// will give. The caller chose its id: a record that is there is left as it is.
func (s *Service) EnsureRecord(ctx context.Context, v Image) error {
	if _, err := s.images.Get(v.ID); err == nil {
		return nil
	}
	v.Status, v.Created = Queued, now()
	v.Updated = v.Created
	if err := s.images.Create(ctx, &v); err != nil && !errs.Is(err, errs.Conflict) {
		return err
	}
	return nil
}

// TakeIn gives a queued image its data. An image that is active is left alone.
func (s *Service) TakeIn(ctx context.Context, id string, src io.Reader) error {
	v, err := s.images.Get(id)
	if err != nil {
		return errs.NotFoundf("No image found with ID %s", id)
	}
	if v.Status == Active {
		return nil
	}
	if err := s.room(v.Owner, 0); err != nil {
		return err
	}
	return s.takeIn(ctx, id, src, -1)
}

// Discard removes an image whose data did not come, protected or not. Absent is fine.
func (s *Service) Discard(ctx context.Context, id string) error {
	_, err := s.images.Update(ctx, id, func(v *Image) error { v.Protected = false; return nil })
	if err == nil {
		err = s.Delete(ctx, id)
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Find gives the first image of the name that the caller may see.
func (s *Service) Find(c *policy.Credentials, name string) (*Image, error) {
	list := s.images.All()
	if i := slices.IndexFunc(list, func(v *Image) bool { return v.Name != nil && *v.Name == name && v.visibleTo(c) }); i >= 0 {
		return list[i], nil
	}
	return nil, errs.NotFoundf("No image found with name %s", name)
}

// Newest gives the newest active image of a name that the caller may see and that is not
// hidden, as an earlier one of the same name is.
func (s *Service) Newest(c *policy.Credentials, name string) (*Image, error) {
	list := slices.DeleteFunc(slices.Clone(s.images.All()), func(v *Image) bool {
		return v.Name == nil || *v.Name != name || v.Status != Active || v.Hidden || !v.visibleTo(c)
	})
	if len(list) == 0 {
		return nil, errs.NotFoundf("No image found with name %s", name)
	}
	return slices.MaxFunc(list, func(a, b *Image) int { return a.Created.Compare(b.Created) }), nil
}

// Made lists the project's active images that have all the properties and are not
// protected, newest first.
func (s *Service) Made(project string, properties map[string]string) []string {
	list := slices.DeleteFunc(slices.Clone(s.images.By("owner", project)), func(v *Image) bool {
		for k, val := range properties {
			if v.Properties[k] != val {
				return true
			}
		}
		return v.Status != Active || v.Protected
	})
	slices.SortFunc(list, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	ids := make([]string, len(list))
	for i, v := range list {
		ids[i] = v.ID
	}
	return ids
}
