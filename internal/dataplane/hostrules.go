package dataplane

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
)

// ensureHostRules puts our table on the host: masquerading of what servers send
// to the world, and who may send VXLAN.
func (p *Plane) ensureHostRules(ctx context.Context) error {
	links := p.hostLinks()
	now := nft.NewTable("inet", hostTable(p.cfg.Name))
	if !p.cfg.NoMasquerade && len(links) > 0 {
		now.Chains["postrouting"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: p.masquerade()}
	}
	if p.cfg.Tunnel.IsValid() {
		p.guardTunnel(now, links)
	}
	script := now.Replace()
	if p.hostRules != nil {
		script = now.Diff(*p.hostRules)
	} else if len(now.Chains) == 0 {
		return nil // nothing is wanted, and nothing of before can hurt
	}
	if err := nft.Run(ctx, p.host, script); err != nil {
		p.hostRules = nil
		return err
	}
	p.hostRules = &now
	if _, ok := now.Chains["postrouting"]; ok {
		return TakeForward(p.host, p.cfg.Name)
	}
	return nil
}

// hostLinks names the host's ends of the external networks that there are.
func (p *Plane) hostLinks() []string {
	var out []string
	for _, n := range p.state.Networks {
		if i, ok := p.external(n); ok && n.External && p.cfg.External[i].Device == "" {
			out = append(out, p.externalLink(i))
		}
	}
	return out
}

// masquerade lets servers reach the world through the host and, where several
// hosts share the external network, the world a floating IP through any of them:
// answers to its own addresses would leave by the host that has the gateway.
func (p *Plane) masquerade() []string {
	var rules []string
	for _, n := range p.state.Networks {
		if i, ok := p.external(n); ok && n.External && n.HostEnd != nil && p.cfg.External[i].Device == "" && p.cfg.External[i].CIDR.Addr().Is4() {
			rules = append(rules, fmt.Sprintf("ip saddr != %s oifname %q masquerade", p.cfg.External[i].CIDR.Masked(), p.externalLink(i)))
		}
	}
	for i, e := range p.cfg.External {
		if e.CIDR.Addr().Is4() && e.Device == "" {
			rules = append(rules, fmt.Sprintf("ip saddr %s oifname != %q masquerade", e.CIDR.Masked(), p.externalLink(i)))
		}
	}
	return rules
}

// guardTunnel holds VXLAN, which knows no passwords, to the nodes of the cloud:
// whoever could send it would be inside every tenant's network. Servers are kept
// from sending any through the host, where it would take on the host's address.
func (p *Plane) guardTunnel(t nft.Table, links []string) {
	family, typ := "ip", "type ipv4_addr"
	if p.cfg.Tunnel.Is6() {
		family, typ = "ip6", "type ipv6_addr"
	}
	t.Declare("nodes", typ)
	for a := range p.peers() {
		t.AddElement("nodes", a.String(), "")
	}
	vxlan := fmt.Sprintf("udp dport %d ", p.cfg.TunnelPort)
	t.Chains["tunnel"] = nft.Chain{Hook: "type filter hook input priority -10; policy accept", Rules: []string{
		vxlan + fmt.Sprintf("%s daddr %s %s saddr != @nodes drop", family, p.cfg.Tunnel, family),
	}}
	var from []string
	for _, name := range links {
		from = append(from, fmt.Sprintf("iifname %q ", name)+vxlan+"drop")
	}
	t.Chains["servers"] = nft.Chain{Hook: "type filter hook prerouting priority -150; policy accept", Rules: from}
}

// peers are the nodes that share a network or router with this one.
func (p *Plane) peers() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if p.tunnelTo(a) {
			out[a] = true
		}
	}
	for i := range p.state.Ports {
		add(p.state.Ports[i].Tunnel)
	}
	for _, n := range p.state.Networks {
		for _, e := range n.Endpoints {
			add(e.Tunnel)
		}
	}
	for _, r := range p.state.Routers {
		add(r.GatewayNode)
	}
	return out
}
