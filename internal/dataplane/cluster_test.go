package dataplane

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// cluster is several hosts on one underlay, 192.0.2.0/24: namespaces that the
// test joins by a bridge. The state of all is in one place, and each host gets
// its view of it.
type cluster struct {
	testing.TB
	hosts   []*world
	state   nodeapi.NetState
	at      map[string]int // host of each port, by id; absent: on none
	gateway int            // host with the gateways
	away    map[int]bool   // hosts that get no states
}

func newCluster(t testing.TB, hosts int) *cluster {
	needs.Root(t, "this test")
	c := &cluster{TB: t, at: map[string]int{}, away: map[int]bool{}}
	root, err := netns.Current()
	c.must(err)
	h, err := root.Link()
	c.must(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "underlay"
	c.must(h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	bridge, err := h.LinkByName("underlay")
	c.must(err)
	c.must(h.LinkSetUp(bridge))
	t.Cleanup(func() {
		h.LinkDel(bridge)
		for i := range hosts { // their namespaces may live a little longer
			if port, err := h.LinkByName(fmt.Sprintf("port%d", i)); err == nil {
				h.LinkDel(port)
			}
		}
		root.Close()
	})
	for i := range hosts {
		c.hosts = append(c.hosts, c.addHost(h, bridge, i))
	}
	t.Cleanup(func() {
		c.each(func(_ int, w *world) error { return w.Plane.Reset(context.WithoutCancel(t.Context())) })
	})
	return c
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func underlay(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}) }

func (c *cluster) addHost(root *netlink.Handle, bridge netlink.Link, i int) *world {
	name := fmt.Sprintf("t%d%c", os.Getpid()%1000000, 'a'+i)
	ns, _, err := netns.Ensure(name + "-host")
	c.must(err)
	c.Cleanup(func() {
		ns.Close()
		netns.Remove(ns.Name)
	})
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = fmt.Sprintf("port%d", i), bridge.Attrs().Index
	c.must(root.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.FD())}))
	port, err := root.LinkByName(attrs.Name)
	c.must(err)
	c.must(root.LinkSetUp(port))
	h, err := ns.Link()
	c.must(err)
	eth0, err := h.LinkByName("eth0")
	c.must(err)
	c.must(sysctls(ns, "net/ipv6/conf/eth0/disable_ipv6=1"))
	c.must(h.LinkSetUp(eth0))
	_, err = ensureAddrs(ns, eth0, []netip.Prefix{netip.PrefixFrom(underlay(i), 24)})
	c.must(err)
	c.must(loopback(ns))
	c.must(wait.Until(c.Context(), "the underlay", 10*time.Millisecond, func(context.Context) (bool, error) {
		link, err := h.LinkByName("eth0")
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	}))
	w := blankWorld(c.TB, string(rune('a'+i))) // its Reset runs before the host goes
	w.host, w.tunnel = ns, underlay(i)
	w.open()
	return w
}

// view is what one host is told.
func (c *cluster) view(i int) nodeapi.NetState {
	st := c.state
	st.Ports, st.Routers, st.Networks = slices.Clone(st.Ports), slices.Clone(st.Routers), slices.Clone(st.Networks)
	for k := range st.Ports {
		p := &st.Ports[k]
		at, known := c.at[p.ID]
		p.Local, p.Tunnel = known && at == i, netip.Addr{}
		if known && at != i {
			p.Tunnel = underlay(at)
		}
	}
	for k := range st.Routers {
		r := &st.Routers[k]
		r.TransitVNI, r.GatewayHere, r.GatewayNode = 9000+k, c.gateway == i, netip.Addr{}
		if !r.GatewayHere {
			r.GatewayNode = underlay(c.gateway)
		}
	}
	for k := range st.Networks {
		if n := &st.Networks[k]; n.External {
			c.outside(n, i)
		} else if i != c.gateway {
			c.beside(n)
		}
	}
	if i != c.gateway {
		st.Routers = slices.DeleteFunc(st.Routers, func(r nodeapi.Router) bool { return r.Central })
	}
	return st
}

// beside fills in the legs of routers that are on the gateway's host alone.
func (c *cluster) beside(n *nodeapi.Network) {
	for _, r := range c.state.Routers {
		for _, l := range r.Interfaces {
			if r.Central && l.NetworkID == n.ID {
				n.Endpoints = append(n.Endpoints, nodeapi.Endpoint{MAC: l.MAC, Addrs: addrsOf(l.Addrs), Tunnel: underlay(c.gateway)})
			}
		}
	}
}

// outside fills in who is on the external network.
func (c *cluster) outside(n *nodeapi.Network, i int) {
	mac := func(host int) string { return fmt.Sprintf("fa:16:3e:ee:ee:%02x", host) }
	n.VNI, n.MTU = 9999, 1450
	n.HostEnd = &nodeapi.HostEnd{MAC: mac(i), Addrs: []netip.Prefix{netip.PrefixFrom(hostAddr(i), 24)}}
	for k := range c.hosts {
		if k != i {
			n.Endpoints = append(n.Endpoints, nodeapi.Endpoint{MAC: mac(k), Addrs: []netip.Addr{hostAddr(k)}, Tunnel: underlay(k)})
		}
	}
	for _, r := range c.state.Routers {
		if i != c.gateway {
			n.Endpoints = append(n.Endpoints, nodeapi.Endpoint{MAC: r.Gateway.MAC, Addrs: gatewayAddrs(r), Tunnel: underlay(c.gateway)})
		}
	}
}

// hostAddr is a host's own address on the external network.
func hostAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 24, 4, byte(10 + i)}) }

// apply tells every host what is wanted now.
func (c *cluster) apply() {
	c.Helper()
	c.must(c.tryApply())
}

func (c *cluster) tryApply() error {
	c.state.Gen++
	return c.all(func(i int, w *world) error {
		if c.away[i] {
			return nil
		}
		w.state = c.view(i)
		return w.Plane.Apply(c.Context(), w.state)
	})
}

// each does something on all hosts at once: what the kernel waits for, it waits
// for once.
func (c *cluster) each(f func(i int, w *world) error) {
	c.Helper()
	c.must(c.all(f))
}

func (c *cluster) all(f func(i int, w *world) error) error {
	errs := make([]error, len(c.hosts))
	var group sync.WaitGroup
	for i, w := range c.hosts {
		group.Go(func() { errs[i] = f(i, w) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// place adds a port on a host.
func (c *cluster) place(host int, p nodeapi.Port) {
	c.state.Ports = append(c.state.Ports, p)
	c.at[p.ID] = host
}

// boot starts the server of a port on its host and has it configured by DHCP.
func (c *cluster) boot(portID string) *guest {
	c.Helper()
	g := c.hosts[c.at[portID]].boot(portID)
	g.dhcp()
	return g
}

// dial connects from a host.
func (w *world) dial(addr string) (conn net.Conn, err error) {
	err = w.host.Do(func() error { conn, err = net.DialTimeout("tcp", addr, time.Second); return err })
	return conn, err
}

// frames is what passes a device.
type frames struct {
	fd        int
	etherType uint16
}

// capture records the frames of an EtherType on a device of a namespace. Its
// socket takes all types: others see nothing of a bridge's port.
func (c *cluster) capture(ns *netns.NS, device string, etherType uint16) *frames {
	c.Helper()
	const all = 0x0300 // ETH_P_ALL in network order
	f := &frames{etherType: etherType}
	c.must(ns.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	}))
	c.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// seen gives the frames since the last call.
func (f *frames) seen() [][]byte {
	var out [][]byte
	for {
		buf := make([]byte, 2000)
		n, err := unix.Read(f.fd, buf)
		if err != nil {
			return out
		}
		if n > 14 && binary.BigEndian.Uint16(buf[12:]) == f.etherType {
			out = append(out, buf[:n])
		}
	}
}

// udp picks the frames of UDP over IPv4 to a port.
func udp(frames [][]byte, port uint16) [][]byte {
	return slices.DeleteFunc(frames, func(f []byte) bool {
		return len(f) < 38 || f[23] != 17 || binary.BigEndian.Uint16(f[36:]) != port
	})
}

// run runs a program inside a namespace and gives its output.
func (c *cluster) run(ns *netns.NS, args ...string) string {
	c.Helper()
	var out []byte
	err := ns.Do(func() (err error) { out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); return err })
	if err != nil {
		c.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// talks opens a connection and checks that it works both ways.
func talks(t testing.TB, what string, dial func() (net.Conn, error)) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	conn, err := dial()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	conn.SetDeadline(time.Now().Add(time.Second))
	from, err := r.ReadString('\n')
	if err != nil || !echoes(conn, r, what) {
		t.Fatalf("%s: nothing comes back (%v)", what, err)
	}
	host, _, _ := net.SplitHostPort(from[:len(from)-1])
	return conn, r, host
}
