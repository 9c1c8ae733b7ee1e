package compute

import (
	"maps"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// defaultLimits are upstream's (nova/conf/quota.py); -1 is unlimited. RAM is in MiB.
var defaultLimits = map[string]int{
	"instances": 10, "cores": 20, "ram": 50 * 1024, "metadata_items": 128, "key_pairs": 100,
	"server_groups": 10, "server_group_members": 10, "injected_files": 5, "injected_file_content_bytes": 10 * 1024, "injected_file_path_bytes": 255,
	"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1,
}

// classDefault is the id under which the default class's limits are kept; no project has it.
const classDefault = "class:default"

// limits are the project's own limits over the default class's.
func (s *Service) limits(projectID string) map[string]int { return s.layered(classDefault, projectID) }

// userLimits are the user's own limits over the project's.
func (s *Service) userLimits(projectID, userID string) map[string]int {
	return s.layered(classDefault, projectID, userQuota(projectID, userID))
}

func userQuota(projectID, userID string) string { return projectID + "/" + userID }

func (s *Service) layered(ids ...string) map[string]int {
	out := maps.Clone(defaultLimits)
	for _, id := range ids {
		if q, err := s.quotas.Get(id); err == nil {
			maps.Copy(out, q.Limits)
		}
	}
	return out
}

// usage counts what the servers take, from the records themselves.
func usage(servers []*Server) map[string]int {
	u := map[string]int{"instances": len(servers)}
	for _, v := range servers {
		u["cores"] += v.Flavor.VCPUs
		u["ram"] += v.Flavor.RAM
	}
	return u
}

func ofUser(servers []*Server, userID string) []*Server {
	var out []*Server
	for _, v := range servers {
		if v.UserID == userID {
			out = append(out, v)
		}
	}
	return out
}

// fitQuota tells how many of the servers fit into their project's and their
// user's quota, at least least. It runs in the ledger.
func (s *Service) fitQuota(tx *store.Tx, servers []*Server, least int) (int, error) {
	v, n := servers[0], len(servers)
	have := s.servers.TxBy(tx, "project", v.ProjectID)
	for _, scope := range []struct{ limits, used map[string]int }{
		{s.limits(v.ProjectID), usage(have)},
		{s.userLimits(v.ProjectID, v.UserID), usage(ofUser(have, v.UserID))},
	} {
		fits, err := fit(v, n, least, scope.limits, scope.used)
		if err != nil {
			return 0, err
		}
		n = fits
	}
	if v.GroupID != "" {
		members := s.servers.TxCount(tx, "group", v.GroupID)
		if limit := s.limits(v.ProjectID)["server_group_members"]; limit >= 0 && members+n > limit {
			return 0, errs.New(errs.QuotaExceeded, "Quota exceeded, too many servers in group")
		}
	}
	return n, nil
}

func fit(v *Server, n, least int, lim, used map[string]int) (int, error) {
	each := map[string]int{"instances": 1, "cores": v.Flavor.VCPUs, "ram": v.Flavor.RAM}
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
