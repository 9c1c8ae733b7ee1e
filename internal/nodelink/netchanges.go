package nodelink

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// NetChanges follows the networks of this node: what each new connection says first
// is whole.
func (c *Client) NetChanges(ctx context.Context) <-chan nodeapi.NetChange {
	return states[nodeapi.NetChange](ctx, c, "following the state of networks", "NetChanges")
}

// Networks implements node.Control. A reader that is slow gets the newest state.
func (c *Client) Networks(ctx context.Context) <-chan nodeapi.NetState {
	out := make(chan nodeapi.NetState)
	go func() {
		defer close(out)
		sum, in := newNetSum(), c.NetChanges(ctx)
		var state nodeapi.NetState
		var to chan nodeapi.NetState // out while there is something to tell
		for {
			select {
			case change, ok := <-in:
				if !ok {
					return
				}
				sum.add(change)
				state, to = sum.state(), out
			case to <- state:
				to = nil
			}
		}
	}()
	return out
}

// netSum is a NetState that changes are added to.
type netSum struct {
	gen      int64
	networks map[string]nodeapi.Network
	ports    map[string]nodeapi.Port
	routers  map[string]nodeapi.Router
	groups   map[string]nodeapi.SecurityGroup
}

func newNetSum() *netSum {
	return &netSum{networks: map[string]nodeapi.Network{}, ports: map[string]nodeapi.Port{}, routers: map[string]nodeapi.Router{}, groups: map[string]nodeapi.SecurityGroup{}}
}

func (s *netSum) add(c nodeapi.NetChange) {
	if c.Whole {
		*s = *newNetSum()
	}
	s.gen = c.Gen
	for _, id := range c.Gone {
		delete(s.networks, id)
		delete(s.ports, id)
		delete(s.routers, id)
		delete(s.groups, id)
	}
	for _, x := range c.Networks {
		s.networks[x.ID] = x
	}
	for _, x := range c.Ports {
		s.ports[x.ID] = x
	}
	for _, x := range c.Routers {
		s.routers[x.ID] = x
	}
	for _, x := range c.SecurityGroups {
		s.groups[x.ID] = x
	}
	for _, m := range c.Members {
		if g, ok := s.groups[m.Group]; ok {
			g.Members = changed(g.Members, m)
			s.groups[m.Group] = g
		}
	}
}

// changed gives the members after a change, in order. States that were given out keep theirs.
func changed(members []netip.Addr, m nodeapi.MemberChange) []netip.Addr {
	out := make([]netip.Addr, 0, len(members)+len(m.Come))
	for _, a := range members {
		if !slices.Contains(m.Gone, a) {
			out = append(out, a)
		}
	}
	out = append(out, m.Come...)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// state is what all changes together make, in the order that NetState has.
func (s *netSum) state() nodeapi.NetState {
	st := nodeapi.NetState{Gen: s.gen, Networks: sorted(s.networks), Ports: sorted(s.ports), Routers: sorted(s.routers), SecurityGroups: sorted(s.groups)}
	slices.SortStableFunc(st.Ports, func(a, b nodeapi.Port) int { return cmp.Compare(a.NetworkID, b.NetworkID) })
	return st
}

func sorted[T any](m map[string]T) []T {
	var out []T
	for _, id := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[id])
	}
	return out
}
