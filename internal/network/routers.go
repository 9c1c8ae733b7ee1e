package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func routerResource(s *Service) *resource[Router] {
	base := (*Router).base
	return &resource[Router]{
		Service: s, name: "router", plural: "routers", quota: "router", coll: s.routers,
		base: base, notFound: missing("RouterNotFound", "Router %s could not be found"),
		table: attr.NewTable("router", common(base, true), zones(func(r *Router) *[]string { return &r.AZHints }), []column[Router]{
			boolean("admin_state_up", both, "", true, func(r *Router) *bool { return &r.AdminUp }),
			{Name: "status", Get: func(*Router, *call) any { return statusActive }},
			{Name: "external_gateway_info", In: both, NoFilter: true, NoSort: true, Check: attr.OrNone(gatewayCheck), Get: showGateway},
			{Name: "routes", In: attr.Put, NoFilter: true, NoSort: true, Check: attr.NoneAs([]any{}, routesCheck),
				Get: func(r *Router, _ *call) any { return list(r.Routes) }, Set: func(r *Router, x any) { r.Routes = toRoutes(x) }},
		}),
		create: func(c *call, r *Router, given attr.Values) error { return c.setGateway(r, given, "create") },
		update: updateRouter, remove: removeRouter,
	}
}

func gatewayCheck(v any) (any, error) {
	if m, ok := v.(map[string]any); ok && len(m) == 0 {
		return nil, nil // upstream clears the gateway for {} too
	}
	if m, ok := v.(map[string]any); ok {
		// Clients echo what they were shown.
		if _, has := m["qos_policy_id"]; has && m["qos_policy_id"] == nil {
			delete(m, "qos_policy_id")
		}
	}
	fixed := attr.List(maxFixedIPs, attr.Dict(map[string]attr.Check{"subnet_id": attr.OrNone(attr.UUID), "ip_address": attr.OrNone(attr.IP)}))
	return attr.Dict(map[string]attr.Check{"network_id": attr.UUID, "enable_snat": attr.Bool,
		"external_fixed_ips": attr.NoneAs([]any{}, fixed)}, "network_id")(v)
}

func showGateway(r *Router, c *call) any {
	if r.GatewayNet == "" {
		return nil
	}
	ips := []map[string]string{}
	if p, err := get(c, c.ports, r.GatewayID); err == nil {
		for _, f := range p.FixedIPs {
			ips = append(ips, map[string]string{"subnet_id": f.SubnetID, "ip_address": f.Addr.String()})
		}
	}
	return map[string]any{"network_id": r.GatewayNet, "enable_snat": r.EnableSNAT, "external_fixed_ips": ips}
}

func badRouter(format string, args ...any) error {
	return errsBad("BadRequest", "Bad router request: "+format+".", args...)
}

// setGateway follows external_gateway_info: it makes, moves or removes the gateway port.
func (c *call) setGateway(r *Router, given attr.Values, op string) error {
	info, ok := given["external_gateway_info"]
	if !ok {
		return nil
	}
	want, _ := info.(map[string]any)
	t := c.router.targetOf(c, r)
	for k := range want {
		if err := c.enforce(op+"_router:external_gateway_info:"+k, t); err != nil {
			return err
		}
	}
	network, _ := want["network_id"].(string)
	if r.GatewayNet != "" && r.GatewayNet != network {
		if err := c.dropGateway(r); err != nil {
			return err
		}
		r.GatewayNet, r.GatewayID, r.EnableSNAT = "", "", false
	}
	if network == "" {
		return nil
	}
	r.EnableSNAT = true
	if v, ok := want["enable_snat"].(bool); ok {
		r.EnableSNAT = v
	}
	fixed, asked := want["external_fixed_ips"].([]any)
	if r.GatewayNet == network {
		if !asked {
			return nil
		}
		return c.moveGateway(r, fixed)
	}
	n, err := c.network.find(c, network)
	if err != nil {
		return err
	}
	if !n.External {
		return badRouter("Network %s is not an external network", network)
	}
	return c.makeGateway(r, n, fixed)
}

func (c *call) makeGateway(r *Router, n *Network, fixed []any) error {
	if err := c.overlapsGateway(r, n.ID); err != nil {
		return err
	}
	p := c.leg(r, n.ID, ownerGateway)
	p.ProjectID = ""
	given := attr.Values{}
	if len(fixed) > 0 {
		given["fixed_ips"] = fixed
	}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	if err := c.allocate(p, given); err != nil {
		return err
	}
	if len(p.FixedIPs) == 0 {
		return badRouter("No IPs available for external network %s", n.ID)
	}
	r.GatewayNet, r.GatewayID = n.ID, p.ID
	return c.ports.TxCreate(c.tx, p)
}

// overlapsGateway refuses an external network whose subnets overlap with the router's own.
func (c *call) overlapsGateway(r *Router, network string) error {
	for _, out := range by(c, c.subnets, "network", network) {
		for _, s := range c.routerSubnets(r.ID) {
			if s.CIDR.Overlaps(out.CIDR) {
				return overlapError(s, out)
			}
		}
	}
	return nil
}

func overlapError(a, b *Subnet) error {
	return badRouter("Cidr %s of subnet %s overlaps with cidr %s of subnet %s", a.CIDR, a.ID, b.CIDR, b.ID)
}

func (c *call) moveGateway(r *Router, fixed []any) error {
	old, err := get(c, c.ports, r.GatewayID)
	if err != nil {
		return err
	}
	now := *old
	if err := c.allocate(&now, attr.Values{"fixed_ips": fixed}); err != nil {
		return err
	}
	return c.port.put(c, old, &now)
}

// dropGateway deletes the gateway port; the router, which may be the store's, stays as it is.
func (c *call) dropGateway(r *Router) error {
	if r.GatewayNet == "" {
		return nil
	}
	for _, f := range by(c, c.floating, "router", r.ID) {
		if f.NetworkID == r.GatewayNet {
			return conflict("RouterExternalGatewayInUseByFloatingIp", "Gateway cannot be updated for router %s, since a gateway to external network %s is required by one or more floating IPs.", r.ID, r.GatewayNet)
		}
	}
	return c.ports.TxDelete(c.tx, r.GatewayID)
}

// leg is a new port of the router.
func (c *call) leg(r *Router, network, owner string) *Port {
	return &Port{Base: Base{ID: uuid.NewString(), ProjectID: r.ProjectID, Created: c.now, Updated: c.now, Revision: 1}, NetworkID: network,
		DeviceID: r.ID, DeviceOwner: owner, AdminUp: true, Status: statusActive, VNICType: "normal"}
}

func (c *call) interfaces(router string) []*Port {
	var out []*Port
	for _, p := range by(c, c.ports, "device", router) {
		if p.DeviceOwner == ownerInterface {
			out = append(out, p)
		}
	}
	return out
}

// routerSubnets are the subnets that the router has an interface on.
func (c *call) routerSubnets(router string) []*Subnet {
	var out []*Subnet
	for _, p := range c.interfaces(router) {
		for _, f := range p.FixedIPs {
			if s, err := get(c, c.subnets, f.SubnetID); err == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

func updateRouter(c *call, old, r *Router, given attr.Values) error {
	if err := c.setGateway(r, given, "update"); err != nil {
		return err
	}
	if slices.Equal(old.Routes, r.Routes) {
		return nil
	}
	return c.checkRoutes(r)
}

// checkRoutes holds extra routes to next hops that the router can reach
// (neutron/db/extraroute_db.py, _validate_routes).
func (c *call) checkRoutes(r *Router) error {
	if len(r.Routes) > maxRoutes {
		return errsBad("RoutesExhausted", "Unable to complete operation for %s. The number of routes exceeds the maximum %d.", r.ID, maxRoutes)
	}
	legs := c.interfaces(r.ID)
	if p, err := get(c, c.ports, r.GatewayID); err == nil {
		legs = append(legs, p)
	}
	var reach []netip.Prefix
	var own []netip.Addr
	for _, p := range legs {
		for _, f := range p.FixedIPs {
			if s, err := get(c, c.subnets, f.SubnetID); err == nil {
				reach = append(reach, s.CIDR)
			}
			own = append(own, f.Addr)
		}
	}
	for i, x := range r.Routes {
		text := fmt.Sprintf("[{'destination': '%s', 'nexthop': '%s'}]", x.Destination, x.NextHop)
		switch {
		case slices.Contains(r.Routes[:i], x):
			return errsBad("InvalidRoutes", "Invalid format for routes: %s, Duplicate routes are not allowed.", text)
		case !slices.ContainsFunc(reach, func(p netip.Prefix) bool { return p.Contains(x.NextHop) }):
			return errsBad("InvalidRoutes", "Invalid format for routes: %s, the nexthop is not connected with router", text)
		case slices.Contains(own, x.NextHop):
			return errsBad("InvalidRoutes", "Invalid format for routes: %s, the nexthop is used by router", text)
		case x.NextHop.Is4() != x.Destination.Addr().Is4():
			return errsBad("InvalidRoutes", "Invalid format for routes: %s, the families differ", text)
		}
	}
	return nil
}

func removeRouter(c *call, r *Router) error {
	if len(c.interfaces(r.ID)) > 0 {
		return conflict("RouterInUse", "Router %s still has ports", r.ID)
	}
	return c.dropGateway(r)
}

// routedBy tells whether one of the router's extra routes leaves through the subnet.
func routedBy(r *Router, s *Subnet) bool {
	return slices.ContainsFunc(r.Routes, func(x nodeapi.Route) bool { return s.CIDR.Contains(x.NextHop) })
}
