package ipam

import "net/netip"

// Pool is a subnet and who may have which address in it.
type Pool struct {
	Subnet  netip.Prefix
	Gateway netip.Addr
	Range   netip.Prefix          // of addresses that are given out; not valid: all
	Aux     map[string]netip.Addr // set aside by the user, by name
}

// Valid tells whether there is a subnet.
func (p Pool) Valid() bool { return p.Subnet.IsValid() }

// Contains tells whether an address can be asked for.
func (p Pool) Contains(a netip.Addr) bool { return p.Subnet.Contains(a) }

// Prefix is an address with the subnet's length.
func (p Pool) Prefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, p.Subnet.Bits()) }

// reserved tells whether no one may have an address: the network's own, the broadcast
// address and what was set aside.
func (p Pool) reserved(a netip.Addr) bool {
	if a == p.Subnet.Masked().Addr() || a.Is4() && a == last(p.Subnet) {
		return true
	}
	for _, aside := range p.Aux {
		if a == aside {
			return true
		}
	}
	return false
}

// Free tells whether a container may have an address that it asks for.
func (p Pool) Free(a netip.Addr, used map[netip.Addr]bool) bool {
	return p.Contains(a) && !used[a] && a != p.Gateway && !p.reserved(a)
}

// Next is the lowest address that is free.
func (p Pool) Next(used map[netip.Addr]bool) (netip.Addr, bool) {
	from := p.Subnet
	if p.Range.IsValid() {
		from = p.Range
	}
	for a := from.Masked().Addr(); from.Contains(a); a = a.Next() {
		if !used[a] && a != p.Gateway && !p.reserved(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// WithGateway gives a pool without a gateway the lowest address that is free, as
// dockerd does.
func (p Pool) WithGateway() (Pool, bool) {
	if p.Gateway.IsValid() {
		return p, true
	}
	a, ok := p.Next(nil)
	p.Gateway = a
	return p, ok
}

// last is the highest address of a subnet.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
