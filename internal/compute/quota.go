package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// defaultLimits are upstream's (nova/conf/quota.py); -1 is unlimited. RAM is in MiB.
var defaultLimits = map[string]int{
	"instances": 10, "cores": 20, "ram": 50 * 1024, "metadata_items": maxMetadata, "key_pairs": 100,
	"server_groups": 10, "server_group_members": 10, "injected_files": 5, "injected_file_content_bytes": 10 * 1024, "injected_file_path_bytes": 255,
	"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1, "networks": -1,
}

// limits are the project's own limits over the default class's.
func (s *Service) limits(projectID string) map[string]int {
	out := make(map[string]int, len(defaultLimits))
	for k, v := range defaultLimits {
		out[k] = v
	}
	for _, id := range []string{classDefault, projectID} {
		if q, err := s.quotas.Get(id); err == nil {
			for k, v := range q.Limits {
				out[k] = v
			}
		}
	}
	return out
}

// classDefault is the id under which the default class's limits are kept; no project has it.
const classDefault = "class:default"

// usage counts what the project's servers take, from the records themselves.
func usage(servers []*Server) map[string]int {
	u := map[string]int{"instances": len(servers)}
	for _, v := range servers {
		u["cores"] += v.Flavor.VCPUs
		u["ram"] += v.Flavor.RAM
	}
	return u
}

// fitQuota tells how many of the servers fit into their project's quota, at least least. It runs in the ledger.
func (s *Service) fitQuota(tx *store.Tx, servers []*Server, least int) (int, error) {
	v := servers[0]
	lim, used := s.limits(v.ProjectID), usage(s.servers.TxBy(tx, "project", v.ProjectID))
	each := map[string]int{"instances": 1, "cores": v.Flavor.VCPUs, "ram": v.Flavor.RAM}
	n := len(servers)
	for _, res := range []string{"instances", "cores", "ram"} {
		if lim[res] < 0 || each[res] == 0 {
			continue
		}
		fits := (lim[res] - used[res]) / each[res]
		if fits < least {
			return 0, errs.New(errs.QuotaExceeded, "Quota exceeded for %s: Requested %d, but already used %d of %d %s",
				res, least*each[res], used[res], lim[res], res)
		}
		n = min(n, fits)
	}
	return n, nil
}

// refreshGuest tells the node what the guest may now learn about itself.
func (s *Service) refreshGuest(ctx context.Context, id string) error {
	if _, err := s.Nodes.Instances.Get(id); errs.Is(err, errs.NotFound) {
		return nil // not spawned yet: spawn will tell
	}
	_, err := s.order(ctx, id, func(v *Server, i *nodeapi.Instance) error { return s.describe(v, i) })
	return err
}
