package network

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Wanted is a network with all that it needs, as those make one who plug containers
// into it.
type Wanted struct {
	Name    string
	Subnets []WantedSubnet // none: one that nothing of the project overlaps
	Inside  bool           // without a way out
	Out     string         // the external network; "": if there is one alone, that
}

// WantedSubnet is a subnet of it; the zero values are the service's choice.
type WantedSubnet struct {
	CIDR, Range netip.Prefix
	Gateway     netip.Addr
	SLAAC       bool // of IPv6: routers advertise it, and ports have the addresses of their MACs
}

// pools are the range as pools of the subnet, without the gateway and the addresses that
// are nobody's.
func (w WantedSubnet) pools() (out []any) {
	start, end, gateway := w.Range.Masked().Addr(), lastOf(w.Range), w.Gateway
	if start == w.CIDR.Masked().Addr() {
		start = start.Next()
	}
	if end == lastOf(w.CIDR) && end.Is4() {
		end = end.Prev()
	}
	if !gateway.IsValid() {
		gateway = w.CIDR.Masked().Addr().Next()
	}
	add := func(from, to netip.Addr) {
		if from.Compare(to) <= 0 {
			out = append(out, map[string]any{"start": from, "end": to})
		}
	}
	if gateway.Compare(start) < 0 || gateway.Compare(end) > 0 {
		add(start, end)
		return out
	}
	add(start, gateway.Prev())
	add(gateway.Next(), end)
	return out
}

// privateRanges are where subnets are chosen from, one /24 after the other.
var privateRanges = netip.MustParsePrefix("172.20.0.0/14")

// MakeNetwork makes a network of the caller's project, with subnets, and with a router
// to the outside if there is exactly one external network. also happens in the same
// transaction; router is "" when there is none.
func (s *Service) MakeNetwork(ctx context.Context, who *policy.Credentials, w Wanted, also func(tx *store.Tx, id, router string) error) error {
	return s.do(ctx, nil, func(c *call) error {
		n, err := c.network.add(c, who.ProjectID, attr.Values{"name": w.Name})
		if err != nil {
			return err
		}
		if len(w.Subnets) == 0 {
			cidr, err := c.freePrefix(who.ProjectID)
			if err != nil {
				return err
			}
			w.Subnets = []WantedSubnet{{CIDR: cidr}}
		}
		var subs []*Subnet
		for _, x := range w.Subnets {
			given := attr.Values{"name": w.Name, "network_id": n.ID, "ip_version": versionOf(x.CIDR.Addr()), "cidr": x.CIDR.Masked()}
			if x.Gateway.IsValid() {
				given["gateway_ip"] = x.Gateway
			}
			if x.Range.IsValid() {
				given["allocation_pools"] = x.pools()
			}
			if x.SLAAC {
				given["ipv6_ra_mode"], given["ipv6_address_mode"] = modeSLAAC, modeSLAAC
			}
			sub, err := c.subnet.add(c, who.ProjectID, given)
			if err != nil {
				return err
			}
			subs = append(subs, sub)
		}
		router, out := "", c.wayOut(who.ProjectID)
		if w.Out != "" {
			if out, err = get(c, c.networks, w.Out); err != nil || !c.opensTo(out, who.ProjectID) {
				return c.network.notFound(w.Out)
			}
		}
		if out != nil && !w.Inside {
			if router, err = c.routerOut(who.ProjectID, w.Name, out, subs); err != nil {
				return err
			}
		}
		return also(c.tx, n.ID, router)
	})
}

// freePrefix finds a /24 that no network overlaps which the project can be on.
func (c *call) freePrefix(project string) (netip.Prefix, error) {
	var taken []netip.Prefix
	for _, n := range c.networks.All() {
		if n.ProjectID != project && !n.External && !c.sharedWith(project, n.ID) {
			continue
		}
		for _, sub := range by(c, c.subnets, "network", n.ID) {
			taken = append(taken, sub.CIDR)
		}
	}
	for _, sub := range by(c, c.subnets, "project", project) { // also of this transaction
		taken = append(taken, sub.CIDR)
	}
	for p := netip.PrefixFrom(privateRanges.Addr(), 24); privateRanges.Contains(p.Addr()); p = netip.PrefixFrom(lastOf(p).Next(), 24) {
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errs.Conflictf("no subnet of %s is free: choose one", privateRanges)
}

// wayOut is the external network that a project's routers can have, if there is one alone.
func (c *call) wayOut(project string) *Network {
	var found *Network
	for _, n := range c.networks.All() {
		if !c.opensTo(n, project) || len(by(c, c.subnets, "network", n.ID)) == 0 {
			continue
		}
		if found != nil {
			return nil
		}
		found = n
	}
	return found
}

// opensTo tells whether a network is external, and a project may use it as such.
func (c *call) opensTo(n *Network, project string) bool {
	return n.External && slices.ContainsFunc(by(c, c.rbacs, "object", n.ID), func(r *RBAC) bool {
		return r.Action == actExternal && (r.Target == everyone || r.Target == project)
	})
}

// routerOut makes a router for a network of its own, so that networks do not reach each other.
func (c *call) routerOut(project, name string, out *Network, subs []*Subnet) (string, error) {
	r, err := c.router.add(c, project, attr.Values{"name": name, "external_gateway_info": map[string]any{"network_id": out.ID}})
	if err != nil {
		return "", err
	}
	for _, sub := range subs {
		if _, _, err := c.plugSubnet(r, sub); err != nil {
			return "", err
		}
	}
	return r.ID, nil
}

// DropNetwork removes a network that MakeNetwork made, and its router. Absent is fine;
// Conflict: something is plugged in. also happens in the same transaction.
func (s *Service) DropNetwork(ctx context.Context, id, router string, also func(tx *store.Tx) error) error {
	return s.do(ctx, nil, func(c *call) error {
		for _, p := range by(c, c.ports, "network", id) { // before anything is changed
			if p.DeviceOwner != ownerDHCP && p.DeviceOwner != ownerHost && !(p.DeviceOwner == ownerInterface && p.DeviceID == router) {
				return conflict("NetworkInUse", "Unable to complete operation on network %s. There are one or more ports still in use on the network.", id)
			}
		}
		if r, err := get(c, c.routers, router); err == nil && router != "" {
			for _, sub := range by(c, c.subnets, "network", id) {
				if _, _, err := c.removeInterface(r, sub.ID, ""); err != nil && !errs.Is(err, errs.NotFound) {
					return err
				}
			}
			if err := c.router.drop(c, r.ID); err != nil {
				return err
			}
		}
		if _, err := get(c, c.networks, id); err == nil {
			if err := c.network.drop(c, id); err != nil {
				return err
			}
		}
		return also(c.tx)
	})
}

// ExternalNamed is the external network of an id or a name that a project may use.
func (s *Service) ExternalNamed(project, ref string) (string, error) {
	c, found := &call{Service: s}, ""
	for _, n := range s.networks.By("external", "yes") {
		if n.ID != ref && n.Name != ref || !c.opensTo(n, project) {
			continue
		}
		if found != "" {
			return "", errs.Invalidf("More than one external network is called %s: use an ID to be more specific.", ref)
		}
		found = n.ID
	}
	if found == "" {
		return "", s.network.notFound(ref)
	}
	return found, nil
}
