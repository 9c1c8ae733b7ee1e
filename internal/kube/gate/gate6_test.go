package gate

import (
	"net/netip"
	"slices"
	"testing"
)

// TestWays6 has a pod of IPv6 be reached where the cluster has it, and nothing else of IPv6.
func TestWays6(t *testing.T) {
	w := newWorld(t)
	two := port
	two.Addrs = append(slices.Clone(port.Addrs), netip.MustParsePrefix("fd00:9::2/64"))
	dual := w.want()
	dual.Port, dual.Network6 = &two, network6
	w.ensure(w.want())
	if _, res := w.connect("[fd00:9::7]:443"); res.StatusCode != 403 {
		t.Errorf("in a cluster without IPv6: %s", res.Status)
	}
	for range 2 { // the device is made anew once
		w.ensure(dual)
	}
	w.serve(w.net, ":443", name("pod"))
	for to, want := range map[string]string{"[fd00:9::7]:443": "pod for fd00:9::2", "10.9.0.7:443": "pod for 10.9.0.2"} {
		if got := w.ask(w.tunnel(to)); got != want {
			t.Errorf("%s is %q, want %q", to, got, want)
		}
	}
	for to, want := range map[string]int{"[::1]:443": 403, "[fe80::1]:443": 403, "[fd00:8::7]:443": 403, "[fd00:9::7]:444": 502} {
		if _, res := w.connect(to); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", to, res.Status, want)
		}
	}
}
