package compute

import (
	"slices"

	"github.com/strata-cloud/strata/internal/compute/servergroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// sum counts what the servers take, from the records themselves; those that were
// deleted softly take nothing (nova/objects/instance.py, _get_counts_in_db).
func sum(servers []*Server) map[string]int {
	u := map[string]int{"instances": 0, "cores": 0, "ram": 0}
	for _, v := range servers {
		if v.SoftDelete != nil && !v.leaving() {
			continue
		}
		u["instances"]++
		cores, ram := v.Flavor.VCPUs, v.Flavor.RAM
		if v.Resize != nil { // it may go either way
			cores, ram = max(cores, v.Resize.Flavor.VCPUs), max(ram, v.Resize.Flavor.RAM)
		}
		u["cores"] += cores
		u["ram"] += ram
	}
	return u
}

// used counts what a project, or one user of it, holds now.
func (s *Service) used(project, user string) map[string]int {
	servers, groups := s.servers.By("project", project), s.groups.Of(project)
	if user != "" {
		servers = ofUser(servers, user)
		groups = slices.DeleteFunc(slices.Clone(groups), func(g *servergroup.Group) bool { return g.UserID != user })
	}
	u := sum(servers)
	u["server_groups"] = len(groups)
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
		{s.quotas.Limits(v.ProjectID), sum(have)},
		{s.quotas.UserLimits(v.ProjectID, v.UserID), sum(ofUser(have, v.UserID))},
	} {
		fits, err := fit(v, n, least, scope.limits, scope.used)
		if err != nil {
			return 0, err
		}
		n = fits
	}
	if v.GroupID != "" {
		members := s.servers.TxCount(tx, "group", v.GroupID)
		if limit := s.quotas.Limits(v.ProjectID)["server_group_members"]; limit >= 0 && members+n > limit {
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
