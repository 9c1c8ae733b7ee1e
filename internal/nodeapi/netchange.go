package nodeapi

import "net/netip"

// NetChange makes one NetState of another: what is named takes the place of what
// has the same id. A port is of the network that it names.
type NetChange struct {
	Gen            int64           `json:"gen"`
	Whole          bool            `json:"whole,omitempty"` // nothing of what was before stays
	Networks       []Network       `json:"networks,omitempty"`
	Ports          []Port          `json:"ports,omitempty"`
	Routers        []Router        `json:"routers,omitempty"`
	SecurityGroups []SecurityGroup `json:"security_groups,omitempty"`
	Members        []MemberChange  `json:"members,omitempty"`
	// Gone are the ids of networks, ports, routers and security groups that are no more here.
	Gone []string `json:"gone,omitempty"`
}

// MemberChange changes the addresses of a security group that is known already.
type MemberChange struct {
	Group string       `json:"group"`
	Come  []netip.Addr `json:"come,omitempty"`
	Gone  []netip.Addr `json:"gone,omitempty"`
}

// Empty tells whether the change changes nothing.
func (c *NetChange) Empty() bool {
	return !c.Whole && len(c.Networks)+len(c.Ports)+len(c.Routers)+len(c.SecurityGroups)+len(c.Members)+len(c.Gone) == 0
}
