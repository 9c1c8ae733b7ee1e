package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// flows selects connections that have one of some addresses, by zone. It
// implements netlink.CustomConntrackFilter.
type flows map[uint16]map[netip.Addr]bool

func (f flows) add(zone uint16, a netip.Addr) {
	if f[zone] == nil {
		f[zone] = map[netip.Addr]bool{}
	}
	f[zone][a] = true
}

// MatchConntrackFlow tells whether a connection is selected.
func (f flows) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	addrs := f[c.Zone]
	return addrs != nil && slices.ContainsFunc([]netip.Addr{
		addrOf(c.Forward.SrcIP), addrOf(c.Forward.DstIP), addrOf(c.Reverse.SrcIP), addrOf(c.Reverse.DstIP),
	}, func(a netip.Addr) bool { return addrs[a] })
}

// drop forgets the selected connections of a namespace.
func (f flows) drop(ns *netns.NS) error {
	if len(f) == 0 {
		return nil
	}
	return ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("opening conntrack in %s: %w", ns.Name, err)
		}
		defer h.Close()
		_, err4 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, f)
		_, err6 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, f)
		return errors.Join(err4, err6)
	})
}

// forget ends the connections that rules of old let through and those of now
// may not: of ports that lost a group or a rule, and with addresses that left a
// group. What is still allowed is picked up again by its next packet. It also
// ends those of a port that has arrived from another node: of them this node may
// have seen one direction only, and would take the other's packets for invalid
// until the half-known connection has timed out.
func (p *Plane) forget(old, now *nodeapi.NetState) {
	f := flows{}
	before, lost, left := shrunk(old, now)
	for i := range now.Ports {
		port := &now.Ports[i]
		was, known := before[port.ID]
		if !known || !port.Local || !port.PortSecurity {
			continue
		}
		zone := p.zones[port.NetworkID]
		tightened := !was.PortSecurity || !was.Local
		for _, id := range was.SecurityGroups {
			tightened = tightened || lost[id] || !slices.Contains(port.SecurityGroups, id)
			for _, a := range left[id] {
				f.add(zone, a)
			}
		}
		if tightened {
			for _, ip := range port.FixedIPs {
				f.add(zone, ip.Addr)
			}
		}
	}
	if err := f.drop(p.node); err != nil {
		p.log.Warn("forgetting connections that rules no longer allow", "err", err)
	}
}

// shrunk compares two states: the ports of the old one, the groups that lost a
// rule, and per group the addresses that left a group which its rules name.
func shrunk(old, now *nodeapi.NetState) (map[string]*nodeapi.Port, map[string]bool, map[string][]netip.Addr) {
	ports := make(map[string]*nodeapi.Port, len(old.Ports))
	for i := range old.Ports {
		ports[old.Ports[i].ID] = &old.Ports[i]
	}
	groups := make(map[string]*nodeapi.SecurityGroup, len(now.SecurityGroups))
	for i := range now.SecurityGroups {
		groups[now.SecurityGroups[i].ID] = &now.SecurityGroups[i]
	}
	lost, gone := map[string]bool{}, map[string][]netip.Addr{}
	for i := range old.SecurityGroups {
		was := &old.SecurityGroups[i]
		is := groups[was.ID]
		if is == nil {
			lost[was.ID] = true
			gone[was.ID] = was.Members
			continue
		}
		lost[was.ID] = slices.ContainsFunc(was.Rules, func(r nodeapi.Rule) bool { return !hasRule(is.Rules, r) })
		if !slices.Equal(was.Members, is.Members) {
			gone[was.ID] = without(was.Members, is.Members)
		}
	}
	left := map[string][]netip.Addr{}
	for i := range old.SecurityGroups {
		for _, r := range old.SecurityGroups[i].Rules {
			if r.RemoteGroupID != "" {
				left[old.SecurityGroups[i].ID] = append(left[old.SecurityGroups[i].ID], gone[r.RemoteGroupID]...)
			}
		}
	}
	return ports, lost, left
}

func hasRule(rules []nodeapi.Rule, r nodeapi.Rule) bool {
	return slices.ContainsFunc(rules, func(o nodeapi.Rule) bool { o.ID = r.ID; return o == r })
}

func without(a, b []netip.Addr) []netip.Addr {
	keep := make(map[netip.Addr]bool, len(b))
	for _, x := range b {
		keep[x] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(x netip.Addr) bool { return keep[x] })
}

// forget ends the connections of a router over floating IPs that are gone, and
// those that a new floating IP shall carry from now on.
func (r *router) forget(old, now *nodeapi.Router) error {
	f := flows{}
	for _, pair := range [][2]*nodeapi.Router{{old, now}, {now, old}} {
		for _, fip := range pair[0].FloatingIPs {
			if old.ID != "" && !slices.ContainsFunc(pair[1].FloatingIPs, func(o nodeapi.FloatingIP) bool {
				return o.Floating == fip.Floating && o.Fixed == fip.Fixed
			}) {
				f.add(0, fip.Floating)
				f.add(0, fip.Fixed)
			}
		}
	}
	return f.drop(r.ns)
}
