package network

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Exposed is a port that another service wants to be reached from outside.
type Exposed struct {
	ID, Owner   string // of the floating IP; what it goes with, "": nothing, it stays
	Port        string
	Description string
	Network     string     // external; "": the one that the port's router has its gateway on
	Address     netip.Addr // not valid: any
}

// Expose gives a port a floating IP. One that it has stays if it is of the address that is
// wanted; else the project's of that address is taken, or one is made. The address is not
// valid where there is no way out and none was named.
func (s *Service) Expose(ctx context.Context, e Exposed) (at netip.Addr, err error) {
	if f, ok := s.exposes(&e); ok {
		return f.Address, nil
	}
	err = s.do(ctx, nil, func(c *call) error {
		at = netip.Addr{}
		p, err := get(c, c.ports, e.Port)
		if err != nil {
			return c.port.notFound(e.Port)
		}
		out, err := c.wayIn(p, e.Network)
		if err != nil || out == nil {
			return err
		}
		f, err := c.exposing(&e, p, out)
		if err != nil {
			return err
		}
		at = f.Address
		if f.PortID == p.ID {
			return nil
		}
		if f.PortID != "" {
			return conflict("FloatingIPInUse", "Floating IP %s is associated with another port.", f.Address)
		}
		for _, x := range by(c, c.floating, "port", p.ID) { // of another address than is wanted now
			if x.NetworkID == out.ID {
				free := *x
				free.PortID, free.Fixed, free.RouterID, free.Status = "", netip.Addr{}, "", statusDown
				if err := c.fip.put(c, x, &free); err != nil {
					return err
				}
			}
		}
		now := *f
		if err := c.mapTo(&now, p, netip.Addr{}); err != nil {
			return err
		}
		return c.fip.put(c, f, &now)
	})
	return at, err
}

// exposes is the floating IP that the port has already as it is wanted.
func (s *Service) exposes(e *Exposed) (*FloatingIP, bool) {
	for _, f := range s.floating.By("port", e.Port) {
		if e.fits(f, f.NetworkID) && (f.ID != e.ID || f.Owner == e.Owner) {
			return f, true
		}
	}
	return nil, false
}

// fits tells whether a floating IP is what is wanted.
func (e *Exposed) fits(f *FloatingIP, network string) bool {
	return f.NetworkID == network && (e.Network == "" || e.Network == network) && (!e.Address.IsValid() || f.Address == e.Address)
}

// wayIn is the external network that a port can be reached from; nil: there is none.
func (c *call) wayIn(p *Port, named string) (*Network, error) {
	if named != "" {
		n, err := get(c, c.networks, named)
		if err != nil || !c.opensTo(n, p.ProjectID) {
			return nil, c.network.notFound(named)
		}
		return n, nil
	}
	var found *Network
	for _, f := range p.FixedIPs {
		for _, leg := range by(c, c.ports, "subnet", f.SubnetID) {
			if leg.DeviceOwner != ownerInterface {
				continue
			}
			r, err := get(c, c.routers, leg.DeviceID)
			if err != nil || r.GatewayNet == "" {
				continue
			}
			n, err := get(c, c.networks, r.GatewayNet)
			if err != nil || !c.opensTo(n, p.ProjectID) {
				continue
			}
			sub, err := get(c, c.subnets, f.SubnetID)
			gateway := err == nil && slices.ContainsFunc(leg.FixedIPs, func(x nodeapi.FixedIP) bool { return x.Addr == sub.Gateway })
			if found == nil || gateway {
				found = n
			}
		}
	}
	return found, nil
}

// exposing finds the floating IP for a port, or makes it.
func (c *call) exposing(e *Exposed, p *Port, out *Network) (*FloatingIP, error) {
	own, err := get(c, c.floating, e.ID)
	switch {
	case err == nil && !e.fits(own, out.ID):
		if err := c.fip.drop(c, own.ID); err != nil {
			return nil, err
		}
	case err == nil && own.Owner != e.Owner:
		now := *own
		now.Owner = e.Owner
		return &now, c.fip.put(c, own, &now)
	case err == nil:
		return own, nil
	case !errs.Is(err, errs.NotFound):
		return nil, err
	}
	if e.Address.IsValid() {
		for _, f := range by(c, c.floating, "project", p.ProjectID) {
			if e.fits(f, out.ID) && f.ID != e.ID {
				return f, nil
			}
		}
	}
	if err := c.within("floatingip", p.ProjectID, func() int { return c.floating.TxCount(c.tx, "project", p.ProjectID) }, 1); err != nil {
		return nil, err
	}
	f := &FloatingIP{Base: Base{ID: e.ID, ProjectID: p.ProjectID, Description: e.Description, Created: c.now, Updated: c.now, Revision: 1}, NetworkID: out.ID, Owner: e.Owner}
	given := attr.Values{}
	if e.Address.IsValid() {
		given["floating_ip_address"] = e.Address
	}
	if err := createFloating(c, f, given); err != nil {
		return nil, err
	}
	return f, c.floating.TxCreate(c.tx, f)
}

// Conceal removes the floating IPs that were made for an owner but for those that are kept.
func (s *Service) Conceal(ctx context.Context, owner string, keep ...string) error {
	for _, f := range s.floating.By("owner", owner) {
		if slices.Contains(keep, f.ID) {
			continue
		}
		err := s.do(ctx, nil, func(c *call) error { return c.fip.drop(c, f.ID) })
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// ExposedAt is the floating IP of a port; not valid: it has none.
func (s *Service) ExposedAt(port string) netip.Addr {
	out := netip.Addr{}
	for _, f := range s.floating.By("port", port) {
		if !out.IsValid() || f.Address.Less(out) {
			out = f.Address
		}
	}
	return out
}
