package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// world is a network: one namespace with a bridge, a client and members in namespaces of
// their own, and a Kernel that plugs load balancers into the bridge.
type world struct {
	*testing.T
	name   string
	hub    *netns.NS
	kernel *Kernel
	spaces []*netns.NS
}

func newWorld(t *testing.T) *world {
	needs.Root(t, "this test")
	w := &world{T: t, name: fmt.Sprintf("tb%d", os.Getpid()%1000000)}
	t.Cleanup(func() {
		ids, err := w.kernel.List()
		if err != nil {
			t.Error(err)
		}
		for _, id := range ids {
			if err := w.kernel.Remove(id); err != nil {
				t.Error(err)
			}
		}
		for _, ns := range w.spaces {
			if err := errors.Join(ns.Close(), netns.Remove(ns.Name)); err != nil {
				t.Error(err)
			}
		}
	})
	w.kernel = &Kernel{Name: w.name, Plug: func(_ context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error {
		return w.plug(ns, device, p.MAC, p.Addrs...)
	}}
	w.hub = w.space("hub")
	h := w.link(w.hub)
	w.must(h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}))
	w.up(w.hub, "br")
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) space(name string) *netns.NS {
	w.Helper()
	ns, _, err := netns.Ensure(w.name + "-" + name)
	w.must(err)
	w.spaces = append(w.spaces, ns)
	w.up(ns, "lo")
	return ns
}

func (w *world) link(ns *netns.NS) *netlink.Handle {
	w.Helper()
	h, err := ns.Link()
	w.must(err)
	return h
}

func (w *world) up(ns *netns.NS, device string) {
	w.Helper()
	l, err := w.link(ns).LinkByName(device)
	w.must(err)
	w.must(w.link(ns).LinkSetUp(l))
}

// plug joins a namespace to the bridge. The first address is of IPv4.
func (w *world) plug(ns *netns.NS, device, mac string, addrs ...netip.Prefix) error {
	hub, in := w.link(w.hub), w.link(ns)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("p%d", addrs[0].Addr().As4()[3])
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	if err := hub.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: device, PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(ns.FD())}); err != nil {
		return err
	}
	br, err := hub.LinkByName("br")
	if err != nil {
		return err
	}
	outer, err := hub.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	inner, err := in.LinkByName(device)
	if err != nil {
		return err
	}
	errs := []error{hub.LinkSetMaster(outer, br), hub.LinkSetUp(outer), in.LinkSetUp(inner)}
	for _, addr := range addrs {
		a, err := netlink.ParseAddr(addr.String())
		if err != nil {
			return err
		}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		errs = append(errs, in.AddrAdd(inner, a))
	}
	return errors.Join(errs...)
}

// guest is somebody at 10.9.0.n and fd00:9::n.
func (w *world) guest(n int) *netns.NS {
	w.Helper()
	ns := w.space(fmt.Sprintf("g%d", n))
	w.must(w.plug(ns, "eth0", fmt.Sprintf("02:00:00:00:00:%02x", n), netip.MustParsePrefix(fmt.Sprintf("10.9.0.%d/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd00:9::%d/64", n))))
	return ns
}

// serve has a guest answer with its name, and with whom it sees as its client.
func (w *world) serve(ns *netns.NS, name string) {
	w.Helper()
	var l net.Listener
	var u net.PacketConn
	w.must(ns.Do(func() (err error) {
		if l, err = net.Listen("tcp", ":8080"); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp", ":8080")
		return err
	}))
	w.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "%s %s", name, host)
			go func() { // until the client goes
				_, _ = c.Read(make([]byte, 1))
				c.Close()
			}()
		}
	}()
	go func() {
		for buf := make([]byte, 100); ; {
			_, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(name), from)
		}
	}()
}

// ask connects from a namespace and gives what is answered first. The connection stays
// open until the test ends when keep is set.
func (w *world) ask(ns *netns.NS, network, addr string, keep bool) (string, error) {
	w.Helper()
	var c net.Conn
	err := ns.Do(func() (err error) {
		c, err = net.DialTimeout(network, addr, time.Second)
		return err
	})
	if err != nil {
		return "", err
	}
	if keep {
		w.Cleanup(func() { c.Close() })
	} else {
		defer c.Close()
	}
	w.must(c.SetDeadline(time.Now().Add(2 * time.Second)))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func (w *world) balancer() *nodeapi.LoadBalancer {
	return &nodeapi.LoadBalancer{ID: "one", Gen: 1,
		Port:      nodeapi.ContainerPort{ID: "port", MAC: "02:00:00:00:00:09", MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.9/24")}},
		Listeners: []nodeapi.LBListener{{ID: "web", Protocol: "tcp", Port: 80, Limit: -1, PoolID: "p"}, {ID: "dns", Protocol: "udp", Port: 53, Limit: -1, PoolID: "u"}},
		Pools: []nodeapi.LBPool{
			{ID: "p", Protocol: "tcp", Algorithm: nodeapi.LBRoundRobin, Members: []nodeapi.LBMember{member("a", 1), member("b", 2)}},
			{ID: "u", Protocol: "udp", Algorithm: nodeapi.LBRoundRobin, Members: []nodeapi.LBMember{member("ua", 1), member("ub", 2)}}}}
}

func member(id string, n int) nodeapi.LBMember {
	return nodeapi.LBMember{ID: id, Addr: netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", n)), Port: 8080, Weight: 1}
}

func everybody(string) bool { return true }
func idle(string) int       { return 0 }

// TestDistributes sends connections through a load balancer in a namespace: turns, weights,
// sources, members that are gone, who may not, limits, counters; and a second process that
// takes over.
func TestDistributes(t *testing.T) {
	w := newWorld(t)
	client := w.guest(100)
	w.serve(w.guest(1), "a")
	w.serve(w.guest(2), "b")
	lb := w.balancer()
	w.must(Check(lb))
	b, err := w.kernel.Open(t.Context(), lb)
	w.must(err)
	defer func() { w.must(b.Close()) }()
	apply := func(up func(string) bool) {
		t.Helper()
		w.must(b.Apply(t.Context(), lb, up, idle))
	}
	tally := func(n int, network, addr string) map[string]int {
		t.Helper()
		out := map[string]int{}
		for range n {
			got, err := w.ask(client, network, addr, false)
			if err != nil {
				t.Fatalf("%s %s: %v", network, addr, err)
			}
			name, from, _ := strings.Cut(got, " ")
			if network == "tcp" && from != "10.9.0.9" {
				t.Fatalf("a member sees %q", from)
			}
			out[name]++
		}
		return out
	}
	apply(everybody)
	if got := tally(10, "tcp", "10.9.0.9:80"); got["a"] != 5 || got["b"] != 5 {
		t.Errorf("in turn: %v", got)
	}
	if got := tally(10, "udp", "10.9.0.9:53"); got["a"] != 5 || got["b"] != 5 {
		t.Errorf("in turn by UDP: %v", got)
	}
	lb.Pools[0].Members[0].Weight = 3
	apply(everybody)
	if got := tally(12, "tcp", "10.9.0.9:80"); got["a"] != 9 || got["b"] != 3 {
		t.Errorf("3 to 1: %v", got)
	}
	apply(func(m string) bool { return m != "a" && m != "ua" })
	if got := tally(4, "tcp", "10.9.0.9:80"); got["b"] != 4 {
		t.Errorf("with a down: %v", got)
	}
	apply(func(string) bool { return false })
	if _, err := w.ask(client, "tcp", "10.9.0.9:80", false); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with everybody down: %v", err)
	}
	lb.Pools[0].Sticky = true
	apply(everybody)
	if got := tally(6, "tcp", "10.9.0.9:80"); len(got) != 1 {
		t.Errorf("one client: %v", got)
	}
	lb.Pools[0].Algorithm, lb.Pools[0].Sticky = nodeapi.LBSourceIPPort, false
	apply(everybody)
	if got := tally(30, "tcp", "10.9.0.9:80"); len(got) != 2 {
		t.Errorf("by port: %v", got)
	}
	lb.Listeners[0].Allowed = []netip.Prefix{netip.MustParsePrefix("10.9.0.64/30")}
	apply(everybody)
	if _, err := w.ask(client, "tcp", "10.9.0.9:80", false); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("who may not: %v", err)
	}
	if _, err := w.ask(client, "tcp", "10.9.0.9:81", false); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("where nobody listens: %v", err)
	}
	lb.Listeners[0].Allowed, lb.Listeners[0].Limit = nil, 2
	apply(everybody)
	for range 2 {
		if _, err := w.ask(client, "tcp", "10.9.0.9:80", true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.ask(client, "tcp", "10.9.0.9:80", false); err == nil {
		t.Error("more connections than the limit")
	}
	traffic, err := b.Traffic(t.Context())
	w.must(err)
	busy, err := b.Busy(lb)
	w.must(err)
	if x := traffic["web"]; x.Total < 60 || x.BytesIn == 0 || x.BytesOut == 0 || x.Errors != 1 || busy["web"] < 2 || busy["a"]+busy["b"] != busy["web"] {
		t.Errorf("counted %+v, %v", x, busy)
	}

	again := w.balancer()
	second, err := w.kernel.Open(t.Context(), again)
	w.must(err)
	defer func() { w.must(second.Close()) }()
	if !second.Adopted {
		t.Error("it is not found again")
	}
	w.must(second.Apply(t.Context(), again, everybody, idle))
	if got := tally(4, "tcp", "10.9.0.9:80"); got["a"] != 2 || got["b"] != 2 {
		t.Errorf("taken over: %v", got)
	}
	tables, err := nft.Tables(t.Context(), second.NS)
	w.must(err)
	if len(tables) != 1 {
		t.Errorf("tables: %v", tables)
	}
}

// TestFamilies has clients reach members of their own IP version, all of those in turn.
func TestFamilies(t *testing.T) {
	w := newWorld(t)
	client := w.guest(100)
	for n, name := range []string{"a", "b", "c"} {
		w.serve(w.guest(n+1), name)
	}
	lb := w.balancer()
	lb.Port.Addrs = append(lb.Port.Addrs, netip.MustParsePrefix("fd00:9::9/64"))
	for i, p := range lb.Pools { // a and b by IPv4, b and c by IPv6
		for n := 2; n <= 3; n++ {
			m := member(fmt.Sprintf("%s6%d", p.ID, n), n)
			m.Addr = netip.MustParseAddr(fmt.Sprintf("fd00:9::%d", n))
			lb.Pools[i].Members = append(lb.Pools[i].Members, m)
		}
	}
	w.must(Check(lb))
	b, err := w.kernel.Open(t.Context(), lb)
	w.must(err)
	defer func() { w.must(b.Close()) }()
	for _, algorithm := range []string{nodeapi.LBRoundRobin, nodeapi.LBLeastConns, nodeapi.LBSourceIPPort} {
		for i := range lb.Pools {
			lb.Pools[i].Algorithm = algorithm
		}
		w.must(b.Apply(t.Context(), lb, everybody, idle))
		for _, x := range []struct{ network, addr, names, sees string }{
			{"tcp", "10.9.0.9:80", "ab", "10.9.0.9"}, {"tcp", "[fd00:9::9]:80", "bc", "fd00:9::9"}, {"udp", "10.9.0.9:53", "ab", ""}, {"udp", "[fd00:9::9]:53", "bc", ""},
		} {
			seen := map[string]bool{}
			for range 30 {
				got, err := w.ask(client, x.network, x.addr, false)
				w.must(err)
				name, from, _ := strings.Cut(got, " ")
				if !strings.Contains(x.names, name) || x.sees != from {
					t.Fatalf("%s: %s at %s is answered %q", algorithm, x.network, x.addr, got)
				}
				seen[name] = true
			}
			if len(seen) != 2 {
				t.Errorf("%s: %s at %s is answered by %v", algorithm, x.network, x.addr, seen)
			}
		}
	}
	w.must(b.Apply(t.Context(), lb, func(m string) bool { return m == "a" || m == "b" }, idle))
	if _, err := w.ask(client, "tcp", "[fd00:9::9]:80", false); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with nobody up of its IP version: %v", err)
	}
}

// TestForgets has a flow of UDP go to another member when its own is lost.
func TestForgets(t *testing.T) {
	w := newWorld(t)
	client := w.guest(100)
	w.serve(w.guest(1), "a")
	w.serve(w.guest(2), "b")
	lb := w.balancer()
	b, err := w.kernel.Open(t.Context(), lb)
	w.must(err)
	defer func() { w.must(b.Close()) }()
	w.must(b.Apply(t.Context(), lb, func(m string) bool { return m == "ua" }, idle))
	var c net.Conn
	w.must(client.Do(func() (err error) { c, err = net.Dial("udp", "10.9.0.9:53"); return err }))
	defer c.Close()
	ask := func() string {
		w.must(c.SetDeadline(time.Now().Add(2 * time.Second)))
		_, err := c.Write([]byte("?"))
		w.must(err)
		buf := make([]byte, 10)
		n, err := c.Read(buf)
		w.must(err)
		return string(buf[:n])
	}
	if got := ask(); got != "a" {
		t.Fatalf("first %s", got)
	}
	w.must(b.Apply(t.Context(), lb, func(m string) bool { return m == "ub" }, idle))
	if got := ask(); got != "a" {
		t.Errorf("a flow does not stay: %s", got)
	}
	w.must(b.Forget(lb.Pools[1].Members[0]))
	if got := ask(); got != "b" {
		t.Errorf("after forgetting: %s", got)
	}
}
