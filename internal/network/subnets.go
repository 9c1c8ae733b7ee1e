package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Modes of IPv6 subnets.
const (
	modeSLAAC     = "slaac"
	modeStateful  = "dhcpv6-stateful"
	modeStateless = "dhcpv6-stateless"
)

// auto tells whether ports take their addresses on the subnet from their MAC.
func (s *Subnet) auto() bool { return s.AddressMode == modeSLAAC || s.AddressMode == modeStateless }

func (s *Subnet) version() int { return versionOf(s.CIDR.Addr()) }

func versionOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func subnetResource(s *Service) *resource[Subnet] {
	base := (*Subnet).base
	modes := attr.NoneAs("", attr.OneOf(modeStateful, modeStateless, modeSLAAC))
	return &resource[Subnet]{
		Service: s, name: "subnet", plural: "subnets", quota: "subnet", bulk: true, coll: s.subnets,
		base: base, notFound: missing("SubnetNotFound", "Subnet %s could not be found."),
		hints: map[string]string{"network_id": "network"},
		table: attr.NewTable("subnet", common(base, true), []column[Subnet]{
			{Name: "network_id", In: attr.Post, Required: true, Check: attr.UUID,
				Get: func(s *Subnet, _ *call) any { return s.NetworkID }, Set: func(s *Subnet, x any) { s.NetworkID = x.(string) }},
			{Name: "ip_version", In: attr.Post, Required: true, Check: ipVersion, Get: func(s *Subnet, _ *call) any { return s.version() }},
			{Name: "cidr", In: attr.Post, Check: attr.OrNone(attr.Subnet), Get: func(s *Subnet, _ *call) any { return s.CIDR.String() }},
			{Name: "gateway_ip", In: both, Check: attr.OrNone(attr.IP), Get: func(s *Subnet, _ *call) any { return addrOrNil(s.Gateway) }},
			boolean("enable_dhcp", both, "", true, func(s *Subnet) *bool { return &s.DHCP }),
			{Name: "allocation_pools", In: both, NoFilter: true, NoSort: true,
				Check: attr.NoneAs([]any(nil), attr.List(maxPools, attr.Dict(map[string]attr.Check{"start": attr.IP, "end": attr.IP}, "start", "end"))),
				Get:   func(s *Subnet, _ *call) any { return showPools(s.Pools) }},
			{Name: "dns_nameservers", In: both, NoFilter: true, NoSort: true, Check: attr.NoneAs([]any{}, attr.Set(1000, attr.IP)),
				Get: func(s *Subnet, _ *call) any { return list(s.DNS) }, Set: func(s *Subnet, x any) { s.DNS = attr.Of[netip.Addr](x) }},
			{Name: "host_routes", In: both, NoFilter: true, NoSort: true, Check: attr.NoneAs([]any{}, routesCheck),
				Get: func(s *Subnet, _ *call) any { return list(s.Routes) }, Set: func(s *Subnet, x any) { s.Routes = toRoutes(x) }},
			{Name: "ipv6_ra_mode", In: attr.Post, Check: modes, Get: func(s *Subnet, _ *call) any { return orNil(s.RAMode) },
				Set: func(s *Subnet, x any) { s.RAMode = x.(string) }},
			{Name: "ipv6_address_mode", In: attr.Post, Check: modes, Get: func(s *Subnet, _ *call) any { return orNil(s.AddressMode) },
				Set: func(s *Subnet, x any) { s.AddressMode = x.(string) }},
			{Name: "subnetpool_id", In: attr.Post, Check: attr.OrNone(attr.UUID), Get: func(s *Subnet, _ *call) any { return orNil(s.SubnetPoolID) }},
			{Name: "use_default_subnetpool", In: attr.Post, Check: attr.Bool},
			{Name: "prefixlen", In: attr.Post, Check: attr.Int(0, 128)},
			{Name: "service_types", In: both, NoFilter: true, NoSort: true, Check: attr.Set(maxHints, attr.NotEmpty(maxText)),
				Get: func(s *Subnet, _ *call) any { return list(s.ServiceTypes) }, Set: func(s *Subnet, x any) { s.ServiceTypes = attr.Of[string](x) }},
			boolean("dns_publish_fixed_ip", both, "", false, func(s *Subnet) *bool { return &s.PublishDNS }),
		}),
		target: func(c *call, s *Subnet, t policy.Target) { c.networkTarget(s.NetworkID, t) },
		parent: func(c *call, s *Subnet) error { _, err := c.network.find(c, s.NetworkID); return err },
		create: createSubnet, update: updateSubnet, remove: removeSubnet,
		filters: map[string]func(*call, *Subnet, []string) bool{
			"shared": func(c *call, s *Subnet, w []string) bool { return match(c.granted(s.NetworkID, actShared), w) },
		},
	}
}

// networkTarget adds what rules say of a part's network.
func (c *call) networkTarget(id string, t policy.Target) {
	if n, err := get(c, c.networks, id); err == nil {
		t["network:tenant_id"], t["network:project_id"] = n.ProjectID, n.ProjectID
		t["shared"] = truth(c.granted(id, actShared))
	}
}

func ipVersion(v any) (any, error) {
	n, ok := attr.Whole(v)
	if !ok || n != 4 && n != 6 {
		return nil, fmt.Errorf("'%s' is not in [4, 6]", attr.Text(v))
	}
	return n, nil
}

func addrOrNil(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

func showPools(pools []Pool) []map[string]string {
	out := make([]map[string]string, len(pools))
	for i, p := range pools {
		out[i] = map[string]string{"start": p.Start.String(), "end": p.End.String()}
	}
	return out
}

func toPools(v any) []Pool {
	var out []Pool
	for _, m := range attr.Of[map[string]any](v) {
		out = append(out, Pool{m["start"].(netip.Addr), m["end"].(netip.Addr)})
	}
	return out
}

var routesCheck = attr.List(1000, attr.Dict(map[string]attr.Check{"destination": attr.CIDR, "nexthop": attr.IP}, "destination", "nexthop"))

func toRoutes(v any) []nodeapi.Route {
	var out []nodeapi.Route
	for _, m := range attr.Of[map[string]any](v) {
		out = append(out, nodeapi.Route{Destination: m["destination"].(netip.Prefix), NextHop: m["nexthop"].(netip.Addr)})
	}
	return out
}

func createSubnet(c *call, s *Subnet, given attr.Values) error {
	n, err := get(c, c.networks, s.NetworkID)
	if err != nil {
		return err
	}
	version, _ := given["ip_version"].(int)
	if cidr, ok := given["cidr"].(netip.Prefix); ok {
		s.CIDR = cidr
	}
	if err := c.fromSubnetPool(n, s, version, given); err != nil {
		return err
	}
	if !s.CIDR.IsValid() {
		return errsBad("BadRequest", "Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	if version == 0 && s.SubnetPoolID == "" {
		return badRequest("Invalid input for operation: ip_version must be specified.")
	}
	if version != 0 && version != s.version() {
		return invalid("cidr '%s' does not match the ip_version '%d'", s.CIDR, version)
	}
	if gw, ok := given["gateway_ip"]; !ok {
		s.Gateway = firstHost(s.CIDR)
	} else if gw != nil {
		s.Gateway = gw.(netip.Addr)
	}
	if err := checkModes(s); err != nil {
		return err
	}
	if err := c.checkOverlap(s); err != nil {
		return err
	}
	if pools, _ := given["allocation_pools"].([]any); pools != nil {
		s.Pools = toPools(pools)
	} else {
		s.Pools = defaultPools(s.CIDR, s.Gateway)
	}
	if err := checkSubnet(s); err != nil {
		return err
	}
	return c.subnetAdded(n, s)
}

func errsBad(code, format string, args ...any) error {
	e := badRequest(format, args...)
	return codeOf(e, code)
}

// checkModes holds the IPv6 modes together (neutron/db/db_base_plugin_v2.py, _validate_ipv6_attributes).
func checkModes(s *Subnet) error {
	ra, address := s.RAMode, s.AddressMode
	if ra == "" && address == "" {
		return nil
	}
	if s.version() == 4 {
		return invalid("ipv6_ra_mode and ipv6_address_mode are not valid when ip_version is 4")
	}
	if !s.DHCP {
		return invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
	}
	if ra != "" && address != "" && ra != address {
		return invalid("ipv6_ra_mode set to '%s' with ipv6_address_mode set to '%s' is not valid. If both attributes are set, they must be the same value", ra, address)
	}
	if s.auto() && s.CIDR.Bits() != 64 {
		return invalid("Invalid CIDR %s for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64", s.CIDR)
	}
	return nil
}

func (c *call) checkOverlap(s *Subnet) error {
	for _, o := range by(c, c.subnets, "network", s.NetworkID) {
		if o.ID != s.ID && o.CIDR.Overlaps(s.CIDR) {
			return invalid("Requested subnet with cidr: %s for network: %s overlaps with another subnet", s.CIDR, s.NetworkID)
		}
	}
	return nil
}

// checkSubnet validates what hangs together inside a subnet.
func checkSubnet(s *Subnet) error {
	v := s.version()
	if s.CIDR.Bits() == 0 {
		return invalid("0 is not allowed as CIDR prefix length")
	}
	if s.DHCP && (v == 4 && s.CIDR.Bits() > 30 || v == 6 && s.CIDR.Bits() > 126) {
		return invalid("Subnet has a prefix length that is incompatible with DHCP service enabled")
	}
	if a := s.CIDR.Addr(); s.DHCP && (a.IsMulticast() || a.IsLoopback()) {
		return invalid("Multicast and loopback IP subnets are not supported if enable_dhcp is True")
	}
	if s.Gateway.IsValid() {
		if versionOf(s.Gateway) != v {
			return invalid("gateway_ip '%s' does not match the ip_version '%d'", s.Gateway, v)
		}
		if s.CIDR.Contains(s.Gateway) && edge(s.CIDR, s.Gateway) {
			return invalid("Gateway is not valid on subnet")
		}
	}
	if len(s.DNS) > maxServers {
		return errsBad("DNSNameServersExhausted", "Unable to complete operation for %s. The number of DNS nameservers exceeds the limit %d.", s.ID, maxServers)
	}
	for _, a := range s.DNS {
		if versionOf(a) != v {
			return invalid("dns_nameserver '%s' does not match the ip_version '%d'", a, v)
		}
	}
	if len(s.Routes) > maxHost {
		return errsBad("HostRoutesExhausted", "Unable to complete operation for %s. The number of host routes exceeds the limit %d.", s.ID, maxHost)
	}
	for _, r := range s.Routes {
		if versionOf(r.Destination.Addr()) != v || versionOf(r.NextHop) != v {
			return invalid("host route '%s' does not match the ip_version '%d'", r.Destination, v)
		}
	}
	return checkPools(s)
}

func checkPools(s *Subnet) error {
	pools := slices.Clone(s.Pools)
	slices.SortFunc(pools, func(a, b Pool) int { return a.Start.Compare(b.Start) })
	for i, p := range pools {
		text := p.Start.String() + "-" + p.End.String()
		if versionOf(p.Start) != s.version() || versionOf(p.End) != s.version() || p.End.Less(p.Start) {
			return errsBad("InvalidAllocationPool", "The allocation pool %s is not valid.", text)
		}
		if !s.CIDR.Contains(p.Start) || !s.CIDR.Contains(p.End) || edge(s.CIDR, p.Start) || edge(s.CIDR, p.End) {
			return errsBad("OutOfBoundsAllocationPool", "The allocation pool %s spans beyond the subnet cidr %s.", text, s.CIDR)
		}
		if i > 0 && !pools[i-1].End.Less(p.Start) {
			return conflict("OverlappingAllocationPools", "Found overlapping allocation pools: %s-%s %s for subnet %s.", pools[i-1].Start, pools[i-1].End, text, s.CIDR)
		}
		if p.contains(s.Gateway) {
			return conflict("GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s.", s.Gateway, text)
		}
	}
	return nil
}

func updateSubnet(c *call, old, s *Subnet, given attr.Values) error {
	if gw, ok := given["gateway_ip"]; ok {
		s.Gateway = netip.Addr{}
		if gw != nil {
			s.Gateway = gw.(netip.Addr)
		}
		if p, used := c.ports.TxUnique(c.tx, "address", pair(s.NetworkID, old.Gateway.String())); used && s.Gateway != old.Gateway && p.DeviceOwner == ownerInterface {
			return conflict("GatewayIpInUse", "Current gateway ip %s already in use by port %s. Unable to update.", old.Gateway, p.ID)
		}
	}
	if pools, _ := given["allocation_pools"].([]any); pools != nil {
		s.Pools = toPools(pools)
	}
	if s.RAMode+s.AddressMode != "" && !s.DHCP {
		return invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
	}
	if err := checkSubnet(s); err != nil {
		return err
	}
	if old.DHCP != s.DHCP {
		return c.dhcpSwitched(s)
	}
	return nil
}

// removeSubnet refuses while a port that somebody asked for has an address on
// the subnet, and takes the automatic addresses away.
func removeSubnet(c *call, s *Subnet) error {
	ports := by(c, c.ports, "subnet", s.ID)
	for _, p := range ports {
		if p.DeviceOwner == ownerDHCP || p.DeviceOwner == ownerHost || s.auto() && !legOfRouter(p.DeviceOwner) {
			continue
		}
		return conflict("SubnetInUse", "Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", s.ID)
	}
	for _, p := range ports {
		if err := c.loseSubnet(p, s.ID); err != nil {
			return err
		}
	}
	c.hints.forget(s.ID)
	return c.network.touch(c, s.NetworkID)
}
