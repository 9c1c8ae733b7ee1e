package network

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
)

// TestAddresses takes and gives back addresses of a small subnet at random: no
// address is had twice, all lie in the pools, and every one of them can be had.
func TestAddresses(t *testing.T) {
	w, ctx := start(t), context.Background()
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		cidr := netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/28", run/256%256, run%256))
		var net *Network
		var sub *Subnet
		add := func(given attr.Values) (p *Port, err error) {
			given["network_id"] = net.ID
			err = w.s.do(ctx, nil, func(c *call) error { p, err = c.port.add(c, "p", given); return err })
			return p, err
		}
		if err := w.s.do(ctx, nil, func(c *call) (err error) {
			if net, err = c.network.add(c, "p", attr.Values{}); err == nil {
				sub, err = c.subnet.add(c, "p", attr.Values{"network_id": net.ID, "ip_version": 4, "cidr": cidr, "enable_dhcp": false})
			}
			return err
		}); err != nil {
			r.Fatal(err)
		}
		const usable = 13
		held := map[netip.Addr]string{}
		take := func(given attr.Values) {
			p, err := add(given)
			if len(held) == usable {
				if errs.CodeOf(err) != "IpAddressGenerationFailure" && errs.CodeOf(err) != "IpAddressAlreadyAllocated" {
					r.Fatalf("a full subnet gave %v %v", p, err)
				}
				return
			}
			if errs.CodeOf(err) == "IpAddressAlreadyAllocated" && given.Has("fixed_ips") {
				return
			}
			if err != nil {
				r.Fatalf("%d of %d are held: %v", len(held), usable, err)
			}
			a := p.FixedIPs[0].Addr
			if _, twice := held[a]; twice || !sub.Pools[0].contains(a) && !sub.Pools[len(sub.Pools)-1].contains(a) {
				r.Fatalf("%s was given although %v are held and the pools are %v", a, held, sub.Pools)
			}
			held[a] = p.ID
		}
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			switch rapid.IntRange(0, 3).Draw(r, "op") {
			case 0, 1:
				take(attr.Values{})
			case 2:
				a := sub.Pools[0].Start
				for range rapid.IntRange(0, usable-1).Draw(r, "which") {
					a = a.Next()
				}
				take(attr.Values{"fixed_ips": []any{map[string]any{"ip_address": a}}})
			case 3:
				for a, id := range held {
					if err := w.s.ReleasePort(ctx, id, false); err != nil {
						r.Fatal(err)
					}
					delete(held, a)
					break
				}
			}
		}
		for len(held) < usable {
			take(attr.Values{})
		}
		take(attr.Values{})
	})
}

func TestPoolsOfPrefixes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		bits := rapid.IntRange(24, 32).Draw(r, "bits")
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 255).Draw(r, "low"))}), bits).Masked()
		gateway := netip.Addr{}
		if rapid.Bool().Draw(r, "gateway") {
			gateway = firstHost(p)
		}
		n := 0
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			in := 0
			for _, pool := range defaultPools(p, gateway) {
				if pool.contains(a) {
					in++
				}
			}
			want := 1
			if edge(p, a) || a == gateway {
				want = 0
			}
			if in != want {
				r.Fatalf("%s with gateway %s: %s is in %d pools, not %d", p, gateway, a, in, want)
			}
			n += in
		}
		size := 0.0
		for _, pool := range defaultPools(p, gateway) {
			size += pool.size()
		}
		if int(size) != n {
			r.Fatalf("%s: size %v, counted %d", p, size, n)
		}
	})
}

func TestEUI64(t *testing.T) {
	a, err := eui64(netip.MustParsePrefix("2001:db8::/64"), "fa:16:3e:00:00:01")
	if err != nil || a.String() != "2001:db8::f816:3eff:fe00:1" {
		t.Errorf("%s %v", a, err)
	}
}

// TestSubnetsFromPool cuts random sizes from a pool: they never overlap.
func TestSubnetsFromPool(t *testing.T) {
	w, ctx := start(t), context.Background()
	rapid.Check(t, func(r *rapid.T) {
		err := w.s.do(ctx, nil, func(c *call) error {
			p, err := c.pool.add(c, "p", attr.Values{"prefixes": []any{netip.MustParsePrefix("10.0.0.0/20"), netip.MustParsePrefix("10.9.0.0/22")}})
			if err != nil {
				return err
			}
			n, err := c.network.add(c, "p", attr.Values{})
			if err != nil {
				return err
			}
			var all []netip.Prefix
			for range rapid.IntRange(1, 30).Draw(r, "n") {
				s, err := c.subnet.add(c, "p", attr.Values{"network_id": n.ID, "subnetpool_id": p.ID, "ip_version": 4, "prefixlen": rapid.IntRange(20, 28).Draw(r, "len")})
				if errs.CodeOf(err) == "SubnetAllocationError" {
					continue
				} else if err != nil {
					return err
				}
				for _, o := range all {
					if o.Overlaps(s.CIDR) {
						return fmt.Errorf("%s and %s overlap", o, s.CIDR)
					}
				}
				all = append(all, s.CIDR)
			}
			if len(all) == 0 {
				return fmt.Errorf("an empty pool gave nothing")
			}
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
	})
}
