package volume

import (
	"context"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/pool"
	"github.com/strata-cloud/strata/internal/volume/voltype"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (s *Service) manageRoutes() []rest.Route {
	fields := `"host":{"type":"string","minLength":1,"maxLength":255},"ref":` + wire.Ref + `,"name":` + wire.Name + `,"description":` + wire.Name + `,"volume_type":` + wire.Name +
		`,"metadata":` + wire.OptSpecs + `,"availability_zone":` + wire.Zone + `,"bootable":` + wire.OptBool + `,"cluster":{"type":"null"}`
	body := wire.Body("volume", wire.Object(fields, `"host","ref"`, "false"))
	const list, manage = "volume_extension:list_manageable", "volume_extension:volume_manage"
	routes := []rest.Route{{Method: "POST", Path: "/volumes/{id}/action", Action: "os-unmanage", Policy: "volume_extension:volume_unmanage", Handle: s.unmanage}}
	for _, at := range []struct {
		path  string
		since rest.Version
	}{{"/manageable_volumes", rest.V(3, 8)}, {"/os-volume-manage", rest.Version{}}} {
		path, since := at.path, at.since
		routes = append(routes, rest.Route{Method: "GET", Path: path, Policy: list, Min: since, Handle: s.listManageable(path, false)},
			rest.Route{Method: "GET", Path: path + "/detail", Policy: list, Min: since, Handle: s.listManageable(path, true)},
			rest.Route{Method: "POST", Path: path, Policy: manage, Min: since, Body: body, Handle: s.manage})
	}
	return routes
}

// foreignName is what a volume is called where it lies when it is not the cloud's,
// as upstream's volume_name_template.
func foreignName(id string) string { return "volume-" + id }

// at finds the pool of the name.
func (s *Service) at(ctx context.Context, host string) (*pool.Place, error) {
	for _, p := range s.pools.All(ctx) {
		if p.Name() == host {
			return &p, nil
		}
	}
	return nil, errs.NotFoundf("Host %s could not be found.", host)
}

// foreign lists what is not the cloud's in a pool.
func (s *Service) foreign(ctx context.Context, p *pool.Place) ([]nodeapi.Foreign, error) {
	st, err := s.Nodes.Storage(p.Node)
	if err != nil {
		return nil, err
	}
	return st.ForeignVolumes(ctx, p.Driver, p.Pool.Name)
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
		p, err := s.at(ctx, host)
		if err != nil {
			return nil, err
		}
		list, err := s.foreign(ctx, p)
		if err != nil {
			return nil, err
		}
		var all []wire.Manageable
		for _, f := range list {
			all = append(all, wire.Manageable{Name: f.Name, GiB: wire.GiB(f.Bytes), Unfit: f.Unfit, Extra: f.Format})
		}
		for _, v := range s.Volumes.By("node", p.Node) {
			if v.Host() == host {
				all = append(all, wire.Manageable{Name: foreignName(v.ID), GiB: v.SizeGiB, ID: v.ID, Unfit: "already managed"})
			}
		}
		return wire.ListManageable(r, "manageable-volumes", key, all, detail)
	}
}

type manageBody struct {
	Volume struct {
		Host        string            `json:"host"`
		Ref         map[string]string `json:"ref"`
		Name        *string           `json:"name"`
		Description *string           `json:"description"`
		Type        *string           `json:"volume_type"`
		Metadata    map[string]string `json:"metadata"`
		Zone        *string           `json:"availability_zone"`
		Bootable    any               `json:"bootable"`
	} `json:"volume"`
}

// manage makes a volume of something that lies in a pool already
// (cinder/api/contrib/volume_manage.py). What it is is looked at before anything is
// accepted, and again when it is taken over.
func (s *Service) manage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b manageBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Volume
	if err := r.Enforce(r.Own()); err != nil {
		return nil, err
	}
	if z := wire.Text(in.Zone); z != "" && z != block.Zone {
		return nil, errs.Invalidf("Availability zone '%s' is invalid.", z)
	}
	p, err := s.at(ctx, in.Host)
	if err != nil {
		return nil, err
	}
	t, err := s.manageType(r.Creds, wire.Text(in.Type), p)
	if err != nil {
		return nil, err
	}
	name := in.Ref["source-name"]
	size, err := s.sizeOfForeign(ctx, p, name)
	if err != nil {
		return nil, err
	}
	v := &block.Volume{ID: uuid.NewString(), Name: wire.Trim(in.Name), Description: wire.Trim(in.Description), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID, SizeGiB: size,
		Status: block.Managing, AZ: block.Zone, Node: p.Node, Driver: p.Driver, Pool: p.Pool.Name, TypeID: t.ID, Metadata: in.Metadata,
		Bootable: in.Bootable != nil && wire.Truthy(in.Bootable), Multiattach: t.Multiattach(), Created: wire.Now()}
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.Charge(tx, v.ProjectID, s.VolumeCost(v.TypeID, v.SizeGiB)); err != nil {
			return err
		}
		if err := s.Volumes.TxCreate(tx, v); err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaManage, "manage", v.ID, manageArgs{name})
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, map[string]any{"volume": s.fullView(r, v)}), nil
}

// manageType is the type that is asked for, or the default: one that the pool suits
// and that does not encrypt, since what lies there is not encrypted.
func (s *Service) manageType(c *policy.Credentials, name string, p *pool.Place) (t *voltype.Type, err error) {
	if name == "" {
		t, err = s.Types.Of(c.ProjectID)
	} else {
		t, err = s.Types.Find(c, name)
	}
	switch {
	case err != nil:
		return nil, err
	case t.Encryption != nil:
		return nil, wire.InvalidInput("Managing volumes of the encrypted type %s is not supported.", t.Name)
	case !p.Suits(t):
		return nil, wire.InvalidInput("The pool %s does not have what type %s asks for.", p.Name(), t.Name)
	}
	return t, nil
}

func (s *Service) sizeOfForeign(ctx context.Context, p *pool.Place, name string) (gib int, err error) {
	list, err := s.foreign(ctx, p)
	if err != nil {
		return 0, err
	}
	for _, f := range list {
		switch {
		case f.Name != name:
		case f.Unfit != "":
			return 0, errs.Invalidf("Manage existing volume failed due to invalid backend reference %s: %s.", name, f.Unfit)
		default:
			return wire.GiB(f.Bytes), nil
		}
	}
	return 0, errs.Invalidf("Manage existing volume failed due to invalid backend reference %s: nothing there has that name.", name)
}

// unmanage forgets a volume and leaves its data where it is (cinder/api/contrib/volume_unmanage.py).
func (s *Service) unmanage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.VolumeOf(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.Volumes.TxGet(tx, v.ID)
		switch {
		case err != nil:
			return wire.NotFound("Volume", r.Path("id"))
		case v.Cipher:
			return errs.Invalidf("Unmanaging encrypted volumes is not supported.")
		case v.Node == "":
			return wire.InvalidVolume("Volume %s is on no host.", v.ID)
		}
		if err := s.mayGo(tx, r.Creds, v, false, false); err != nil {
			return err
		}
		if _, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error { v.Status = block.Unmanaging; return nil }); err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaUnmanage, "unmanage", v.ID, nil)
	})
}

type manageArgs struct{ Name string }

// adopt has the node make the volume of what lies there.
func (s *Service) adopt(ctx context.Context, j *block.Job) error {
	var a manageArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil {
		return err
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	return st.AdoptVolume(ctx, v.Ref(), a.Name)
}

// giveBack undoes adopt: what was there lies there again.
func (s *Service) giveBack(ctx context.Context, j *block.Job) error {
	var a manageArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	v, err := s.Volumes.Get(j.Volume)
	if err != nil || v.Node == "" {
		return ignoreAbsent(err)
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	return st.ReleaseVolume(ctx, v.Ref(), a.Name)
}

func (s *Service) managed(ctx context.Context, j *block.Job) error {
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		if v.Status == block.Managing {
			v.Status = block.Available
		}
	})
}

// manageFailed keeps a record that has no data: deleting it deletes nothing else.
func (s *Service) manageFailed(ctx context.Context, j *block.Job, cause error) error {
	s.Log.Warn("a volume is not managed", "volume", j.Volume, "op", "manage", "err", cause)
	return s.Settle(ctx, j.Volume, func(v *block.Volume) {
		v.Node, v.Driver, v.Pool = "", "", ""
		if v.Status != block.Deleting {
			v.Status = block.ErrorManaging
		}
	})
}

// release gives the volume away. One that cannot be given away comes back instead
// of being tried for ever.
func (s *Service) release(ctx context.Context, j *block.Job) error {
	v, err := s.Volumes.Get(j.Volume)
	if err != nil || v.Node == "" {
		return ignoreAbsent(err)
	}
	st, err := s.Storage(v)
	if err != nil {
		return err
	}
	err = st.ReleaseVolume(ctx, v.Ref(), foreignName(v.ID))
	if !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotImplemented) {
		return err
	}
	s.Log.Warn("a volume cannot be given away now", "volume", v.ID, "op", "unmanage", "err", err)
	j.Stop = true
	return s.Settle(ctx, v.ID, func(v *block.Volume) { v.Status = block.Errored })
}
