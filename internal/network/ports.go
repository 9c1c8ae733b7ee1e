package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Device owners of the ports that the service itself makes.
const (
	ownerDHCP      = "network:dhcp"
	ownerInterface = "network:router_interface"
	ownerGateway   = "network:router_gateway"
	ownerFloating  = "network:floatingip"
)

// Port states.
const (
	statusActive = "ACTIVE"
	statusDown   = "DOWN"
	statusBuild  = "BUILD"
)

func legOfRouter(owner string) bool { return owner == ownerInterface || owner == ownerGateway }

func serviceOwned(owner string) bool { return strings.HasPrefix(owner, "network:") }

// domain is where a port's name lives when its network has no domain of its own.
const domain = "openstacklocal"

func portResource(s *Service) *resource[Port] {
	base := (*Port).base
	return &resource[Port]{
		Service: s, name: "port", plural: "ports", quota: "port", bulk: true, coll: s.ports,
		base: base, notFound: missing("PortNotFound", "Port %s could not be found."),
		hints:  map[string]string{"network_id": "network", "device_id": "device", "binding:host_id": "host"},
		table:  attr.NewTable("port", common(base, true), addressColumns(), deviceColumns(), securityColumns()),
		target: portTarget,
		parent: func(c *call, p *Port) error { _, err := c.network.find(c, p.NetworkID); return err },
		create: createPort, update: updatePort, remove: removePort,
		filters: map[string]func(*call, *Port, []string) bool{
			"fixed_ips":          filterFixedIPs,
			"ip_allocation":      func(_ *call, p *Port, w []string) bool { return match(allocation(p), w) },
			"security_groups":    func(_ *call, p *Port, w []string) bool { return match(p.Groups, w) },
			"mac_address_substr": func(_ *call, p *Port, w []string) bool { return containsAny(p.MAC, w) },
		},
	}
}

func portTarget(c *call, p *Port, t policy.Target) {
	c.networkTarget(p.NetworkID, t)
	t["network_device"] = truth(serviceOwned(p.DeviceOwner))
}

func addressColumns() []column[Port] {
	fixed := attr.List(1000, attr.Dict(map[string]attr.Check{"subnet_id": attr.OrNone(attr.UUID), "ip_address": attr.OrNone(attr.IP)}))
	return []column[Port]{
		{Name: "network_id", In: attr.Post, Required: true, Check: attr.UUID,
			Get: func(p *Port, _ *call) any { return p.NetworkID }, Set: func(p *Port, x any) { p.NetworkID = x.(string) }},
		boolean("admin_state_up", both, "", true, func(p *Port) *bool { return &p.AdminUp }),
		{Name: "status", Get: func(p *Port, _ *call) any { return p.Status }},
		{Name: "mac_address", In: both, Own: "create update", Check: attr.MAC,
			Get: func(p *Port, _ *call) any { return p.MAC }, Set: func(p *Port, x any) { p.MAC = x.(string) }},
		{Name: "fixed_ips", In: both, Own: "create update", NoSort: true, Check: attr.NoneAs([]any{}, fixed), Get: func(p *Port, _ *call) any {
			out := make([]map[string]string, len(p.FixedIPs))
			for i, f := range p.FixedIPs {
				out[i] = map[string]string{"subnet_id": f.SubnetID, "ip_address": f.Addr.String()}
			}
			return out
		}},
		{Name: "ip_allocation", NoSort: true, Get: func(p *Port, _ *call) any { return allocation(p) }},
		{Name: "dns_name", In: both, Check: attr.DNS(maxText), Default: "",
			Get: func(p *Port, _ *call) any { return p.DNSName }, Set: func(p *Port, x any) { p.DNSName = x.(string) }},
		{Name: "dns_domain", In: both, Check: attr.DNS(maxText), Default: "",
			Get: func(p *Port, _ *call) any { return p.DNSDomain }, Set: func(p *Port, x any) { p.DNSDomain = x.(string) }},
		{Name: "dns_assignment", NoFilter: true, NoSort: true, Get: dnsAssignment},
		{Name: "extra_dhcp_opts", In: both, NoFilter: true, NoSort: true, Check: attr.NoneAs([]any{}, dhcpOptionsCheck), Get: func(p *Port, _ *call) any {
			out := make([]map[string]any, len(p.DHCPOptions))
			for i, o := range p.DHCPOptions {
				out[i] = map[string]any{"opt_name": o.Name, "opt_value": o.Value, "ip_version": o.IPVersion}
			}
			return out
		}},
	}
}

func deviceColumns() []column[Port] {
	return []column[Port]{
		word("device_id", both, "", attr.NoneAs("", attr.String(maxText)), func(p *Port) *string { return &p.DeviceID }),
		word("device_owner", both, "create update", attr.NoneAs("", attr.String(maxText)), func(p *Port) *string { return &p.DeviceOwner }),
		word("binding:host_id", both, "create update get", attr.NoneAs("", attr.String(maxText)), func(p *Port) *string { return &p.Host }),
		{Name: "binding:vnic_type", In: both, Check: attr.OneOf("normal"), Default: "normal",
			Get: func(p *Port, _ *call) any { return p.VNICType }, Set: func(p *Port, x any) { p.VNICType = x.(string) }},
		{Name: "binding:profile", In: both, Own: "create update get", NoFilter: true, NoSort: true, Check: attr.NoneAs(map[string]any{}, profileCheck), Default: map[string]any{},
			Get: func(p *Port, _ *call) any {
				if p.Profile == nil {
					return map[string]any{}
				}
				return p.Profile
			}, Set: func(p *Port, x any) { p.Profile = x.(map[string]any) }},
		{Name: "binding:vif_type", Own: "get", Get: func(p *Port, _ *call) any {
			if p.Host == "" {
				return "unbound"
			}
			return "bridge"
		}},
		{Name: "binding:vif_details", Own: "get", NoFilter: true, NoSort: true, Get: func(p *Port, _ *call) any {
			if p.Host == "" {
				return map[string]any{}
			}
			return map[string]any{"port_filter": true, "connectivity": "l2"}
		}},
	}
}

func securityColumns() []column[Port] {
	pairs := attr.List(1000, attr.Dict(map[string]attr.Check{"ip_address": pairAddress, "mac_address": attr.MAC}, "ip_address"))
	return []column[Port]{
		{Name: "security_groups", In: both, NoSort: true, Check: attr.NoneAs([]any{}, attr.List(1000, attr.UUID)),
			Get: func(p *Port, _ *call) any { return list(p.Groups) }},
		{Name: "port_security_enabled", In: both, Own: "create update", Check: attr.Bool,
			Get: func(p *Port, _ *call) any { return p.PortSecurity }, Set: func(p *Port, x any) { p.PortSecurity = x.(bool) }},
		{Name: "allowed_address_pairs", In: both, Own: "create update", NoFilter: true, NoSort: true, Default: []any{}, Check: attr.NoneAs([]any{}, pairs), Get: func(p *Port, _ *call) any {
			out := make([]map[string]string, len(p.Pairs))
			for i, a := range p.Pairs {
				out[i] = map[string]string{"ip_address": pairText(a.Prefix), "mac_address": a.MAC}
			}
			return out
		}},
	}
}

func allocation(p *Port) string {
	if len(p.FixedIPs) == 0 && p.Host == "" {
		return "none"
	}
	return "immediate"
}

func containsAny(s string, parts []string) bool {
	return slices.ContainsFunc(parts, func(w string) bool { return strings.Contains(s, w) })
}

// filterFixedIPs understands fixed_ips=ip_address=A, subnet_id=S and ip_address_substr=T;
// values of one key are alternatives, different keys must all hold.
func filterFixedIPs(_ *call, p *Port, wanted []string) bool {
	asked := map[string][]string{}
	for _, w := range wanted {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			k, v, _ = strings.Cut(w, ":")
		}
		asked[k] = append(asked[k], strings.Trim(v, "'\""))
	}
	for k, vs := range asked {
		if !slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool {
			switch k {
			case "ip_address":
				a := f.Addr.String()
				return slices.ContainsFunc(vs, func(v string) bool { b, err := netip.ParseAddr(v); return v == a || err == nil && b == f.Addr })
			case "subnet_id":
				return slices.Contains(vs, f.SubnetID)
			case "ip_address_substr":
				return containsAny(f.Addr.String(), vs)
			}
			return false
		}) {
			return false
		}
	}
	return true
}

func createPort(c *call, p *Port, given attr.Values) error {
	n, err := get(c, c.networks, p.NetworkID)
	if err != nil {
		return err
	}
	if err := c.guardFixedIPs("create", p, given); err != nil {
		return err
	}
	if err := c.ownRouter(p); err != nil {
		return err
	}
	if err := c.takeMAC(p, given.Has("mac_address")); err != nil {
		return err
	}
	if !given.Has("port_security_enabled") {
		p.PortSecurity = n.PortSecurity && !serviceOwned(p.DeviceOwner)
	}
	if err := c.allocate(p, given); err != nil {
		return err
	}
	if err := c.secure(p, given, nil); err != nil {
		return err
	}
	p.Status = statusDown
	if serviceOwned(p.DeviceOwner) {
		p.Status = statusActive
	} else if err := c.serveDHCP(n); err != nil {
		return err
	}
	p.DHCPOptions, err = dhcpOptions(nil, given)
	return err
}

// guardFixedIPs holds the rules of parts of fixed_ips (upstream: create_port:fixed_ips:ip_address).
func (c *call) guardFixedIPs(op string, p *Port, given attr.Values) error {
	items, _ := given["fixed_ips"].([]any)
	t := c.port.targetOf(c, p)
	for _, m := range attr.Of[map[string]any](items) {
		for k := range m {
			if err := c.enforce(op+"_port:fixed_ips:"+k, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownRouter keeps a tenant from making a port look like a leg of another's router.
func (c *call) ownRouter(p *Port) error {
	if c.admin() || p.DeviceID == "" || !attr.IsUUID(p.DeviceID) {
		return nil
	}
	if r, err := get(c, c.routers, p.DeviceID); err == nil && r.ProjectID != c.project() {
		return conflict("DeviceIDNotOwnedByTenant", "The following device_id %s is not owned by your tenant or matches another tenants router.", p.DeviceID)
	}
	return nil
}

func updatePort(c *call, old, p *Port, given attr.Values) error {
	if err := c.guardFixedIPs("update", p, given); err != nil {
		return err
	}
	if err := c.ownRouter(p); err != nil {
		return err
	}
	p.VIP = p.VIP && p.DeviceID == old.DeviceID // somebody else's from now on
	if legOfRouter(old.DeviceOwner) && (old.DeviceID != p.DeviceID || old.DeviceOwner != p.DeviceOwner) && c.routerAlive(old.DeviceID) {
		return conflict("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", p.ID, p.NetworkID, old.DeviceID)
	}
	if p.MAC != old.MAC {
		if old.Host != "" && given["binding:host_id"] != "" {
			return conflict("PortBound", "Unable to complete operation on port %s, port is already bound, port type: bridge, old_mac %s, new_mac %s.", p.ID, old.MAC, p.MAC)
		}
		if err := c.takeMAC(p, true); err != nil {
			return err
		}
	}
	if given.Has("fixed_ips") {
		if err := c.allocate(p, given); err != nil {
			return err
		}
		if err := c.unmapLost(old, p); err != nil {
			return err
		}
	}
	if err := c.secure(p, given, old); err != nil {
		return err
	}
	if old.Host != p.Host || old.DeviceID != p.DeviceID && p.DeviceID == "" {
		p.Status = statusDown
	}
	var err error
	p.DHCPOptions, err = dhcpOptions(old.DHCPOptions, given)
	return err
}

func (c *call) routerAlive(id string) bool {
	_, err := get(c, c.routers, id)
	return err == nil
}

// removePort refuses the legs of living routers and floating IPs, which go with
// their owners (neutron/db/l3_db.py, prevent_l3_port_deletion).
func removePort(c *call, p *Port) error {
	inUse := false
	switch p.DeviceOwner {
	case ownerInterface, ownerGateway:
		inUse = c.routerAlive(p.DeviceID)
	case ownerFloating:
		_, err := get(c, c.floating, p.DeviceID)
		inUse = err == nil
	case ownerClusterNode, ownerClusterPod, ownerClusterGate:
		inUse = c.r != nil // the cluster's own service has no request
	}
	if inUse {
		return conflict("ServicePortInUse", "Port %s cannot be deleted directly via the port API: has device owner %s.", p.ID, p.DeviceOwner)
	}
	return c.unmap(p.ID, func(netip.Addr) bool { return true })
}

// unmapLost frees the floating IPs of addresses that the port no longer has.
func (c *call) unmapLost(old, p *Port) error {
	return c.unmap(old.ID, func(a netip.Addr) bool {
		return !slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.Addr == a })
	})
}

func codeOf(err error, code string) error {
	e := errs.New(errs.KindOf(err), "%s", err.Error())
	e.Code = code
	return e
}
