package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Overlaps tells whether a subnet has addresses in common with one of others.
func Overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	return slices.ContainsFunc(taken, p.Overlaps)
}

// Subnet4 is the first of dockerd's predefined subnets that is free.
func Subnet4(taken []netip.Prefix) (netip.Prefix, bool) {
	for i := 17; i < 32; i++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16); !Overlaps(p, taken) {
			return p, true
		}
	}
	for i := 0; i < 256; i += 16 {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20); !Overlaps(p, taken) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// Unique is a /48 of unique local addresses (RFC 4193) that belongs to the name.
func Unique(name string) netip.Prefix {
	sum := sha256.Sum256([]byte(name))
	b := [16]byte{0xfd}
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 48)
}

// Subnet6 is the first /64 of a /48 that is free, beginning with the second: the first
// is for what the engine itself needs.
func Subnet6(from netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	b := from.Addr().As16()
	for i := 1; i < 1<<16; i++ {
		binary.BigEndian.PutUint16(b[6:], uint16(i))
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !Overlaps(p, taken) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
