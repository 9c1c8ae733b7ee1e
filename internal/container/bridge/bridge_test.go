package bridge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
)

// world is a plane whose host is a namespace of the test's.
func world(t testing.TB) *Plane {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%d", os.Getpid())
	host, _, err := netns.Ensure(name + "-host")
	if err != nil {
		t.Fatal(err)
	}
	p := &Plane{name: name, host: host, perBridge: perBridge}
	t.Cleanup(func() {
		ids, err := p.Plugged()
		for _, id := range ids {
			err = errors.Join(err, netns.Remove(name+"-c-"+id))
		}
		err = errors.Join(err, dataplane.GiveForward(host, table(name)), dataplane.GiveForward6(host, table(name)), netns.Remove(space(name)), netns.Remove(name+"-host"), p.Close())
		if err != nil {
			t.Error(err)
		}
	})
	return p
}

func id(kind string, i int) string { return fmt.Sprintf("%s%011x%s", kind, i, strings.Repeat("0", 52)) }

func testNetwork(i int) Network {
	return Network{ID: id("a", i), V4: Subnet{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i)), netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", i))},
		V6: Subnet{netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i)), netip.MustParseAddr(fmt.Sprintf("fd00:%d::1", i))}}
}

// join puts container i on a network.
func join(t testing.TB, p *Plane, n Network, i int) Endpoint {
	t.Helper()
	e := Endpoint{ID: id("e", i), Network: n, Device: "eth0"}
	b, b6 := n.V4.Gateway.As4(), n.V6.Gateway.As16()
	b[2], b[3], b6[14], b6[15] = byte((i+2)>>8), byte(i+2), byte((i+2)>>8), byte(i+2)
	e.Addr, e.Addr6 = netip.AddrFrom4(b), netip.AddrFrom16(b6)
	e.MAC = MAC(e.Addr)
	if err := errors.Join(p.Open(id("c", i), nil), p.Connect(id("c", i), e), p.Route(id("c", i), &e, &e)); err != nil {
		t.Fatal(err)
	}
	return e
}

// serve answers on port 80 of container i.
func serve(t testing.TB, p *Plane, i int) {
	t.Helper()
	var l net.Listener
	err := p.Do(id("c", i), func(ns *netns.NS) error {
		return ns.Do(func() (err error) { l, err = net.Listen("tcp", ":80"); return err })
	})
	if err != nil {
		t.Fatal(err)
	}
	tellFrom(t, l, "from ")
}

// tellFrom tells everyone who connects where it was from.
func tellFrom(t testing.TB, l net.Listener, words string) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, words, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// reach asks for what an address serves, from a namespace. A link that is new may take a
// second to carry anything.
func reach(in func(func(*netns.NS) error) error, addr string) string {
	var c net.Conn
	err := in(func(ns *netns.NS) error {
		return ns.Do(func() (err error) { c, err = net.DialTimeout("tcp", addr, 3*time.Second); return err })
	})
	if err != nil {
		return "not reached"
	}
	defer c.Close()
	got, _ := io.ReadAll(c)
	return string(got)
}

func from(p *Plane, i int) func(func(*netns.NS) error) error {
	return func(f func(*netns.NS) error) error { return p.Do(id("c", i), f) }
}

// TestLeaves puts more containers on a network than a bridge takes.
func TestLeaves(t *testing.T) {
	p := world(t)
	p.perBridge = 3
	open, apart := testNetwork(1), testNetwork(2)
	apart.Apart = true
	if err := p.Sync(t.Context(), []Network{open, apart}, nil); err != nil {
		t.Fatal(err)
	}
	var ends []Endpoint
	for i := range 8 {
		ends = append(ends, join(t, p, open, i))
	}
	var quiet []Endpoint
	for i := 100; i < 105; i++ {
		quiet = append(quiet, join(t, p, apart, i))
	}
	serve(t, p, 0)
	serve(t, p, 100)
	for _, i := range []int{1, 4, 7} { // on the same bridge, and on leaves
		for _, addr := range []netip.Addr{ends[0].Addr, ends[0].Addr6} {
			if got := reach(from(p, i), netip.AddrPortFrom(addr, 80).String()); !strings.HasPrefix(got, "from ") {
				t.Errorf("%s from container %d: %s", addr, i, got)
			}
		}
	}
	for _, i := range []int{101, 104} {
		if got := reach(from(p, i), netip.AddrPortFrom(quiet[0].Addr, 80).String()); got != "not reached" {
			t.Errorf("a network whose containers are apart, from container %d: %s", i, got)
		}
	}
	host := func(f func(*netns.NS) error) error { return f(p.host) }
	if got := reach(host, netip.AddrPortFrom(quiet[0].Addr, 80).String()); !strings.HasPrefix(got, "from ") {
		t.Errorf("from the host: %s", got)
	}
	counted := fmt.Sprint(p.ports)
	if again, err := countPorts(must(p.ns.Link())); err != nil || fmt.Sprint(again) != counted {
		t.Errorf("counted %s, there are %v, %v", counted, again, err)
	}
	for i, e := range ends {
		if err := p.Remove(id("c", i), e.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Sync(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, l := range must(must(p.ns.Link()).LinkList()) {
		if n := l.Attrs().Name; n != "lo" && n != innerUplink && n[0] != 'v' {
			t.Errorf("%s is left", n)
		} else if n[0] == 'v' {
			left++
		}
	}
	if left != len(quiet) {
		t.Errorf("%d containers' devices are left, not %d", left, len(quiet))
	}
	if err := p.Sweep(map[string]bool{quiet[0].ID: true}); err != nil {
		t.Fatal(err)
	}
	if len(p.ports.at) != 1 {
		t.Errorf("swept: %v", p.ports.at)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestPorts publishes and withdraws.
func TestPorts(t *testing.T) {
	p := world(t)
	one, two := testNetwork(1), testNetwork(2)
	nets := []Network{one, two}
	if err := p.Sync(t.Context(), nets, nil); err != nil {
		t.Fatal(err)
	}
	if lo, err := must(p.host.Link()).LinkByName("lo"); err != nil || must(p.host.Link()).LinkSetUp(lo) != nil {
		t.Fatal("no loopback: ", err)
	}
	web := join(t, p, one, 0)
	join(t, p, two, 1)
	serve(t, p, 0)
	host := func(f func(*netns.NS) error) error { return f(p.host) }
	hostAddr, hostAddr6 := HostAddr(p.name), must(netip.ParseAddr(strings.Split(first(transit6(p.name)).String(), "/")[0]))
	ports := []Port{{"tcp", netip.IPv4Unspecified(), 8080, netip.AddrPortFrom(web.Addr, 80)}, {"tcp", netip.MustParseAddr("127.0.0.5"), 8081, netip.AddrPortFrom(web.Addr, 80)},
		{"tcp", netip.IPv6Unspecified(), 8080, netip.AddrPortFrom(web.Addr6, 80)}}
	if err := p.Sync(t.Context(), nets, ports); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   func(func(*netns.NS) error) error
		addr string
		want bool
	}{
		{host, "127.0.0.1:8080", true}, {host, "127.0.0.5:8081", true}, {host, "127.0.0.1:8081", false}, {host, netip.AddrPortFrom(hostAddr6, 8080).String(), true},
		{from(p, 1), netip.AddrPortFrom(hostAddr, 8080).String(), true}, {from(p, 0), netip.AddrPortFrom(hostAddr, 8080).String(), true}, {from(p, 1), netip.AddrPortFrom(hostAddr6, 8080).String(), true},
		{from(p, 1), netip.AddrPortFrom(web.Addr, 80).String(), false}, {from(p, 1), netip.AddrPortFrom(web.Addr6, 80).String(), false},
	} {
		if got := reach(c.in, c.addr); strings.HasPrefix(got, "from ") != c.want {
			t.Errorf("%s: %s", c.addr, got)
		}
	}
	if err := p.Sync(t.Context(), nets, nil); err != nil {
		t.Fatal(err)
	}
	if got := reach(host, "127.0.0.1:8080"); got != "not reached" {
		t.Errorf("a port that was withdrawn: %s", got)
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestListenDNS leads port 53 to the sockets, and leaves it to others.
func TestListenDNS(t *testing.T) {
	p := world(t)
	if err := p.Open(id("c", 0), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as after a restart of the engine
		pc, l, err := p.ListenDNS(id("c", 0))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				fmt.Fprint(c, "ours")
				c.Close()
			}
		}()
		if got := reach(from(p, 0), "127.0.0.11:53"); got != "ours" {
			t.Errorf("over TCP: %s", got)
		}
		go func() {
			b := make([]byte, 16)
			if n, from, err := pc.ReadFrom(b); err == nil {
				pc.WriteTo(b[:n], from)
			}
		}()
		if got := sendUDP(p); got != "question" {
			t.Errorf("over UDP: %s", got)
		}
		err = p.Do(id("c", 0), func(ns *netns.NS) error {
			return ns.Do(func() error {
				mine, err := net.Listen("tcp", "0.0.0.0:53")
				if err == nil {
					mine.Close()
				}
				return err
			})
		})
		if err != nil {
			t.Errorf("a server of the container's own: %v", err)
		}
		if err := errors.Join(pc.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
}

func sendUDP(p *Plane) string {
	var c net.Conn
	err := p.Do(id("c", 0), func(ns *netns.NS) error {
		return ns.Do(func() (err error) { c, err = net.Dial("udp", "127.0.0.11:53"); return err })
	})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("question")); err != nil {
		return err.Error()
	}
	b := make([]byte, 16)
	n, err := c.Read(b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

// BenchmarkConnect is what the network costs a container's start and end.
func BenchmarkConnect(b *testing.B) {
	for _, named := range []bool{false, true} {
		b.Run(fmt.Sprintf("names=%v", named), func(b *testing.B) {
			p := world(b)
			n := testNetwork(1)
			if err := p.Sync(b.Context(), []Network{n}, nil); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				e := join(b, p, n, 0)
				if named {
					pc, l, err := p.ListenDNS(id("c", 0))
					if err := errors.Join(err, pc.Close(), l.Close()); err != nil {
						b.Fatal(err)
					}
				}
				if err := p.Remove(id("c", 0), e.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSyncPorts adds one published port to many.
func BenchmarkSyncPorts(b *testing.B) {
	p := world(b)
	n := testNetwork(1)
	var ports []Port
	for i := range 500 {
		ports = append(ports, Port{"tcp", netip.IPv4Unspecified(), uint16(10000 + i), netip.AddrPortFrom(n.V4.Gateway.Next(), 80)})
	}
	if err := p.Sync(b.Context(), []Network{n}, ports); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, now := range [][]Port{ports[:499], ports} {
			if err := p.Sync(b.Context(), []Network{n}, now); err != nil {
				b.Fatal(err)
			}
		}
	}
}
