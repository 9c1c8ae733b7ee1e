package pool

import (
	"context"
	"strings"

	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// freezeHost freezes the back ends of a host, or with thaw lets them change again
// (cinder/volume/api.py, freeze_host): a host that does not exist is a bad request.
func (s *Pools) freezeHost(thaw bool) rest.Handler {
	rule := "volume:freeze_host"
	if thaw {
		rule = "volume:thaw_host"
	}
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Host    string `json:"host"`
			Cluster string `json:"cluster"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		if err := r.EnforceRule(rule, r.Own()); err != nil {
			return nil, err
		}
		if r.AtLeast(3, 26) && (b.Host == "") == (b.Cluster == "") {
			return nil, wire.InvalidInput("One and only one of cluster and host must be set.")
		}
		if b.Host == "" && r.AtLeast(3, 26) {
			return nil, wire.InvalidInput("Cluster %s could not be found.", b.Cluster)
		}
		if b.Host == "" {
			return nil, wire.InvalidInput("Host field is missing.")
		}
		return rest.Empty(200), s.freeze(ctx, b.Host, thaw)
	}
}

func (s *Pools) freeze(ctx context.Context, host string, thaw bool) error {
	of := s.backendsOf(ctx, host)
	if len(of) == 0 {
		return wire.InvalidInput("Service %s could not be found on host %s.", binary, host)
	}
	return s.core.DB.Txn(ctx, func(tx *store.Tx) error {
		changed := false
		for _, b := range of {
			if _, err := s.core.Frozen.TxGet(tx, b); (err == nil) != thaw {
				continue
			}
			changed = true
			var err error
			if thaw {
				err = s.core.Frozen.TxDelete(tx, b)
			} else {
				err = s.core.Frozen.TxPut(tx, &block.Frozen{Backend: b, Since: wire.Now()})
			}
			if err != nil {
				return err
			}
		}
		if !changed {
			must := map[bool]string{true: "True", false: "False"}[thaw]
			return wire.InvalidInput("No service could be changed: frozen in ['%s'] must be %s to failover.", strings.Join(of, "', '"), must)
		}
		return nil
	})
}

// backendsOf are the back ends that a host's name means, also frozen ones of a node
// that does not answer now.
func (s *Pools) backendsOf(ctx context.Context, host string) []string {
	known := map[string]bool{}
	for _, v := range s.services(ctx) {
		if v.Binary == binary {
			known[v.Host] = true
		}
	}
	for _, f := range s.core.Frozen.All() {
		known[f.Backend] = true
	}
	var out []string
	for b := range known {
		if b == host || strings.HasPrefix(b, host+"@") {
			out = append(out, b)
		}
	}
	return out
}
