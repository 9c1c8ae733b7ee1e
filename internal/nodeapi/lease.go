package nodeapi

import "time"

// Lease lets a node run servers that have high availability. It is good for TTL from
// the moment in which the node asked, by the node's own clock.
type Lease struct {
	TTL     time.Duration `json:"ttl"` // ns
	Servers []string      `json:"servers"`
}
