package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// hints remember where the search for a free number last ended. They only make
// it short: what is free is decided by the unique keys of the records.
type hints struct {
	vni  atomic.Int64
	mu   sync.Mutex
	last map[string]netip.Addr // by subnet
}

func (h *hints) get(subnet string) netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[subnet]
}

func (h *hints) set(subnet string, a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[subnet] = a
}

func (h *hints) forget(subnet string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, subnet)
}

func (p Pool) contains(a netip.Addr) bool {
	return a.IsValid() && a.BitLen() == p.Start.BitLen() && !a.Less(p.Start) && !p.End.Less(a)
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// narrow prefixes have no network and broadcast address (RFC 3021, RFC 6164).
func narrow(p netip.Prefix) bool { return p.Addr().BitLen()-p.Bits() <= 1 }

// edge tells whether the address is the network's own or, in IPv4, its broadcast.
func edge(p netip.Prefix, a netip.Addr) bool {
	if narrow(p) {
		return false
	}
	return a == p.Masked().Addr() || a.Is4() && a == lastOf(p)
}

func firstHost(p netip.Prefix) netip.Addr {
	if narrow(p) && p.Addr().BitLen() == p.Bits() {
		return p.Addr()
	}
	return p.Masked().Addr().Next()
}

// defaultPools are all usable addresses but the gateway.
func defaultPools(p netip.Prefix, gateway netip.Addr) []Pool {
	first, last := p.Masked().Addr(), lastOf(p)
	if !narrow(p) {
		first = first.Next()
		if first.Is4() {
			last = last.Prev()
		}
	}
	if !(Pool{first, last}).contains(gateway) {
		return []Pool{{first, last}}
	}
	var out []Pool
	if first.Less(gateway) {
		out = append(out, Pool{first, gateway.Prev()})
	}
	if gateway.Less(last) {
		out = append(out, Pool{gateway.Next(), last})
	}
	return out
}

// maxProbe bounds the search through a crowded subnet.
const maxProbe = 1 << 20

// freeAddress finds an address of the subnet's pools that no port of the network
// has, starting after the one that was given out last. taken are further ones
// to avoid. The zero address means that there is none.
func (c *call) freeAddress(s *Subnet, taken []nodeapi.FixedIP) netip.Addr {
	probes := 0
	for _, seg := range c.searchOrder(s) {
		for a := seg.Start; seg.contains(a) && probes < maxProbe; a = a.Next() {
			if c.addressFree(s.NetworkID, a, taken) {
				c.hints.set(s.ID, a)
				return a
			}
			probes++
		}
	}
	return netip.Addr{}
}

// searchOrder is all of the pools, beginning behind the hint.
func (c *call) searchOrder(s *Subnet) []Pool {
	h := c.hints.get(s.ID)
	for i, p := range s.Pools {
		if p.contains(h) {
			order := append([]Pool{{h.Next(), p.End}}, s.Pools[i+1:]...)
			order = append(order, s.Pools[:i]...)
			return append(order, Pool{p.Start, h})
		}
	}
	return s.Pools
}

func (c *call) addressFree(network string, a netip.Addr, taken []nodeapi.FixedIP) bool {
	for _, f := range taken {
		if f.Addr == a {
			return false
		}
	}
	_, used := c.ports.TxUnique(c.tx, "address", pair(network, a.String()))
	return !used
}

// eui64 is the address that SLAAC gives to a MAC (RFC 4291, appendix A).
func eui64(p netip.Prefix, mac string) (netip.Addr, error) {
	m, err := net.ParseMAC(mac)
	if err != nil {
		return netip.Addr{}, err
	}
	raw := p.Masked().Addr().As16()
	copy(raw[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(raw), nil
}

// size is how many addresses a pool has, at most the largest float64 that is exact enough for the view.
func (p Pool) size() float64 {
	a, b := p.Start.As16(), p.End.As16()
	hi := binary.BigEndian.Uint64(b[:8]) - binary.BigEndian.Uint64(a[:8])
	return float64(hi)*(1<<64) + float64(binary.BigEndian.Uint64(b[8:])) - float64(binary.BigEndian.Uint64(a[8:])) + 1
}
