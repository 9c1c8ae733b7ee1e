package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Managed is a load balancer as another service wants it to be. What a user changes of it
// goes back the next time that it is ensured.
type Managed struct {
	ID, ProjectID     string
	Owner             string // what it goes with
	Name, Description string
	NetworkID         string
	At                []nodeapi.FixedIP // the VIP's, one for each subnet; an address that is not valid may be any
	Listeners         []ManagedListener
	Guard             func(tx *store.Tx) error // whether it may still be made; nil: it may
}

// ManagedListener is a listener with a pool of its own.
type ManagedListener struct {
	Name     string
	Protocol string // TCP or UDP
	Port     int
	Limit    int // of connections; 0: none
	Allowed  []string
	Pool     ManagedPool
}

// ManagedPool is a listener's pool.
type ManagedPool struct {
	Algorithm string
	Sticky    bool
	// Transparent has members see who asks, and not the VIP: they answer by way of it.
	Transparent bool
	Monitor     *ManagedMonitor
	Members     []ManagedMember
}

// ManagedMonitor watches members by TCP, or with a path by HTTP.
type ManagedMonitor struct {
	Path                       string
	Delay, Timeout, Rise, Fall int
}

// ManagedMember is a member. MonitorAddress "" is Address, MonitorPort 0 is Port.
type ManagedMember struct {
	Name, Address, MonitorAddress string
	Port, MonitorPort             int
}

// ManagedState is how it is with one.
type ManagedState struct {
	PortID string
	At     []netip.Addr // the VIP's, in the order in which it is on subnets
	Serves bool         // a node has it, perhaps in an older form
}

// EnsureManaged makes a load balancer, or makes it what it should be. It changes nothing
// where that is so already, and waits for no node.
func (s *Service) EnsureManaged(ctx context.Context, m Managed) (*ManagedState, error) {
	lb, err := s.lbs.Get(m.ID)
	if err == nil && m.elsewhere(&lb.VIP) {
		if err := s.removeManaged(ctx, lb); err != nil {
			return nil, err
		}
		err = errs.NotFoundf("load balancer %s", m.ID)
		lb = nil
	}
	switch {
	case errs.Is(err, errs.NotFound) || lb == nil:
		lb, err = s.makeManaged(ctx, &m)
	case err == nil && m.apply(lb) != nil:
		err = s.ledger.Do(ctx, func(tx *store.Tx) error {
			lb, err = s.lbs.TxGet(tx, m.ID)
			if err != nil {
				return err
			}
			now := m.apply(lb)
			if now == nil {
				return nil
			}
			now.Updated, lb = s.now(), now
			return s.putManaged(tx, now, s.lbs.TxPut)
		})
	}
	if err != nil {
		return nil, err
	}
	return &ManagedState{PortID: lb.VIP.PortID, At: lb.VIP.addresses(), Serves: s.stateOf(lb).reached >= lb.Born}, nil
}

// elsewhere tells whether a VIP is not where it is wanted.
func (m *Managed) elsewhere(v *VIP) bool {
	return !slices.EqualFunc(v.at(), m.At, func(is, want nodeapi.FixedIP) bool {
		return is.SubnetID == want.SubnetID && (!want.Addr.IsValid() || is.Addr == want.Addr)
	})
}

// makeManaged makes it with its VIP's port.
func (s *Service) makeManaged(ctx context.Context, m *Managed) (*LoadBalancer, error) {
	base := LoadBalancer{Meta: Meta{ID: m.ID, AdminUp: true}, ProjectID: m.ProjectID, Provider: provider, Owner: m.Owner,
		VIP: VIP{PortID: m.part("port"), NetworkID: m.NetworkID}}
	base.Node = s.choose(&base, "")
	v := base.vipSpec()
	v.At = m.At
	var out *LoadBalancer
	err := s.Networks.TakeVIP(ctx, v, func(tx *store.Tx, at []nodeapi.FixedIP) error {
		if m.Guard != nil {
			if err := m.Guard(tx); err != nil {
				return err
			}
		}
		lb := base // the function may run again
		lb.VIP.take(at)
		if err := s.fits(tx, lb.ProjectID, "loadbalancer", s.lbs.TxCount(tx, "project", lb.ProjectID)+1); err != nil {
			return err
		}
		out = m.apply(&lb)
		out.Created, out.Born = s.now(), out.Gen
		return s.putManaged(tx, out, s.lbs.TxCreate)
	})
	return out, err
}

// putManaged stamps what has changed and holds all of it to the quotas.
func (s *Service) putManaged(tx *store.Tx, lb *LoadBalancer, put func(*store.Tx, *LoadBalancer) error) error {
	e := &edit{s: s, tx: tx, lb: lb, now: s.now()}
	lb.Since = s.Now().UTC()
	stamp := func(m *Meta) {
		switch {
		case m.Gen == 0:
			m.Created, m.Born, m.Gen = e.now, lb.Gen, lb.Gen
		case m.Gen == lb.Gen:
			m.Updated = e.now
		}
	}
	for _, l := range lb.Listeners {
		stamp(&l.Meta)
	}
	for _, p := range lb.Pools {
		stamp(&p.Meta)
		if p.Monitor != nil {
			stamp(&p.Monitor.Meta)
		}
		for _, m := range p.Members {
			stamp(&m.Meta)
		}
	}
	for _, kind := range []string{"listener", "pool", "member", "healthmonitor"} {
		if err := e.fits(kind); err != nil {
			return err
		}
	}
	return put(tx, lb)
}

// part names a child, so that a load balancer that is made again has the same.
func (m *Managed) part(what ...any) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(m.ID+fmt.Sprintln(what...))).String()
}

// apply is the load balancer in its next generation; nil: nothing is to change. New
// children have no generation yet.
func (m *Managed) apply(old *LoadBalancer) *LoadBalancer {
	now := *old
	now.Name, now.Description, now.AdminUp, now.Owner = m.Name, m.Description, true, m.Owner
	now.Listeners, now.Pools = nil, nil
	next := old.Gen + 1
	for _, l := range m.Listeners {
		key := fmt.Sprint(l.Protocol, " ", l.Port)
		p := m.pool(l, key, old, next)
		now.Pools = append(now.Pools, p)
		a := newListenerAsk().Listener
		a.Meta = Meta{ID: m.part("listener", key), Name: l.Name, AdminUp: true}
		a.Protocol, a.Port, a.PoolID, a.Allowed = l.Protocol, l.Port, p.ID, l.Allowed
		if l.Limit > 0 {
			a.Limit = l.Limit
		}
		now.Listeners = append(now.Listeners, like(&a, old.listener(a.ID), next))
	}
	if reflect.DeepEqual(&now, old) {
		return nil
	}
	now.Gen = next
	return &now
}

func (m *Managed) pool(l ManagedListener, key string, old *LoadBalancer, next int64) *Pool {
	w := l.Pool
	p := &Pool{Meta: Meta{ID: m.part("pool", key), Name: l.Name, AdminUp: true}, Protocol: l.Protocol, Algorithm: w.Algorithm, Transparent: w.Transparent}
	before := old.pool(p.ID)
	if before == nil {
		before = &Pool{}
	}
	if w.Sticky {
		p.Persistence = &Persistence{Type: "SOURCE_IP"}
	}
	if h := w.Monitor; h != nil {
		x := newMonitor()
		x.Meta = Meta{ID: m.part("monitor", key), Name: l.Name, AdminUp: true}
		x.Type, x.Delay, x.Timeout, x.Rise, x.Fall = "TCP", h.Delay, h.Timeout, h.Rise, h.Fall
		if h.Path != "" {
			x.Type, x.Method, x.Path, x.Codes = "HTTP", "GET", h.Path, "200"
		}
		p.Monitor = like(&x, before.Monitor, next)
	}
	for _, w := range w.Members {
		x := newMember()
		x.Meta = Meta{ID: m.part("member", key, w.Address, w.Port), Name: w.Name, AdminUp: true}
		x.Address, x.Port, x.MonitorAddr, x.MonitorPort = w.Address, w.Port, w.MonitorAddress, w.MonitorPort
		p.Members = append(p.Members, like(&x, find(before.Members, x.ID), next))
	}
	if before.ID == "" {
		return p
	}
	return like(p, before, next)
}

// like is a child as wanted, with what is remembered of how it was; of the next generation
// if it differs. Tags are the user's.
func like[T any, P interface {
	*T
	meta() *Meta
}](want, old P, next int64) P {
	if old == nil {
		return want
	}
	w, o := want.meta(), old.meta()
	w.Created, w.Updated, w.Born, w.Gen, w.Tags = o.Created, o.Updated, o.Born, o.Gen, o.Tags
	if !reflect.DeepEqual(want, old) {
		w.Gen = next
	}
	return want
}

// RemoveManaged removes an owner's load balancers but for those that are kept.
func (s *Service) RemoveManaged(ctx context.Context, owner string, keep ...string) error {
	for _, lb := range s.lbs.By("owner", owner) {
		if slices.Contains(keep, lb.ID) {
			continue
		}
		if err := s.removeManaged(ctx, lb); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) removeManaged(ctx context.Context, lb *LoadBalancer) error {
	err := s.Networks.GiveVIP(ctx, lb.VIP.PortID, lb.VIP.Kept, func(tx *store.Tx) error {
		if err := s.drop(tx, lb.ID); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
	if err == nil {
		s.forgetTraffic(lb.ID)
	}
	return err
}

// ManagedVIP is where a managed load balancer is.
type ManagedVIP struct {
	PortID, MAC string
	At          []netip.Addr
	Transparent bool
}

// ManagedOf are an owner's load balancers, in order.
func (s *Service) ManagedOf(owner string) (out []ManagedVIP) {
	for _, lb := range s.lbs.By("owner", owner) {
		port, ok := s.Networks.Plug(lb.VIP.PortID)
		if !ok {
			continue
		}
		out = append(out, ManagedVIP{PortID: lb.VIP.PortID, MAC: port.MAC, At: lb.VIP.addresses(), Transparent: slices.ContainsFunc(lb.Pools, func(p *Pool) bool { return p.Transparent })})
	}
	slices.SortFunc(out, func(a, b ManagedVIP) int { return slices.CompareFunc(a.At, b.At, netip.Addr.Compare) })
	return out
}
