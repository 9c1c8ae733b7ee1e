package firewall

import (
	"net"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Edge is the port of a network's bridge that leads to other nodes.
type Edge struct {
	Device string
	Wire   bool // to a provider's network, not to an overlay of ours
}

func (e Edge) overlay() bool { return e.Device != "" && !e.Wire }

// declareEdges says what leaves by an edge. DHCP is on every node with the same
// MAC and addresses, and so are most routers: what they send to everyone, and
// what servers ask them, stays at home.
//
// Addresses of allowed address pairs are not known to the bridge, which answers
// for all others: questions for them cross an overlay, announcements of them
// are let across, and an answer to a router goes to its instances on all nodes.
func declareEdges(t nft.Table) {
	t.Declare("edges", "type ifname")
	t.Declare("asked", "type ifname")
	t.Declare("unique", "type ifname . ether_addr")
	t.Declare("everywhere", "type ifname . ether_addr")
	t.Declare("served", "type ifname")
	t.Declare("routed", "type ifname")
	t.Chains["edge"] = nft.Chain{Rules: []string{
		"oifname @asked ether type arp arp operation request accept",
		"oifname . ether saddr @unique drop",
		"oifname . ether saddr @everywhere ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop",
		"oifname @served udp dport { 67, 547 } drop",
		"oifname @routed icmpv6 type nd-router-solicit drop",
	}}
	t.Declare("sharing", "type mark")
	t.Declare("fixed4", "type mark . ipv4_addr")
	t.Declare("gratuitous", "type ipv4_addr . ipv4_addr")
	t.Declare("homes", "type ether_addr")
	t.Chains["shared"] = nft.Chain{Hook: "type filter hook prerouting priority -290; policy accept", Rules: []string{
		"meta mark != @sharing accept",
		"ether type != arp accept",
		"meta mark . arp saddr ip @fixed4 accept",
		// The bridge keeps an announcement off the overlay, which it knows by its target.
		"arp saddr ip . arp daddr ip @gratuitous arp daddr ip set 255.255.255.255",
		"arp operation reply ether daddr @homes ether daddr set ff:ff:ff:ff:ff:ff",
	}}
}

// fillEdges fills in the networks' edges and what stays on this side of them.
func fillEdges(st *nodeapi.NetState, t nft.Table, edges map[string]Edge) {
	for _, n := range st.Networks {
		e := edges[n.ID]
		if e.Device == "" {
			continue
		}
		t.AddElement("edges", quote(e.Device), "")
		mac, err := net.ParseMAC(n.ServiceMAC)
		if n.ServicePortID == "" || err != nil {
			continue
		}
		t.AddElement("served", quote(e.Device), "")
		set := "everywhere"
		if e.Wire { // switches must not see one MAC in many places
			set = "unique"
		}
		t.AddElement(set, quote(e.Device)+" . "+mac.String(), "")
	}
	for _, r := range st.Routers {
		for _, l := range r.Interfaces {
			e := edges[l.NetworkID]
			mac, err := net.ParseMAC(l.MAC)
			if !e.overlay() || r.Central || err != nil {
				continue
			}
			t.AddElement("everywhere", quote(e.Device)+" . "+mac.String(), "")
			t.AddElement("routed", quote(e.Device), "")
			t.AddElement("homes", mac.String(), "")
		}
	}
	for i := range st.Ports {
		if e := edges[st.Ports[i].NetworkID]; e.overlay() && len(st.Ports[i].AllowedPairs) > 0 {
			t.AddElement("asked", quote(e.Device), "")
		}
	}
}

// shared fills in which addresses a local port shares. Only single ones can be
// told to be announcements.
func shared(t nft.Table, p *nodeapi.Port, mark string) {
	t.AddElement("sharing", mark, "")
	for _, ip := range p.FixedIPs {
		if ip.Addr.Is4() {
			t.AddElement("fixed4", mark+" . "+ip.Addr.String(), "")
		}
	}
	for _, pair := range p.AllowedPairs {
		if a := pair.Prefix.Addr(); a.Is4() && pair.Prefix.IsSingleIP() {
			t.AddElement("gratuitous", a.String()+" . "+a.String(), "")
		}
	}
}
