package podnet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
)

func (n *Network) tableName() string { return "strata-pods-" + n.cfg.Name }

// apply brings the kernel's rules to what is wanted now, in one transaction. Who waits for
// another's finds that it has done both.
func (l *live) apply(ctx context.Context) error {
	l.rules.Lock()
	defer l.rules.Unlock()
	if err := replace(ctx, l.cfg.Host, &l.table, l.compile()); err != nil {
		return fmt.Errorf("rules of the pods' network: %w", err)
	}
	return nil
}

// replace turns the table that the kernel has into what is wanted.
func replace(ctx context.Context, ns *netns.NS, have **nft.Table, want nft.Table) error {
	script := want.Replace()
	if *have != nil {
		script = want.Diff(**have)
	}
	if script == "" {
		return nil
	}
	*have = nil // not known, until it has worked
	if err := nft.Run(ctx, ns, script); err != nil {
		return err
	}
	*have = &want
	return nil
}

// unrule removes the rules.
func (l *live) unrule(ctx context.Context) error {
	tables, err := nft.Tables(ctx, l.cfg.Host)
	if err != nil {
		return err
	}
	script := ""
	for _, name := range []string{l.tableName(), l.policyTable()} {
		if slices.Contains(tables, "inet "+name) {
			script += "delete table inet " + name + "\n"
		}
	}
	return nft.Run(ctx, l.cfg.Host, script)
}

// compile is the table for what is wanted and the pods that there are.
func (l *live) compile() nft.Table {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := nft.NewTable("inet", l.tableName())
	device := l.device
	pods := fmt.Sprintf("iifname %q ", podPrefix+"*")
	t.Declare("pods", "type ifname . ipv4_addr")
	declarePublished(t)
	for _, key := range slices.Sorted(maps.Keys(l.pods)) {
		p := l.pods[key]
		if a, err := p.Port.IPv4(); err == nil && !p.Gone {
			t.AddElement("pods", fmt.Sprintf("%q . %s", hostDevice(p.Port.ID), a), "")
			publish(t, p, a)
		}
	}
	t.Chains["sources"] = nft.Chain{Hook: "type filter hook prerouting priority -310; policy accept", Rules: []string{
		pods + "iifname . ip saddr != @pods drop",
		pods + "meta nfproto ipv6 drop",
	}}
	var closed []string
	for _, a := range l.cfg.Closed {
		closed = append(closed, fmt.Sprintf("%sip daddr %s drop", pods, a))
	}
	closed = append(closed, "ct state established,related accept")
	if l.cfg.TunnelPort > 0 {
		closed = append(closed, fmt.Sprintf("%sudp dport %d drop", pods, l.cfg.TunnelPort)) // nobody would know it from this machine's own
	}
	t.Chains["ways"] = nft.Chain{Hook: "type filter hook forward priority -10; policy accept", Rules: append(closed,
		fmt.Sprintf("iifname != %q accept", device),
		"ct status dnat accept", // by a service
		fmt.Sprintf("oifname %q accept", podPrefix+"*"),
		"drop",
	)}
	declareOrigins(t, device, l.want.Worker)
	declareExposed(t, l.want.Worker)
	cluster := l.want.PodCIDR.Masked()
	t.Chains["leave"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: []string{
		"ct status dnat ip saddr . ip daddr @loops masquerade",                                                   // a pod that reaches itself by the machine's port
		fmt.Sprintf("oifname %q ip saddr != %s ct status dnat fib saddr type local masquerade", device, cluster), // of the machine itself
		fmt.Sprintf("ip saddr %s ip daddr != %s oifname != { %q, \"lo\" } masquerade", cluster, cluster, device),
	}}
	return t
}

// declarePublished has ports of this machine lead to pods: on all of its addresses, or on one.
func declarePublished(t nft.Table) {
	t.Declare("everywhere", "type inet_proto . inet_service : ipv4_addr . inet_service")
	t.Declare("at", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service")
	t.Declare("loops", "type ipv4_addr . ipv4_addr")
	dnat := []string{"dnat ip to ip daddr . meta l4proto . th dport map @at",
		"meta nfproto ipv4 fib daddr type local ip daddr != 127.0.0.0/8 dnat ip to meta l4proto . th dport map @everywhere"}
	t.Chains["published"] = nft.Chain{Hook: "type nat hook prerouting priority -99; policy accept", Rules: dnat}
	t.Chains["published-here"] = nft.Chain{Hook: "type nat hook output priority -99; policy accept", Rules: dnat}
}

// publish fills in the ports of one pod. What is no port of IPv4 is left out.
func publish(t nft.Table, p *Pod, a netip.Addr) {
	for _, m := range p.Ports {
		proto := strings.ToLower(m.Protocol)
		if proto == "" {
			proto = "tcp"
		}
		if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) || m.HostPort < 1 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
			continue
		}
		at, to := fmt.Sprintf("%s . %d", proto, m.HostPort), fmt.Sprintf("%s . %d", a, m.ContainerPort)
		host, err := netip.ParseAddr(m.HostIP)
		switch {
		case m.HostIP == "" || err == nil && host == netip.IPv4Unspecified():
			t.AddElement("everywhere", at, to)
		case err == nil && host.Is4():
			t.AddElement("at", host.String()+" . "+at, to)
		default:
			continue
		}
		t.AddElement("loops", fmt.Sprintf("%s . %[1]s", a), "")
	}
}
