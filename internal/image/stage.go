package image

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// stage takes data that an import will use later (PUT /images/{id}/stage). All
// that is to be learned of it is learned now, so that the import itself is one
// change of the record.
func (s *Service) stage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	want, err := bodySize(r)
	if err != nil {
		return nil, err
	}
	v, err := s.find(ctx, r, "modify_image")
	if err != nil {
		return nil, err
	}
	if err := s.room(v.Owner, want); err != nil {
		return nil, err
	}
	upload := uuid.NewString()
	if _, err = s.images.Update(ctx, v.ID, func(v *Image) error {
		if v.Status != Queued {
			return errs.Conflictf("Image status transition from %s to uploading is not allowed", v.Status)
		}
		v.Status, v.Upload = Uploading, upload
		v.touch()
		return nil
	}); err != nil {
		return nil, err
	}
	settle := context.WithoutCancel(ctx)
	blob, res, release, err := s.ingest(r.HTTP.Body, s.MaxSize)
	if err != nil {
		return nil, errors.Join(refusal(err), s.putBack(settle, v.ID, upload))
	}
	defer release()
	if err = sizeAsAnnounced(want, res.Size); err == nil {
		err = s.keepStaged(settle, v.ID, upload, &Staged{blob, res})
	}
	if err != nil {
		s.discard(blob)
		if errors.Is(err, errGone) {
			return goneResponse(v.ID), nil
		}
		return nil, errors.Join(err, s.putBack(settle, v.ID, upload))
	}
	return rest.Empty(204), nil
}

// keepStaged names the staged blob in the record. It counts against the project's limit.
func (s *Service) keepStaged(ctx context.Context, id, upload string, staged *Staged) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		v, err := s.images.TxGet(tx, id)
		if err != nil || v.Upload != upload {
			return errGone
		}
		if err := s.fitsLimit(s.images.TxBy(tx, "owner", v.Owner), id, staged.Result.Size); err != nil {
			return err
		}
		_, err = s.images.TxUpdate(tx, id, func(v *Image) error {
			v.Upload, v.Staged, v.Size = "", staged, &staged.Result.Size
			v.touch()
			return nil
		})
		return err
	})
}

// importImage makes the staged data the image's (POST /images/{id}/import). Data
// that is refused leaves the image queued, and the caller learns why: upstream
// answers 202 and drops the reason with the task.
func (s *Service) importImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if err := importBody(r); err != nil {
		return nil, err
	}
	v, err := s.find(ctx, r, "modify_image")
	if err != nil {
		return nil, err
	}
	switch {
	case v.Status == Active:
		return nil, errs.Conflictf("Image with status active cannot be target for import")
	case v.Status != Uploading || v.Staged == nil:
		return nil, errs.Conflictf("Image needs to be staged before 'glance-direct' method can be used")
	case v.ContainerFormat == "":
		return nil, errs.Conflictf("'container_format' needs to be set before import")
	case v.DiskFormat == "":
		return nil, errs.Conflictf("'disk_format' needs to be set before import")
	}
	staged := v.Staged
	if refused := staged.Result.fits(v); refused != nil {
		return nil, errors.Join(refused, s.dropStaged(ctx, v.ID, staged.Blob))
	}
	err = s.activate(ctx, v.ID, staged.Blob, staged.Result, func(v *Image) bool {
		return v.Status == Uploading && v.Staged != nil && v.Staged.Blob == staged.Blob
	})
	if errors.Is(err, errGone) {
		return nil, errs.Conflictf("Image %s was changed by another request", v.ID)
	}
	return rest.Empty(202), err
}

func importBody(r *rest.Request) error {
	var b struct {
		Method *struct {
			Name *string `json:"name"`
		} `json:"method"`
		AllStores *json.RawMessage `json:"all_stores"`
		Stores    *json.RawMessage `json:"stores"`
		MustAll   *json.RawMessage `json:"all_stores_must_succeed"`
	}
	if err := r.Decode(&b); err != nil {
		return err
	}
	switch {
	case b.Method == nil:
		return errs.Invalidf("Import request requires a 'method' field.")
	case b.Method.Name == nil:
		return errs.Invalidf("Import request requires a 'name' field.")
	case *b.Method.Name != importMethod:
		return errs.Invalidf("Unknown import method name '%s'.", *b.Method.Name)
	case b.AllStores != nil && string(*b.AllStores) != "true" && string(*b.AllStores) != "false":
		return errs.Invalidf("'all_stores' must be boolean value only")
	case b.MustAll != nil && string(*b.MustAll) != "true":
		return errs.Invalidf("All_stores_must_succeed can only be set with several stores, and this region has one")
	case b.Stores != nil:
		return errs.Invalidf("'stores' can only be set with several stores, and this region has one")
	}
	return nil
}

// dropStaged forgets staged data and puts the image back to queued.
func (s *Service) dropStaged(ctx context.Context, id, blob string) error {
	_, err := s.images.Update(ctx, id, func(v *Image) error {
		if v.Staged != nil && v.Staged.Blob == blob {
			v.reset()
		}
		return nil
	})
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	s.discard(blob)
	return nil
}
