package image

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// errGone says that the image was deleted while its data came in.
var errGone = errors.New("the image was deleted during the upload")

func goneResponse(id string) *rest.Response {
	return gone("Image " + id + " could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded.")
}

// upload takes the data of a queued image (PUT /images/{id}/file).
func (s *Service) upload(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	want, err := bodySize(r)
	if err != nil {
		return nil, err
	}
	v, err := s.find(ctx, r, "upload_image")
	if err != nil {
		return nil, err
	}
	if err := s.room(v.Owner, want); err != nil {
		return nil, err
	}
	err = s.takeIn(ctx, v.ID, r.HTTP.Body, want)
	if errors.Is(err, errGone) {
		return goneResponse(v.ID), nil
	}
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), nil
}

// bodySize checks the content type and tells how many bytes are announced, -1
// when that is not known.
func bodySize(r *rest.Request) (int64, error) {
	ct, _, err := mime.ParseMediaType(r.HTTP.Header.Get("Content-Type"))
	if err != nil || ct != "application/octet-stream" {
		return 0, errs.New(errs.MediaType, "Invalid content type %s: use application/octet-stream", r.HTTP.Header.Get("Content-Type"))
	}
	size := r.HTTP.ContentLength
	if h := r.HTTP.Header.Get("X-Openstack-Image-Size"); h != "" {
		n, err := strconv.ParseInt(h, 10, 64)
		if err != nil || n < 0 {
			return 0, errs.Invalidf("Invalid or missing image size in request headers.")
		}
		size = n
	}
	return size, nil
}

// takeIn carries an image from queued over saving to active.
func (s *Service) takeIn(ctx context.Context, id string, src io.Reader, want int64) error {
	upload := uuid.NewString()
	v, err := s.images.Update(ctx, id, func(v *Image) error {
		if v.Status != Queued {
			return errs.Conflictf("Image status transition from %s to saving is not allowed", v.Status)
		}
		if err := v.formatsSet(); err != nil {
			return err
		}
		v.Status, v.Upload = Saving, upload
		v.touch()
		return nil
	})
	if err != nil {
		return err
	}
	// From here on the client may go away, and the record must still come to rest.
	settle := context.WithoutCancel(ctx)
	blob, res, release, err := s.ingest(src, s.MaxSize)
	if err != nil {
		return errors.Join(refusal(err), s.putBack(settle, id, upload))
	}
	defer release()
	if err = sizeAsAnnounced(want, res.Size); err == nil {
		err = res.fits(v)
	}
	if err == nil {
		err = s.activate(settle, id, blob, res, func(v *Image) bool { return v.Status == Saving && v.Upload == upload })
	}
	if err != nil {
		s.discard(blob)
		if !errors.Is(err, errGone) {
			err = errors.Join(err, s.putBack(settle, id, upload))
		}
	}
	return err
}

func sizeAsAnnounced(want, got int64) error {
	if want >= 0 && want != got {
		return errs.Invalidf("Size mismatch: %d bytes were announced but %d came", want, got)
	}
	return nil
}

// refusal gives what ended a stream its place in the vocabulary.
func refusal(err error) error {
	var bad *unsafeError
	switch {
	case errors.As(err, &bad):
		return unsafeContent(bad.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errs.Invalidf("The image data ended early: %w", err)
	}
	return err
}

func (v *Image) formatsSet() error {
	switch {
	case v.DiskFormat == "" && v.ContainerFormat == "":
		return errs.Invalidf("Properties disk_format, container_format must be set prior to saving data.")
	case v.DiskFormat == "":
		return errs.Invalidf("Property disk_format must be set prior to saving data.")
	case v.ContainerFormat == "":
		return errs.Invalidf("Property container_format must be set prior to saving data.")
	}
	return nil
}

// activate names the blob in the record. The project's limit is checked in the
// ledger, so that parallel uploads cannot exceed it together.
func (s *Service) activate(ctx context.Context, id, blob string, res Result, ours func(*Image) bool) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		v, err := s.images.TxGet(tx, id)
		if err != nil || !ours(v) {
			return errGone
		}
		if err := s.fitsLimit(s.images.TxBy(tx, "owner", v.Owner), id, res.Size); err != nil {
			return err
		}
		_, err = s.images.TxUpdate(tx, id, func(v *Image) error {
			v.Status, v.Upload, v.Staged, v.Blob = Active, "", nil, blob
			v.Size, v.Checksum, v.Hash = &res.Size, res.MD5, res.SHA512
			v.VirtualSize = res.virtualSize(v)
			v.touch()
			return nil
		})
		return err
	})
}

// room refuses early what cannot fit, before its bytes are read.
func (s *Service) room(owner string, want int64) error {
	if want > s.MaxSize {
		return errs.New(errs.TooLarge, "The incoming image is too large: the limit is %d bytes", s.MaxSize)
	}
	return s.fitsLimit(s.images.By("owner", owner), "", max(want, 0))
}

func (s *Service) fitsLimit(owned []*Image, except string, more int64) error {
	if s.ProjectLimit == 0 {
		return nil
	}
	for _, v := range owned {
		if v.ID != except && v.Size != nil {
			more += *v.Size
		}
	}
	if more > s.ProjectLimit {
		return errs.New(errs.TooLarge, "Image exceeds the storage quota: the project may store %d bytes", s.ProjectLimit)
	}
	return nil
}

// putBack returns an image whose data was refused to queued. An image that is
// gone or was taken over needs nothing.
func (s *Service) putBack(ctx context.Context, id, upload string) error {
	_, err := s.images.Update(ctx, id, func(v *Image) error {
		if v.Upload == upload {
			v.reset()
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func (v *Image) reset() {
	v.Status, v.Upload, v.Staged, v.Size, v.VirtualSize = Queued, "", nil, nil, nil
	v.touch()
}

// download sends the data, or a range of it (GET /images/{id}/file).
func (s *Service) download(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.find(ctx, r, "download_image")
	if err != nil {
		return nil, err
	}
	if v.Status == Deactivated && !r.Creds.Admin() {
		return nil, errs.Forbiddenf("The requested image has been deactivated. Image data download is forbidden.")
	}
	if v.Blob == "" {
		return rest.Empty(204), nil
	}
	from, n, ok := byteRange(r.HTTP.Header.Get("Range"), *v.Size)
	if !ok {
		return rest.Empty(416).With("Content-Range", "bytes */"+strconv.FormatInt(*v.Size, 10)), nil
	}
	f, err := s.Open(ctx, v.ID)
	if err != nil {
		return nil, err
	}
	resp := &rest.Response{Status: 200, Stream: func(w http.ResponseWriter) error {
		defer f.Close()
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return err
		}
		_, err := io.CopyN(w, f, n)
		return err
	}}
	if r.HTTP.Method == http.MethodHead {
		f.Close()
	}
	resp.With("Content-Type", "application/octet-stream").With("Content-MD5", v.Checksum).With("Content-Length", strconv.FormatInt(n, 10))
	if r.HTTP.Header.Get("Range") != "" {
		resp.Status = http.StatusPartialContent
		resp.With("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(from+n-1, 10)+"/"+strconv.FormatInt(*v.Size, 10))
	}
	return resp, nil
}
