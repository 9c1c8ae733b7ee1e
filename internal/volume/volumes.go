package volume

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) showVolume(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"volume": s.fullView(r, v)}), nil
}

func (s *Service) listVolumes(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		found, err := s.selected(r, q)
		if err != nil {
			return nil, err
		}
		total := len(found)
		page, err := wire.Cut(q, found, "Volume", func(v *block.Volume) string { return v.ID }, s.sortKeys())
		if err != nil {
			return nil, err
		}
		views, last, path := make([]any, 0, len(page)), "", "volumes"
		for _, v := range page {
			if last = v.ID; detail {
				views = append(views, s.fullView(r, v))
			} else {
				views = append(views, map[string]any{"id": v.ID, "name": v.Name, "links": wire.Links(r, "volumes", v.ID)})
			}
		}
		if detail {
			path = "volumes/detail"
		}
		return wire.Listing(r, q, "volumes", path, views, last, total), nil
	}
}

func (s *Service) updateVolume(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Volume struct {
			Name        *string           `json:"name"`
			Description *string           `json:"description"`
			DisplayName *string           `json:"display_name"`
			DisplayDesc *string           `json:"display_description"`
			Metadata    map[string]string `json:"metadata"`
		} `json:"volume"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	v, err = s.Update(ctx, v.ID, func(v *block.Volume) error {
		for _, p := range []*string{b.Volume.DisplayName, b.Volume.Name} {
			if p != nil {
				v.Name = wire.Trim(p)
			}
		}
		for _, p := range []*string{b.Volume.DisplayDesc, b.Volume.Description} {
			if p != nil {
				v.Description = wire.Trim(p)
			}
		}
		if b.Volume.Metadata != nil {
			v.Metadata = b.Volume.Metadata
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"volume": s.view(r, v)}), nil
}

func (s *Service) deleteVolume(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	cascade, err := wire.Flag("cascade", r.Query().Get("cascade"))
	if err != nil {
		return nil, err
	}
	force := false
	if r.AtLeast(3, 23) {
		if force, err = wire.Flag("force", r.Query().Get("force")); err != nil {
			return nil, err
		}
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	if force {
		if err := r.EnforceRule("volume:force_delete", v.Target()); err != nil {
			return nil, err
		}
	}
	return rest.Empty(202), s.remove(ctx, r.ID, r.Creds, v.ID, cascade, force)
}

// forceDelete is the action os-force_delete.
func (s *Service) forceDelete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.remove(ctx, r.ID, r.Creds, v.ID, false, true)
}

// deletable are the states in which a volume may be deleted without force.
var deletable = []block.Status{block.Available, block.Errored, block.ErrorRestoring, block.ErrorExtending, block.ErrorManaging}

// remove begins the deletion of a volume; again for one that is going is no error when forced.
func (s *Service) remove(ctx context.Context, requestID string, c *policy.Credentials, id string, cascade, force bool) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, id)
		if err != nil {
			return wire.NotFound("Volume", id)
		}
		if v.Status == block.Deleting && force && s.Sagas.Busy(id) {
			return nil
		}
		if err := s.Thawed(tx, block.BackendOf(v.Host())); err != nil {
			return err
		}
		if err := s.mayGo(tx, c, v, cascade, force); err != nil {
			return err
		}
		if force {
			return s.Discard(tx, requestID, c, id)
		}
		return s.discard(tx, requestID, c, id)
	})
}

// Discard begins the removal of a volume, whatever is being done with it.
func (s *Service) Discard(tx *store.Tx, requestID string, c *policy.Credentials, id string) error {
	if v, err := s.Volumes.TxGet(tx, id); err != nil || v.Status == block.Deleting && s.Sagas.Busy(id) {
		return ignoreAbsent(err)
	}
	if err := s.Sagas.CancelAll(tx, id); err != nil {
		return err
	}
	return s.discard(tx, requestID, c, id)
}

func (s *Service) discard(tx *store.Tx, requestID string, c *policy.Credentials, id string) error {
	for _, snap := range s.Snapshots.TxBy(tx, "volume", id) {
		if _, err := s.Snapshots.TxUpdate(tx, snap.ID, func(x *block.Snapshot) error { x.Status = block.Deleting; return nil }); err != nil {
			return err
		}
	}
	if _, err := s.TxUpdate(tx, id, func(v *block.Volume) error { v.Status = block.Deleting; return nil }); err != nil {
		return err
	}
	return s.Begin(tx, requestID, c, sagaDelete, "delete", id, nil)
}

func (s *Service) mayGo(tx *store.Tx, c *policy.Credentials, v *block.Volume, cascade, force bool) error {
	snaps := s.Snapshots.TxBy(tx, "volume", v.ID)
	held := v.GroupID != "" || !cascade && len(snaps) > 0
	for _, a := range s.Attachments.TxBy(tx, "volume", v.ID) {
		held = held || a.Status == block.AttachAttached || a.Status == block.AttachDetaching
	}
	for _, snap := range snaps {
		held = held || !force && !slices.Contains([]block.Status{block.Available, block.Errored, block.Deleting}, snap.Status) || snap.GroupSnapshotID != "" ||
			snap.ProjectID != v.ProjectID && !c.Admin()
	}
	if !held && (force || v.In(deletable...)) {
		return nil
	}
	status := ""
	if !force {
		status = "status must be available or error or error_restoring or error_extending or error_managing and"
	}
	return wire.InvalidVolume("Volume %s must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer.", status)
}

// summary is the project's volumes in numbers (3.12).
func (s *Service) summary(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := wire.ReadQuery(r)
	if err != nil {
		return nil, err
	}
	volumes := s.Volumes.By("project", r.Creds.ProjectID)
	if q.AllProjects {
		volumes = s.Volumes.All()
	}
	size, seen := 0, map[string]map[string]bool{}
	for _, v := range volumes {
		size += v.SizeGiB
		for k, val := range v.Metadata {
			if seen[k] == nil {
				seen[k] = map[string]bool{}
			}
			seen[k][val] = true
		}
	}
	out := map[string]any{"total_count": len(volumes), "total_size": size}
	if r.AtLeast(3, 36) {
		all := map[string][]string{}
		for k, set := range seen {
			all[k] = slices.Sorted(maps.Keys(set))
		}
		out["metadata"] = all
	}
	return rest.JSON(200, map[string]any{"volume-summary": out}), nil
}

// metadataAllowed refuses changes while the metadata is being read.
func metadataAllowed(v *block.Volume, doing string) error {
	if v.Status == block.Uploading {
		return wire.InvalidVolume("%s volume metadata is not allowed for volumes in %s status.", doing, v.Status)
	}
	return nil
}

func (s *Service) showMetadata(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"metadata": wire.Map(v.Metadata)}), nil
}

// writeMetadata adds metadata, or replaces all of it.
func (s *Service) writeMetadata(replace bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Metadata map[string]string `json:"metadata"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		v, err := s.putMetadata(ctx, r, b.Metadata, replace)
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"metadata": wire.Map(v.Metadata)}), nil
	}
}

func (s *Service) putMetadata(ctx context.Context, r *rest.Request, more map[string]string, replace bool) (*block.Volume, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return s.Update(ctx, v.ID, func(v *block.Volume) error {
		if err := metadataAllowed(v, "Updating"); err != nil {
			return err
		}
		if replace || v.Metadata == nil {
			v.Metadata = map[string]string{}
		}
		maps.Copy(v.Metadata, more)
		return nil
	})
}

func noKey() error { return errs.NotFoundf("Metadata item was not found") }

func (s *Service) showMetadataItem(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	val, ok := v.Metadata[r.Path("key")]
	if !ok {
		return nil, noKey()
	}
	return rest.JSON(200, map[string]any{"meta": map[string]string{r.Path("key"): val}}), nil
}

func (s *Service) writeMetadataItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Meta map[string]string `json:"meta"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b.Meta[r.Path("key")]; !ok {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if len(b.Meta) > 1 {
		return nil, errs.Invalidf("Request body contains too many items")
	}
	if _, err := s.putMetadata(ctx, r, b.Meta, false); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"meta": b.Meta}), nil
}

func (s *Service) deleteMetadataItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	_, err = s.Update(ctx, v.ID, func(v *block.Volume) error {
		if err := metadataAllowed(v, "Deleting"); err != nil {
			return err
		}
		if _, ok := v.Metadata[r.Path("key")]; !ok {
			return noKey()
		}
		delete(v.Metadata, r.Path("key"))
		return nil
	})
	return rest.Empty(200), err
}
