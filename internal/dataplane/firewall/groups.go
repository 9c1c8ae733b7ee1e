package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// groups adds chains for security groups to a table when ports first need them.
type groups struct {
	byID  map[string]*nodeapi.SecurityGroup
	table nft.Table
}

func newGroups(st *nodeapi.NetState, t nft.Table) *groups {
	g := &groups{byID: make(map[string]*nodeapi.SecurityGroup, len(st.SecurityGroups)), table: t}
	for i := range st.SecurityGroups {
		g.byID[st.SecurityGroups[i].ID] = &st.SecurityGroups[i]
	}
	return g
}

// profile names the two chains of a port's set of groups. A port is stateless
// when all its groups are: its packets are judged one by one in both directions.
func (g *groups) profile(p *nodeapi.Port) (in, out string) {
	ids := slices.Clone(p.SecurityGroups)
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return g.byID[id] == nil })
	stateful := len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return g.byID[id].Stateful })
	key := sha256.Sum256([]byte(strings.Join(ids, ",") + strconv.FormatBool(stateful)))
	name := "profile-" + hex.EncodeToString(key[:8])
	in, out = name+"-in", name+"-out"
	if _, ok := g.table.Chains[in]; ok {
		return in, out
	}
	g.table.Chains[in] = nft.Chain{Rules: g.profileRules(ids, stateful, "in")}
	g.table.Chains[out] = nft.Chain{Rules: g.profileRules(ids, stateful, "out")}
	return in, out
}

func (g *groups) profileRules(ids []string, stateful bool, way string) []string {
	var rules []string
	if stateful {
		rules = append(rules, "ct state established,related accept", "ct state invalid drop")
	}
	rules = append(rules, "jump always-"+way)
	for _, id := range ids {
		rules = append(rules, "jump "+g.group(id, way))
	}
	return append(rules, "drop")
}

// group adds the chain of one group and direction.
func (g *groups) group(id, way string) string {
	name := "group-" + id + "-" + way
	if _, ok := g.table.Chains[name]; ok {
		return name
	}
	direction := map[string]string{"in": "ingress", "out": "egress"}[way]
	var rules []string
	for i := range g.byID[id].Rules {
		r := &g.byID[id].Rules[i]
		if r.Direction == direction {
			rules = append(rules, g.rule(r))
		}
	}
	slices.Sort(rules) // all of them accept, so order is free and repeats are waste
	g.table.Chains[name] = nft.Chain{Rules: slices.Compact(rules)}
	return name
}

// rule renders one accept rule.
func (g *groups) rule(r *nodeapi.Rule) string {
	v6 := r.EtherType == "IPv6"
	family, nfproto := "ip", "meta nfproto ipv4"
	if v6 {
		family, nfproto = "ip6", "meta nfproto ipv6"
	}
	match := []string{nfproto}
	match = append(match, protocol(r, v6)...)
	side := " daddr "
	if r.Direction == "ingress" {
		side = " saddr "
	}
	if r.RemotePrefix.IsValid() && r.RemotePrefix.Bits() > 0 {
		match = append(match, family+side+bare(r.RemotePrefix))
	}
	if r.RemoteGroupID != "" {
		match = append(match, family+side+"@"+g.members(r.RemoteGroupID, v6))
	}
	return strings.Join(append(match, "accept"), " ")
}

// members adds the set of a group's addresses in one family.
func (g *groups) members(id string, v6 bool) string {
	name, decl := "members4-"+id, "type ipv4_addr"
	if v6 {
		name, decl = "members6-"+id, "type ipv6_addr"
	}
	if _, ok := g.table.Sets[name]; ok {
		return name
	}
	g.table.Declare(name, decl)
	if sg := g.byID[id]; sg != nil {
		for _, a := range sg.Members {
			if a.IsValid() && a.Is6() == v6 {
				g.table.AddElement(name, a.String(), "")
			}
		}
	}
	return name
}

// IP protocol numbers that the API gives ports or types to.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoDCCP   = 33
	protoICMPv6 = 58
	protoSCTP   = 132
	protoUDPL   = 136
)

// protocol renders the protocol, with ports, or with type and code. A rule for
// ICMP over IPv6 means ICMPv6, as upstream reads it.
func protocol(r *nodeapi.Rule, v6 bool) []string {
	proto := r.Protocol
	if v6 && proto == protoICMP {
		proto = protoICMPv6
	}
	if proto <= 0 { // upstream takes 0 for any too
		return nil
	}
	match := []string{"meta l4proto " + strconv.Itoa(proto)}
	switch proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPL:
		if r.PortMin > 0 || r.PortMax > 0 {
			match = append(match, "th dport "+ports(r.PortMin, r.PortMax))
		}
	case protoICMP, protoICMPv6:
		word := map[int]string{protoICMP: "icmp", protoICMPv6: "icmpv6"}[proto]
		if r.PortMin >= 0 {
			match = append(match, word+" type "+strconv.Itoa(r.PortMin))
			if r.PortMax >= 0 {
				match = append(match, word+" code "+strconv.Itoa(r.PortMax))
			}
		}
	}
	return match
}

func ports(lo, hi int) string {
	lo = max(lo, 0)
	if hi <= 0 {
		hi = 65535
	}
	if lo == hi {
		return strconv.Itoa(lo)
	}
	return strconv.Itoa(lo) + "-" + strconv.Itoa(hi)
}
