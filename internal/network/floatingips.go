package network

import (
	"net/netip"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
)

func floatingResource(s *Service) *resource[FloatingIP] {
	base := (*FloatingIP).base
	return &resource[FloatingIP]{
		Service: s, name: "floatingip", plural: "floatingips", quota: "floatingip", coll: s.floating,
		base: base, notFound: missing("FloatingIPNotFound", "Floating IP %s could not be found"),
		hints: map[string]string{"port_id": "port", "router_id": "router", "floating_network_id": "network"},
		table: attr.NewTable("floatingip", common(base, false), []column[FloatingIP]{
			{Name: "floating_network_id", In: attr.Post, Required: true, Check: attr.UUID,
				Get: func(f *FloatingIP, _ *call) any { return f.NetworkID }, Set: func(f *FloatingIP, x any) { f.NetworkID = x.(string) }},
			{Name: "floating_ip_address", In: attr.Post, Own: "create", Check: attr.OrNone(attr.IP),
				Get: func(f *FloatingIP, _ *call) any { return f.Address.String() }},
			{Name: "subnet_id", In: attr.Post, Check: attr.OrNone(attr.UUID)},
			{Name: "port_id", In: both, Check: attr.OrNone(attr.UUID), Get: func(f *FloatingIP, _ *call) any { return orNil(f.PortID) }},
			{Name: "fixed_ip_address", In: both, Check: attr.OrNone(attr.IP), Get: func(f *FloatingIP, _ *call) any { return addrOrNil(f.Fixed) }},
			{Name: "router_id", Get: func(f *FloatingIP, _ *call) any { return orNil(f.RouterID) }},
			{Name: "status", Get: func(f *FloatingIP, _ *call) any { return f.Status }},
			word("dns_name", attr.Post, "", attr.DNS(maxText), func(f *FloatingIP) *string { return &f.DNSName }),
			word("dns_domain", attr.Post, "", attr.DNS(maxText), func(f *FloatingIP) *string { return &f.DNSDomain }),
			{Name: "port_details", NoFilter: true, NoSort: true, Get: portDetails},
		}),
		create: createFloating, update: updateFloating,
		remove: func(c *call, f *FloatingIP) error { return c.ports.TxDelete(c.tx, f.OwnPort) },
	}
}

func portDetails(f *FloatingIP, c *call) any {
	p, err := get(c, c.ports, f.PortID)
	if f.PortID == "" || err != nil {
		return nil
	}
	return map[string]any{"name": p.Name, "network_id": p.NetworkID, "mac_address": p.MAC, "admin_state_up": p.AdminUp,
		"status": p.Status, "device_id": p.DeviceID, "device_owner": p.DeviceOwner}
}

func badFloating(format string, args ...any) error {
	return errsBad("BadRequest", "Bad floatingip request: "+format+".", args...)
}

func createFloating(c *call, f *FloatingIP, given attr.Values) error {
	n, err := c.network.find(c, f.NetworkID)
	if err != nil {
		return err
	}
	if !n.External {
		return badFloating("Network %s is not a valid external network", n.ID)
	}
	p := &Port{Base: Base{ID: uuid.NewString(), Created: c.now, Updated: c.now, Revision: 1}, NetworkID: n.ID,
		DeviceID: f.ID, DeviceOwner: ownerFloating, AdminUp: true, Status: "N/A", VNICType: "normal"}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	if err := c.floatingAddress(p, given); err != nil {
		return err
	}
	f.OwnPort, f.Address, f.Status = p.ID, p.FixedIPs[0].Addr, statusDown
	if err := c.ports.TxCreate(c.tx, p); err != nil {
		return err
	}
	return c.associate(f, given)
}

// floatingAddress takes an IPv4 address of the external network.
func (c *call) floatingAddress(p *Port, given attr.Values) error {
	entry := map[string]any{}
	if a, ok := given["floating_ip_address"].(netip.Addr); ok {
		entry["ip_address"] = a
	}
	if id, ok := given["subnet_id"].(string); ok {
		entry["subnet_id"] = id
	}
	subnets := by(c, c.subnets, "network", p.NetworkID)
	if len(entry) > 0 {
		if err := c.allocateAsked(p, subnets, []map[string]any{entry}); err != nil {
			return err
		}
		if !p.FixedIPs[0].Addr.Is4() {
			return badFloating("Floating IPs are IPv4 addresses")
		}
		return nil
	}
	if err := c.allocateAny(p, subnets, 4); err != nil {
		return err
	}
	if len(p.FixedIPs) == 0 {
		return badFloating("Network %s does not contain any IPv4 subnet", p.NetworkID)
	}
	return nil
}

func updateFloating(c *call, _, f *FloatingIP, given attr.Values) error {
	return c.associate(f, given)
}

// associate follows port_id and fixed_ip_address.
func (c *call) associate(f *FloatingIP, given attr.Values) error {
	id, named := given["port_id"]
	want, fixed := given["fixed_ip_address"].(netip.Addr)
	if !named && fixed && f.PortID != "" {
		id, named = f.PortID, true
	}
	if !named && fixed || named && id == nil && fixed {
		return badFloating("fixed_ip_address cannot be specified without a port_id")
	}
	if !named {
		return nil
	}
	f.PortID, f.Fixed, f.RouterID, f.Status = "", netip.Addr{}, "", statusDown
	if id == nil {
		return nil
	}
	p, err := c.port.find(c, id.(string))
	if err != nil {
		return err
	}
	if p.ProjectID != f.ProjectID && !c.admin() {
		return badFloating("Port %s is associated with a different tenant than Floating IP %s and therefore cannot be bound", p.ID, f.ID)
	}
	return c.mapTo(f, p, want)
}

// mapTo finds the address of the port and the router that lead to it.
func (c *call) mapTo(f *FloatingIP, p *Port, want netip.Addr) error {
	subnet, addr, several := "", netip.Addr{}, false
	for _, x := range p.FixedIPs {
		if !x.Addr.Is4() || want.IsValid() && x.Addr != want {
			continue
		}
		several = addr.IsValid()
		subnet, addr = x.SubnetID, x.Addr
	}
	switch {
	case !addr.IsValid() && want.IsValid():
		return badFloating("Port %s does not have fixed ip %s", p.ID, want)
	case !addr.IsValid():
		return badFloating("Cannot add floating IP to port %s that has no fixed IPv4 addresses", p.ID)
	case several:
		return badFloating("Port %s has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP", p.ID)
	}
	if o, used := c.floating.TxUnique(c.tx, "fixed", p.ID+"/"+addr.String()+"/"+f.NetworkID); used && o.ID != f.ID {
		return conflict("FloatingIPPortAlreadyAssociated", "Cannot associate floating IP %s (%s) with port %s using fixed IP %s, as that fixed IP already has a floating IP on external network %s.",
			f.Address, f.ID, p.ID, addr, f.NetworkID)
	}
	s, err := get(c, c.subnets, subnet)
	if err != nil {
		return err
	}
	router, ok := c.routerFor(s, f.NetworkID)
	if !ok {
		return errs.Coded(errs.NotFound, "ExternalGatewayForFloatingIPNotFound", "External network %s is not reachable from subnet %s.  Therefore, cannot associate Port %s with a Floating IP.",
			f.NetworkID, subnet, p.ID)
	}
	f.PortID, f.Fixed, f.RouterID, f.Status = p.ID, addr, router, statusActive
	return nil
}

// unmap frees the floating IPs of those addresses of a port.
func (c *call) unmap(port string, which func(netip.Addr) bool) error {
	for _, f := range by(c, c.floating, "port", port) {
		if !which(f.Fixed) {
			continue
		}
		now := *f
		now.PortID, now.Fixed, now.RouterID, now.Status = "", netip.Addr{}, "", statusDown
		if err := c.fip.put(c, f, &now); err != nil {
			return err
		}
	}
	return nil
}

// dropFloating deletes the floating IPs of an external network that map to
// nothing (neutron/db/l3_db.py, delete_disassociated_floatingips).
func (c *call) dropFloating(network string) error {
	for _, f := range by(c, c.floating, "network", network) {
		if f.PortID != "" {
			continue
		}
		if err := c.ports.TxDelete(c.tx, f.OwnPort); err != nil {
			return err
		}
		if err := c.floating.TxDelete(c.tx, f.ID); err != nil {
			return err
		}
	}
	return nil
}
