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
	device, cluster6 := l.device, l.want.PodCIDR6.Masked()
	declarePublished(t, cluster6.IsValid())
	l.declareSources(t)
	for _, key := range slices.Sorted(maps.Keys(l.pods)) {
		l.admitted(t, l.pods[key])
	}
	t.Chains["ways"] = nft.Chain{Hook: "type filter hook forward priority -10; policy accept", Rules: append(l.closed(),
		fmt.Sprintf("iifname != %q accept", device),
		"ct status dnat accept", // by a service
		fmt.Sprintf("oifname %q accept", podPrefix+"*"),
		"drop",
	)}
	declareOrigins(t, device, l.want.Worker)
	declareExposed(t, l.want.Worker)
	leave := leaves("ip", "loops", device, l.want.PodCIDR.Masked())
	if cluster6.IsValid() {
		leave = append(leave, leaves("ip6", "loops6", device, cluster6)...)
	}
	t.Chains["leave"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: leave}
	return t
}

// fromPods begins rules about what pods send.
const fromPods = `iifname "` + podPrefix + `*" `

// declareSources has pods send with their own addresses only. With IPv6 they so ask for no
// neighbours, which they know, and advertise nothing.
func (l *live) declareSources(t nft.Table) {
	t.Declare("pods", "type ifname . ipv4_addr")
	rules := []string{fromPods + "iifname . ip saddr != @pods drop"}
	if l.want.PodCIDR6.IsValid() {
		t.Declare("pods6", "type ifname . ipv6_addr")
		rules = append(rules, fromPods+"iifname . ip6 saddr != @pods6 drop")
	} else {
		rules = append(rules, fromPods+"meta nfproto ipv6 drop")
	}
	t.Chains["sources"] = nft.Chain{Hook: "type filter hook prerouting priority -310; policy accept", Rules: rules}
}

// closed is what pods do not reach, and that what was let through once goes on.
func (l *live) closed() (rules []string) {
	for _, a := range l.cfg.Closed {
		rules = append(rules, fmt.Sprintf("%sip daddr %s drop", fromPods, a))
	}
	rules = append(rules, "ct state established,related accept")
	if l.cfg.TunnelPort > 0 {
		rules = append(rules, fmt.Sprintf("%sudp dport %d drop", fromPods, l.cfg.TunnelPort)) // nobody would know it from this machine's own
	}
	return rules
}

// admitted fills in one pod.
func (l *live) admitted(t nft.Table, p *Pod) {
	if p.Gone {
		return
	}
	device := hostDevice(p.Port.ID)
	if a, err := p.Port.IPv4(); err == nil {
		t.AddElement("pods", fmt.Sprintf("%q . %s", device, a), "")
		publish(t, p, a)
	}
	if a := p.Port.In(l.want.PodCIDR6); a.IsValid() {
		t.AddElement("pods6", fmt.Sprintf("%q . %s", device, a), "")
		publish(t, p, a)
	}
}

// leaves is who takes the machine's address, of one family.
func leaves(ip, loops, device string, cluster netip.Prefix) []string {
	return []string{
		fmt.Sprintf("ct status dnat %s saddr . %[1]s daddr @%s masquerade", ip, loops),                               // a pod that reaches itself by the machine's port
		fmt.Sprintf("oifname %q %s saddr != %s ct status dnat fib saddr type local masquerade", device, ip, cluster), // of the machine itself
		fmt.Sprintf("%s saddr %s %[1]s daddr != %[2]s oifname != { %[3]q, \"lo\" } masquerade", ip, cluster, device),
	}
}

// declarePublished has ports of this machine lead to pods: on all of its addresses, or on one.
func declarePublished(t nft.Table, dual bool) {
	dnat := publishes(t, "ip", "ipv4", "127.0.0.0/8", "")
	if dual {
		dnat = append(dnat, publishes(t, "ip6", "ipv6", "::1", "6")...)
	}
	t.Chains["published"] = nft.Chain{Hook: "type nat hook prerouting priority -99; policy accept", Rules: dnat}
	t.Chains["published-here"] = nft.Chain{Hook: "type nat hook output priority -99; policy accept", Rules: dnat}
}

// publishes is that for one family: the sets have a suffix.
func publishes(t nft.Table, ip, proto, loopback, suffix string) []string {
	addr := proto + "_addr"
	t.Declare("everywhere"+suffix, "type inet_proto . inet_service : "+addr+" . inet_service")
	t.Declare("at"+suffix, "type "+addr+" . inet_proto . inet_service : "+addr+" . inet_service")
	t.Declare("loops"+suffix, "type "+addr+" . "+addr)
	return []string{fmt.Sprintf("dnat %s to %[1]s daddr . meta l4proto . th dport map @at%s", ip, suffix),
		fmt.Sprintf("meta nfproto %s fib daddr type local %s daddr != %s dnat %[2]s to meta l4proto . th dport map @everywhere%[4]s", proto, ip, loopback, suffix)}
}

// publish fills in the ports of one pod at one of its addresses. What is no port of its family
// is left out.
func publish(t nft.Table, p *Pod, a netip.Addr) {
	suffix, all := "", netip.IPv4Unspecified()
	if a.Is6() {
		suffix, all = "6", netip.IPv6Unspecified()
	}
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
		case m.HostIP == "" || err == nil && host == all:
			t.AddElement("everywhere"+suffix, at, to)
		case err == nil && host.Is4() == a.Is4():
			t.AddElement("at"+suffix, host.String()+" . "+at, to)
		default:
			continue
		}
		t.AddElement("loops"+suffix, fmt.Sprintf("%s . %[1]s", a), "")
	}
}
