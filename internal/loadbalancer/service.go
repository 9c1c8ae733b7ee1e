package loadbalancer

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Subnet is a subnet as the service sees it.
type Subnet struct {
	ID, NetworkID string
	CIDR          netip.Prefix
}

// Port is a port as the service sees it.
type Port struct {
	ID, NetworkID, DeviceID string
	FixedIPs                []nodeapi.FixedIP
}

// VIPSpec is a VIP that is wanted. PortID names one that the user has made, or is the id
// that a new one gets. It is on one subnet or more; an address that is not valid may be any.
type VIPSpec struct {
	PortID, NetworkID                   string
	At                                  []nodeapi.FixedIP
	Existing                            bool
	LoadBalancer, Name, ProjectID, Node string
	Groups                              []string
}

// Networks is what the service needs of the network service. What a caller may not use is
// NotFound. also is part of the same transaction.
type Networks interface {
	Subnet(c *policy.Credentials, id string) (*Subnet, error)
	// Network lists the subnets of a network.
	Network(c *policy.Credentials, id string) ([]Subnet, error)
	Port(ctx context.Context, c *policy.Credentials, id string) (*Port, error)
	Group(c *policy.Credentials, id string) error
	// TakeVIP makes a port or takes the user's, and gives its addresses where they are wanted.
	TakeVIP(ctx context.Context, v VIPSpec, also func(tx *store.Tx, at []nodeapi.FixedIP) error) error
	// MoveVIP binds the port to another node.
	MoveVIP(ctx context.Context, port, node string, also func(tx *store.Tx) error) error
	// GiveVIP gives the port back; one that is kept is only unbound. Absent is fine.
	GiveVIP(ctx context.Context, port string, keep bool, also func(tx *store.Tx) error) error
	// Plug tells how a node plugs in the port; false: there is none.
	Plug(port string) (nodeapi.ContainerPort, bool)
	// NodeAddresses are what nodes have for themselves on external networks, in order: others
	// may be seen with these.
	NodeAddresses() []netip.Addr
	// Reaches tells whether ports of the network can be on the node.
	Reaches(networkID, node string) bool
}

// Host is a node of the pool.
type Host struct {
	ID    string
	Alive bool
	Dead  bool // it has been away for so long that it is given up
}

// Options configure the service.
type Options struct {
	DB       *store.DB
	Log      *slog.Logger
	Networks Networks
	Hosts    func() []Host
	// Grace is how long a node that is lost keeps its load balancers. Default 30 s.
	Grace time.Duration
	// Patience is how long a node may take to follow before that is an error. Default 2 min.
	Patience time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Service is the load-balancer service.
type Service struct {
	Options
	collections
	ledger *store.Ledger

	mu      sync.Mutex
	lost    map[string]time.Time                    // nodes that are not alive, since when
	traffic map[string]map[string]nodeapi.LBTraffic // by load balancer and listener
}

// New registers the collections: call it before db.Start.
func New(o Options) *Service {
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{Options: o, collections: register(o.DB), ledger: o.DB.Ledger("network"),
		lost: map[string]time.Time{}, traffic: map[string]map[string]nodeapi.LBTraffic{}}
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Second) }

// edit is one change of a load balancer.
type edit struct {
	s   *Service
	tx  *store.Tx
	lb  *LoadBalancer
	now time.Time
}

// born gives a new child its id and generation.
func (e *edit) born(m *Meta) {
	m.ID, m.Created, m.Born, m.Gen = newID(), e.now, e.lb.Gen, e.lb.Gen
}

// touch says that the child changes.
func (e *edit) touch(m *Meta) { m.Gen = e.lb.Gen }

// touchPool is touch for a pool and the listeners that have it, which upstream locks with it.
func (e *edit) touchPool(p *Pool) {
	e.touch(&p.Meta)
	for _, l := range e.lb.users(p.ID) {
		e.touch(&l.Meta)
	}
}

// change gives a load balancer that is not on its way a new generation.
func (s *Service) change(ctx context.Context, id string, fn func(e *edit) error) (*LoadBalancer, error) {
	var out *LoadBalancer
	err := s.ledger.Do(ctx, func(tx *store.Tx) (err error) {
		out, err = s.lbs.TxUpdate(tx, id, func(lb *LoadBalancer) error {
			if s.stateOf(lb).provisioning(&lb.Meta) != active {
				return immutable("Load Balancer", lb.ID)
			}
			e := &edit{s: s, tx: tx, lb: lb, now: s.now()}
			s.advance(lb)
			return fn(e)
		})
		return err
	})
	if errs.Is(err, errs.NotFound) && errs.CodeOf(err) == "" {
		if _, gone := s.lbs.Get(id); gone != nil {
			return nil, notFound("Load Balancer", id)
		}
	}
	return out, err
}

// advance begins a generation.
func (s *Service) advance(lb *LoadBalancer) {
	lb.Gen++
	lb.Since = s.Now().UTC()
}
