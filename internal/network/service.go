package network

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Nodes tells which nodes carry networks.
type Nodes interface {
	// Hosts lists the nodes of the pool.
	Hosts() []Host
}

// Host is what the network service knows of a node.
type Host struct {
	ID     string
	Name   string // as in binding:host_id
	Zone   string
	Alive  bool
	Dead   bool       // it is not alive, and has been away for so long that it is given up
	Tunnel netip.Addr // where other nodes send VXLAN to; zero: it shares no network
	// Physicals are the provider's (physical) networks that the node has devices on.
	Physicals []string
	Started   time.Time
	Seen      time.Time
}

// PhysicalPublic is the physical network that leads outside, unless told otherwise.
const PhysicalPublic = "public"

// Options configure the service.
type Options struct {
	DB    *store.DB
	Log   *slog.Logger
	Nodes Nodes // nil: no agents and the zone "nova"
	// Physical is the name of the flat network that leads outside. Default "public".
	// Where no node has a device on it, it is joined by us.
	Physical string
	// MTU of the underlay, in bytes. Default 1500.
	MTU int
	// Grace is how long a node that is lost keeps its gateways. Default 30 s.
	Grace time.Duration
	// Spacing is the least time between two changes that a node is told of, unless one
	// of its own servers waits: what happens elsewhere at one moment is told at once.
	// Default 250 ms with 100 nodes or more, and in proportion with fewer.
	Spacing time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Service is the network service.
type Service struct {
	Options
	collections
	ledger  *store.Ledger
	hints   hints
	watch   watch
	notices notices

	network *resource[Network]
	subnet  *resource[Subnet]
	port    *resource[Port]
	router  *resource[Router]
	fip     *resource[FloatingIP]
	group   *resource[SecurityGroup]
	rule    *resource[SecurityRule]
	rbac    *resource[RBAC]
	pool    *resource[SubnetPool]
	scope   *resource[AddressScope]
}

// New registers the collections: call it before db.Start.
func New(o Options) *Service {
	if o.Physical == "" {
		o.Physical = PhysicalPublic
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Spacing == 0 {
		o.Spacing = 250 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{Options: o, collections: register(o.DB), ledger: o.DB.Ledger("network")}
	s.hints.last = map[string]netip.Addr{}
	s.network, s.subnet, s.port = networkResource(s), subnetResource(s), portResource(s)
	s.router, s.fip = routerResource(s), floatingResource(s)
	s.group, s.rule = groupResource(s), ruleResource(s)
	s.rbac, s.pool, s.scope = rbacResource(s), poolResource(s), scopeResource(s)
	return s
}

// zoneNames are the availability zones of the pool.
func (s *Service) zoneNames() []string {
	out := []string{}
	for _, z := range s.zones() {
		out = append(out, z.name)
	}
	return out
}
