package nodeapi

import "net/netip"

// LoadBalancer is what a node does for one load balancer that it has: everything that is
// switched on, and nothing else.
type LoadBalancer struct {
	ID        string        `json:"id"`
	Gen       int64         `json:"gen"`
	Port      ContainerPort `json:"port"` // the VIP's
	Listeners []LBListener  `json:"listeners"`
	Pools     []LBPool      `json:"pools"` // those that a listener has
}

// LBListener takes connections at every address of the port.
type LBListener struct {
	ID       string         `json:"id"`
	Protocol string         `json:"protocol"` // tcp or udp
	Port     int            `json:"port"`
	Limit    int            `json:"limit"`   // of connections at one time; -1: none
	Allowed  []netip.Prefix `json:"allowed"` // none: everybody
	PoolID   string         `json:"pool_id"` // "": there is nobody to answer
}

// How a pool chooses a member.
const (
	LBRoundRobin   = "ROUND_ROBIN"
	LBLeastConns   = "LEAST_CONNECTIONS"
	LBSourceIP     = "SOURCE_IP"
	LBSourceIPPort = "SOURCE_IP_PORT"
)

// LBPool is members of which one takes a connection.
type LBPool struct {
	ID        string `json:"id"`
	Protocol  string `json:"protocol"` // tcp or udp
	Algorithm string `json:"algorithm"`
	Sticky    bool   `json:"sticky"` // a client keeps its member
	// Transparent: members see the client, and answer by way of the load balancer.
	Transparent bool `json:"transparent,omitempty"`
	// Opaque are clients that members of a transparent pool do not see: a machine takes nothing
	// that seems to come from itself.
	Opaque  []netip.Addr `json:"opaque,omitempty"`
	Monitor *LBMonitor   `json:"monitor,omitempty"`
	Members []LBMember   `json:"members"`
}

// LBMember is a server of a pool.
type LBMember struct {
	ID          string     `json:"id"`
	Addr        netip.Addr `json:"addr"`
	Port        int        `json:"port"`
	Weight      int        `json:"weight"` // 0: it gets no new connections
	Backup      bool       `json:"backup"` // used when no other member is up
	MonitorAddr netip.Addr `json:"monitor_addr"`
	MonitorPort int        `json:"monitor_port"`
}

// LBMonitor says how members are watched.
type LBMonitor struct {
	ID          string `json:"id"`
	Type        string `json:"type"`    // TCP, HTTP, HTTPS, TLS-HELLO, PING or UDP-CONNECT
	Delay       int    `json:"delay"`   // seconds from check to check
	Timeout     int    `json:"timeout"` // seconds that a check may take
	Rise        int    `json:"rise"`    // successes that make a member good
	Fall        int    `json:"fall"`    // failures that make it bad
	Method      string `json:"method"`
	Path        string `json:"path"`
	Codes       string `json:"codes"` // "200", "200,202" or "200-204"
	HTTPVersion string `json:"http_version"`
	Domain      string `json:"domain"` // the Host of requests, or ""
}

// LoadBalancerStatus is what a node says of a load balancer.
type LoadBalancerStatus struct {
	ID        string               `json:"id"`
	Node      string               `json:"node"`
	Gen       int64                `json:"gen"`   // that it has reached
	Fault     string               `json:"fault"` // why it has not gone further
	Members   map[string]string    `json:"members"`
	Listeners map[string]LBTraffic `json:"listeners"`
}

// What a node says of a member that it watches.
const (
	LBMemberUp   = "up"
	LBMemberDown = "down"
)

// LBTraffic counts what a listener has had since its load balancer came to the node.
type LBTraffic struct {
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	Active   int64 `json:"active"`
	Total    int64 `json:"total"`
	Errors   int64 `json:"errors"`
}
