package bridge

import (
	"context"
	"fmt"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

// rules puts both tables in place.
func (p *Plane) rules(ctx context.Context, nets []Network, ports []Port) error {
	outer, inner := p.outerTable(nets, ports), innerTable(nets)
	if err := replace(ctx, p.host, &p.outer, outer); err != nil {
		return fmt.Errorf("rules of the host for containers: %w", err)
	}
	if err := replace(ctx, p.ns, &p.inner, inner); err != nil {
		return fmt.Errorf("rules between containers' networks: %w", err)
	}
	return nil
}

// replace turns what the kernel has into what is wanted.
func replace(ctx context.Context, ns *netns.NS, have **nft.Table, want nft.Table) error {
	script := want.Replace()
	if *have != nil {
		script = want.Diff(**have)
	}
	*have = nil // unknown, until it has worked
	if err := nft.Run(ctx, ns, script); err != nil {
		return err
	}
	*have = &want
	return nil
}

// family is a family of addresses in nft's words.
type family struct {
	name, addr string
	v6         bool
}

var families = [...]family{{"ip", "ipv4_addr", false}, {"ip6", "ipv6_addr", true}}

// outerTable is the host's. Ports are elements of maps, so that one more costs one more
// element.
func (p *Plane) outerTable(nets []Network, ports []Port) nft.Table {
	t := nft.NewTable("inet", table(p.name))
	up := p.uplink()
	var dnat, post []string
	for _, f := range families {
		t.Declare("everywhere"+f.name, fmt.Sprintf("type inet_proto . inet_service : %s . inet_service", f.addr))
		t.Declare("at"+f.name, fmt.Sprintf("type %s . inet_proto . inet_service : %[1]s . inet_service", f.addr))
		t.Declare("hidden"+f.name, fmt.Sprintf("type %s; flags interval", f.addr))
		t.Declare("own"+f.name, fmt.Sprintf("type %s; flags interval", f.addr))
		dnat = append(dnat,
			fmt.Sprintf("dnat %s to %[1]s daddr . meta l4proto . th dport map @at%[1]s", f.name),
			fmt.Sprintf("meta nfproto %s fib daddr type local dnat %s to meta l4proto . th dport map @everywhere%[2]s", nfproto(f), f.name))
		post = append(post,
			fmt.Sprintf("%s saddr @hidden%[1]s oifname != %q masquerade", f.name, up),
			fmt.Sprintf("%s saddr @own%[1]s oifname %q ct status dnat masquerade", f.name, up))
	}
	for _, port := range ports {
		f := families[0]
		if port.To.Addr().Is6() {
			f = families[1]
		}
		to := fmt.Sprintf("%s . %d", port.To.Addr(), port.To.Port())
		if port.HostIP.IsValid() && !port.HostIP.IsUnspecified() {
			t.AddElement("at"+f.name, fmt.Sprintf("%s . %s . %d", port.HostIP, port.Proto, port.HostPort), to)
			continue
		}
		t.AddElement("everywhere"+f.name, fmt.Sprintf("%s . %d", port.Proto, port.HostPort), to)
	}
	for _, n := range nets {
		for _, s := range n.subnets() {
			f := families[0]
			if s.Prefix.Addr().Is6() {
				f = families[1]
			}
			t.AddElement("own"+f.name, s.Prefix.Masked().String(), "")
			if !n.Internal && !n.Routed {
				t.AddElement("hidden"+f.name, s.Prefix.Masked().String(), "")
			}
		}
	}
	post = append(post, fmt.Sprintf("ip saddr 127.0.0.0/8 oifname %q masquerade", up))
	t.Chains["prerouting"] = nft.Chain{Hook: "type nat hook prerouting priority -100; policy accept", Rules: dnat}
	t.Chains["output"] = nft.Chain{Hook: "type nat hook output priority -100; policy accept", Rules: dnat}
	t.Chains["postrouting"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: post}
	// From outside one comes in through published ports only.
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy accept", Rules: []string{
		fmt.Sprintf("oifname %q ct status dnat accept", up),
		fmt.Sprintf("oifname %q ct state new drop", up),
	}}
	return t
}

func nfproto(f family) string {
	if f.v6 {
		return "ipv6"
	}
	return "ipv4"
}

// innerTable keeps networks apart.
func innerTable(nets []Network) nft.Table {
	t := nft.NewTable("inet", "ctr")
	t.Declare("open", "type ifname")
	t.Declare("within", "type ifname . ifname")
	for _, n := range nets {
		br := fmt.Sprintf("%q", bridgeName(n.ID))
		if !n.Internal {
			t.AddElement("open", br, "")
		}
		if !n.Apart {
			t.AddElement("within", br+" . "+br, "")
		}
	}
	t.Chains["forward"] = nft.Chain{Hook: "type filter hook forward priority 0; policy drop", Rules: []string{
		"ct state established,related accept",
		fmt.Sprintf("iifname @open oifname %q accept", innerUplink),
		fmt.Sprintf("iifname %q oifname @open accept", innerUplink),
		"iifname . oifname @within accept",
	}}
	return t
}
