package netpolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
)

// State is what a cluster's API has, by namespace and name.
type State struct {
	Namespaces map[string]*Namespace
	Pods       map[string]*Pod
	Policies   map[string]*Policy
}

// Local is a pod of this node.
type Local struct {
	Namespace, Name string
	Device          string       // on the host
	Addrs           []netip.Addr // one of a family
}

func (l *Local) key() string { return l.Namespace + "/" + l.Name }

// compiler makes one table.
type compiler struct {
	*State
	table    nft.Table
	families []family
	local    map[string][]netip.Addr // of this node's pods, which the API may not know yet
	sorted   []*Policy
}

// family is what rules say of IPv4 or of IPv6. A rule is about one of them, or about both.
type family struct {
	ip     string // "": both
	addr   string // the type of an address
	suffix string // of the names of sets
	six    bool
}

// match is one of a rule.
type match struct {
	family
	text string
}

// with is both; "": what never is.
func (m match) with(o match) (string, bool) {
	words := slices.DeleteFunc([]string{m.text, o.text}, func(s string) bool { return s == "" })
	return strings.Join(words, " "), m.ip == "" || o.ip == "" || m.ip == o.ip
}

// Compile makes the table for this node's pods, which have IPv6 as well if the cluster is dual.
func Compile(name string, s *State, pods []Local, dual bool) nft.Table {
	c := &compiler{State: s, table: nft.NewTable("inet", name), families: []family{{ip: "ip", addr: "ipv4_addr"}}, local: map[string][]netip.Addr{}}
	if dual {
		c.families = append(c.families, family{ip: "ip6", addr: "ipv6_addr", suffix: "6", six: true})
	}
	for _, p := range pods {
		c.local[p.key()] = p.Addrs
	}
	for _, k := range sortedKeys(s.Policies) {
		c.sorted = append(c.sorted, s.Policies[k])
	}
	c.table.Declare("out", "type ifname : verdict")
	c.table.Declare("in", "type ifname : verdict")
	const tracked = "ct state established,related accept"
	c.table.Chains["egress"] = nft.Chain{Hook: "type filter hook forward priority 0; policy accept", Rules: []string{tracked, "iifname vmap @out"}}
	c.table.Chains["ingress"] = nft.Chain{Hook: "type filter hook forward priority 1; policy accept", Rules: []string{tracked, "oifname vmap @in"}}
	for _, p := range pods {
		c.isolate(&p)
	}
	return c.table
}

// isolate gives a pod the chains of its policies.
func (c *compiler) isolate(l *Local) {
	p := c.Pods[l.key()]
	if p == nil {
		return // it has just been deleted
	}
	var in, out []*Policy
	for _, x := range c.sorted {
		if x.Metadata.Namespace != l.Namespace || !x.Spec.PodSelector.Matches(p.Metadata.Labels) {
			continue
		}
		i, e := x.isolates()
		if i {
			in = append(in, x)
		}
		if e {
			out = append(out, x)
		}
	}
	if len(in) > 0 {
		c.table.AddElement("in", fmt.Sprintf("%q", l.Device), "goto "+c.chain(in, "in"))
	}
	if len(out) > 0 {
		c.table.AddElement("out", fmt.Sprintf("%q", l.Device), "goto "+c.chain(out, "out"))
	}
}

// chain is of a set of policies: what none lets through ends.
func (c *compiler) chain(all []*Policy, way string) string {
	var rules, keys []string
	for _, p := range all {
		keys = append(keys, p.Metadata.key())
		rules = append(rules, "jump "+c.policy(p, way))
	}
	name := "sel-" + hash(strings.Join(keys, " ")) + "-" + way
	if _, ok := c.table.Chains[name]; !ok {
		c.table.Chains[name] = nft.Chain{Rules: append(rules, "drop")}
	}
	return name
}

// policy is the chain of one in one direction.
func (c *compiler) policy(p *Policy, way string) string {
	name := "pol-" + hash(p.Metadata.key()) + "-" + way
	if _, ok := c.table.Chains[name]; ok {
		return name
	}
	var rules []string
	list, side := p.Spec.Ingress, "saddr"
	if way == "out" {
		list, side = p.Spec.Egress, "daddr"
	}
	for _, r := range list {
		peers := r.From
		if way == "out" {
			peers = r.To
		}
		for _, peer := range c.peers(p.Metadata.Namespace, peers, side) {
			for _, port := range c.ports(r.Ports) {
				if both, ok := peer.with(port); ok {
					rules = append(rules, strings.TrimSpace(both+" accept"))
				}
			}
		}
	}
	c.table.Chains[name] = nft.Chain{Rules: rules}
	return name
}

// peers are the matches of which one has to hold; an empty one always does.
func (c *compiler) peers(namespace string, peers []Peer, side string) []match {
	if len(peers) == 0 {
		return []match{{}}
	}
	var out []match
	for _, p := range peers {
		for _, f := range c.families {
			if p.IPBlock == nil {
				out = append(out, match{f, f.ip + " " + side + " @" + c.selected(namespace, &p, f)})
			} else if text := f.block(side, p.IPBlock.CIDR, p.IPBlock.Except); text != "" {
				out = append(out, match{f, text})
			}
		}
	}
	return out
}

// block is a match of a block of addresses; "": it is of a family that there is not, or of
// another, and matches nothing.
func (f family) block(side, block string, excepted []string) string {
	cidr, err := netip.ParsePrefix(block)
	if err != nil || cidr.Addr().Is6() != f.six {
		return ""
	}
	out := f.ip + " " + side + " " + cidr.Masked().String()
	var except []netip.Prefix
	for _, e := range excepted {
		if x, err := netip.ParsePrefix(e); err == nil && x.Addr().Is6() == f.six {
			except = append(except, x.Masked())
		}
	}
	for _, x := range disjoint(except) {
		out += " " + f.ip + " " + side + " != " + x.String()
	}
	return out
}

// disjoint drops prefixes that others contain.
func disjoint(list []netip.Prefix) (out []netip.Prefix) {
	slices.SortFunc(list, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, p := range list {
		if !slices.ContainsFunc(out, p.Overlaps) {
			out = append(out, p)
		}
	}
	return out
}

// selected is the set of the pods' addresses that a peer's selectors choose.
func (c *compiler) selected(namespace string, p *Peer, f family) string {
	own := ""
	if p.NamespaceSelector == nil {
		own = namespace
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic("netpolicy: a peer is no JSON: " + err.Error())
	}
	name := "set" + f.suffix + "-" + hash(own+" "+string(raw))
	if _, ok := c.table.Sets[name]; ok {
		return name
	}
	c.table.Declare(name, "type "+f.addr)
	wanted := map[string]bool{}
	for _, n := range c.Namespaces {
		wanted[n.Metadata.Name] = p.NamespaceSelector != nil && p.NamespaceSelector.Matches(n.Metadata.Labels)
	}
	for key, pod := range c.Pods {
		if ns := pod.Metadata.Namespace; ns != own && !wanted[ns] || p.PodSelector != nil && !p.PodSelector.Matches(pod.Metadata.Labels) {
			continue
		}
		if a := c.address(key, pod, f); a.IsValid() {
			c.table.AddElement(name, a.String(), "")
		}
	}
	return name
}

// address is a pod's of a family: of this node's own it is known first.
func (c *compiler) address(key string, p *Pod, f family) netip.Addr {
	all, ok := c.local[key]
	if !ok {
		all = p.addresses()
	}
	for _, a := range all {
		if a.Is6() == f.six {
			return a
		}
	}
	return netip.Addr{}
}

// ports are the matches of which one has to hold; an empty one always does.
func (c *compiler) ports(list []Port) []match {
	if len(list) == 0 {
		return []match{{}}
	}
	var out []match
	for _, p := range list {
		proto, err := protocolOf(p.Protocol)
		if err != nil {
			continue
		}
		text := "meta l4proto " + proto
		switch {
		case p.Port == nil:
		case p.Port.Name != "":
			for _, f := range c.families {
				out = append(out, match{f, text + " " + f.ip + " daddr . th dport @" + c.named(p.Port.Name, proto, f)})
			}
			continue
		case p.EndPort > p.Port.Number:
			text += fmt.Sprintf(" th dport %d-%d", p.Port.Number, p.EndPort)
		default:
			text += fmt.Sprintf(" th dport %d", p.Port.Number)
		}
		out = append(out, match{text: text})
	}
	return out
}

// named is the set of where pods have a port of that name.
func (c *compiler) named(name, proto string, f family) string {
	set := "port" + f.suffix + "-" + hash(name) + "-" + proto
	if _, ok := c.table.Sets[set]; ok {
		return set
	}
	c.table.Declare(set, "type "+f.addr+" . inet_service")
	for key, pod := range c.Pods {
		a := c.address(key, pod, f)
		if !a.IsValid() {
			continue
		}
		for _, x := range append(slices.Clone(pod.Spec.Containers), pod.Spec.InitContainers...) {
			for _, p := range x.Ports {
				if have, err := protocolOf(p.Protocol); err == nil && have == proto && p.Name == name && p.ContainerPort > 0 {
					c.table.AddElement(set, fmt.Sprintf("%s . %d", a, p.ContainerPort), "")
				}
			}
		}
	}
	return set
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
