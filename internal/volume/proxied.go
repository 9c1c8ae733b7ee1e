package volume

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/snapshot"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// What compute's older API of volumes needs. The request says who asks: the rules
// of this service hold.

// ServerVolume is a volume as compute's older API shows it.
type ServerVolume struct {
	ID, Status, Zone, Type string
	Name, Description      *string
	SizeGiB                int
	SnapshotID             string
	Metadata               map[string]string
	Created                time.Time
	Server, Device         string // that has it, "" for none
}

// ServerSnapshot is a snapshot as compute's older API shows it.
type ServerSnapshot struct {
	ID, VolumeID, Status string
	Name, Description    *string
	SizeGiB              int
	Created              time.Time
}

func (s *Service) serverVolume(v *block.Volume) ServerVolume {
	out := ServerVolume{ID: v.ID, Status: string(v.Status), Zone: v.AZ, Type: s.Types.Name(v.TypeID), Name: v.Name, Description: v.Description,
		SizeGiB: v.SizeGiB, SnapshotID: v.SnapshotID, Metadata: s.metadataView(v), Created: v.Created}
	for _, a := range s.Attachments.By("volume", v.ID) {
		if a.Status == block.AttachAttached {
			out.Server, out.Device = a.Server, a.Mountpoint
			break
		}
	}
	return out
}

func serverSnapshot(x *block.Snapshot) ServerSnapshot {
	return ServerSnapshot{ID: x.ID, VolumeID: x.VolumeID, Status: string(x.Status), Name: x.Name, Description: x.Description, SizeGiB: x.SizeGiB, Created: x.Created}
}

// newest sorts as a list without a wish does.
func newest[T any](list []T, at func(T) (time.Time, string)) {
	slices.SortFunc(list, func(a, b T) int {
		t, id := at(a)
		u, other := at(b)
		return cmp.Or(u.Compare(t), cmp.Compare(other, id))
	})
}

// ListServerVolumes lists the caller's project's volumes, newest first.
func (s *Service) ListServerVolumes(_ context.Context, r *rest.Request) ([]ServerVolume, error) {
	if err := r.EnforceRule("volume:get_all", r.Own()); err != nil {
		return nil, err
	}
	all := slices.Clone(s.Volumes.By("project", r.Creds.ProjectID))
	newest(all, func(v *block.Volume) (time.Time, string) { return v.Created, v.ID })
	out := make([]ServerVolume, len(all))
	for i, v := range all {
		out[i] = s.serverVolume(v)
	}
	return out, nil
}

// GetServerVolume gives a volume that the caller may see.
func (s *Service) GetServerVolume(_ context.Context, r *rest.Request, id string) (*ServerVolume, error) {
	v, err := s.allowedVolume(r, id, "volume:get")
	if err != nil {
		return nil, err
	}
	out := s.serverVolume(v)
	return &out, nil
}

func (s *Service) allowedVolume(r *rest.Request, id, rule string) (*block.Volume, error) {
	v, err := s.FindVolume(r.Creds, id)
	if err != nil {
		return nil, err
	}
	return v, r.EnforceRule(rule, v.Target())
}

// CreateServerVolume accepts a new volume, as POST /volumes would.
func (s *Service) CreateServerVolume(ctx context.Context, r *rest.Request, n ServerVolume) (*ServerVolume, error) {
	if err := r.EnforceRule("volume:create", r.Own()); err != nil {
		return nil, err
	}
	v, err := s.order(ctx, r.Creds, &order{ID: uuid.NewString(), Name: wire.Trim(n.Name), Description: wire.Trim(n.Description), Type: n.Type, Zone: n.Zone,
		Snapshot: n.SnapshotID, SizeGiB: n.SizeGiB, Metadata: n.Metadata, requestID: r.ID})
	if err != nil {
		return nil, err
	}
	out := s.serverVolume(v)
	return &out, nil
}

// DeleteServerVolume begins the deletion of a volume, as DELETE /volumes/{id} would.
func (s *Service) DeleteServerVolume(ctx context.Context, r *rest.Request, id string) error {
	if _, err := s.allowedVolume(r, id, "volume:delete"); err != nil {
		return err
	}
	return s.remove(ctx, r.ID, r.Creds, id, false, false)
}

// ListServerSnapshots lists the caller's project's snapshots, newest first.
func (s *Service) ListServerSnapshots(_ context.Context, r *rest.Request) ([]ServerSnapshot, error) {
	if err := r.EnforceRule("volume:get_all_snapshots", r.Own()); err != nil {
		return nil, err
	}
	all := slices.Clone(s.Snapshots.By("project", r.Creds.ProjectID))
	newest(all, func(x *block.Snapshot) (time.Time, string) { return x.Created, x.ID })
	out := make([]ServerSnapshot, len(all))
	for i, x := range all {
		out[i] = serverSnapshot(x)
	}
	return out, nil
}

// GetServerSnapshot gives a snapshot that the caller may see.
func (s *Service) GetServerSnapshot(_ context.Context, r *rest.Request, id string) (*ServerSnapshot, error) {
	x, err := s.allowedSnapshot(r, id, "volume:get_snapshot")
	if err != nil {
		return nil, err
	}
	out := serverSnapshot(x)
	return &out, nil
}

func (s *Service) allowedSnapshot(r *rest.Request, id, rule string) (*block.Snapshot, error) {
	x, err := s.FindSnapshot(r.Creds, id)
	if err != nil {
		return nil, err
	}
	return x, r.EnforceRule(rule, policy.Target{"project_id": x.ProjectID, "user_id": x.UserID})
}

// CreateServerSnapshot accepts a snapshot; inUse: also of a volume in use.
func (s *Service) CreateServerSnapshot(ctx context.Context, r *rest.Request, n ServerSnapshot, inUse bool) (*ServerSnapshot, error) {
	v, err := s.allowedVolume(r, n.VolumeID, "volume:create_snapshot")
	if err != nil {
		return nil, err
	}
	x, err := s.snapshots.Create(ctx, r.Creds, snapshot.Order{ID: uuid.NewString(), VolumeID: v.ID, Request: r.ID,
		Name: wire.Trim(n.Name), Description: wire.Trim(n.Description), InUse: inUse})
	if err != nil {
		return nil, err
	}
	out := serverSnapshot(x)
	return &out, nil
}

// DeleteServerSnapshot begins the deletion of a snapshot.
func (s *Service) DeleteServerSnapshot(ctx context.Context, r *rest.Request, id string) error {
	if _, err := s.allowedSnapshot(r, id, "volume:delete_snapshot"); err != nil {
		return err
	}
	return s.snapshots.Remove(ctx, r.Creds, r.ID, id, false)
}
