package network

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) interfaceRoutes() []rest.Route {
	row := func(verb string, h rest.Handler) rest.Route {
		return rest.Route{Method: "PUT", Path: "/routers/{id}/" + verb, Policy: verb, Handle: h}
	}
	return []rest.Route{
		row("add_router_interface", s.interfaceCall("add_router_interface", (*call).addInterface)),
		row("remove_router_interface", s.interfaceCall("remove_router_interface", (*call).removeInterface)),
		row("add_extraroutes", s.extraRoutes("add_extraroutes", func(old, named []nodeapi.Route) []nodeapi.Route {
			for _, x := range named {
				if !slices.Contains(old, x) {
					old = append(old, x)
				}
			}
			return old
		})),
		row("remove_extraroutes", s.extraRoutes("remove_extraroutes", func(old, named []nodeapi.Route) []nodeapi.Route {
			return slices.DeleteFunc(old, func(x nodeapi.Route) bool { return slices.Contains(named, x) })
		})),
	}
}

// interfaceCall serves a change of the router's interfaces; the body is not wrapped.
func (s *Service) interfaceCall(rule string, fn func(c *call, r *Router, subnet, port string) (*Port, []string, error)) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var raw map[string]any
		if json.Unmarshal(r.Body(), &raw) != nil {
			return nil, badRouter("Invalid request body")
		}
		ids := map[string]string{}
		for _, k := range []string{"subnet_id", "port_id"} {
			if raw[k] == nil {
				continue
			}
			v, err := attr.UUID(raw[k])
			if err != nil {
				return nil, badRequest("Invalid input for %s. Reason: %v.", k, err)
			}
			ids[k] = v.(string)
		}
		var view map[string]any
		err := s.do(ctx, r, func(c *call) error {
			v, err := c.router.find(c, r.Path("id"))
			if err != nil {
				return err
			}
			if err := c.enforce(rule, c.router.targetOf(c, v)); err != nil {
				return err
			}
			p, subnets, err := fn(c, v, ids["subnet_id"], ids["port_id"])
			if err != nil {
				return err
			}
			view = map[string]any{"id": v.ID, "tenant_id": v.ProjectID, "project_id": v.ProjectID, "port_id": p.ID,
				"network_id": p.NetworkID, "subnet_id": subnets[0], "subnet_ids": subnets, "tags": list(v.Tags)}
			return c.router.touch(c, v.ID)
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(http.StatusOK, view), nil
	}
}

func (c *call) addInterface(r *Router, subnet, port string) (*Port, []string, error) {
	switch {
	case subnet == "" && port == "":
		return nil, nil, badRouter("Either subnet_id or port_id must be specified")
	case subnet != "" && port != "":
		return nil, nil, badRouter("Cannot specify both subnet-id and port-id")
	case port != "":
		return c.adoptPort(r, port)
	}
	s, err := c.subnet.find(c, subnet)
	if err != nil {
		return nil, nil, err
	}
	return c.plugSubnet(r, s)
}

// plugSubnet makes the interface that is the subnet's gateway. An IPv6 subnet
// joins the interface that the router has on its network.
func (c *call) plugSubnet(r *Router, s *Subnet) (*Port, []string, error) {
	if !s.Gateway.IsValid() {
		return nil, nil, badRouter("Subnet for router interface must have a gateway IP")
	}
	if err := c.connectable(r, s); err != nil {
		return nil, nil, err
	}
	at := nodeapi.FixedIP{SubnetID: s.ID, Addr: s.Gateway}
	if h, used := c.ports.TxUnique(c.tx, "address", pair(s.NetworkID, s.Gateway.String())); used {
		return nil, nil, conflict("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s (port %s)", s.Gateway, s.ID, h.ID)
	}
	if s.version() == 6 {
		for _, p := range c.interfaces(r.ID) {
			if p.NetworkID == s.NetworkID && !slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.Addr.Is4() }) {
				now := *p
				now.FixedIPs = append(slices.Clone(p.FixedIPs), at)
				return &now, []string{s.ID}, c.port.put(c, p, &now)
			}
		}
	}
	p := c.leg(r, s.NetworkID, ownerInterface)
	p.FixedIPs = []nodeapi.FixedIP{at}
	if err := c.takeMAC(p, false); err != nil {
		return nil, nil, err
	}
	return p, []string{s.ID}, c.ports.TxCreate(c.tx, p)
}

// connectable refuses a second leg in a subnet and overlapping ones.
func (c *call) connectable(r *Router, s *Subnet) error {
	others := c.routerSubnets(r.ID)
	if r.GatewayNet != "" {
		others = append(others, by(c, c.subnets, "network", r.GatewayNet)...)
	}
	for _, o := range others {
		if o.ID == s.ID {
			return badRouter("Router already has a port on subnet %s", s.ID)
		}
		if o.CIDR.Overlaps(s.CIDR) {
			return overlapError(s, o)
		}
	}
	return nil
}

// adoptPort turns a port that the user made into an interface.
func (c *call) adoptPort(r *Router, id string) (*Port, []string, error) {
	p, err := c.port.find(c, id)
	if err != nil {
		return nil, nil, err
	}
	if p.DeviceID != "" {
		return nil, nil, conflict("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", p.ID, p.NetworkID, p.DeviceID)
	}
	if len(p.FixedIPs) == 0 {
		return nil, nil, badRouter("Router port must have at least one fixed IP")
	}
	var subnets []string
	v4 := 0
	for _, f := range p.FixedIPs {
		s, err := get(c, c.subnets, f.SubnetID)
		if err != nil {
			return nil, nil, err
		}
		if err := c.connectable(r, s); err != nil {
			return nil, nil, err
		}
		if f.Addr.Is4() {
			v4++
		}
		subnets = append(subnets, s.ID)
	}
	if v4 > 1 {
		return nil, nil, badRouter("Cannot have multiple IPv4 subnets on router port")
	}
	now := *p
	now.DeviceID, now.DeviceOwner, now.Status = r.ID, ownerInterface, statusActive
	now.PortSecurity, now.Groups, now.Pairs = false, nil, nil
	return &now, subnets, c.port.put(c, p, &now)
}

func (c *call) removeInterface(r *Router, subnet, port string) (*Port, []string, error) {
	if subnet == "" && port == "" {
		return nil, nil, badRouter("Either subnet_id or port_id must be specified")
	}
	p, err := c.findInterface(r, subnet, port)
	if err != nil {
		return nil, nil, err
	}
	var subnets []string
	for _, f := range p.FixedIPs {
		if port != "" || f.SubnetID == subnet {
			subnets = append(subnets, f.SubnetID)
		}
	}
	for _, id := range subnets {
		if err := c.interfaceFree(r, id); err != nil {
			return nil, nil, err
		}
	}
	if len(subnets) < len(p.FixedIPs) {
		return p, subnets, c.loseSubnet(p, subnet)
	}
	return p, subnets, c.ports.TxDelete(c.tx, p.ID)
}

func (c *call) findInterface(r *Router, subnet, port string) (*Port, error) {
	if port != "" {
		p, err := get(c, c.ports, port)
		if err != nil || p.DeviceID != r.ID || p.DeviceOwner != ownerInterface {
			return nil, errs.Coded(errs.NotFound, "RouterInterfaceNotFound", "Router %s does not have an interface with id %s", r.ID, port)
		}
		if subnet != "" && !slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.SubnetID == subnet }) {
			return nil, errs.Coded(errs.Conflict, "SubnetMismatchForPort", "Subnet on port %s does not match the requested subnet %s.", port, subnet)
		}
		return p, nil
	}
	for _, p := range c.interfaces(r.ID) {
		if slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.SubnetID == subnet }) {
			return p, nil
		}
	}
	return nil, errs.Coded(errs.NotFound, "RouterInterfaceNotFoundForSubnet", "Router %s has no interface on subnet %s", r.ID, subnet)
}

// interfaceFree refuses to cut off floating IPs and extra routes.
func (c *call) interfaceFree(r *Router, subnet string) error {
	s, err := get(c, c.subnets, subnet)
	if err != nil {
		return err
	}
	for _, f := range by(c, c.floating, "router", r.ID) {
		if s.CIDR.Contains(f.Fixed) {
			return conflict("RouterInterfaceInUseByFloatingIP", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more floating IPs.", subnet, r.ID)
		}
	}
	if routedBy(r, s) {
		return conflict("RouterInterfaceInUseByRoute", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more routes.", subnet, r.ID)
	}
	return nil
}

// extraRoutes changes routes without naming those that stay (extraroute-atomic).
func (s *Service) extraRoutes(rule string, edit func(old, named []nodeapi.Route) []nodeapi.Route) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		items, _, err := attr.Decode(r.Body(), "router", "")
		if err != nil {
			return nil, err
		}
		v, err := routesCheck(items[0]["routes"])
		if err != nil {
			return nil, badRequest("Invalid input for routes. Reason: %v.", err)
		}
		var view map[string]any
		err = s.do(ctx, r, func(c *call) error {
			old, err := c.router.find(c, r.Path("id"))
			if err != nil {
				return err
			}
			if err := c.enforce(rule, c.router.targetOf(c, old)); err != nil {
				return err
			}
			now := *old
			now.Routes = edit(slices.Clone(old.Routes), toRoutes(v))
			if err := c.checkRoutes(&now); err != nil {
				return err
			}
			if err := c.router.put(c, old, &now); err != nil {
				return err
			}
			view = c.router.view(c, &now, nil)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(http.StatusOK, map[string]any{"router": view}), nil
	}
}

// routerFor finds the router that connects a subnet with an external network,
// rather the one that is the subnet's gateway.
func (c *call) routerFor(s *Subnet, external string) (string, bool) {
	found := ""
	for _, p := range by(c, c.ports, "subnet", s.ID) {
		if p.DeviceOwner != ownerInterface {
			continue
		}
		r, err := get(c, c.routers, p.DeviceID)
		if err != nil || r.GatewayNet != external {
			continue
		}
		gateway := slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.Addr == s.Gateway })
		if found == "" || gateway {
			found = r.ID
		}
	}
	return found, found != ""
}
