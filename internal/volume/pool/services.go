package pool

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// binary is what upstream calls the service that has volumes.
const binary = "cinder-volume"

// service is what administrators see of a part of the volume service.
type service struct {
	Binary, Host string
	Up           bool
	Updated      time.Time
}

// services are the scheduler, the backups of each node and each node's backends.
func (s *Pools) services(ctx context.Context) []service {
	var out []service
	now := wire.Now()
	seen := map[string]bool{}
	for _, p := range s.All(ctx) {
		if !seen[p.backend()] {
			out = append(out, service{binary, p.backend(), true, now})
		}
		if !seen[p.Node] {
			out = append(out, service{"cinder-scheduler", p.Node, true, now}, service{"cinder-backup", p.Node, true, now})
		}
		seen[p.backend()], seen[p.Node] = true, true
	}
	for _, n := range s.core.Nodes.Infos.All() {
		if !seen[n.ID] {
			out = append(out, service{"cinder-scheduler", n.ID, false, n.SeenAt})
		}
	}
	slices.SortFunc(out, func(a, b service) int {
		return strings.Compare(a.Binary+a.Host, b.Binary+b.Host)
	})
	return out
}

func (s *Pools) listServices(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	q := r.Query()
	out := []any{}
	for _, v := range s.services(ctx) {
		if b := q.Get("binary"); b != "" && b != v.Binary {
			continue
		}
		if h := q.Get("host"); h != "" && h != v.Host && h != strings.Split(v.Host, "@")[0] {
			continue
		}
		out = append(out, s.serviceView(r, v))
	}
	return rest.JSON(200, map[string]any{"services": out}), nil
}

func (s *Pools) serviceView(r *rest.Request, v service) map[string]any {
	status, state, reason := "enabled", "down", any(nil)
	if d, err := s.disabled.Get(v.Binary + "/" + v.Host); err == nil {
		status, reason = "disabled", wire.Null(d.Reason)
	}
	if v.Up {
		state = "up"
	}
	view := map[string]any{"binary": v.Binary, "host": v.Host, "zone": block.Zone, "status": status, "state": state, "disabled_reason": reason, "updated_at": wire.Stamp(v.Updated)}
	if v.Binary == binary {
		view["replication_status"], view["active_backend_id"], view["frozen"] = "disabled", nil, s.core.IsFrozen(v.Host)
		if r.AtLeast(3, 49) {
			view["backend_state"] = state
		}
	}
	if r.AtLeast(3, 7) {
		view["cluster"] = nil
	}
	return view
}

// switchService enables or disables a service (PUT /os-services/enable and the like).
func (s *Pools) switchService(enable, reason bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Binary  string `json:"binary"`
			Service string `json:"service"`
			Host    string `json:"host"`
			Reason  string `json:"disabled_reason"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		if b.Host == "" {
			return nil, errs.Invalidf("Missing required element 'host' in request body.")
		}
		b.Binary = cmp.Or(b.Binary, b.Service, binary)
		if !slices.ContainsFunc(s.services(ctx), func(v service) bool { return v.Binary == b.Binary && v.Host == b.Host }) {
			return nil, errs.NotFoundf("Service %s could not be found on host %s.", b.Binary, b.Host)
		}
		if err := s.setDisabled(ctx, b.Binary+"/"+b.Host, !enable, b.Reason); err != nil {
			return nil, err
		}
		out := map[string]any{"host": b.Host, "service": b.Binary, "binary": b.Binary, "disabled": !enable, "status": "enabled"}
		if !enable {
			out["status"] = "disabled"
		}
		if reason {
			out["disabled_reason"] = b.Reason
		}
		return rest.JSON(200, out), nil
	}
}

func (s *Pools) setDisabled(ctx context.Context, id string, disabled bool, reason string) error {
	return s.core.DB.Txn(ctx, func(tx *store.Tx) error {
		if disabled {
			return s.disabled.TxPut(tx, &Disabled{ID: id, Reason: reason, Since: wire.Now()})
		}
		if err := s.disabled.TxDelete(tx, id); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}
