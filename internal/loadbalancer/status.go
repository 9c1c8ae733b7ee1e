package loadbalancer

import (
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// The values of provisioning_status and operating_status.
const (
	active        = "ACTIVE"
	pendingCreate = "PENDING_CREATE"
	pendingUpdate = "PENDING_UPDATE"
	failed        = "ERROR"

	online    = "ONLINE"
	offline   = "OFFLINE"
	degraded  = "DEGRADED"
	draining  = "DRAINING"
	noMonitor = "NO_MONITOR"
)

// state is a load balancer beside what its node says of it.
type state struct {
	lb      *LoadBalancer
	reached int64 // generation
	fault   bool
	members map[string]string
}

func (s *Service) stateOf(lb *LoadBalancer) *state {
	st := &state{lb: lb}
	if x, err := s.statuses.Get(lb.ID); err == nil {
		st.reached, st.members = x.Gen, x.Members
		st.fault = x.Fault != "" && x.Node == lb.Node
	}
	st.fault = st.reached < lb.Gen && (st.fault || s.Now().Sub(lb.Since) > s.Patience)
	return st
}

// provisioning is the provisioning_status of the load balancer or of a child.
func (st *state) provisioning(m *Meta) string {
	switch {
	case m.Gen <= st.reached:
		return active
	case st.fault:
		return failed
	case m.Born > st.reached:
		return pendingCreate
	}
	return pendingUpdate
}

// member is a member's operating_status.
func (st *state) member(p *Pool, m *Member) string {
	said := st.members[m.ID]
	switch {
	case !m.AdminUp:
		return offline
	case p.Monitor == nil || !p.Monitor.AdminUp:
		return noMonitor
	case said == nodeapi.LBMemberDown:
		return failed
	case said == nodeapi.LBMemberUp && m.Weight == 0:
		return draining
	case said == nodeapi.LBMemberUp:
		return online
	}
	return offline // not looked at yet
}

// pool is a pool's: ERROR when nobody is left, DEGRADED when some are bad
// (octavia/amphorae/drivers/health/heartbeat_udp.py, _process_pool_status). Nobody
// speaks of a pool that no listener has.
func (st *state) pool(p *Pool) string {
	if !p.AdminUp || !st.lb.AdminUp || st.reached < p.Born || len(st.lb.users(p.ID)) == 0 {
		return offline
	}
	bad, all := 0, 0
	for _, m := range p.Members {
		if !m.AdminUp {
			continue
		}
		all++
		if st.member(p, m) == failed {
			bad++
		}
	}
	switch {
	case bad == 0:
		return online
	case bad == all:
		return failed
	}
	return degraded
}

func (st *state) listener(l *Listener) string {
	if !l.AdminUp || !st.lb.AdminUp || st.reached < l.Born {
		return offline
	}
	return online
}

// monitor is a monitor's: it is at work as soon as the node knows it.
func (st *state) monitor(m *Monitor) string {
	if !m.AdminUp || st.reached < m.Born {
		return offline
	}
	return online
}

func (st *state) balancer() string {
	if !st.lb.AdminUp || st.reached == 0 {
		return offline
	}
	out := online
	for _, p := range st.lb.Pools {
		switch st.pool(p) {
		case failed:
			return failed
		case degraded:
			out = degraded
		}
	}
	return out
}

const stamp = "2006-01-02T15:04:05"

// timeOf is a time as wsme writes it, nil when there is none.
func timeOf(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(stamp)
}
