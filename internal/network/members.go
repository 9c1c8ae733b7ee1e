package network

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// members are the nodes as they were at one moment, with what follows from them. It
// is immutable; a change of the nodes makes a new one.
type members struct {
	hosts []Host          // by id; Alive: or lost a moment ago
	byID  map[string]Host // also by name

	mu       sync.Mutex
	gateways map[string]Host // chosen, by router and what it needs
}

// wired tells whether a node has a device on a physical network.
func (m *members) wired(physical string) bool {
	return slices.ContainsFunc(m.hosts, func(h Host) bool { return h.reaches(physical) })
}

// reaches tells whether the node has a device on the physical network.
func (h *Host) reaches(physical string) bool { return slices.Contains(h.Physicals, physical) }

// alone tells whether there is one node at most: nothing reaches beyond it.
func (m *members) alone() bool { return len(m.hosts) <= 1 }

// tunnel is where VXLAN for a node goes; zero: nowhere.
func (m *members) tunnel(host string) netip.Addr { return m.byID[host].Tunnel }

// joined are the nodes that networks can span.
func (m *members) joined() []Host {
	return slices.DeleteFunc(slices.Clone(m.hosts), func(h Host) bool { return !h.Tunnel.IsValid() })
}

// gateway chooses the node that has a router's gateway: the one with the highest
// hash of both names among those that are up (rendezvous hashing), so that a
// node that goes moves only its own. With none up it is chosen among all: that
// nobody is heard does not mean that nobody forwards. Only nodes with devices on
// the physical networks that the router has legs in can have it, if there are any.
func (m *members) gateway(router string, needs []string) Host {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := gatewayKey(router, needs)
	h, ok := m.gateways[key]
	if !ok {
		h = m.choose(router, needs)
		m.gateways[key] = h
	}
	return h
}

func gatewayKey(router string, needs []string) string {
	return strings.Join(append([]string{router}, needs...), " ")
}

func (m *members) choose(router string, needs []string) Host {
	from := m.joined()
	if m.alone() || len(from) == 0 {
		from = m.hosts
	}
	if able := slices.DeleteFunc(slices.Clone(from), func(h Host) bool { return !h.reachesAll(needs) }); len(able) > 0 {
		from = able
	}
	if slices.ContainsFunc(from, func(h Host) bool { return h.Alive }) {
		from = slices.DeleteFunc(slices.Clone(from), func(h Host) bool { return !h.Alive })
	}
	var best Host
	var most uint64
	for _, h := range from {
		if n := rendezvous(router, h.ID); best.ID == "" || n > most {
			best, most = h, n
		}
	}
	return best
}

func (h *Host) reachesAll(physicals []string) bool {
	return !slices.ContainsFunc(physicals, func(p string) bool { return !h.reaches(p) })
}

func rendezvous(router, host string) uint64 {
	sum := sha256.Sum256([]byte(router + " " + host))
	return binary.BigEndian.Uint64(sum[:8])
}

// inherit takes over what was chosen among the nodes before, as far as it still
// holds: a node that comes is compared with the one that was chosen, not with all.
func (m *members) inherit(old *members, changed []string, exists func(router string) bool) {
	for key, best := range old.chosen() {
		router, rest, _ := strings.Cut(key, " ")
		if !exists(router) {
			continue
		}
		needs := strings.Fields(rest)
		fit := func(h Host) bool { return h.Alive && h.Tunnel.IsValid() && h.reachesAll(needs) }
		if slices.Contains(changed, best.ID) || m.alone() || !fit(best) {
			m.gateways[key] = m.choose(router, needs)
			continue
		}
		most := rendezvous(router, best.ID)
		for _, id := range changed {
			if h := m.byID[id]; fit(h) {
				if n := rendezvous(router, id); n > most {
					best, most = h, n
				}
			}
		}
		m.gateways[key] = best
	}
}

// chosen are the gateways that were chosen so far, by router and what it needs.
func (m *members) chosen() map[string]Host {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.gateways)
}

// changedHosts are the ids of nodes that two pools do not have in common; both are sorted.
func changedHosts(old, now []Host) []string {
	var out []string
	for len(old)+len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].ID < now[0].ID:
			out, old = append(out, old[0].ID), old[1:]
		case len(old) == 0 || now[0].ID < old[0].ID:
			out, now = append(out, now[0].ID), now[1:]
		default:
			if !sameHost(old[0], now[0]) {
				out = append(out, now[0].ID)
			}
			old, now = old[1:], now[1:]
		}
	}
	return out
}

// watch follows the nodes. A node counts as up until it has been lost for a
// while: the control plane itself may have been away, and a gateway that moves
// costs connections.
type watch struct {
	mu      sync.Mutex
	lost    map[string]time.Time
	current *members
	looked  time.Time // when current was true
}

// nodes gives the pool, as of at most a moment ago.
func (s *Service) nodes() *members {
	now, old, changed := s.lookAtNodes()
	if len(changed) > 0 {
		s.poolChanged(old, now, changed)
	}
	return now
}

// lookAtNodes makes the pool's state current, and tells what it was if it has changed.
func (s *Service) lookAtNodes() (current, old *members, changed []string) {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	now := s.Now()
	hosts := slices.Clone(s.hosts())
	lost := map[string]time.Time{}
	for i := range hosts {
		h := &hosts[i]
		if h.Alive {
			continue
		}
		since, known := s.watch.lost[h.ID]
		if !known {
			since = now
		}
		lost[h.ID] = since
		h.Alive = !h.Dead && now.Sub(since) < s.Grace
	}
	s.watch.lost, s.watch.looked = lost, now
	slices.SortFunc(hosts, func(a, b Host) int { return strings.Compare(a.ID, b.ID) })
	old = s.watch.current
	if old != nil {
		if changed = changedHosts(old.hosts, hosts); len(changed) == 0 {
			return old, old, nil
		}
	}
	p := &members{hosts: hosts, byID: make(map[string]Host, len(hosts)), gateways: map[string]Host{}}
	for _, h := range hosts {
		p.byID[h.Name] = h
	}
	for _, h := range hosts {
		p.byID[h.ID] = h
	}
	if old != nil {
		p.inherit(old, changed, func(router string) bool {
			_, err := s.routers.Get(router)
			return err == nil
		})
	}
	s.watch.current = p
	return p, old, changed
}

// known is the pool as it was last looked at, for what changes seldom.
func (s *Service) known() *members {
	s.watch.mu.Lock()
	known := s.watch.current
	s.watch.mu.Unlock()
	if known == nil {
		return s.nodes()
	}
	return known
}

// recent is nodes without a look at every node, when there was one a moment ago.
func (s *Service) recent() *members {
	s.watch.mu.Lock()
	p, age := s.watch.current, s.Now().Sub(s.watch.looked)
	s.watch.mu.Unlock()
	if p != nil && age < 2*lookEvery {
		return p
	}
	return s.nodes()
}

// sameHost compares what networks depend on.
func sameHost(a, b Host) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Alive == b.Alive && a.Tunnel == b.Tunnel && slices.Equal(a.Physicals, b.Physicals)
}

// lookEvery is how often the nodes are looked at.
const lookEvery = time.Second

// Run follows the nodes until ctx ends: what spans several of them needs numbers
// and addresses, and gateways leave those that are lost.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	records := s.DB.Notify(ctx, "network/network", "network/subnet", "network/router")
	for {
		if err := s.Span(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("networks that span nodes: again later", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-records:
		case <-tick.C:
		}
	}
}
