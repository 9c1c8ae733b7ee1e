package loadbalancer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"reflect"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// choose gives the node for a load balancer: the one with the highest hash of both names
// among those that are up and reach its network, so that a node that goes moves only its
// own. "": there is none. not is left out while there is another.
func (s *Service) choose(lb *LoadBalancer, not string) string {
	best, most := "", uint64(0)
	for _, h := range s.Hosts() {
		if !h.Alive || h.ID == not || !s.Networks.Reaches(lb.VIP.NetworkID, h.ID) {
			continue
		}
		sum := sha256.Sum256([]byte(lb.ID + " " + h.ID))
		if n := binary.BigEndian.Uint64(sum[:8]); best == "" || n > most {
			best, most = h.ID, n
		}
	}
	if best == "" && not != "" {
		return s.choose(lb, "")
	}
	return best
}

// On lists what a node does, by id.
func (s *Service) On(node string) []nodeapi.LoadBalancer {
	var out []nodeapi.LoadBalancer
	for _, lb := range s.lbs.By("node", node) {
		if port, ok := s.Networks.Plug(lb.VIP.PortID); ok {
			x := forNode(lb, port)
			for i := range x.Pools {
				if x.Pools[i].Transparent {
					x.Pools[i].Opaque = s.Networks.NodeAddresses()
				}
			}
			out = append(out, x)
		}
	}
	return out
}

// forNode is what a node is told of a load balancer: what is switched off is not there.
func forNode(lb *LoadBalancer, port nodeapi.ContainerPort) nodeapi.LoadBalancer {
	x := nodeapi.LoadBalancer{ID: lb.ID, Gen: lb.Gen, Port: port}
	if !lb.AdminUp {
		return x
	}
	used := map[string]bool{}
	for _, l := range lb.Listeners {
		if !l.AdminUp {
			continue
		}
		n := nodeapi.LBListener{ID: l.ID, Protocol: lower(l.Protocol), Port: l.Port, Limit: l.Limit}
		for _, c := range l.Allowed {
			if p, err := netip.ParsePrefix(c); err == nil {
				n.Allowed = append(n.Allowed, p)
			}
		}
		if p := lb.pool(l.PoolID); p != nil && p.AdminUp {
			n.PoolID, used[p.ID] = p.ID, true
		}
		x.Listeners = append(x.Listeners, n)
	}
	for _, p := range lb.Pools {
		if used[p.ID] {
			x.Pools = append(x.Pools, poolForNode(p))
		}
	}
	return x
}

func lower(protocol string) string {
	if protocol == "UDP" {
		return "udp"
	}
	return "tcp"
}

func poolForNode(p *Pool) nodeapi.LBPool {
	x := nodeapi.LBPool{ID: p.ID, Protocol: lower(p.Protocol), Algorithm: p.Algorithm, Sticky: p.Persistence != nil, Transparent: p.Transparent}
	if m := p.Monitor; m != nil && m.AdminUp {
		x.Monitor = &nodeapi.LBMonitor{ID: m.ID, Type: m.Type, Delay: m.Delay, Timeout: m.Timeout, Rise: m.Rise, Fall: m.Fall,
			Method: m.Method, Path: m.Path, Codes: m.Codes, HTTPVersion: m.HTTPVersion, Domain: m.Domain}
	}
	for _, m := range p.Members {
		if !m.AdminUp {
			continue
		}
		n := nodeapi.LBMember{ID: m.ID, Port: m.Port, Weight: m.Weight, Backup: m.Backup, MonitorPort: m.MonitorPort}
		if n.Addr = parsed(m.Address); !n.Addr.IsValid() {
			continue
		}
		if n.MonitorAddr = parsed(m.MonitorAddr); !n.MonitorAddr.IsValid() {
			n.MonitorAddr = n.Addr
		}
		if n.MonitorPort == 0 {
			n.MonitorPort = n.Port
		}
		x.Members = append(x.Members, n)
	}
	return x
}

// Watch streams what a node does, as a whole and coalesced.
func (s *Service) Watch(ctx context.Context, node string) <-chan []nodeapi.LoadBalancer {
	return store.Stream(ctx, s.DB, func() []nodeapi.LoadBalancer { return s.On(node) }, "loadbalancer/loadbalancer", "network/subnet", "network/port")
}

// Report takes what a node says of its load balancers. Of one that has gone elsewhere it
// knows nothing any more.
func (s *Service) Report(ctx context.Context, node string, list []Status) error {
	for _, st := range list {
		lb, err := s.lbs.Get(st.ID)
		if err != nil || lb.Node != node {
			continue
		}
		s.mu.Lock()
		s.traffic[st.ID] = st.Listeners
		s.mu.Unlock()
		st.Node, st.Listeners = node, nil
		if old, err := s.statuses.Get(st.ID); err == nil {
			st.Gen = max(st.Gen, old.Gen) // an agent that starts again begins anew
			if reflect.DeepEqual(*old, st) {
				continue
			}
		}
		err = s.ledger.Do(ctx, func(tx *store.Tx) error {
			if lb, err := s.lbs.TxGet(tx, st.ID); err != nil || lb.Node != node {
				return nil
			}
			return s.statuses.TxPut(tx, &st)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) trafficOf(lb string) map[string]nodeapi.LBTraffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.traffic[lb])
}

func (s *Service) forgetTraffic(lb string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.traffic, lb)
}

// move gives a load balancer to another node than from, in its next generation.
func (s *Service) move(ctx context.Context, id, from string) error {
	lb, err := s.lbs.Get(id)
	if err != nil {
		return notFound("Load Balancer", id)
	}
	to := s.choose(lb, from)
	if to == "" {
		return nil // Run finds one when there is one
	}
	return s.Networks.MoveVIP(ctx, lb.VIP.PortID, to, func(tx *store.Tx) error {
		_, err := s.lbs.TxUpdate(tx, id, func(lb *LoadBalancer) error {
			lb.Node = to
			s.advance(lb)
			return nil
		})
		return err
	})
}

// lookEvery is how often the nodes are looked at.
const lookEvery = time.Second

// Run moves load balancers away from nodes that are lost, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("load balancers of nodes that are lost: again later", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep is one look of Run.
func (s *Service) Sweep(ctx context.Context) error {
	up := s.up()
	for _, lb := range s.lbs.All() {
		if up[lb.Node] {
			continue
		}
		to := s.choose(lb, lb.Node)
		if to == "" || to == lb.Node {
			continue
		}
		s.Log.Info("a load balancer moves", "loadbalancer", lb.ID, "node", to)
		if err := s.move(ctx, lb.ID, lb.Node); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// up are the nodes that keep their load balancers: those that are alive, or were a moment ago.
func (s *Service) up() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, lost := map[string]bool{}, map[string]time.Time{}
	for _, h := range s.Hosts() {
		since, known := s.lost[h.ID]
		switch {
		case h.Alive:
			out[h.ID] = true
			continue
		case !known:
			since = s.Now()
		}
		lost[h.ID] = since
		out[h.ID] = !h.Dead && s.Now().Sub(since) < s.Grace
	}
	s.lost = lost
	return out
}
