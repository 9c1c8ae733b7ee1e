package ipam

import (
	"net/netip"
	"testing"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name string
		pool Pool
		used []string
		want string // "": none
	}{
		{"the first after the gateway", Pool{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.1")}, nil, "10.1.0.2"},
		{"the lowest gap", Pool{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.1")}, []string{"10.1.0.2", "10.1.0.4"}, "10.1.0.3"},
		{"not what is set aside", Pool{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.1"), Aux: map[string]netip.Addr{"printer": addr("10.1.0.2")}}, nil, "10.1.0.3"},
		{"within the range", Pool{Subnet: prefix("10.1.0.0/16"), Gateway: addr("10.1.0.1"), Range: prefix("10.1.5.0/24")}, nil, "10.1.5.0"},
		{"the range is full", Pool{Subnet: prefix("10.1.0.0/16"), Gateway: addr("10.1.0.1"), Range: prefix("10.1.5.4/31")}, []string{"10.1.5.4", "10.1.5.5"}, ""},
		{"never the broadcast address", Pool{Subnet: prefix("10.1.0.0/30"), Gateway: addr("10.1.0.1")}, []string{"10.1.0.2"}, ""},
		{"a gateway in the middle", Pool{Subnet: prefix("10.1.0.0/29"), Gateway: addr("10.1.0.2")}, []string{"10.1.0.1"}, "10.1.0.3"},
		{"IPv6", Pool{Subnet: prefix("fd00::/64"), Gateway: addr("fd00::1")}, nil, "fd00::2"},
		{"IPv6 has no broadcast", Pool{Subnet: prefix("fd00::/126"), Gateway: addr("fd00::1")}, []string{"fd00::2"}, "fd00::3"},
	} {
		used := map[netip.Addr]bool{}
		for _, u := range c.used {
			used[addr(u)] = true
		}
		got, ok := c.pool.Next(used)
		if ok != (c.want != "") || ok && got != addr(c.want) {
			t.Errorf("%s: %v, %v", c.name, got, ok)
		}
		if ok && !c.pool.Free(got, used) {
			t.Errorf("%s: %s is given and cannot be asked for", c.name, got)
		}
	}
}

func TestFree(t *testing.T) {
	p := Pool{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.1"), Range: prefix("10.1.0.128/25"), Aux: map[string]netip.Addr{"box": addr("10.1.0.9")}}
	used := map[netip.Addr]bool{addr("10.1.0.7"): true}
	for a, want := range map[string]bool{"10.1.0.5": true, "10.1.0.200": true, "10.1.0.9": false, "10.1.0.7": false, "10.1.0.1": false, "10.1.0.0": false, "10.1.0.255": false, "10.2.0.5": false} {
		if got := p.Free(addr(a), used); got != want {
			t.Errorf("%s is free: %v", a, got)
		}
	}
}

func TestGateway(t *testing.T) {
	for _, c := range []struct {
		pool Pool
		want string
	}{
		{Pool{Subnet: prefix("10.1.0.0/24")}, "10.1.0.1"},
		{Pool{Subnet: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.77")}, "10.1.0.77"},
		{Pool{Subnet: prefix("10.1.0.0/24"), Aux: map[string]netip.Addr{"router": addr("10.1.0.1")}}, "10.1.0.2"},
		{Pool{Subnet: prefix("fd00::/64")}, "fd00::1"},
	} {
		if p, ok := c.pool.WithGateway(); !ok || p.Gateway != addr(c.want) {
			t.Errorf("%v has the gateway %s, not %s", c.pool, p.Gateway, c.want)
		}
	}
}

func TestSubnets(t *testing.T) {
	var taken []netip.Prefix
	for {
		p, ok := Subnet4(taken)
		if !ok {
			break
		}
		if Overlaps(p, taken) {
			t.Fatalf("%s is taken", p)
		}
		taken = append(taken, p)
	}
	if len(taken) != 31 || taken[0] != prefix("172.17.0.0/16") || taken[30] != prefix("192.168.240.0/20") {
		t.Errorf("%d subnets: %v", len(taken), taken)
	}
	own := Unique("stabcdef")
	one, _ := Subnet6(own, nil)
	two, _ := Subnet6(own, []netip.Prefix{one})
	if !own.Contains(one.Addr()) || !own.Contains(two.Addr()) || one == two || one.Bits() != 64 || own == Unique("stother") {
		t.Errorf("of %s: %s, %s", own, one, two)
	}
}

// BenchmarkNext gives an address on a network with 1,000 containers.
func BenchmarkNext(b *testing.B) {
	p := Pool{Subnet: prefix("172.17.0.0/16"), Gateway: addr("172.17.0.1")}
	used := map[netip.Addr]bool{}
	for range 1000 {
		a, _ := p.Next(used)
		used[a] = true
	}
	for b.Loop() {
		if _, ok := p.Next(used); !ok {
			b.Fatal("no address")
		}
	}
}
