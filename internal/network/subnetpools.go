package network

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
)

// SubnetPool is address space that subnets are cut from.
type SubnetPool struct {
	Base
	Prefixes  []netip.Prefix `json:"prefixes"`
	MinLen    int            `json:"min_len"`
	MaxLen    int            `json:"max_len"`
	DefLen    int            `json:"def_len"`
	Quota     *int           `json:"quota,omitempty"` // per project: IPv4 addresses, IPv6 /64s
	ScopeID   string         `json:"scope_id,omitempty"`
	Shared    bool           `json:"shared,omitempty"`
	IsDefault bool           `json:"is_default,omitempty"`
}

// AddressScope is a set of pools whose addresses do not overlap.
type AddressScope struct {
	Base
	Version int  `json:"version"`
	Shared  bool `json:"shared,omitempty"`
}

func (p *SubnetPool) version() int {
	if len(p.Prefixes) == 0 {
		return 4
	}
	return versionOf(p.Prefixes[0].Addr())
}

func scopeResource(s *Service) *resource[AddressScope] {
	base := (*AddressScope).base
	return &resource[AddressScope]{
		Service: s, name: "address_scope", plural: "address_scopes", path: "/address-scopes", quota: "", coll: s.scopes,
		base: base, notFound: missing("AddressScopeNotFound", "Address scope %s could not be found"),
		table: attr.NewTable("address_scope", common(base, true), []column[AddressScope]{
			{Name: "ip_version", In: attr.Post, Required: true, Check: ipVersion, Get: func(a *AddressScope, _ *call) any { return a.Version },
				Set: func(a *AddressScope, x any) { a.Version = x.(int) }},
			boolean("shared", both, "create update", false, func(a *AddressScope) *bool { return &a.Shared }),
		}),
		target: func(c *call, a *AddressScope, t policy.Target) {
			t["shared"] = truth(a.Shared || c.granted(a.ID, actShared))
		},
		create: func(*call, *AddressScope, attr.Values) error { return nil },
		update: func(_ *call, old, a *AddressScope, _ attr.Values) error {
			if old.Shared && !a.Shared {
				return errsBad("AddressScopeUpdateError", "Unable to update address scope %s : Shared address scope can't be unshared", a.ID)
			}
			return nil
		},
		remove: func(c *call, a *AddressScope) error {
			if len(by(c, c.pools, "scope", a.ID)) > 0 {
				return conflict("AddressScopeInUse", "Unable to complete operation on address scope %s. There are one or more subnet pools in use on the address scope", a.ID)
			}
			return c.forget(a.ID)
		},
	}
}

func poolResource(s *Service) *resource[SubnetPool] {
	base := (*SubnetPool).base
	length := func(name string, at func(*SubnetPool) *int) column[SubnetPool] {
		return column[SubnetPool]{Name: name, In: both, Check: attr.Int(0, 128), Get: func(p *SubnetPool, _ *call) any { return *at(p) },
			Set: func(p *SubnetPool, x any) { *at(p) = x.(int) }}
	}
	return &resource[SubnetPool]{
		Service: s, name: "subnetpool", plural: "subnetpools", quota: "subnetpool", coll: s.pools,
		base: base, notFound: missing("SubnetPoolNotFound", "Subnet pool %s could not be found."),
		hints: map[string]string{"address_scope_id": "scope"},
		table: attr.NewTable("subnetpool", common(base, true), []column[SubnetPool]{
			{Name: "prefixes", In: both, Required: true, NoFilter: true, NoSort: true, Check: attr.List(maxPools, attr.CIDR),
				Get: func(p *SubnetPool, _ *call) any { return list(p.Prefixes) }, Set: func(p *SubnetPool, x any) { p.Prefixes = attr.Of[netip.Prefix](x) }},
			length("min_prefixlen", func(p *SubnetPool) *int { return &p.MinLen }),
			length("max_prefixlen", func(p *SubnetPool) *int { return &p.MaxLen }),
			length("default_prefixlen", func(p *SubnetPool) *int { return &p.DefLen }),
			{Name: "default_quota", In: both, Check: attr.OrNone(attr.Int(0, 1<<31-1)), Get: func(p *SubnetPool, _ *call) any {
				if p.Quota == nil {
					return nil
				}
				return *p.Quota
			}, Set: func(p *SubnetPool, x any) {
				p.Quota = nil
				if n, ok := x.(int); ok {
					p.Quota = &n
				}
			}},
			{Name: "address_scope_id", In: both, Check: attr.NoneAs("", attr.UUID), Get: func(p *SubnetPool, _ *call) any { return orNil(p.ScopeID) },
				Set: func(p *SubnetPool, x any) { p.ScopeID = x.(string) }},
			{Name: "ip_version", Get: func(p *SubnetPool, _ *call) any { return p.version() }},
			boolean("shared", attr.Post, "create", false, func(p *SubnetPool) *bool { return &p.Shared }),
			boolean("is_default", both, "create update", false, func(p *SubnetPool) *bool { return &p.IsDefault }),
		}),
		target: func(c *call, p *SubnetPool, t policy.Target) {
			t["shared"] = truth(p.Shared || c.granted(p.ID, actShared))
		},
		create: func(c *call, p *SubnetPool, given attr.Values) error {
			if !given.Has("min_prefixlen") {
				p.MinLen = 8
				if p.version() == 6 {
					p.MinLen = 64
				}
			}
			if !given.Has("max_prefixlen") {
				p.MaxLen = bitsOf(p.version())
			}
			if !given.Has("default_prefixlen") {
				p.DefLen = p.MinLen
			}
			return c.checkPool(p)
		},
		update: func(c *call, old, p *SubnetPool, _ attr.Values) error {
			for _, x := range old.Prefixes {
				if !slices.ContainsFunc(p.Prefixes, func(y netip.Prefix) bool { return y.Bits() <= x.Bits() && y.Overlaps(x) }) {
					return errsBad("IllegalSubnetPoolPrefixUpdate", "Illegal update to prefixes: prefix %s cannot be removed.", x)
				}
			}
			return c.checkPool(p)
		},
		remove: func(c *call, p *SubnetPool) error {
			if len(by(c, c.subnets, "pool", p.ID)) > 0 {
				return errsBad("SubnetPoolDeleteError", "Unable to delete subnet pool: Subnet pool has existing allocations.")
			}
			return c.forget(p.ID)
		},
	}
}

func bitsOf(version int) int {
	if version == 4 {
		return 32
	}
	return 128
}

func (c *call) checkPool(p *SubnetPool) error {
	if len(p.Prefixes) == 0 {
		return errsBad("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list.")
	}
	for i, x := range p.Prefixes {
		if versionOf(x.Addr()) != p.version() {
			return errsBad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
		}
		for _, y := range p.Prefixes[:i] {
			if x.Overlaps(y) {
				return errsBad("IllegalSubnetPoolPrefixBounds", "Prefixes %s and %s of the subnet pool overlap.", y, x)
			}
		}
	}
	bits := bitsOf(p.version())
	if p.MinLen > p.MaxLen || p.DefLen < p.MinLen || p.DefLen > p.MaxLen || p.MaxLen > bits {
		return errsBad("IllegalSubnetPoolPrefixBounds", "Illegal prefix bounds: min_prefixlen %d <= default_prefixlen %d <= max_prefixlen %d <= %d must hold.", p.MinLen, p.DefLen, p.MaxLen, bits)
	}
	if p.IsDefault {
		if o, ok := c.pools.TxUnique(c.tx, "default", strconv.Itoa(p.version())); ok && o.ID != p.ID {
			return invalid("A default subnetpool for this IP family has already been set. Only one default may exist per IP family")
		}
	}
	if p.ScopeID == "" {
		return nil
	}
	a, err := c.scope.find(c, p.ScopeID)
	if err != nil {
		return err
	}
	if a.Version != p.version() {
		return errsBad("IllegalSubnetPoolIpVersionAssociation", "Illegal subnetpool association: subnetpool %s cannot associate with address scope %s because subnetpool ip_version is not %d.", p.ID, a.ID, a.Version)
	}
	for _, o := range by(c, c.pools, "scope", a.ID) {
		for _, x := range o.Prefixes {
			if o.ID != p.ID && slices.ContainsFunc(p.Prefixes, x.Overlaps) {
				return conflict("AddressScopePrefixConflict", "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.")
			}
		}
	}
	return nil
}

// fromSubnetPool cuts the subnet's prefix from a pool, if one is asked for.
func (c *call) fromSubnetPool(_ *Network, s *Subnet, version int, given attr.Values) error {
	id, _ := given["subnetpool_id"].(string)
	if id == "" && given["use_default_subnetpool"] == true {
		p, ok := c.pools.TxUnique(c.tx, "default", strconv.Itoa(version))
		if !ok {
			return errsBad("BadRequest", "Bad subnets request: No default subnetpool found for IPv%d.", version)
		}
		id = p.ID
	}
	if id == "" {
		return nil
	}
	p, err := c.pool.find(c, id)
	if err != nil {
		return err
	}
	if version != 0 && version != p.version() {
		return errsBad("BadRequest", "Bad subnets request: Cannot allocate IPv%d subnet from IPv%d subnet pool.", version, p.version())
	}
	length, ok := given["prefixlen"].(int)
	if ok && s.CIDR.IsValid() {
		return errsBad("BadRequest", "Bad subnets request: cidr and prefixlen must not be supplied together.")
	}
	if !ok {
		length = p.DefLen
	}
	if s.CIDR.IsValid() {
		length = s.CIDR.Bits()
	}
	if length < p.MinLen {
		return errsBad("MinPrefixSubnetAllocationError", "Unable to allocate subnet with prefix length %d, minimum allowed prefix is %d.", length, p.MinLen)
	}
	if length > p.MaxLen {
		return errsBad("MaxPrefixSubnetAllocationError", "Unable to allocate subnet with prefix length %d, maximum allowed prefix is %d.", length, p.MaxLen)
	}
	s.SubnetPoolID = p.ID
	return c.cut(p, s, length)
}

// cut finds the first free prefix of the length in the pool, or checks the asked one.
func (c *call) cut(p *SubnetPool, s *Subnet, length int) error {
	used := []netip.Prefix{}
	taken := 0.0
	for _, o := range by(c, c.subnets, "pool", p.ID) {
		used = append(used, o.CIDR)
		if o.ProjectID == s.ProjectID {
			taken += weight(o.CIDR)
		}
	}
	if p.Quota != nil && taken+weight(netip.PrefixFrom(p.Prefixes[0].Addr(), length)) > float64(*p.Quota) {
		return conflict("SubnetPoolQuotaExceeded", "Per-tenant subnet pool prefix quota exceeded.")
	}
	overlapping := func(x netip.Prefix) int { return slices.IndexFunc(used, x.Overlaps) }
	if s.CIDR.IsValid() {
		if !slices.ContainsFunc(p.Prefixes, func(x netip.Prefix) bool { return x.Bits() <= s.CIDR.Bits() && x.Overlaps(s.CIDR) }) || overlapping(s.CIDR) >= 0 {
			return conflict("SubnetAllocationError", "Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes.")
		}
		return nil
	}
	for _, x := range p.Prefixes {
		if length < x.Bits() {
			continue
		}
		for at := netip.PrefixFrom(x.Addr(), length); x.Contains(at.Addr()); {
			i := overlapping(at)
			if i < 0 {
				s.CIDR = at
				return nil
			}
			// The next candidate starts behind whatever is in the way.
			next := lastOf(at)
			if end := lastOf(used[i]); next.Less(end) {
				next = end
			}
			if next = next.Next(); !next.IsValid() {
				break
			}
			at = netip.PrefixFrom(next, length).Masked()
			if at.Addr().Less(next) {
				if next = lastOf(at).Next(); !next.IsValid() {
					break
				}
				at = netip.PrefixFrom(next, length)
			}
		}
	}
	return conflict("SubnetAllocationError", "Failed to allocate subnet: Insufficient prefix space to allocate subnet size /%d.", length)
}

// weight is what a prefix takes of a pool's quota: addresses, in IPv6 /64s.
func weight(p netip.Prefix) float64 {
	bits := 32 - p.Bits()
	if p.Addr().Is6() {
		bits = 64 - p.Bits()
	}
	if bits < 0 {
		return 1
	}
	return float64(uint64(1) << min(bits, 63))
}

// scopeOf is the address scope that a network's subnets of a family are in.
func (c *call) scopeOf(network string, version int) string {
	for _, s := range by(c, c.subnets, "network", network) {
		if s.version() == version && s.SubnetPoolID != "" {
			if p, err := get(c, c.pools, s.SubnetPoolID); err == nil && p.ScopeID != "" {
				return p.ScopeID
			}
		}
	}
	return ""
}
