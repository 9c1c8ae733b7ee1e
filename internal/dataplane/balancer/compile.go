package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const (
	tableName = "strata"
	device    = "lb0"
	// hashSeed is the same everywhere: a load balancer that moves keeps its clients' members.
	hashSeed = "0x73747261"
	// clientsOwn marks connections whose members see the client's own address.
	clientsOwn = "0x1"
)

// Compile makes the table of a load balancer, with the members that are up and how many
// connections each has.
func Compile(lb *nodeapi.LoadBalancer, up func(member string) bool, busy func(member string) int) nft.Table {
	t := nft.NewTable("inet", tableName)
	var guard, listen, out []string
	input := []string{`iifname "lo" accept`, "ct state established,related accept", "meta l4proto { 1, 58 } accept"}
	for _, l := range lb.Listeners {
		match := fmt.Sprintf("%s dport %d", l.Protocol, l.Port)
		arrives := fmt.Sprintf("iifname %q ct direction original %s ", device, match)
		if len(l.Allowed) > 0 {
			t.Chains["a-"+l.ID] = nft.Chain{Rules: allow(l.Allowed)}
			guard = append(guard, arrives+"jump a-"+l.ID)
		}
		if l.Limit >= 0 {
			guard = append(guard, fmt.Sprintf("%sct state new ct count over %d drop", arrives, l.Limit))
		}
		guard = append(guard, arrives+counter("in", l.ID, ""))
		out = append(out, fmt.Sprintf("oifname %q ct direction reply %s sport %d %s", device, l.Protocol, l.Port, counter("out", l.ID, "")))
		pool, refuse := "", "reject with tcp reset"
		if l.PoolID != "" {
			pool = "goto p-" + l.PoolID
		}
		if l.Protocol == "udp" {
			refuse = "reject"
		}
		listen = append(listen, arrives+counter("new", l.ID, pool))
		input = append(input, match+" "+counter("err", l.ID, refuse))
	}
	for i := range lb.Pools {
		compilePool(t, &lb.Pools[i], up, busy)
	}
	t.Chains["guard"] = nft.Chain{Hook: "type filter hook prerouting priority -160; policy accept", Rules: guard}
	t.Chains["listen"] = nft.Chain{Hook: "type nat hook prerouting priority -100; policy accept", Rules: listen}
	t.Chains["input"] = nft.Chain{Hook: "type filter hook input priority 0; policy drop", Rules: input}
	// What is sent out where it came in is no news to its sender, though IPv6 would tell.
	t.Chains["output"] = nft.Chain{Hook: "type filter hook output priority 0; policy accept", Rules: []string{"icmpv6 type nd-redirect drop"}}
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy drop", Rules: []string{"ct status dnat accept"}}
	t.Chains["answer"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: answers(lb.Port.Addrs)}
	t.Chains["out"] = nft.Chain{Hook: "type filter hook postrouting priority 150; policy accept", Rules: out}
	return t
}

// counter counts what Traffic finds again by the comment, and then does what follows.
func counter(what, listener, then string) string {
	return strings.TrimSpace("counter "+then) + fmt.Sprintf(" comment %q", what+" "+listener)
}

func allow(list []netip.Prefix) []string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf("%s saddr %s return", family(p.Addr()), p))
	}
	return append(out, "drop")
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}

// proto is a family as packets' own protocol.
func proto(family string) string {
	if family == "ip" {
		return "ipv4"
	}
	return "ipv6"
}

// answers has what is forwarded come from the port's first address of its family.
func answers(addrs []netip.Prefix) []string {
	var out []string
	seen := map[string]bool{}
	for _, a := range addrs {
		f := family(a.Addr())
		if !seen[f] {
			out = append(out, fmt.Sprintf("oifname %q ct status dnat ct mark != %s meta nfproto %s snat %s to %s", device, clientsOwn, proto(f), f, a.Addr()))
		}
		seen[f] = true
	}
	return out
}

// compilePool has clients of each IP version reach the members of theirs.
func compilePool(t nft.Table, p *nodeapi.LBPool, up func(string) bool, busy func(string) int) {
	var rules []string
	for _, ip := range []string{"ip", "ip6"} {
		of := *p
		of.Members = slices.DeleteFunc(slices.Clone(p.Members), func(m nodeapi.LBMember) bool { return family(m.Addr) != ip })
		members := usable(&of, up)
		if len(members) > 0 {
			rules = append(rules, "meta nfproto "+proto(ip)+" "+choose(p, members, busy))
		}
		for _, m := range members {
			to := netip.AddrPortFrom(m.Addr, uint16(m.Port))
			t.Chains["m-"+m.ID] = nft.Chain{Rules: append(marking(p, ip), fmt.Sprintf("meta l4proto %s dnat %s to %s", p.Protocol, ip, to))}
		}
	}
	t.Chains["p-"+p.ID] = nft.Chain{Rules: rules}
}

// choose is the rule by which a pool's connection finds its member.
func choose(p *nodeapi.LBPool, members []nodeapi.LBMember, busy func(string) int) string {
	saddr := family(members[0].Addr) + " saddr"
	switch {
	case len(members) == 1:
		return "goto m-" + members[0].ID
	case p.Sticky, p.Algorithm == nodeapi.LBSourceIP:
		return fmt.Sprintf("jhash %s mod %d seed %s %s", saddr, hashSlots, hashSeed, slots(byHash(members)))
	case p.Algorithm == nodeapi.LBSourceIPPort:
		return fmt.Sprintf("jhash %s . %s sport mod %d seed %s %s", saddr, p.Protocol, hashSlots, hashSeed, slots(byHash(members)))
	case p.Algorithm == nodeapi.LBLeastConns:
		list := leastBusy(members, busy)
		return fmt.Sprintf("numgen inc mod %d %s", len(list), slots(list))
	}
	list := inTurn(members)
	return fmt.Sprintf("numgen inc mod %d %s", len(list), slots(list))
}

func slots(members []string) string {
	var b strings.Builder
	b.WriteString("vmap { ")
	for i, m := range members {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d : goto m-%s", i, m)
	}
	b.WriteString(" }")
	return b.String()
}

// marking has the members of a transparent pool see the client.
func marking(p *nodeapi.LBPool, family string) []string {
	if !p.Transparent {
		return nil
	}
	var not []string
	for _, a := range p.Opaque {
		if a.Is4() == (family == "ip") {
			not = append(not, a.String())
		}
	}
	if len(not) == 0 {
		return []string{"ct mark set " + clientsOwn}
	}
	return []string{fmt.Sprintf("%s saddr != { %s } ct mark set %s", family, strings.Join(not, ", "), clientsOwn)}
}
