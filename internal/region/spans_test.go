package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// machines are two machines as the network service sees them: namespaces joined
// by a cable.
type machines struct {
	testing.TB
	service *network.Service
	ns      []*netns.NS
	planes  []*dataplane.Plane

	mu   sync.Mutex
	lost map[int]bool
	now  time.Time
}

func id(i int) string         { return fmt.Sprintf("n%d", i) }
func tunnel(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}) }
func serverPort(i int) string { return fmt.Sprintf("00000000-0000-4000-800%d-000000000000", i) }
func (m *machines) must(e error) {
	m.Helper()
	if e != nil {
		m.Fatal(e)
	}
}

func (m *machines) Hosts() []network.Host {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []network.Host
	for i := range 2 {
		out = append(out, network.Host{ID: id(i), Name: id(i), Alive: !m.lost[i], Tunnel: tunnel(i)})
	}
	return out
}

func (m *machines) clock() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *machines) lose(i int, later time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost[i], m.now = true, m.now.Add(later)
}

// in runs a program in a namespace.
func (m *machines) in(ns *netns.NS, line string) string {
	m.Helper()
	args := strings.Fields(line)
	var out []byte
	m.must(ns.Do(func() (err error) {
		if out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w: %s", line, err, out)
		}
		return err
	}))
	return string(out)
}

func newMachines(t *testing.T) *machines {
	needs.Root(t, "this test")
	m := &machines{TB: t, lost: map[int]bool{}, now: time.Unix(1e9, 0)}
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	m.must(err)
	t.Cleanup(func() { db.Close() })
	m.service = network.New(network.Options{DB: db, Log: log, Nodes: m, Now: m.clock})
	m.must(db.Start(t.Context()))
	public := netip.MustParsePrefix("203.0.113.0/24")
	m.must(m.service.Bootstrap(t.Context(), network.BootstrapOptions{AdminProject: "adm", DemoProject: "p1", PublicCIDR: public}))
	for i := range 2 {
		name := fmt.Sprintf("r%d%c", os.Getpid()%1000000, 'a'+i)
		m.ns = append(m.ns, m.namespace(name+"-host"))
		plane, err := dataplane.New(dataplane.Config{Name: name, HostLink: name + "-x", Host: m.ns[i], Tunnel: tunnel(i), Resolvers: []string{},
			External: []dataplane.External{{CIDR: public, HostAddr: public.Addr().Next()}}})
		m.must(err)
		m.planes = append(m.planes, plane)
		t.Cleanup(func() { m.must(plane.Reset(context.WithoutCancel(t.Context()))) })
	}
	m.in(m.ns[0], "ip link add eth0 type veth peer name eth0 netns "+m.ns[1].Name)
	for i, ns := range m.ns {
		m.in(ns, "ip addr add "+tunnel(i).String()+"/24 dev eth0")
		m.in(ns, "ip link set eth0 up")
	}
	return m
}

func (m *machines) namespace(name string) *netns.NS {
	ns, _, err := netns.Ensure(name)
	m.must(err)
	m.Cleanup(func() { m.must(errors.Join(ns.Close(), netns.Remove(name))) })
	return ns
}

// apply brings what the service says to the machines that are not lost.
func (m *machines) apply() {
	m.Helper()
	m.must(m.service.Span(m.Context()))
	for i, h := range m.Hosts() {
		if h.Alive {
			m.must(m.planes[i].Apply(m.Context(), m.service.NetState(h.ID)))
		}
	}
}

// gateway is the machine with the one router's gateway.
func (m *machines) gateway() int {
	for i := range 2 {
		if m.service.NetState(id(i)).Routers[0].GatewayHere {
			return i
		}
	}
	m.Fatal("no machine has the gateway")
	return 0
}

// boot starts a server on a machine, as a namespace at the end of its port's tap.
func (m *machines) boot(i int) *netns.NS {
	ports := m.service.Ports("server" + id(i))
	tap, err := m.planes[i].Tap(m.Context(), ports[0].ID)
	m.must(err)
	ns := m.namespace(fmt.Sprintf("r%d-vm%d", os.Getpid()%1000000, i))
	var nic *os.File
	m.must(ns.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		nic = os.NewFile(uintptr(fd), "eth0") // only now can it be waited for
		return err
	}))
	m.Cleanup(func() {
		tap.Close()
		nic.Close()
	})
	go io.CopyBuffer(struct{ io.Writer }{nic}, struct{ io.Reader }{tap}, make([]byte, 70000))
	go io.CopyBuffer(struct{ io.Writer }{tap}, struct{ io.Reader }{nic}, make([]byte, 70000))
	m.in(ns, fmt.Sprintf("ip link set eth0 address %s mtu %d up", ports[0].MAC, ports[0].MTU))
	m.in(ns, fmt.Sprintf("ip addr add %s/24 dev eth0", ports[0].FixedIPs[0].Addr))
	m.in(ns, "ip route add default via "+ports[0].Subnets[0].Gateway.String())
	return ns
}

// meet connects from one namespace to an address of another, and tells who the
// server saw.
func (m *machines) meet(from, to *netns.NS, addr netip.Addr) string {
	m.Helper()
	var l net.Listener
	m.must(to.Do(func() (err error) { l, err = net.Listen("tcp", ":22"); return err })) // the default group lets SSH in
	defer l.Close()
	var c net.Conn
	m.must(from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(addr, 22).String(), 2*time.Second)
		return err
	}))
	defer c.Close()
	s, err := l.Accept()
	m.must(err)
	defer s.Close()
	host, _, _ := net.SplitHostPort(s.RemoteAddr().String())
	return strings.TrimPrefix(host, "::ffff:")
}

// TestNetworkServiceOnTwoMachines has what the network service says come true:
// servers of one network on two machines, the way out by the gateway, its move.
func TestNetworkServiceOnTwoMachines(t *testing.T) {
	m := newMachines(t)
	nets, err := m.service.Available(t.Context(), &policy.Credentials{ProjectID: "p1"})
	m.must(err)
	for i := range 2 {
		_, err := m.service.EnsurePort(t.Context(), network.PortSpec{ID: serverPort(i), NetworkID: nets[0], ProjectID: "p1", Server: "server" + id(i), Host: id(i)})
		m.must(err)
	}
	m.apply()
	servers := []*netns.NS{m.boot(0), m.boot(1)}
	addr := func(i int) netip.Addr { return m.service.Ports("server" + id(i))[0].FixedIPs[0].Addr }
	if from := m.meet(servers[0], servers[1], addr(1)); from != addr(0).String() {
		t.Errorf("the server sees %s", from)
	}
	at := m.gateway()
	st := m.service.NetState(id(at))
	own := st.Routers[0].Gateway.Addrs[0].Addr().String()
	outside := func(i int) netip.Addr {
		for _, n := range m.service.NetState(id(i)).Networks {
			if n.External {
				return n.HostEnd.Addrs[0].Addr()
			}
		}
		return netip.Addr{}
	}
	for server := range 2 {
		for machine := range 2 {
			if from := m.meet(servers[server], m.ns[machine], outside(machine)); from != own {
				t.Errorf("server %d comes to machine %d from %s, not %s", server, machine, from, own)
			}
		}
	}
	m.in(m.ns[at], "ip link set eth0 down")
	m.lose(at, 0)
	m.service.NetState(id(0)) // notices
	m.lose(at, time.Minute)
	if now := m.gateway(); now == at {
		t.Fatal("the gateway stays on the lost machine")
	}
	m.apply()
	if from := m.meet(servers[1-at], m.ns[1-at], outside(1-at)); from != own {
		t.Errorf("after the move the server comes from %s", from)
	}
}
