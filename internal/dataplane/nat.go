package dataplane

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/strata-cloud/strata/internal/dataplane/firewall"
	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// ensureRules puts a router's translation and filter in place.
func (r *router) ensureRules(ctx context.Context, spec nodeapi.Router) error {
	now := routerTable(spec)
	script := now.Replace()
	if r.rules != nil {
		script = now.Diff(*r.rules)
	}
	if err := nft.Run(ctx, r.ns, script); err != nil {
		r.rules = nil
		return err
	}
	r.rules = &now
	return nil
}

// routerTable compiles a router. Mark 1 is on packets that came from the
// external network.
//
// Connections are tracked only where both directions pass: at the gateway. What
// goes from network to network is routed by the sender's node, and the answer by
// the other node's instance, so that each would see half and call it invalid.
func routerTable(spec nodeapi.Router) nft.Table {
	t := nft.NewTable("inet", firewall.TableName)
	t.Declare("floating", "type ipv4_addr : ipv4_addr")
	t.Declare("fixed", "type ipv4_addr : ipv4_addr")
	t.Chains["input"] = nft.Chain{Hook: "type filter hook input priority 0; policy drop", Rules: []string{
		"ct state established,related accept",
		"meta l4proto { 1, 58 } accept",
		`iifname "qr-*" ip daddr 169.254.169.254 tcp dport 80 accept`,
	}}
	forward := []string{"ip daddr 169.254.0.0/16 drop", "ct state invalid drop"}
	var pre, post []string
	tracked := spec.Gateway != nil && spec.GatewayHere
	untracked := `iifname "qr-*" notrack`
	if tracked {
		untracked = `iifname "qr-*" fib daddr oifname "qr-*" notrack`
	}
	t.Chains["untracked"] = nft.Chain{Hook: "type filter hook prerouting priority -300; policy accept", Rules: []string{untracked}}
	if g := spec.Gateway; tracked {
		device := ifname.GatewayInner(g.PortID)
		if g.EnableSNAT {
			// Networks behind translation are private: from outside only floating IPs lead in.
			forward = append(forward,
				fmt.Sprintf("iifname %q ct status dnat accept", device),
				fmt.Sprintf("iifname %q meta nfproto ipv4 ct state new drop", device))
		}
		for _, f := range spec.FloatingIPs {
			t.AddElement("floating", f.Floating.String(), f.Fixed.String())
			t.AddElement("fixed", f.Fixed.String(), f.Floating.String())
		}
		t.Chains["outside"] = nft.Chain{Hook: "type filter hook prerouting priority -150; policy accept", Rules: []string{
			fmt.Sprintf("iifname %q ip daddr 169.254.169.254 drop", device),
			fmt.Sprintf("iifname %q meta mark set 1", device),
		}}
		pre = append(pre, "dnat ip to ip daddr map @floating")
		post = postrouting(g, device)
	}
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy accept", Rules: forward}
	t.Chains["prerouting"] = nft.Chain{Hook: "type nat hook prerouting priority -100; policy accept", Rules: pre}
	t.Chains["postrouting"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: post}
	return t
}

// postrouting gives what leaves an address of its own outside: a server's
// floating IP, else the gateway's. A server that reaches another one's floating
// IP from inside is translated too, or the answer would take a shorter way back.
func postrouting(g *nodeapi.RouterGateway, device string) []string {
	out := fmt.Sprintf("oifname %q ", device)
	rules := []string{
		out + "snat ip to ip saddr map @fixed",
		"meta mark != 1 ct status dnat snat ip to ip saddr map @fixed",
	}
	var own netip.Addr
	for _, a := range g.Addrs {
		if a.Addr().Is4() {
			own = a.Addr()
			break
		}
	}
	if own.IsValid() {
		if g.EnableSNAT {
			rules = append(rules, out+"meta nfproto ipv4 snat ip to "+own.String())
		}
		rules = append(rules, "meta mark != 1 ct status dnat meta nfproto ipv4 snat ip to "+own.String())
	}
	return rules
}
