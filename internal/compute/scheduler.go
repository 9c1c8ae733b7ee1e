package compute

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/strata-cloud/strata/internal/compute/servergroup"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

var errNoHost = errs.New(errs.NoCapacity, "No valid host was found. There are not enough hosts available.")

// alternatives is how many hosts are chosen for a new server: the best one, and more
// for when others take it first. Who has tried all of them chooses again.
const alternatives = 16

// chooseHosts lists the hosts that the server may run on, best first: placement's
// candidates that pass every filter and the caller's own. Its error says how many
// hosts each of them left.
func (s *Service) chooseHosts(ctx context.Context, v *Server, need Resources, more ...hostFilter) ([]string, error) {
	return s.bestHosts(ctx, v, need, math.MaxInt, more)
}

// bestHosts is chooseHosts for the first hosts alone: the others are not looked at.
func (s *Service) bestHosts(ctx context.Context, v *Server, need Resources, most int, more []hostFilter) ([]string, error) {
	found, err := s.Placement.Candidates(ctx, need, s.soon.now())
	if err != nil {
		return nil, err
	}
	members := s.membersByHost(v, s.servers.By("group", v.GroupID))
	filters := append(more, s.hostFilters(v, members)...)
	g, err := s.groups.Get(v.GroupID)
	soft := err == nil && (g.Policy == servergroup.SoftAffinity || g.Policy == servergroup.SoftAntiAffinity)
	kept := s.keepers(ctx, v)
	if soft || len(kept) > 0 {
		most = math.MaxInt // the best are not the first
	}
	out, left := passing(found, filters, most)
	if len(out) == 0 {
		return nil, errs.New(errs.NoCapacity, "%s Filter results: %s", errNoHost.Error(), filterResults(filters, left))
	}
	if len(kept) > 0 { // volumes are nearest where they are kept
		slices.SortStableFunc(out, func(a, b string) int { return kept[b] - kept[a] })
	}
	if soft {
		slices.SortStableFunc(out, func(a, b string) int {
			if g.Policy == servergroup.SoftAffinity {
				return members[b] - members[a]
			}
			return members[a] - members[b]
		})
	}
	return out, nil
}

// passing takes the first hosts that pass every filter, at most that many. left
// counts the hosts that were looked at, and those that were left after each filter.
func passing(hosts iter.Seq[string], filters []hostFilter, most int) (out []string, left []int) {
	left = make([]int, len(filters)+1)
	for h := range hosts {
		left[0]++
		passed := 0
		for ; passed < len(filters) && filters[passed].passes(h); passed++ {
			left[passed+1]++
		}
		if passed < len(filters) {
			continue
		}
		if out = append(out, h); len(out) == most {
			break
		}
	}
	return out, left
}

// filterResults says which filters left fewer hosts, up to the one that left none.
func filterResults(filters []hostFilter, left []int) string {
	said := []string{fmt.Sprintf("placement: (end: %d)", left[0])}
	for i, f := range filters {
		if left[i] == 0 {
			break
		}
		if left[i+1] < left[i] {
			said = append(said, fmt.Sprintf("%s: (start: %d, end: %d)", f.name, left[i], left[i+1]))
		}
	}
	return strings.Join(said, ", ")
}

// keepers counts the server's volumes on the hosts that keep them.
func (s *Service) keepers(ctx context.Context, v *Server) map[string]int {
	n := map[string]int{}
	for i := range v.Devices {
		d := &v.Devices[i]
		if d.VolumeID == "" || s.Volumes == nil {
			continue
		}
		if vol, err := s.Volumes.Volume(ctx, ownerOf(v, d), d.VolumeID); err == nil && vol.Node != "" {
			n[vol.Node]++
		}
	}
	return n
}

// rush is the memory that was chosen on hosts and not claimed yet, in MiB, so that
// creates at one moment spread while their claims share a commit.
type rush struct {
	mu sync.Mutex
	on map[string]int
}

func (r *rush) now() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.on)
}

func (r *rush) add(host string, mib int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on == nil {
		r.on = map[string]int{}
	}
	if r.on[host] += mib; r.on[host] == 0 {
		delete(r.on, host)
	}
}

// reserve chooses for a claim that follows; done is called when it has.
func (s *Service) reserve(ctx context.Context, v *Server, need Resources) (hosts []string, done func(), err error) {
	s.placing.Lock()
	defer s.placing.Unlock()
	if hosts, err = s.bestHosts(ctx, v, need, alternatives, nil); err != nil {
		return nil, nil, err
	}
	s.soon.add(hosts[0], need.MemoryMiB)
	best := hosts[0]
	return hosts, func() { s.soon.add(best, -need.MemoryMiB) }, nil
}

// membersByHost counts the other members of the server's group on each host.
func (s *Service) membersByHost(v *Server, group []*Server) map[string]int {
	n := map[string]int{}
	for _, m := range group {
		if v.GroupID == "" || m.ID == v.ID || m.Host == "" {
			continue
		}
		n[m.Host]++
		if to := s.headedFor(m); to != "" && to != m.Host {
			n[to]++
		}
	}
	return n
}

// headedFor is the host that a server is on its way to.
func (s *Service) headedFor(v *Server) string {
	switch {
	case v.Resize != nil:
		return v.Resize.To
	case v.TaskState == Migrating || v.Evacuation != "":
		return s.moves.Heading(v.ID)
	}
	return ""
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
