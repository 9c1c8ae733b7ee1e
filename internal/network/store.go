package network

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Base has the attributes that every resource has (neutron's standard attributes).
type Base struct {
	ID          string    `json:"id"`
	ProjectID   string    `json:"project_id"`
	Name        string    `json:"name,omitempty"`
	Description string    `json:"description,omitempty"`
	Tags        []string  `json:"tags,omitempty"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	Revision    int       `json:"revision"`
}

func (b *Base) base() *Base { return b }

// Network is a layer-2 segment. Whether it is shared is an RBAC record's business.
type Network struct {
	Base
	AdminUp      bool     `json:"admin_up"`
	External     bool     `json:"external,omitempty"`
	IsDefault    bool     `json:"is_default,omitempty"`
	MTU          int      `json:"mtu"`
	PortSecurity bool     `json:"port_security"`
	DNSDomain    string   `json:"dns_domain,omitempty"`
	Type         string   `json:"type"`               // vxlan, flat or vlan
	Physical     string   `json:"physical,omitempty"` // not vxlan
	VLAN         int      `json:"vlan,omitempty"`     // vlan only
	VNI          int      `json:"vni,omitempty"`      // vxlan only
	Join         int      `json:"join,omitempty"`     // flat only: VXLAN id that joins it across nodes
	AZHints      []string `json:"az_hints,omitempty"`
}

// place is what a network has to itself on the physical network that it is on.
func (n *Network) place() string {
	if n.VLAN == 0 {
		return n.Physical
	}
	return pair(n.Physical, strconv.Itoa(n.VLAN))
}

// Subnet is the addressing of a network.
type Subnet struct {
	Base
	NetworkID    string          `json:"network_id"`
	CIDR         netip.Prefix    `json:"cidr"`
	Gateway      netip.Addr      `json:"gateway"` // invalid: none
	DHCP         bool            `json:"dhcp"`
	Pools        []Pool          `json:"pools"`
	DNS          []netip.Addr    `json:"dns,omitempty"`
	Routes       []nodeapi.Route `json:"routes,omitempty"`
	RAMode       string          `json:"ra_mode,omitempty"`
	AddressMode  string          `json:"address_mode,omitempty"`
	SubnetPoolID string          `json:"subnetpool_id,omitempty"`
	ServiceTypes []string        `json:"service_types,omitempty"`
	PublishDNS   bool            `json:"publish_dns,omitempty"`
}

// Pool is an inclusive range of addresses.
type Pool struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// Port is a place to plug something into a network.
type Port struct {
	Base
	NetworkID    string                `json:"network_id"`
	MAC          string                `json:"mac"`
	FixedIPs     []nodeapi.FixedIP     `json:"fixed_ips,omitempty"`
	DeviceID     string                `json:"device_id,omitempty"`
	DeviceOwner  string                `json:"device_owner,omitempty"`
	VIP          bool                  `json:"vip,omitempty"` // a load balancer has it
	AdminUp      bool                  `json:"admin_up"`
	Status       string                `json:"status"`
	Groups       []string              `json:"groups,omitempty"`
	PortSecurity bool                  `json:"port_security"`
	Pairs        []nodeapi.AddressPair `json:"pairs,omitempty"`
	DHCPOptions  []nodeapi.DHCPOption  `json:"dhcp_options,omitempty"`
	DNSName      string                `json:"dns_name,omitempty"`
	Aliases      []string              `json:"aliases,omitempty"` // further names, of a container
	DNSDomain    string                `json:"dns_domain,omitempty"`
	Host         string                `json:"host,omitempty"`
	VNICType     string                `json:"vnic_type"`
	Profile      map[string]any        `json:"profile,omitempty"`
	Behind       string                `json:"behind,omitempty"` // the port of the machine that routes to it
	Worker       *PortOfWorker         `json:"worker,omitempty"` // of the server that has it, for a cluster
}

// PortOfWorker says that a port is for a server that is a worker of a cluster.
type PortOfWorker struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

// Router joins subnets; its legs are ports whose device it is.
type Router struct {
	Base
	AdminUp    bool            `json:"admin_up"`
	GatewayNet string          `json:"gateway_net,omitempty"`  // external network, or ""
	GatewayID  string          `json:"gateway_port,omitempty"` // port on it
	EnableSNAT bool            `json:"enable_snat"`
	Routes     []nodeapi.Route `json:"routes,omitempty"`
	AZHints    []string        `json:"az_hints,omitempty"`
	Transit    int             `json:"transit,omitempty"` // VXLAN id between its instances on several nodes
}

// FloatingIP is an external address, and the fixed one that it maps to.
type FloatingIP struct {
	Base
	NetworkID string     `json:"network_id"` // external
	Address   netip.Addr `json:"address"`
	OwnPort   string     `json:"own_port"` // the port that holds Address
	PortID    string     `json:"port_id,omitempty"`
	Fixed     netip.Addr `json:"fixed"`
	RouterID  string     `json:"router_id,omitempty"`
	Status    string     `json:"status"`
	DNSName   string     `json:"dns_name,omitempty"`
	DNSDomain string     `json:"dns_domain,omitempty"`
	Owner     string     `json:"owner,omitempty"` // what another service has made it for
}

// SecurityGroup is a named set of rules; they are records of their own.
type SecurityGroup struct {
	Base
	Stateful bool `json:"stateful"`
	Default  bool `json:"default,omitempty"` // the project's default group
}

// SecurityRule accepts traffic. Empty or nil means any.
type SecurityRule struct {
	Base
	GroupID     string       `json:"group_id"`
	Direction   string       `json:"direction"`
	EtherType   string       `json:"ether_type"`
	Protocol    string       `json:"protocol,omitempty"` // as the user wrote it
	PortMin     *int         `json:"port_min,omitempty"`
	PortMax     *int         `json:"port_max,omitempty"`
	RemoteGroup string       `json:"remote_group,omitempty"`
	Remote      netip.Prefix `json:"remote"` // as the user wrote it, host bits too
}

// Quota are a project's overrides of the default limits; -1 is unlimited.
type Quota struct {
	ProjectID string         `json:"project_id"`
	Limits    map[string]int `json:"limits"`
}

// RBAC lets a project ("*": every one) use an object of another.
type RBAC struct {
	Base
	ObjectType string `json:"object_type"`
	ObjectID   string `json:"object_id"`
	Action     string `json:"action"`
	Target     string `json:"target"`
}

// Mark remembers that something has been done once.
type Mark struct {
	ID string `json:"id"`
}

type collections struct {
	networks *store.Collection[Network]
	subnets  *store.Collection[Subnet]
	ports    *store.Collection[Port]
	routers  *store.Collection[Router]
	floating *store.Collection[FloatingIP]
	groups   *store.Collection[SecurityGroup]
	rules    *store.Collection[SecurityRule]
	quotas   *store.Collection[Quota]
	rbacs    *store.Collection[RBAC]
	pools    *store.Collection[SubnetPool]
	scopes   *store.Collection[AddressScope]
	marks    *store.Collection[Mark]
}

type keys[T any] = map[string]func(*T) []string

func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// number is a key for what has one.
func number(n int) []string {
	if n == 0 {
		return nil
	}
	return []string{strconv.Itoa(n)}
}

func pair(a, b string) string { return a + "/" + b }

func collect[T any, P interface {
	*T
	base() *Base
}](db *store.DB, kind string, unique, index keys[T]) *store.Collection[T] {
	if index == nil {
		index = keys[T]{}
	}
	index["project"] = func(v *T) []string { return one(P(v).base().ProjectID) }
	return store.Register(db, store.Schema[T]{Service: "network", Kind: kind, Version: 1, Unique: unique, Index: index,
		ID: func(v *T) string { return P(v).base().ID }})
}

func register(db *store.DB) collections {
	return collections{
		networks: collect(db, "network", keys[Network]{
			"vni":      func(n *Network) []string { return append(number(n.VNI), number(n.Join)...) },
			"physical": func(n *Network) []string { return one(n.place()) },
		}, keys[Network]{"external": func(n *Network) []string { return flag(n.External) }}),
		subnets: collect(db, "subnet", nil, keys[Subnet]{
			"network": func(n *Subnet) []string { return one(n.NetworkID) },
			"pool":    func(n *Subnet) []string { return one(n.SubnetPoolID) }}),
		ports: registerPorts(db),
		routers: collect(db, "router", keys[Router]{
			"vni": func(r *Router) []string { return number(r.Transit) }}, keys[Router]{
			"gateway": func(r *Router) []string { return one(r.GatewayNet) }}),
		floating: collect(db, "floatingip", keys[FloatingIP]{"fixed": func(f *FloatingIP) []string {
			if f.PortID == "" {
				return nil
			}
			return []string{f.PortID + "/" + f.Fixed.String() + "/" + f.NetworkID}
		}}, keys[FloatingIP]{
			"network": func(f *FloatingIP) []string { return one(f.NetworkID) },
			"port":    func(f *FloatingIP) []string { return one(f.PortID) },
			"router":  func(f *FloatingIP) []string { return one(f.RouterID) },
			"owner":   func(f *FloatingIP) []string { return one(f.Owner) }}),
		groups: collect(db, "security_group", keys[SecurityGroup]{"default": func(g *SecurityGroup) []string {
			if !g.Default {
				return nil
			}
			return []string{g.ProjectID}
		}}, nil),
		rules: collect(db, "security_group_rule", nil, keys[SecurityRule]{
			"group":  func(r *SecurityRule) []string { return one(r.GroupID) },
			"remote": func(r *SecurityRule) []string { return one(r.RemoteGroup) }}),
		quotas: store.Register(db, store.Schema[Quota]{Service: "network", Kind: "quota", Version: 1,
			ID: func(q *Quota) string { return q.ProjectID }}),
		rbacs: collect(db, "rbac_policy", keys[RBAC]{"policy": func(r *RBAC) []string {
			return []string{r.ObjectID + "/" + r.Action + "/" + r.Target}
		}}, keys[RBAC]{"object": func(r *RBAC) []string { return one(r.ObjectID) }}),
		pools: collect(db, "subnetpool", keys[SubnetPool]{"default": func(p *SubnetPool) []string {
			if !p.IsDefault {
				return nil
			}
			return []string{strconv.Itoa(p.version())}
		}}, keys[SubnetPool]{"scope": func(p *SubnetPool) []string { return one(p.ScopeID) }}),
		scopes: collect[AddressScope](db, "address_scope", nil, nil),
		marks: store.Register(db, store.Schema[Mark]{Service: "network", Kind: "mark", Version: 1,
			ID: func(m *Mark) string { return m.ID }}),
	}
}

// registerPorts declares the two keys that make a doubly given address impossible.
func registerPorts(db *store.DB) *store.Collection[Port] {
	return collect(db, "port", keys[Port]{
		"address": func(p *Port) []string {
			out := make([]string, len(p.FixedIPs))
			for i, f := range p.FixedIPs {
				out[i] = pair(p.NetworkID, f.Addr.String())
			}
			return out
		},
		"mac": func(p *Port) []string { return []string{pair(p.NetworkID, p.MAC)} },
	}, keys[Port]{
		"network": func(p *Port) []string { return one(p.NetworkID) },
		"device":  func(p *Port) []string { return one(p.DeviceID) },
		"host":    func(p *Port) []string { return one(p.Host) },
		"owner":   func(p *Port) []string { return one(p.DeviceOwner) },
		"subnet": func(p *Port) []string {
			var out []string
			for _, f := range p.FixedIPs {
				if len(out) == 0 || out[len(out)-1] != f.SubnetID {
					out = append(out, f.SubnetID)
				}
			}
			return out
		},
		"group":  func(p *Port) []string { return p.Groups },
		"behind": func(p *Port) []string { return one(p.Behind) },
		"worker": func(p *Port) []string {
			if p.Worker == nil {
				return nil
			}
			return []string{p.Worker.Cluster}
		},
		// The legs of routers in a network.
		"leg": func(p *Port) []string {
			if p.DeviceOwner != ownerInterface {
				return nil
			}
			return []string{p.NetworkID}
		},
	})
}

func flag(b bool) []string {
	if b {
		return []string{"yes"}
	}
	return nil
}
