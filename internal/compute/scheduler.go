package compute

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/servergroup"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

var errNoHost = errs.New(errs.NoCapacity, "No valid host was found. There are not enough hosts available.")

// chooseHosts lists the hosts that the server may run on, best first: placement's
// candidates without those that an operator disabled, that are gone, that are of
// another zone, or that the request or its server group excludes.
func (s *Service) chooseHosts(ctx context.Context, v *Server, need Resources) ([]string, error) {
	found, err := s.Placement.Candidates(ctx, need)
	if err != nil {
		return nil, err
	}
	members := s.membersByHost(v, s.servers.By("group", v.GroupID))
	var out []string
	for _, h := range found {
		switch {
		case v.AskedHost != "" && v.AskedHost != h, v.AZ != "" && s.pool.Zone(h) != v.AZ, !s.pool.Takes(h), !s.hinted(v, h), !s.groupAllows(v, members, h):
		default:
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return nil, errNoHost
	}
	switch g, err := s.groups.Get(v.GroupID); {
	case err != nil:
	case g.Policy == servergroup.SoftAffinity:
		slices.SortStableFunc(out, func(a, b string) int { return members[b] - members[a] })
	case g.Policy == servergroup.SoftAntiAffinity:
		slices.SortStableFunc(out, func(a, b string) int { return members[a] - members[b] })
	}
	return out, nil
}

// membersByHost counts the other members of the server's group on each host.
func (s *Service) membersByHost(v *Server, group []*Server) map[string]int {
	n := map[string]int{}
	for _, m := range group {
		if v.GroupID != "" && m.ID != v.ID && m.Host != "" {
			n[m.Host]++
		}
	}
	return n
}

// groupAllows applies the hard policies. A group that was deleted since binds nobody.
func (s *Service) groupAllows(v *Server, members map[string]int, host string) bool {
	if v.GroupID == "" {
		return true
	}
	g, err := s.groups.Get(v.GroupID)
	switch {
	case err != nil:
	case g.Policy == servergroup.Affinity:
		return len(members) == 0 || members[host] > 0
	case g.Policy == servergroup.AntiAffinity:
		return members[host] < max(g.MaxPerHost, 1)
	}
	return true
}

// hinted applies same_host and different_host: a server or a list of them.
func (s *Service) hinted(v *Server, host string) bool {
	runsHere := func(id string) bool {
		o, err := s.servers.Get(id)
		return err == nil && o.DeletedAt == nil && o.Host == host
	}
	if same := hintList(v.Hints["same_host"]); len(same) > 0 && !slices.ContainsFunc(same, runsHere) {
		return false
	}
	return !slices.ContainsFunc(hintList(v.Hints["different_host"]), runsHere)
}

func hintList(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			if id, ok := x.(string); ok {
				out = append(out, id)
			}
		}
		return out
	}
	return nil
}

// settle writes the server's host. It runs in the ledger, where no other member of
// its group can settle at the same time, and tells whether the group still allows it.
func (s *Service) settle(ctx context.Context, v *Server, host string) (ok bool, err error) {
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		var group []*Server
		if v.GroupID != "" {
			group = s.servers.TxBy(tx, "group", v.GroupID)
		}
		if ok = s.groupAllows(v, s.membersByHost(v, group), host); !ok {
			return nil
		}
		_, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			v.Host, v.Updated = host, wire.Now()
			v.doing(Networking)
			return nil
		})
		return err
	})
	return ok, err
}
