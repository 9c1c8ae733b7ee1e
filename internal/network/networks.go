package network

import (
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
)

// What the fabric carries: tenants' networks are VXLAN segments, the outside is
// flat; on a provider's physical network administrators make flat and VLAN ones.
const (
	typeVXLAN = "vxlan"
	typeFlat  = "flat"
	typeVLAN  = "vlan"
	maxVLAN   = 4094 // IEEE 802.1Q
	maxVNI    = 1<<24 - 1
	minMTU    = 68 // RFC 791
	overhead  = 50 // VXLAN over IPv4
)

func networkResource(s *Service) *resource[Network] {
	base := (*Network).base
	return &resource[Network]{
		Service: s, name: "network", plural: "networks", quota: "network", bulk: true, coll: s.networks,
		base: base, notFound: missing("NetworkNotFound", "Network %s could not be found."),
		table: attr.NewTable("network", common(base, true), zones(func(n *Network) *[]string { return &n.AZHints }), []column[Network]{
			boolean("admin_state_up", both, "", true, func(n *Network) *bool { return &n.AdminUp }),
			{Name: "status", Get: func(*Network, *call) any { return "ACTIVE" }},
			{Name: "subnets", NoFilter: true, NoSort: true, Get: func(n *Network, c *call) any { return c.subnetIDs(n.ID) }},
			{Name: "shared", In: both, Own: "create update", Check: attr.Bool, Default: false,
				Get: func(n *Network, c *call) any { return c.granted(n.ID, actShared) }},
			boolean("router:external", both, "create update", false, func(n *Network) *bool { return &n.External }),
			boolean("is_default", both, "create update", false, func(n *Network) *bool { return &n.IsDefault }),
			{Name: "mtu", In: both, Check: attr.Int(0, 65535), Default: 0, Get: func(n *Network, _ *call) any { return n.MTU },
				Set: func(n *Network, x any) { n.MTU = x.(int) }},
			boolean("port_security_enabled", both, "create update", true, func(n *Network) *bool { return &n.PortSecurity }),
			word("dns_domain", both, "", attr.DNS(maxText), func(n *Network) *string { return &n.DNSDomain }),
			{Name: "provider:network_type", In: both, Own: "create update get", Check: attr.OrNone(attr.NotEmpty(32)),
				Get: func(n *Network, _ *call) any { return n.Type }},
			{Name: "provider:physical_network", In: both, Own: "create update get", Check: attr.OrNone(attr.NotEmpty(64)),
				Get: func(n *Network, _ *call) any { return orNil(n.Physical) }},
			{Name: "provider:segmentation_id", In: both, Own: "create update get", Check: attr.OrNone(attr.Int(0, maxVNI)),
				Get: func(n *Network, _ *call) any { return n.segmentation() }},
			{Name: "ipv4_address_scope", Get: func(n *Network, c *call) any { return orNil(c.scopeOf(n.ID, 4)) }},
			{Name: "ipv6_address_scope", Get: func(n *Network, c *call) any { return orNil(c.scopeOf(n.ID, 6)) }},
		}),
		target: func(c *call, n *Network, t policy.Target) {
			t["shared"] = truth(c.granted(n.ID, actShared))
			t["external"] = truth(n.External && c.granted(n.ID, actExternal))
		},
		create: createNetwork, update: updateNetwork, remove: removeNetwork,
	}
}

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func (c *call) subnetIDs(network string) []string {
	out := []string{}
	for _, s := range by(c, c.subnets, "network", network) {
		out = append(out, s.ID)
	}
	return out
}

func createNetwork(c *call, n *Network, given attr.Values) error {
	if err := c.segment(n, given); err != nil {
		return err
	}
	if err := c.limitMTU(n); err != nil {
		return err
	}
	if given["shared"] == true {
		if err := c.grant(n.ProjectID, n.ID, actShared, everyone); err != nil {
			return err
		}
	}
	if n.IsDefault && !n.External {
		return invalid("only an external network can be a default")
	}
	if n.External {
		return c.grant(n.ProjectID, n.ID, actExternal, everyone)
	}
	return nil
}

// segment finds the network's place on the fabric.
func (c *call) segment(n *Network, given attr.Values) error {
	kind, _ := given["provider:network_type"].(string)
	physical, _ := given["provider:physical_network"].(string)
	id, numbered := given["provider:segmentation_id"].(int)
	switch {
	case kind == "" && (physical != "" || numbered):
		return invalid("network_type required")
	case kind == "" || kind == typeVXLAN:
		if physical != "" {
			return invalid("provider:physical_network specified for vxlan network")
		}
		n.Type = typeVXLAN
		return c.takeVNI(n, id)
	case kind == typeFlat:
		return c.takeFlat(n, physical, numbered)
	case kind == typeVLAN:
		return c.takeVLAN(n, physical, id, numbered)
	}
	return invalid("network_type value '%s' not supported", kind)
}

func (c *call) takeFlat(n *Network, physical string, numbered bool) error {
	if numbered {
		return invalid("provider:segmentation_id specified for flat network")
	}
	if physical == "" {
		return invalid("physical_network required for flat provider network")
	}
	if physical != c.Physical && !c.wired(physical) {
		return invalid("physical_network '%s' unknown for flat provider network", physical)
	}
	if _, used := c.networks.TxUnique(c.tx, "physical", physical); used {
		return conflict("FlatNetworkInUse", "Unable to create the flat network. Physical network %s is in use.", physical)
	}
	n.Type, n.Physical = typeFlat, physical
	return nil
}

// wired tells whether nodes have devices on a physical network.
func (s *Service) wired(physical string) bool {
	return physical != "" && s.known().wired(physical)
}

func (c *call) wired(physical string) bool {
	m := c.members
	if m == nil {
		m = c.nodes()
	}
	return physical != "" && m.wired(physical)
}

// segmentation is the number that a network goes by, or nil.
func (n *Network) segmentation() any {
	switch {
	case n.VNI != 0:
		return n.VNI
	case n.VLAN != 0:
		return n.VLAN
	}
	return nil
}

// takeVLAN gives the network a VLAN of a physical network. No range of them is
// ours to choose from, so that a request has to name it
// (neutron/plugins/ml2/drivers/type_vlan.py, validate_provider_segment).
func (c *call) takeVLAN(n *Network, physical string, id int, numbered bool) error {
	switch {
	case physical != "" && !c.wired(physical):
		return invalid("physical_network '%s' unknown for VLAN provider network", physical)
	case numbered && physical == "":
		return invalid("segmentation_id requires physical_network for VLAN provider network")
	case !numbered:
		return errs.Coded(errs.Unavailable, "NoNetworkAvailable", "Unable to create the network. No tenant network is available for allocation.")
	case id < 1 || id > maxVLAN:
		return invalid("segmentation_id out of range (1 through %d)", maxVLAN)
	}
	n.Type, n.Physical, n.VLAN = typeVLAN, physical, id
	if _, used := c.networks.TxUnique(c.tx, "physical", n.place()); used {
		return conflict("VlanIdInUse", "Unable to create the network. The VLAN %d on physical network %s is in use.", id, physical)
	}
	return nil
}

// takeVNI gives the network the asked VXLAN id, or the next free one.
func (c *call) takeVNI(n *Network, asked int) (err error) {
	if asked > 0 {
		if !c.vniFree(asked) {
			return conflict("TunnelIdInUse", "Unable to create the network. The tunnel ID %d is in use.", asked)
		}
		n.VNI = asked
		return nil
	}
	n.VNI, err = c.freeVNI()
	return err
}

// vniFree tells whether no network and no router's transit has a VXLAN id. Both
// have one space; that writes come one after the other keeps it so.
func (c *call) vniFree(id int) bool {
	_, network := c.networks.TxUnique(c.tx, "vni", strconv.Itoa(id))
	_, router := c.routers.TxUnique(c.tx, "vni", strconv.Itoa(id))
	return !network && !router
}

// freeVNI finds the next free VXLAN id.
func (c *call) freeVNI() (int, error) {
	hint := c.hints.vni.Load()
	for i := range int64(maxVNI) {
		if id := int((hint+i)%maxVNI) + 1; c.vniFree(id) {
			c.hints.vni.Store(int64(id))
			return id, nil
		}
	}
	return 0, errs.Coded(errs.Unavailable, "NoNetworkAvailable", "Unable to create the network. No tenant network is available for allocation.")
}

// limitMTU holds the MTU to what the segment carries; 0 asks for the most.
func (c *call) limitMTU(n *Network) error {
	most := c.MTU
	if n.Type == typeVXLAN {
		most -= overhead
	}
	if n.MTU == 0 {
		n.MTU = most
	}
	if n.MTU > most {
		return invalid("Requested MTU is too big, maximum is %d", most)
	}
	if n.MTU < minMTU {
		return invalid("Requested MTU is too small, minimum is %d", minMTU)
	}
	return nil
}

func updateNetwork(c *call, old, n *Network, given attr.Values) error {
	for name, now := range map[string]any{"provider:network_type": old.Type, "provider:physical_network": orNil(old.Physical), "provider:segmentation_id": old.segmentation()} {
		if v, ok := given[name]; ok && v != now && v != nil {
			return invalid("Plugin does not support updating the following provider network attributes: %s", name)
		}
	}
	if err := c.limitMTU(n); err != nil {
		return err
	}
	if n.IsDefault && !n.External {
		return invalid("only an external network can be a default")
	}
	if err := c.reshare(n, given); err != nil {
		return err
	}
	switch {
	case n.External && !old.External:
		return c.grant(n.ProjectID, n.ID, actExternal, everyone)
	case old.External && !n.External:
		for _, p := range by(c, c.ports, "network", n.ID) {
			if p.DeviceOwner == ownerGateway || p.DeviceOwner == ownerFloating {
				return conflict("ExternalNetworkInUse", "External network %s cannot be updated to be made non-external, since it has existing gateway ports.", n.ID)
			}
		}
		return c.revoke(n.ID, actExternal)
	}
	return nil
}

// reshare makes a network shared with everyone, or takes that back while nobody else uses it.
func (c *call) reshare(n *Network, given attr.Values) error {
	want, ok := given["shared"].(bool)
	if !ok {
		return nil
	}
	_, is := c.rbacs.TxUnique(c.tx, "policy", n.ID+"/"+actShared+"/"+everyone)
	switch {
	case want && !is:
		return c.grant(n.ProjectID, n.ID, actShared, everyone)
	case !want && is:
		if c.usedByOthers(n) {
			return conflict("InvalidSharedSetting", "Unable to reconfigure sharing settings for network %s. Multiple tenants are using it.", n.ID)
		}
		return c.revokeTarget(n.ID, actShared, everyone)
	}
	return nil
}

func (c *call) usedByOthers(n *Network) bool {
	for _, p := range by(c, c.ports, "network", n.ID) {
		if p.ProjectID != "" && p.ProjectID != n.ProjectID {
			return true
		}
	}
	return false
}

// removeNetwork takes the network's subnets, its own DHCP port and its unused
// floating IPs along.
func removeNetwork(c *call, n *Network) error {
	if err := c.dropFloating(n.ID); err != nil {
		return err
	}
	for _, p := range by(c, c.ports, "network", n.ID) {
		if p.DeviceOwner != ownerDHCP && p.DeviceOwner != ownerHost {
			return conflict("NetworkInUse", "Unable to complete operation on network %s. There are one or more ports still in use on the network.", n.ID)
		}
		if err := c.ports.TxDelete(c.tx, p.ID); err != nil {
			return err
		}
	}
	for _, s := range by(c, c.subnets, "network", n.ID) {
		if err := c.subnets.TxDelete(c.tx, s.ID); err != nil {
			return err
		}
	}
	return c.forget(n.ID)
}
