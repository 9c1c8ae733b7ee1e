package snapshot

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) manageRoutes() []rest.Route {
	body := wire.Body("snapshot", wire.Object(`"volume_id":`+wire.UUID+`,"ref":`+wire.Ref+`,"name":`+wire.Name+`,"description":`+wire.Name+`,"metadata":`+wire.OptSpecs, `"volume_id","ref"`, "false"))
	const list, manage = "snapshot_extension:list_manageable", "snapshot_extension:snapshot_manage"
	routes := []rest.Route{{Method: "POST", Path: "/snapshots/{id}/action", Action: "os-unmanage", Policy: "snapshot_extension:snapshot_unmanage", Handle: s.unmanage}}
	for _, at := range []struct {
		path  string
		since rest.Version
	}{{"/manageable_snapshots", rest.V(3, 8)}, {"/os-snapshot-manage", rest.Version{}}} {
		path, since := at.path, at.since
		routes = append(routes, rest.Route{Method: "GET", Path: path, Policy: list, Min: since, Handle: s.listManageable(path, false)},
			rest.Route{Method: "GET", Path: path + "/detail", Policy: list, Min: since, Handle: s.listManageable(path, true)},
			rest.Route{Method: "POST", Path: path, Policy: manage, Min: since, Body: body, Handle: s.manage})
	}
	return routes
}

// foreign lists the snapshots that the node has of a volume.
func (s *Service) foreign(ctx context.Context, v *block.Volume) ([]nodeapi.Foreign, error) {
	st, err := s.Storage(v)
	if err != nil {
		return nil, err
	}
	return st.ForeignSnapshots(ctx, v.Ref())
}

func (s *Service) listManageable(path string, detail bool) rest.Handler {
	key := path[1:]
	if detail {
		key += "/detail"
	}
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		host, err := wire.HostOf(r)
		if err != nil {
			return nil, err
		}
		var all []wire.Manageable
		for _, v := range s.Volumes.All() {
			if v.Host() != host || !v.In(block.Available, block.InUse) {
				continue // what is being worked on tells nothing
			}
			list, err := s.foreign(ctx, v)
			if errs.Is(err, errs.NotFound) {
				continue // removed meanwhile
			} else if err != nil {
				return nil, err
			}
			for _, f := range list {
				m := wire.Manageable{Name: f.Name, Source: "volume-" + v.ID, GiB: wire.GiB(f.Bytes)}
				if x := s.known(v.ID, f.Name); x != nil {
					m.ID, m.Unfit = x.ID, "already managed"
				}
				all = append(all, m)
			}
		}
		return wire.ListManageable(r, "manageable-snapshots", key, all, detail)
	}
}

// known is the snapshot that has the name on the node, or nil.
func (s *Service) known(volume, name string) *block.Snapshot {
	for _, x := range s.Snapshots.By("volume", volume) {
		if x.OnNode() == name {
			return x
		}
	}
	return nil
}

// manage makes a snapshot known that its volume has already
// (cinder/api/contrib/snapshot_manage.py).
func (s *Service) manage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Snapshot struct {
			Volume      string            `json:"volume_id"`
			Ref         map[string]string `json:"ref"`
			Name        *string           `json:"name"`
			Description *string           `json:"description"`
			Metadata    map[string]string `json:"metadata"`
		} `json:"snapshot"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Snapshot
	v, err := s.FindVolume(r.Creds, in.Volume)
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(v.Target()); err != nil {
		return nil, err
	}
	if !v.In(block.Available, block.InUse) {
		return nil, wire.InvalidVolume("Volume %s status must be available or in-use, but the current status is %s.", v.ID, v.Status)
	}
	list, err := s.foreign(ctx, v)
	if err != nil {
		return nil, err
	}
	name := in.Ref["source-name"]
	at := slices.IndexFunc(list, func(f nodeapi.Foreign) bool { return f.Name == name })
	if at < 0 {
		return nil, errs.Invalidf("Manage existing snapshot failed due to invalid backend reference %s: the volume has no snapshot of that name.", name)
	}
	x := &block.Snapshot{ID: uuid.NewString(), VolumeID: v.ID, Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID,
		SizeGiB: wire.GiB(list[at].Bytes), TypeID: v.TypeID, Status: block.Available, Progress: "100%", Metadata: in.Metadata, NodeName: name, Created: wire.Now()}
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if now, err := s.Volumes.TxGet(tx, v.ID); err != nil || !now.In(block.Available, block.InUse) {
			return wire.InvalidVolume("Volume %s is not available or in-use any more.", v.ID)
		}
		for _, other := range s.Snapshots.TxBy(tx, "volume", v.ID) {
			if other.OnNode() == name {
				return errs.Invalidf("Unable to manage existing snapshot. Snapshot %s already managed.", name)
			}
		}
		if err := s.Charge(tx, x.ProjectID, s.SnapshotCost(x.TypeID, x.SizeGiB)); err != nil {
			return err
		}
		return s.Snapshots.TxCreate(tx, x)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"snapshot": s.view(r, x, false)}), nil
}

// unmanage forgets a snapshot; its volume keeps it under the name that it has there.
func (s *Service) unmanage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	x, err := s.SnapshotOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.Ledger.Do(ctx, func(tx *store.Tx) error {
		x, err := s.Snapshots.TxGet(tx, x.ID)
		if err != nil {
			return wire.NotFound("Snapshot", r.Path("id"))
		}
		if x.Status != block.Available && x.Status != block.Errored || x.GroupSnapshotID != "" {
			return wire.InvalidSnapshot("Volume Snapshot status must be available or error, and must not be part of a group snapshot, but the status is %s.", x.Status)
		}
		return s.Snapshots.TxDelete(tx, x.ID)
	})
}
