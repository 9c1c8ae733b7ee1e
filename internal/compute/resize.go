package compute

import (
	"context"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) resizeRoutes() []rest.Route {
	const at, rule = "/servers/{id}/action", "os_compute_api:servers:"
	return []rest.Route{
		{Method: "POST", Path: at, Action: "resize", Policy: rule + "resize", Handle: s.resize,
			Body: wire.Body("resize", `{"type":"object","properties":{"flavorRef":{"type":["string","integer"],"minLength":1},"OS-DCF:diskConfig":{"enum":["AUTO","MANUAL"]}},"required":["flavorRef"],"additionalProperties":false}`)},
		{Method: "POST", Path: at, Action: "confirmResize", Policy: rule + "confirm_resize", Handle: s.endResize("confirmResize", 204)},
		{Method: "POST", Path: at, Action: "revertResize", Policy: rule + "revert_resize", Handle: s.endResize("revertResize", 202)},
	}
}

// resize gives the server another flavor, on its host when that has room for it.
// Until it is confirmed the old disks stay, and placement holds what the server took before under the id of the resize.
func (s *Service) resize(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Resize struct {
			Flavor     any     `json:"flavorRef"`
			DiskConfig *string `json:"OS-DCF:diskConfig"`
		} `json:"resize"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	f, err := s.resizeTo(r, v, wire.Text(b.Resize.Flavor))
	if err != nil {
		return nil, err
	}
	_, err = s.beginRemake(ctx, r, v.ID, "resize", wasStopped, func(tx *store.Tx, v *Server) error {
		if f.ID == v.Flavor.ID {
			return errs.Invalidf("When resizing, instances must change flavor!")
		}
		if err := s.fitGrowth(tx, v, f); err != nil {
			return err
		}
		v.Resize = &Resize{ID: uuid.NewString(), Flavor: v.Flavor, DiskSet: v.DiskSet, Stopped: wasStopped(v), From: v.Host}
		v.Flavor, v.DiskSet = *f, v.DiskSet+1
		set(&v.DiskConfig, b.Resize.DiskConfig)
		return s.moves.Begin(tx, migration.Migration{ID: v.Resize.ID, Server: v.ID, ProjectID: v.ProjectID, UserID: r.Creds.UserID, Kind: migration.Resize, Status: migration.PreMigrating,
			Source: v.Host, OldFlavor: v.Resize.Flavor.ID, NewFlavor: f.ID})
	})
	return rest.Empty(202), err
}

// resizeTo is the flavor that the caller may resize the server to.
func (s *Service) resizeTo(r *rest.Request, v *Server, id string) (*flavor.Flavor, error) {
	f, err := s.flavors.Get(id)
	if err != nil || !f.VisibleTo(r.Creds) || f.Disabled && f.ID != v.Flavor.ID {
		return nil, errs.Invalidf("Unable to locate requested flavor: Flavor %s could not be found.", id)
	}
	switch old := v.Flavor; {
	case f.Disk == 0 && old.Disk != 0:
		return nil, errs.Invalidf("Server disk was unable to be resized because: Resize to zero disk flavor is not allowed.")
	case f.Disk < old.Disk || f.Ephemeral < old.Ephemeral:
		// Upstream finds this out on the host, after it has accepted the request.
		return nil, errs.Invalidf("Server disk was unable to be resized because: Unable to resize disk down.")
	}
	return f, v.fits(f)
}

// fitGrowth checks the quota of what the flavor has more. It runs in the ledger.
func (s *Service) fitGrowth(tx *store.Tx, v *Server, f *flavor.Flavor) error {
	have := s.servers.TxBy(tx, "project", v.ProjectID)
	for _, scope := range []struct{ limits, used map[string]int }{
		{s.quotas.Limits(v.ProjectID), sum(have)},
		{s.quotas.UserLimits(v.ProjectID, v.UserID), sum(ofUser(have, v.UserID))},
	} {
		more := map[string]int{"cores": f.VCPUs - v.Flavor.VCPUs, "ram": f.RAM - v.Flavor.RAM}
		for _, res := range []string{"cores", "ram"} {
			if lim := scope.limits[res]; more[res] > 0 && lim >= 0 && scope.used[res]+more[res] > lim {
				return errs.New(errs.QuotaExceeded, "Quota exceeded for %s: Requested %d, but already used %d of %d %s",
					res, more[res], scope.used[res], lim, res)
			}
		}
	}
	return nil
}

// endResize confirms or reverts.
func (s *Service) endResize(name string, answer int) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		v, err := s.changeable(r)
		if err != nil {
			return nil, err
		}
		before := func(v *Server) bool { return v.Resize != nil && v.Resize.Stopped }
		_, err = s.beginRemake(ctx, r, v.ID, name, before, func(_ *store.Tx, v *Server) error {
			if v.Resize == nil || v.Resize.Ending {
				return errs.Invalidf("Instance has not been resized.")
			}
			if v.Resize.Ending = true; name == "revertResize" {
				v.swap()
			}
			return nil
		})
		return rest.Empty(answer), err
	}
}

func resized(v *Server) { v.VMState = Resized }

// unresized takes back a resize that failed. A server that has changed hosts stays.
func unresized(v *Server) {
	if v.Resize == nil {
		return
	}
	v.Flavor, v.DiskSet = v.Resize.Flavor, v.Resize.DiskSet
	v.VMState = Active
	if v.Resize.Stopped {
		v.VMState = Stopped
	}
	v.Resize = nil
}

// swap exchanges what the server is with what it would go back to.
func (v *Server) swap() {
	v.Flavor, v.Resize.Flavor = v.Resize.Flavor, v.Flavor
	v.DiskSet, v.Resize.DiskSet = v.Resize.DiskSet, v.DiskSet
}

// unreverted leaves the resize open, to be ended by another try: nothing of either
// side is lost. A server that is back on its host has nothing else to go to.
func unreverted(v *Server) {
	switch {
	case v.Resize == nil: // it was the last step's end that failed
	case v.wentBack():
		v.VMState, v.Resize = Errored, nil
	case v.Resize.Ending:
		v.VMState = Resized
		v.swap()
		v.Resize.Ending = false
	default:
		v.VMState = Resized
	}
}

// wentBack tells whether a server that is being reverted has left the other host.
func (v *Server) wentBack() bool {
	z := v.Resize
	return z != nil && z.Ending && z.To != "" && z.From != z.To && v.Host == z.From
}

func confirmed(v *Server) { v.Resize = nil }

// old is what the server took before its resize.
func (v *Server) old() Resources {
	before := *v
	before.Flavor = v.Resize.Flavor
	return before.resources()
}

// claimOld gives back what the resize took.
func (s *Service) claimOld(ctx context.Context, v *Server) error {
	if v.Resize == nil {
		return nil
	}
	return s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, Holding{v.ID, v.Host, v.old()}, Holding{Consumer: v.Resize.ID})
}

func (s *Service) releaseOld(ctx context.Context, v *Server) error {
	return s.Placement.Release(ctx, v.Resize.ID)
}

// releaseNew leaves the server with its flavor of before, which it has again.
func (s *Service) releaseNew(ctx context.Context, v *Server) error {
	return s.Placement.ClaimAll(ctx, v.ProjectID, v.UserID, Holding{v.ID, v.Host, v.resources()}, Holding{Consumer: v.Resize.ID})
}

// settleReverted is for a revert that failed: what is back on its host holds no more than that.
func (s *Service) settleReverted(ctx context.Context, v *Server) error {
	if !v.wentBack() {
		return nil
	}
	return s.releaseNew(ctx, v)
}
