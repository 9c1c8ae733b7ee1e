package volume

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/pool"
	"github.com/strata-cloud/strata/internal/volume/voltype"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) moveRoutes() []rest.Route {
	const fields = `"host":{"type":["string","null"],"minLength":1,"maxLength":255},"force_host_copy":` + wire.Bool + `,"lock_volume":` + wire.Bool
	return []rest.Route{{Method: "POST", Path: "/volumes/{id}/action", Action: "os-migrate_volume", Policy: "volume_extension:volume_admin_actions:migrate_volume", Handle: s.migrate,
		Body: []rest.Schema{wire.BodyIn(rest.V(3, 0), rest.V(3, 15), "os-migrate_volume", wire.Object(fields, `"host"`, "false")),
			wire.BodyIn(rest.V(3, 16), rest.Version{}, "os-migrate_volume", wire.Object(fields+`,"cluster":{"type":["string","null"],"minLength":1,"maxLength":255}`, "", "false"))}}}
}

// spot is all that changes when a volume moves.
type spot struct {
	Node, Driver, Pool, TypeID, KeyID string
	Key                               []byte
	Multiattach                       bool
}

func spotOf(v *block.Volume) spot {
	return spot{v.Node, v.Driver, v.Pool, v.TypeID, v.KeyID, v.Key, v.Multiattach}
}

// place is where the spot is, without what the volume is there.
func (p spot) place() string { return block.Host(p.Node, p.Driver, p.Pool) }

func (p spot) ref(id string) nodeapi.VolumeRef {
	return nodeapi.VolumeRef{ID: id, Driver: p.Driver, Pool: p.Pool, Key: p.Key}
}

func (p spot) put(v *block.Volume) {
	v.Node, v.Driver, v.Pool, v.TypeID, v.KeyID, v.Key, v.Cipher, v.Multiattach = p.Node, p.Driver, p.Pool, p.TypeID, p.KeyID, p.Key, len(p.Key) > 0, p.Multiattach
}

// holds tells whether the volume is there.
func (p spot) holds(v *block.Volume) bool {
	return p.place() == v.Host() && p.TypeID == v.TypeID && bytes.Equal(p.Key, v.Key)
}

type moveArgs struct{ From, To spot }

// movable refuses to move a volume that is used, has snapshots or is being moved.
// Those that servers have stay: upstream has Nova copy them (swap_volume).
func (s *Service) movable(tx *store.Tx, v *block.Volume) error {
	if v.Status != block.Available || v.Node == "" || v.GroupID != "" || len(s.Snapshots.TxBy(tx, "volume", v.ID)) > 0 || len(s.Attachments.TxBy(tx, "volume", v.ID)) > 0 {
		return wire.InvalidVolume("Volume %s status must be available, and it must not be attached, migrating, have snapshots, or be part of a group.", v.ID)
	}
	return nil
}

// migrate moves a volume to another pool of its node (cinder/volume/api.py, migrate_volume).
func (s *Service) migrate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	in, err := argsOf(r)
	if err != nil {
		return nil, err
	}
	host, _ := in["host"].(string)
	cluster, _ := in["cluster"].(string)
	if (host == "") == (cluster == "") {
		return nil, wire.InvalidInput("Must specify one and only one of host and cluster.")
	}
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	t, err := s.Types.Get(v.TypeID)
	if err != nil {
		return nil, err
	}
	p, err := s.destination(ctx, v, t, cmp.Or(host, cluster))
	if err != nil {
		return nil, err
	}
	to := spotOf(v)
	to.Node, to.Driver, to.Pool = p.Node, p.Driver, p.Pool.Name
	return rest.Empty(202), s.move(ctx, r, "migrate", to, block.Maintenance, nil)
}

// destination is the pool of the name, or the roomiest of the backend of the name.
func (s *Service) destination(ctx context.Context, v *block.Volume, t *voltype.Type, host string) (*pool.Place, error) {
	all := slices.DeleteFunc(s.pools.All(ctx), func(p pool.Place) bool { return p.Name() != host && !strings.HasPrefix(p.Name(), host+"#") })
	if len(all) == 0 {
		return nil, errs.Invalidf("Invalid host: No available service named '%s'", host)
	}
	all = slices.DeleteFunc(all, func(p pool.Place) bool { return p.Name() == v.Host() })
	if len(all) == 0 {
		return nil, wire.InvalidVolume("The destination host of volume %s must be different than the current one.", v.ID)
	}
	all = slices.DeleteFunc(all, func(p pool.Place) bool { return p.Node != v.Node || !p.Suits(t) || !p.Holds(v.SizeGiB) })
	if len(all) == 0 {
		return nil, errs.Invalidf("No valid backend was found: %s cannot take volume %s of type %s.", host, v.ID, t.Name)
	}
	best := slices.MaxFunc(all, func(a, b pool.Place) int { return cmp.Compare(a.FreeGiB, b.FreeGiB) })
	return &best, nil
}

// retypeTo is where a volume goes that gets another type: nowhere if its pool has
// what that asks for, and it may be encrypted there or cease to be.
func (s *Service) retypeTo(ctx context.Context, v *block.Volume, t *voltype.Type) (spot, error) {
	to := spotOf(v)
	to.TypeID, to.Multiattach = t.ID, t.Multiattach()
	if s.staysPut(ctx, v, t.ID) != nil {
		p, err := s.pools.ChooseOn(ctx, v.Node, t, v.SizeGiB)
		if err != nil {
			return to, err
		}
		to.Node, to.Driver, to.Pool = p.Node, p.Driver, p.Pool.Name
	}
	if e := t.Encryption; e != nil && !e.Supported() {
		return to, wire.InvalidInput("Volumes of type %s cannot be encrypted: its provider %s at the %s is not supported, use luks at the front-end", t.Name, e.Provider, e.Location)
	}
	switch want := t.Encryption != nil; {
	case want && !v.Cipher:
		var fresh block.Volume
		if err := encrypt(&fresh); err != nil {
			return to, err
		}
		to.Key, to.KeyID = fresh.Key, fresh.KeyID
	case !want:
		to.Key, to.KeyID = nil, ""
	}
	return to, nil
}

// move begins to move the volume of the path, which shuts out other work.
func (s *Service) move(ctx context.Context, r *rest.Request, action string, to spot, status block.Status, more map[string]int) error {
	v, err := s.VolumeOf(r)
	if err != nil {
		return err
	}
	return s.Ledger.Do(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, v.ID)
		if err != nil {
			return wire.NotFound("Volume", r.Path("id"))
		}
		if err := s.movable(tx, v); err != nil {
			return err
		}
		if err := s.Charge(tx, v.ProjectID, more); err != nil {
			return err
		}
		from := spotOf(v)
		if _, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error { v.Status, v.MigrationStatus = status, "migrating"; return nil }); err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaMove, action, v.ID, moveArgs{from, to})
	})
}

func (s *Service) moving(j *block.Job) (moveArgs, nodes.Storage, error) {
	var a moveArgs
	if err := j.Read(&a); err != nil {
		return a, nil, err
	}
	st, err := s.Nodes.Storage(a.From.Node)
	return a, st, err
}

// copyData makes the volume where it is to be. The first one stays as it is, except
// that encryption changes in the volume's place.
func (s *Service) copyData(ctx context.Context, j *block.Job) error {
	a, st, err := s.moving(j)
	if err != nil {
		return err
	}
	return st.MoveVolume(ctx, a.From.ref(j.Volume), a.To.ref(j.Volume))
}

func (s *Service) dropCopy(ctx context.Context, j *block.Job) error {
	a, st, err := s.moving(j)
	if err != nil {
		return err
	}
	if a.From.place() == a.To.place() {
		return ignoreAbsent(st.MoveVolume(ctx, a.To.ref(j.Volume), a.From.ref(j.Volume)))
	}
	return st.DeleteVolume(ctx, a.To.ref(j.Volume))
}

// switchOver makes the new place the volume's. What is left in the old one is
// removed by a saga of its own, since from here there is no way back, and the volume
// rests when that is done.
func (s *Service) switchOver(ctx context.Context, j *block.Job) error {
	var a moveArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	run := s.running(j.Volume)
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, j.Volume)
		if err != nil || a.To.holds(v) {
			return err
		}
		if _, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error { a.To.put(v); return nil }); err != nil {
			return err
		}
		who := &policy.Credentials{}
		request := ""
		if run != nil {
			request, who.ProjectID, who.UserID = run.RequestID, run.ProjectID, run.UserID
		}
		return s.Begin(tx, request, who, sagaTidy, "", v.ID, a)
	})
}

func (s *Service) switchBack(ctx context.Context, j *block.Job) error {
	var a moveArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	return s.Settle(ctx, j.Volume, func(v *block.Volume) { a.From.put(v) })
}

func (s *Service) moveFailed(ctx context.Context, j *block.Job, cause error) error {
	s.Log.Warn("a volume was not moved", "volume", j.Volume, "op", "move", "err", cause)
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if v.In(block.Retyping, block.Maintenance) {
			v.Status, v.MigrationStatus = block.Available, "error"
		}
	})
}

// tidy removes the volume from the place that is not its own: the old one, or the
// new one after all. Of a volume that is gone both go.
func (s *Service) tidy(ctx context.Context, j *block.Job) error {
	a, st, err := s.moving(j)
	if err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if ignoreAbsent(err) != nil {
		return err
	}
	for _, p := range []spot{a.From, a.To} {
		if err == nil && p.place() == v.Host() {
			continue
		}
		if err := st.DeleteVolume(ctx, p.ref(j.Volume)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) tidyFailed(ctx context.Context, j *block.Job, _ error) error { return s.tidy(ctx, j) }

func (s *Service) moved(ctx context.Context, j *block.Job) error {
	var a moveArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if a.To.holds(v) && v.In(block.Retyping, block.Maintenance) {
			v.Status, v.MigrationStatus = block.Available, "success"
		}
	})
}
