// Package firewall compiles the ports and security groups of a node into
// nftables tables. It is pure: it reads and writes nothing but values.
//
// A frame from a server's tap passes, in this order:
//
//	bridge prerouting -300  mark := the in-port's number; drop what the port may not send
//	inet   prerouting -300  conntrack zone := the network's (addresses of tenants overlap)
//	inet   prerouting -150  established, or a rule for egress of the in-port, or drop
//	bridge forward    -200  mark := the out-port's number
//	inet   forward       0  established, or a rule for ingress of the out-port, or drop
//
// The inet hooks see bridged packets through br_netfilter, which shows them the
// bridge but not the port; the mark carries the port across. Devices of
// routers and of DHCP have no number (mark 0) and are trusted, and so is the
// edge of a network, by which it reaches other nodes: what comes from there has
// been judged by the node where its sender is. Ports are
// elements of sets and verdict maps, so that the number of rules that a packet
// meets does not grow with the number of ports. Ports with the same groups
// share one chain (a profile).
package firewall

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TableName is the name of both tables in the node's namespace.
const TableName = "strata"

// Compiler compiles successive states; it remembers the ports' numbers so that
// the difference between two results is small. The numbers live only as long
// as a packet is in flight, so a restart may number anew.
type Compiler struct {
	marks map[string]uint16
	used  map[uint16]bool
	next  uint16
}

// NewCompiler makes a Compiler without ports.
func NewCompiler() *Compiler {
	return &Compiler{marks: map[string]uint16{}, used: map[uint16]bool{}}
}

// Ruleset is what the node's namespace should hold.
type Ruleset struct {
	Bridge, Inet nft.Table
}

// Compile compiles the local ports of st. zones has the conntrack zone of each
// network by id, edges the edge of each network that has one.
func (c *Compiler) Compile(st *nodeapi.NetState, zones map[string]uint16, edges map[string]Edge) Ruleset {
	r := Ruleset{Bridge: bridgeTable(), Inet: inetTable()}
	for id, zone := range zones {
		r.Inet.AddElement("zones", quote(ifname.Bridge(id)), strconv.Itoa(int(zone)))
	}
	fillEdges(st, r.Bridge, edges)
	groups := newGroups(st, r.Inet)
	live := make(map[string]bool, len(st.Ports))
	for i := range st.Ports {
		p := &st.Ports[i]
		if !p.Local || p.Behind != "" { // what has no device is filtered by who routes to it
			continue
		}
		live[p.ID] = true
		mark := strconv.Itoa(int(c.mark(p.ID)))
		r.Bridge.AddElement("ports", quote(ifname.Tap(p.ID)), mark)
		switch {
		case !p.AdminUp:
			r.Bridge.AddElement("senders", mark, "drop")
			r.Bridge.AddElement("down", mark, "")
		case p.PortSecurity:
			r.Bridge.AddElement("senders", mark, "goto antispoof")
			r.Bridge.AddElement("secured", mark, "")
			sources(r.Bridge, p, mark)
			if len(p.AllowedPairs) > 0 && edges[p.NetworkID].overlay() {
				shared(r.Bridge, p, mark)
			}
			in, out := groups.profile(p)
			r.Inet.AddElement("ingress", mark, "goto "+in)
			r.Inet.AddElement("egress", mark, "goto "+out)
		}
	}
	for id, m := range c.marks {
		if !live[id] {
			delete(c.marks, id)
			delete(c.used, m)
		}
	}
	return r
}

// mark gives a port's number, from 1 to 65535. A node holds far fewer ports.
func (c *Compiler) mark(portID string) uint16 {
	if m, ok := c.marks[portID]; ok {
		return m
	}
	for {
		c.next++
		if c.next != 0 && !c.used[c.next] {
			break
		}
	}
	c.marks[portID], c.used[c.next] = c.next, true
	return c.next
}

func bridgeTable() nft.Table {
	t := nft.NewTable("bridge", TableName)
	t.Declare("ports", "type ifname : mark")
	t.Declare("senders", "type mark : verdict")
	t.Declare("down", "type mark")
	t.Declare("secured", "type mark")
	t.Declare("macs", "type mark . ether_addr")
	t.Declare("src4", "type mark . ether_addr . ipv4_addr")
	t.Declare("src6", "type mark . ether_addr . ipv6_addr")
	t.Declare("nets4", "type mark . ether_addr . ipv4_addr; flags interval")
	t.Declare("nets6", "type mark . ether_addr . ipv6_addr; flags interval")
	t.Chains["prerouting"] = nft.Chain{Hook: "type filter hook prerouting priority -300; policy accept", Rules: []string{
		"meta mark set 0",
		"meta mark set iifname map @ports",
		"meta mark vmap @senders",
	}}
	t.Chains["antispoof"] = nft.Chain{Rules: []string{
		"meta mark . ether saddr != @macs drop",
		// A probe for an address in use (RFC 5227) claims none.
		"ether type arp meta mark . arp saddr ether @macs arp saddr ip 0.0.0.0 accept",
		"ether type arp meta mark . arp saddr ether . arp saddr ip @src4 accept",
		"ether type arp meta mark . arp saddr ether . arp saddr ip @nets4 accept",
		// Where a machine is that has moved: QEMU announces it by RARP, out of which bridges learn.
		"ether type 0x8035 accept",
		"ether type ip udp sport 67 udp dport 68 drop",
		"ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
		"ether type ip meta mark . ether saddr . ip saddr @src4 accept",
		"ether type ip meta mark . ether saddr . ip saddr @nets4 accept",
		"ether type ip6 icmpv6 type nd-router-advert drop",
		"ether type ip6 udp sport 547 udp dport 546 drop",
		"ether type ip6 ip6 saddr :: icmpv6 type { 131, 133, 135, 143 } accept",
		"ether type ip6 meta mark . ether saddr . ip6 saddr @src6 accept",
		"ether type ip6 meta mark . ether saddr . ip6 saddr @nets6 accept",
		"drop",
	}}
	declareEdges(t)
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority -200; policy accept", Rules: []string{
		"oifname @edges jump edge",
		"meta mark set 0",
		"meta mark set oifname map @ports",
		"meta mark @down drop",
		"meta mark @secured ether type != { ip, ip6, arp } drop",
	}}
	return t
}

func inetTable() nft.Table {
	t := nft.NewTable("inet", TableName)
	t.Declare("zones", "typeof iifname : ct zone")
	t.Declare("egress", "type mark : verdict")
	t.Declare("ingress", "type mark : verdict")
	t.Chains["zone"] = nft.Chain{Hook: "type filter hook prerouting priority -300; policy accept", Rules: []string{
		"ct zone set iifname map @zones",
	}}
	t.Chains["sent"] = nft.Chain{Hook: "type filter hook prerouting priority -150; policy accept", Rules: []string{
		"meta mark vmap @egress",
	}}
	t.Chains["received"] = nft.Chain{Hook: "type filter hook forward priority 0; policy accept", Rules: []string{
		"meta mark vmap @ingress",
	}}
	// What a server needs to get its addresses and its metadata passes whatever its groups say.
	t.Chains["always-out"] = nft.Chain{Rules: []string{
		"meta nfproto ipv4 udp sport 68 udp dport 67 accept",
		"meta nfproto ipv6 udp sport 546 udp dport 547 accept",
		"icmpv6 type { 130, 131, 132, 133, 135, 136, 143 } accept",
		"ip daddr 169.254.169.254 tcp dport 80 accept",
		"ip6 daddr fe80::a9fe:a9fe tcp dport 80 accept",
	}}
	t.Chains["always-in"] = nft.Chain{Rules: []string{
		"meta nfproto ipv4 udp sport 67 udp dport 68 accept",
		"meta nfproto ipv6 udp sport 547 udp dport 546 accept",
		"icmpv6 type { 130, 134, 135, 136 } accept",
		"ip saddr 169.254.169.254 tcp sport 80 accept",
		"ip6 saddr fe80::a9fe:a9fe tcp sport 80 accept",
	}}
	return t
}

// sources fills in which addresses a port may send from.
func sources(t nft.Table, p *nodeapi.Port, mark string) {
	byMAC := map[string][]netip.Prefix{}
	own, err := net.ParseMAC(p.MAC)
	if err != nil {
		return
	}
	add := func(mac net.HardwareAddr, prefix netip.Prefix) {
		key := mac.String()
		if len(byMAC[key]) == 0 {
			ll := segment.LinkLocal(mac)
			byMAC[key] = []netip.Prefix{netip.PrefixFrom(ll, 128)}
		}
		byMAC[key] = append(byMAC[key], prefix.Masked())
	}
	for _, ip := range p.FixedIPs {
		add(own, netip.PrefixFrom(ip.Addr, ip.Addr.BitLen()))
	}
	for _, a := range p.Routed {
		add(own, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, pair := range p.AllowedPairs {
		mac := own
		if m, err := net.ParseMAC(pair.MAC); err == nil {
			mac = m
		}
		add(mac, pair.Prefix)
	}
	t.AddElement("macs", mark+" . "+own.String(), "")
	for mac, prefixes := range byMAC {
		t.AddElement("macs", mark+" . "+mac, "")
		for _, prefix := range minimal(prefixes) {
			set := "src"
			if !prefix.IsSingleIP() {
				set = "nets" // most ports have none: a set of intervals is slow to change
			}
			if prefix.Addr().Is4() {
				set += "4"
			} else {
				set += "6"
			}
			t.AddElement(set, mark+" . "+mac+" . "+bare(prefix), "")
		}
	}
}

// minimal drops prefixes that others contain: an interval set refuses overlaps.
func minimal(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	var out []netip.Prefix
	for _, p := range prefixes {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

// bare writes a prefix of one address without its length.
func bare(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.Masked().String()
}

func quote(s string) string { return `"` + s + `"` }
