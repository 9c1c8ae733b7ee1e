package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// find gives the image of the path if the caller may see it and rule allows what
// the caller wants; an image that may not be seen does not exist.
func (s *Service) find(ctx context.Context, r *rest.Request, rule string) (*Image, error) {
	v, err := s.Image(ctx, r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return v, allow(r, rule, v)
}

func allow(r *rest.Request, rule string, v *Image) error {
	t := v.target(r.Creds)
	err := r.EnforceRule(rule, t)
	if err != nil && !r.Allows("get_image", t) {
		return errs.NotFoundf("No image found with ID %s", v.ID)
	}
	return err
}

func (s *Service) showImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.find(ctx, r, "get_image")
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, v.view()), nil
}

var uuidText = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

func (s *Service) createImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var body map[string]json.RawMessage
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	v := &Image{ID: uuid.NewString(), Status: Queued, Visibility: Shared, Owner: r.Creds.ProjectID, Created: now()}
	v.Updated = v.Created
	if err := v.fill(body); err != nil {
		return nil, err
	}
	if err := r.EnforceRule("add_image", v.target(r.Creds)); err != nil {
		if v.Owner != r.Creds.ProjectID {
			return nil, errs.Forbiddenf("You are not permitted to create images owned by '%s'", v.Owner)
		}
		return nil, err
	}
	if err := allowVisibility(r, v, v.Visibility); err != nil {
		return nil, err
	}
	if err := s.images.Create(ctx, v); errs.Is(err, errs.Conflict) {
		return nil, errs.Conflictf("Image ID %s already exists!", v.ID)
	} else if err != nil {
		return nil, err
	}
	return rest.JSON(201, v.view()).With("Location", r.Base()+"/image/v2/images/"+v.ID).
		With("OpenStack-image-import-methods", importMethod), nil
}

// allowVisibility checks the rules that guard the visibilities that reach other projects.
func allowVisibility(r *rest.Request, v *Image, wanted string) error {
	switch wanted {
	case Public:
		return r.EnforceRule("publicize_image", v.target(r.Creds))
	case Community:
		return r.EnforceRule("communitize_image", v.target(r.Creds))
	}
	return nil
}

// fill sets what a create asks for.
func (v *Image) fill(body map[string]json.RawMessage) error {
	for key := range body {
		if linkFields[key] {
			return errs.Forbiddenf("Attribute '%s' is read-only.", key)
		}
	}
	for key, raw := range body {
		var err error
		if key == "id" {
			err = v.setID(raw)
		} else {
			err = v.set(key, raw)
		}
		if err != nil {
			return err
		}
	}
	return v.checkLimits()
}

func (v *Image) setID(raw json.RawMessage) error {
	if err := json.Unmarshal(raw, &v.ID); err != nil || !uuidText.MatchString(v.ID) {
		return badValue("id", raw, "a UUID is expected")
	}
	return nil
}

// deleteImage removes the record, then the data. It works in every state.
func (s *Service) deleteImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := s.find(ctx, r, "delete_image"); err != nil {
		return nil, err
	}
	return rest.Empty(204), s.Delete(ctx, r.Path("id"))
}

// Delete removes an image and its data; Forbidden when it is protected.
func (s *Service) Delete(ctx context.Context, id string) error {
	var files []string
	err := s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.images.TxGet(tx, id)
		if err != nil {
			return errs.NotFoundf("No image found with ID %s", id)
		}
		if v.Protected {
			return errs.Forbiddenf("Image %s is protected and cannot be deleted.", id)
		}
		files = v.files()
		return s.images.TxDelete(tx, id)
	})
	if err != nil {
		return err
	}
	s.discard(files...)
	return nil
}

// files are the blobs that the record names.
func (v *Image) files() []string {
	var out []string
	if v.Blob != "" {
		out = append(out, v.Blob)
	}
	if v.Staged != nil {
		out = append(out, v.Staged.Blob)
	}
	return out
}

// discard removes files that no record names any more. What fails here is left to the sweep.
func (s *Service) discard(names ...string) {
	for _, n := range names {
		if err := os.Remove(s.file(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.Log.Warn("image data is left to the next sweep", "file", n, "err", err)
		}
	}
}
