package loadbalancer

import (
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Meta is what a load balancer and each of its children have.
type Meta struct {
	ID          string    `json:"id"`
	Name        string    `json:"name,omitempty"`
	Description string    `json:"description,omitempty"`
	Tags        []string  `json:"tags,omitempty"`
	AdminUp     bool      `json:"admin_up"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"` // zero: never
	Born        int64     `json:"born"`    // the generation that it came with
	Gen         int64     `json:"gen"`     // the generation that changed it last
}

func (m *Meta) meta() *Meta { return m }

// VIP is the address that clients reach, and what others its port has for them.
type VIP struct {
	PortID    string            `json:"port_id"`
	NetworkID string            `json:"network_id"`
	SubnetID  string            `json:"subnet_id"`
	Address   string            `json:"address"`
	More      []nodeapi.FixedIP `json:"more,omitempty"` // additional_vips
	Kept      bool              `json:"kept,omitempty"` // the port is the user's and stays
	Groups    []string          `json:"groups,omitempty"`
}

// LoadBalancer is a load balancer with its children. Meta.Gen is the newest of all.
type LoadBalancer struct {
	Meta
	ProjectID string      `json:"project_id"`
	Provider  string      `json:"provider"`
	VIP       VIP         `json:"vip"`
	Node      string      `json:"node,omitempty"` // "": no node could be chosen
	Since     time.Time   `json:"since"`          // of the newest generation
	Listeners []*Listener `json:"listeners,omitempty"`
	Pools     []*Pool     `json:"pools,omitempty"`
	Owner     string      `json:"owner,omitempty"` // what another service has made it for
}

// Listener is a port of the VIP.
type Listener struct {
	Meta
	Protocol      string   `json:"protocol"`
	Port          int      `json:"port"`
	Limit         int      `json:"limit"` // of connections; -1: none
	PoolID        string   `json:"pool_id,omitempty"`
	Allowed       []string `json:"allowed,omitempty"`
	ClientData    int      `json:"client_data"` // timeouts, in milliseconds
	MemberConnect int      `json:"member_connect"`
	MemberData    int      `json:"member_data"`
	TCPInspect    int      `json:"tcp_inspect"`
}

// Pool is a set of members.
type Pool struct {
	Meta
	Protocol    string       `json:"protocol"`
	Algorithm   string       `json:"algorithm"`
	Persistence *Persistence `json:"persistence,omitempty"`
	Monitor     *Monitor     `json:"monitor,omitempty"`
	Members     []*Member    `json:"members,omitempty"`
	// Transparent has members see who asks, and not the VIP.
	Transparent bool `json:"transparent,omitempty"`
}

// Persistence keeps a client at its member.
type Persistence struct {
	Type string `json:"type"` // SOURCE_IP
}

// Member is a server of a pool.
type Member struct {
	Meta
	Address     string `json:"address"`
	Port        int    `json:"port"`
	Weight      int    `json:"weight"`
	Backup      bool   `json:"backup,omitempty"`
	SubnetID    string `json:"subnet_id,omitempty"`
	MonitorAddr string `json:"monitor_addr,omitempty"`
	MonitorPort int    `json:"monitor_port,omitempty"`
}

// Monitor watches the members of a pool.
type Monitor struct {
	Meta
	Type        string `json:"type"`
	Delay       int    `json:"delay"`
	Timeout     int    `json:"timeout"`
	Rise        int    `json:"rise"`
	Fall        int    `json:"fall"`
	Method      string `json:"method,omitempty"`
	Path        string `json:"path,omitempty"`
	Codes       string `json:"codes,omitempty"`
	HTTPVersion string `json:"http_version,omitempty"`
	Domain      string `json:"domain,omitempty"`
}

// Quota is what an operator has set for a project; what is absent is the default.
type Quota struct {
	ID     string         `json:"id"` // the project's
	Limits map[string]int `json:"limits"`
}

// Status is what a node has said of a load balancer, without traffic.
type Status = nodeapi.LoadBalancerStatus

type collections struct {
	lbs      *store.Collection[LoadBalancer]
	statuses *store.Collection[Status]
	quotas   *store.Collection[Quota]
}

func register(db *store.DB) collections {
	return collections{
		lbs: store.Register(db, store.Schema[LoadBalancer]{Service: "loadbalancer", Kind: "loadbalancer", Version: 1,
			ID: func(l *LoadBalancer) string { return l.ID },
			Index: map[string]func(*LoadBalancer) []string{
				"project": func(l *LoadBalancer) []string { return []string{l.ProjectID} },
				"node":    func(l *LoadBalancer) []string { return []string{l.Node} },
				"part":    func(l *LoadBalancer) []string { return l.parts() },
				"owner": func(l *LoadBalancer) []string {
					if l.Owner == "" {
						return nil
					}
					return []string{l.Owner}
				},
			}}),
		statuses: store.Register(db, store.Schema[Status]{Service: "loadbalancer", Kind: "status", Version: 1, ID: func(s *Status) string { return s.ID }}),
		quotas:   store.Register(db, store.Schema[Quota]{Service: "loadbalancer", Kind: "quota", Version: 1, ID: func(q *Quota) string { return q.ID }}),
	}
}

// parts are the ids of all children.
func (l *LoadBalancer) parts() []string {
	var out []string
	for _, x := range l.Listeners {
		out = append(out, x.ID)
	}
	for _, p := range l.Pools {
		out = append(out, p.ID)
		if p.Monitor != nil {
			out = append(out, p.Monitor.ID)
		}
		for _, m := range p.Members {
			out = append(out, m.ID)
		}
	}
	return out
}

func (l *LoadBalancer) listener(id string) *Listener { return find(l.Listeners, id) }

func (l *LoadBalancer) pool(id string) *Pool { return find(l.Pools, id) }

// find gives the one of the id, nil when there is none.
func find[T interface{ meta() *Meta }](list []T, id string) (none T) {
	for _, x := range list {
		if x.meta().ID == id {
			return x
		}
	}
	return none
}

// monitors are those of all pools.
func (l *LoadBalancer) monitors() []*Monitor {
	var out []*Monitor
	for _, p := range l.Pools {
		if p.Monitor != nil {
			out = append(out, p.Monitor)
		}
	}
	return out
}

func (l *LoadBalancer) monitored(id string) *Pool {
	for _, p := range l.Pools {
		if p.Monitor != nil && p.Monitor.ID == id {
			return p
		}
	}
	return nil
}

// users are the listeners that have the pool.
func (l *LoadBalancer) users(pool string) []*Listener {
	var out []*Listener
	for _, x := range l.Listeners {
		if x.PoolID == pool {
			out = append(out, x)
		}
	}
	return out
}
