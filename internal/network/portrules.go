package network

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// maxProfile bounds binding:profile, in bytes of JSON (upstream's BINDING_PROFILE_LEN).
const maxProfile = 4095

func profileCheck(v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("'%s' is not a dictionary", attr.Text(v))
	}
	if raw, err := json.Marshal(m); err != nil || len(raw) > maxProfile {
		return nil, fmt.Errorf("the profile exceeds %d bytes", maxProfile)
	}
	return m, nil
}

// pairAddress accepts an address or a prefix.
func pairAddress(v any) (any, error) {
	if a, err := attr.IP(v); err == nil {
		return netip.PrefixFrom(a.(netip.Addr), a.(netip.Addr).BitLen()), nil
	}
	s, _ := v.(string)
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, fmt.Errorf("'%s' is not a valid IP subnet", attr.Text(v))
	}
	return p.Masked(), nil
}

func pairText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

var dhcpOptionsCheck = attr.List(maxOptions, attr.Dict(map[string]attr.Check{
	"opt_name": attr.NotEmpty(64), "opt_value": attr.OrNone(attr.NotEmpty(maxText)), "ip_version": ipVersion}, "opt_name", "opt_value"))

// dhcpOptions lays given options over the present ones; a null value removes one.
func dhcpOptions(old []nodeapi.DHCPOption, given attr.Values) ([]nodeapi.DHCPOption, error) {
	out := old
	for _, m := range attr.Of[map[string]any](given["extra_dhcp_opts"]) {
		o := nodeapi.DHCPOption{Name: m["opt_name"].(string), IPVersion: 4}
		if v, ok := m["ip_version"].(int); ok {
			o.IPVersion = v
		}
		out = slices.DeleteFunc(slices.Clone(out), func(x nodeapi.DHCPOption) bool { return x.Name == o.Name && x.IPVersion == o.IPVersion })
		if v, ok := m["opt_value"].(string); ok {
			o.Value = v
			out = append(out, o)
		}
	}
	if len(out) > maxOptions {
		return nil, badRequest("Invalid input for extra_dhcp_opts. Reason: more than %d options.", maxOptions)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// takeMAC checks the port's address, or makes one that the network does not have.
func (c *call) takeMAC(p *Port, given bool) error {
	if given {
		m, err := net.ParseMAC(p.MAC)
		if err != nil || m[0]&1 != 0 {
			return badRequest("Invalid input for mac_address. Reason: '%s' is not a valid MAC address.", p.MAC)
		}
		if h, used := c.ports.TxUnique(c.tx, "mac", pair(p.NetworkID, p.MAC)); used && h.ID != p.ID {
			return conflict("MacAddressInUse", "Unable to complete operation for network %s. The mac address %s is in use.", p.NetworkID, p.MAC)
		}
		return nil
	}
	for range 32 {
		b := []byte{0xfa, 0x16, 0x3e, 0, 0, 0}
		if _, err := rand.Read(b[3:]); err != nil {
			return fmt.Errorf("making a MAC: %w", err)
		}
		p.MAC = net.HardwareAddr(b).String()
		if _, used := c.ports.TxUnique(c.tx, "mac", pair(p.NetworkID, p.MAC)); !used {
			return nil
		}
	}
	return conflict("MacAddressGenerationFailure", "Unable to generate unique mac on network %s.", p.NetworkID)
}

// allocate gives the port its addresses: those asked for, or by default one per
// family and one of every SLAAC subnet (neutron/db/ipam_pluggable_backend.py).
func (c *call) allocate(p *Port, given attr.Values) error {
	subnets := by(c, c.subnets, "network", p.NetworkID)
	if items, ok := given["fixed_ips"].([]any); ok {
		return c.allocateAsked(p, subnets, attr.Of[map[string]any](items))
	}
	p.FixedIPs = nil
	for _, v := range []int{4, 6} {
		if err := c.allocateAny(p, subnets, v); err != nil {
			return err
		}
	}
	for _, s := range subnets {
		if s.auto() && !legOfRouter(p.DeviceOwner) {
			if err := c.take(p, s, netip.Addr{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// allocateAny takes one address of a family from the first subnet that has one.
func (c *call) allocateAny(p *Port, subnets []*Subnet, version int) error {
	tried := false
	for _, s := range subnets {
		if s.version() != version || s.auto() || !s.serves(p.DeviceOwner, subnets) {
			continue
		}
		tried = true
		if a := c.freeAddress(s, p.FixedIPs); a.IsValid() {
			p.FixedIPs = append(p.FixedIPs, nodeapi.FixedIP{SubnetID: s.ID, Addr: a})
			return nil
		}
	}
	if tried {
		return conflict("IpAddressGenerationFailure", "No more IP addresses available on network %s.", p.NetworkID)
	}
	return nil
}

// serves tells whether the subnet is for ports of the owner (service_types): its
// type is named, or the subnet names none and no other subnet names it.
func (s *Subnet) serves(owner string, all []*Subnet) bool {
	if len(s.ServiceTypes) > 0 {
		return slices.Contains(s.ServiceTypes, owner)
	}
	return !slices.ContainsFunc(all, func(o *Subnet) bool {
		return o.version() == s.version() && slices.Contains(o.ServiceTypes, owner)
	})
}

func (c *call) allocateAsked(p *Port, subnets []*Subnet, asked []map[string]any) error {
	if len(asked) > maxFixedIPs && !serviceOwned(p.DeviceOwner) {
		return invalid("Exceeded maximum amount of fixed ips per port")
	}
	had := p.FixedIPs
	p.FixedIPs = nil
	// Explicit addresses go first, so that free ones do not collide with them.
	slices.SortStableFunc(asked, func(a, b map[string]any) int { return rank(a) - rank(b) })
	for _, m := range asked {
		addr, _ := m["ip_address"].(netip.Addr)
		id, _ := m["subnet_id"].(string)
		s, err := pickSubnet(p, subnets, id, addr)
		if _, gone := get(c, c.subnets, id); err != nil && id != "" && gone != nil {
			return c.subnet.notFound(id)
		}
		if err != nil {
			return err
		}
		if s == nil {
			for _, v := range []int{4, 6} {
				if err := c.allocateAny(p, subnets, v); err != nil {
					return err
				}
			}
			continue
		}
		if !addr.IsValid() {
			addr = kept(had, p.FixedIPs, s.ID)
		}
		if err := c.take(p, s, addr); err != nil {
			return err
		}
	}
	return c.addAuto(p, subnets)
}

// addAuto gives the port what it will configure by itself anyway: an address on every
// SLAAC subnet, whatever was asked for (neutron/db/ipam_pluggable_backend.py).
func (c *call) addAuto(p *Port, subnets []*Subnet) error {
	if legOfRouter(p.DeviceOwner) || p.DeviceOwner == ownerDHCP {
		return nil
	}
	for _, s := range subnets {
		has := slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool { return f.SubnetID == s.ID })
		if !s.auto() || has {
			continue
		}
		if err := c.take(p, s, netip.Addr{}); err != nil {
			return err
		}
	}
	return nil
}

func rank(m map[string]any) int {
	if _, ok := m["ip_address"].(netip.Addr); ok {
		return 0
	}
	return 1
}

// kept is an address on the subnet that the port had and does not have yet again.
func kept(had, has []nodeapi.FixedIP, subnet string) netip.Addr {
	for _, f := range had {
		if f.SubnetID == subnet && !slices.Contains(has, f) {
			return f.Addr
		}
	}
	return netip.Addr{}
}

// pickSubnet finds the subnet that an entry of fixed_ips means; nil for an empty entry.
func pickSubnet(p *Port, subnets []*Subnet, id string, addr netip.Addr) (*Subnet, error) {
	if id == "" && !addr.IsValid() {
		return nil, nil
	}
	for _, s := range subnets {
		switch {
		case id != "" && s.ID != id, id == "" && !s.CIDR.Contains(addr):
			continue
		case addr.IsValid() && (!s.CIDR.Contains(addr) || edge(s.CIDR, addr)):
			return nil, errsBad("InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", addr)
		}
		return s, nil
	}
	if id != "" {
		return nil, invalid("Failed to create port on network %s, because fixed_ips included invalid subnet %s", p.NetworkID, id)
	}
	return nil, errsBad("InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", addr)
}

// take adds an address of the subnet to the port; the zero address asks for any.
func (c *call) take(p *Port, s *Subnet, addr netip.Addr) error {
	if s.auto() && !legOfRouter(p.DeviceOwner) {
		own, err := eui64(s.CIDR, p.MAC)
		if err != nil {
			return err
		}
		if addr.IsValid() && addr != own && p.DeviceOwner != ownerDHCP {
			return errsBad("AllocationOnAutoAddressSubnet", "IPv6 address %s can not be directly assigned to a port on subnet %s since the subnet is configured for automatic addresses", addr, s.ID)
		}
		addr = own
	}
	if !addr.IsValid() {
		if addr = c.freeAddress(s, p.FixedIPs); !addr.IsValid() {
			return conflict("IpAddressGenerationFailure", "No more IP addresses available on network %s.", p.NetworkID)
		}
	}
	if h, used := c.ports.TxUnique(c.tx, "address", pair(p.NetworkID, addr.String())); used && h.ID != p.ID {
		return conflict("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", addr, s.ID)
	}
	f := nodeapi.FixedIP{SubnetID: s.ID, Addr: addr}
	if slices.Contains(p.FixedIPs, f) {
		return badRequest("Invalid input for fixed_ips. Reason: Duplicate IP address '%s'.", addr)
	}
	p.FixedIPs = append(p.FixedIPs, f)
	return nil
}

// secure settles port security, groups and address pairs, which depend on each other.
func (c *call) secure(p *Port, given attr.Values, old *Port) error {
	if items, ok := given["security_groups"].([]any); ok {
		p.Groups = nil
		for _, id := range attr.Of[string](items) {
			if _, err := c.group.find(c, id); err != nil {
				return err
			}
			if !slices.Contains(p.Groups, id) {
				p.Groups = append(p.Groups, id)
			}
		}
		if len(p.Groups) > maxGroups {
			return badRequest("Invalid input for security_groups. Reason: more than %d groups.", maxGroups)
		}
	} else if old == nil && p.PortSecurity && !serviceOwned(p.DeviceOwner) {
		g, err := c.defaultGroup(p.ProjectID)
		if err != nil {
			return err
		}
		p.Groups = []string{g.ID}
	}
	if items, ok := given["allowed_address_pairs"].([]any); ok {
		pairs, err := c.pairs(p, attr.Of[map[string]any](items))
		if err != nil {
			return err
		}
		p.Pairs = pairs
	}
	if p.PortSecurity {
		return nil
	}
	if len(p.Pairs) > 0 {
		return conflict("AddressPairAndPortSecurityRequired", "Port Security must be enabled in order to have allowed address pairs on a port.")
	}
	if len(p.Groups) > 0 && old != nil && old.PortSecurity {
		return conflict("PortSecurityPortHasSecurityGroup", "Port has security group associated. Cannot disable port security or IP address until security group is removed.")
	}
	if len(p.Groups) > 0 {
		return errsBad("PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
	}
	return nil
}

func (c *call) pairs(p *Port, items []map[string]any) ([]nodeapi.AddressPair, error) {
	if len(items) > maxPairs {
		return nil, errsBad("AddressPairsExhausted", "The number of allowed address pair exceeds the maximum %d.", maxPairs)
	}
	var out []nodeapi.AddressPair
	for _, m := range items {
		a := nodeapi.AddressPair{Prefix: m["ip_address"].(netip.Prefix), MAC: p.MAC}
		if mac, ok := m["mac_address"].(string); ok {
			a.MAC = mac
		}
		if slices.Contains(out, a) {
			return nil, errsBad("DuplicateAddressPairInRequest", "Request contains duplicate address pair: mac_address %s ip_address %s.", a.MAC, pairText(a.Prefix))
		}
		out = append(out, a)
	}
	return out, nil
}

// dnsAssignment names each address as the DNS responder does.
func dnsAssignment(p *Port, c *call) any {
	zone := domain
	if n, err := get(c, c.networks, p.NetworkID); err == nil && n.DNSDomain != "" {
		zone = strings.TrimSuffix(n.DNSDomain, ".")
	}
	out := make([]map[string]string, len(p.FixedIPs))
	for i, f := range p.FixedIPs {
		host := p.DNSName
		if host == "" {
			host = "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(f.Addr.String())
		}
		out[i] = map[string]string{"ip_address": f.Addr.String(), "hostname": host, "fqdn": host + "." + zone + "."}
	}
	return out
}

// deviceUUID is a stable id in the place where upstream puts a hash of the host.
func deviceUUID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name+strconv.Itoa(len(name)))).String()
}
